//! Caches in stores that others have written: `MinIO`, fake-gcs-server and Azurite. `.ci/run
//! stores` installs them where this looks; a test whose store is not there says so and does
//! nothing.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use gantry_core::Secret;
use gantry_http::{Body, HttpTransport, Options, ProxySettings, Timeouts, Transport, read};
use gantry_storage::{
    Access, AzureSettings, Credentials, Encryption, GcsKey, GcsSettings, Link, ObjectRequest, Parts, RoleSettings,
    S3Access, S3Settings, SINGLE_PUT, Settings, Store, World as Surroundings,
};
use gantry_wire::cache::{
    CachePlace, CacheRestore, CacheSave, CacheSource, CacheTransfer, PartsStart, PartsUpload, RestoreCaches, S3Parts,
    SaveCaches, SignedRequest,
};
use gantry_wire::plan::Action;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{Request, StatusCode};
use jiff::{SignedDuration, Timestamp};
use sha2::Sha256;
use url::Url;

use crate::caches::assert_said;
use crate::official::{official, text};
use crate::world::{World, stage, wait};

const BUCKET: &str = "job-caches";
const USER: &str = "gantry-tests";
const PASSWORD: &str = "s3cret/of+the/store";

/// Azurite's one account, and its key, as its documentation has them.
const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// More than one part of an upload.
const LARGE: usize = 15_000_000;

/// A store that runs, with an empty bucket.
struct Server {
    process: Child,
    address: String,
    /// What jobs trust beside the usual roots.
    ca_pem: Option<String>,
    _directory: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The program of a store, if it is installed.
fn program(path: &str) -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
    let program = cache.join("gantry/programs").join(path);
    if program.exists() {
        return Some(program);
    }
    eprintln!("SKIPPED: {} is not there; `.ci/run stores` installs it", program.display());
    None
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    fn start(mut command: Command, port: u16, directory: tempfile::TempDir, ca_pem: Option<String>) -> Self {
        command.current_dir(directory.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        let address = format!("127.0.0.1:{port}");
        let server = Self { process, address, ca_pem, _directory: directory };
        wait(|| std::net::TcpStream::connect(&server.address).is_ok(), "the store's port");
        server
    }

    fn minio(program: &Path) -> Self {
        let (port, console) = (free_port(), free_port());
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("data").join(BUCKET)).unwrap();
        let mut command = Command::new(program);
        command.args(["server", "data", "--address", &format!("127.0.0.1:{port}")]);
        command.args(["--console-address", &format!("127.0.0.1:{console}")]);
        command.env("MINIO_ROOT_USER", USER).env("MINIO_ROOT_PASSWORD", PASSWORD).env("MINIO_BROWSER", "off");
        // So that the region has to be found out.
        command.env("MINIO_SITE_REGION", "eu-central-1");
        command
            .env("MINIO_DOMAIN", "stores.test")
            .env("MINIO_KMS_SECRET_KEY", "key-1:bXktbWluaW8tc2VjcmV0LWtleS0zMi1ieXRlcy1vazE=");
        Self::start(command, port, directory, None)
    }

    fn fake_gcs(program: &Path) -> Self {
        let port = free_port();
        let mut command = Command::new(program);
        command.args(["-scheme", "http", "-host", "127.0.0.1", "-backend", "memory", "-port", &port.to_string()]);
        command.args([
            "-public-host",
            &format!("127.0.0.1:{port}"),
            "-external-url",
            &format!("http://127.0.0.1:{port}"),
        ]);
        let server = Self::start(command, port, tempfile::tempdir().unwrap(), None);
        let url = format!("http://{}/storage/v1/b?project=p", server.address);
        let body = format!("{{\"name\": \"{BUCKET}\"}}");
        let headers = [("content-type".to_owned(), "application/json".to_owned())];
        wait(|| ask(&server, "POST", &url, &headers, &body).is_success(), "a bucket");
        server
    }

    fn azurite(program: &Path) -> Self {
        let port = free_port();
        let directory = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        fs::write(&cert, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let mut command = Command::new(program);
        command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string(), "--silent", "--location", "data"]);
        command.arg("--cert").arg(cert).arg("--key").arg(key).arg("--disableTelemetry");
        let server = Self::start(command, port, directory, Some(made.cert.pem()));
        let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now()).unwrap();
        let text = format!(
            "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:2020-12-06\n/{ACCOUNT}/{ACCOUNT}/{BUCKET}\nrestype:container"
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(ACCOUNT_KEY).unwrap()).unwrap();
        mac.update(text.as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let headers = [
            ("x-ms-date".to_owned(), date),
            ("x-ms-version".to_owned(), "2020-12-06".to_owned()),
            ("authorization".to_owned(), format!("SharedKey {ACCOUNT}:{signature}")),
        ];
        let url = format!("https://{}/{ACCOUNT}/{BUCKET}?restype=container", server.address);
        wait(|| ask(&server, "PUT", &url, &headers, "").is_success(), "a container");
        server
    }

    fn transfer(&self) -> CacheTransfer {
        CacheTransfer {
            store: "the store".into(),
            timeout_ms: 60_000,
            ca_pem: self.ca_pem.clone(),
            max_bytes: None,
            clean_up: false,
        }
    }

    /// What a runner with these settings signs. `rewrite` leads to this server where a cloud's own
    /// address is fixed.
    fn signs(&self, settings: Settings, variables: &[(&str, &str)], rewrite: fn(&str, &str) -> String) -> Signer {
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let surroundings = Surroundings {
            variable: Arc::new(move |name| {
                variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
            }),
            on_role: None,
            connect: Arc::new(|url, _| {
                let options = Options { proxy: ProxySettings::Direct, ..Options::default() };
                Ok(Arc::new(HttpTransport::new(url, options)?) as Arc<dyn Transport>)
            }),
        };
        Signer {
            store: Store::new(settings, surroundings),
            address: self.address.clone(),
            rewrite,
            late: SignedDuration::ZERO,
        }
    }
}

/// One request of the test itself.
fn ask(server: &Server, method: &str, url: &str, headers: &[(String, String)], body: &str) -> StatusCode {
    let options = Options { ca_pem: server.ca_pem.clone(), proxy: ProxySettings::Direct, ..Options::default() };
    let transport = HttpTransport::new(&Url::parse(url).unwrap(), options).unwrap();
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Body::Bytes(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
    let second = Duration::from_secs(5);
    runtime().block_on(async {
        match transport.send(request, Timeouts { head: second, idle: second }).await {
            Ok(answer) => {
                let status = answer.status();
                let body = read(answer.into_body(), 10_000, second).await.bytes;
                if !status.is_success() {
                    eprintln!("{status}: {}", String::from_utf8_lossy(&body));
                }
                status
            }
            Err(error) => {
                eprintln!("{error}");
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A runner's side of a store.
struct Signer {
    store: Store,
    address: String,
    rewrite: fn(&str, &str) -> String,
    /// How far the runner's clock is behind.
    late: SignedDuration,
}

impl Signer {
    fn sign(&self, access: Access, name: &str, most: Option<u64>) -> SignedRequest {
        let key = "a-key".to_owned();
        let request = ObjectRequest { name: name.to_owned(), access, valid_for: Duration::from_secs(3600), key, most };
        let link = runtime().block_on(self.store.sign_at(&request, Timestamp::now() - self.late)).unwrap();
        self.request_of(link)
    }

    fn request_of(&self, link: Link) -> SignedRequest {
        let here = |url: Secret| Secret::new((self.rewrite)(url.expose(), &self.address));
        let parts = link.parts.map(|parts| match parts {
            Parts::S3(parts) => PartsUpload::S3(S3Parts {
                before_number: here(parts.before_number),
                after_number: parts.after_number,
                signatures: parts.signatures,
                complete: here(parts.complete),
                abort: here(parts.abort),
            }),
            Parts::Gcs { url, headers } => PartsUpload::Gcs(PartsStart { url: here(url), headers }),
            Parts::Azure => PartsUpload::Azure,
        });
        SignedRequest { url: here(link.url), headers: link.headers, most_bytes: link.most, parts }
    }
}

/// A job that makes files and saves them.
fn save(server: &Server, signer: &Signer, name: &str, most: Option<u64>, script: &str) -> String {
    let world = World::new();
    let mut plan = world.plan(&[script]);
    let caches = vec![CacheSave {
        remarks: Vec::new(),
        key: name.into(),
        places: vec![CachePlace::Store(signer.sign(Access::Write, name, most))],
        now: Some(signer.sign(Access::Read, name, None)),
        object: None,
        paths: vec!["deps".into()],
        untracked: false,
    }];
    let save = SaveCaches { on_success: true, caches, transfer: server.transfer() };
    plan.stages.push(stage("archive_cache", Action::SaveCache(save)));
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success && !log.contains("ignature="), "{log}");
    log
}

/// A job that restores them.
fn restore(server: &Server, signer: &Signer, name: &str, script: &str) -> String {
    let world = World::new();
    let mut plan = world.plan(&[script]);
    let place = CachePlace::Store(signer.sign(Access::Read, name, None));
    let sources = vec![CacheSource { key: name.into(), places: vec![place] }];
    let caches = vec![CacheRestore { remarks: Vec::new(), sources, paths: vec!["deps".into()], untracked: false }];
    let restore = RestoreCaches { caches, transfer: server.transfer() };
    plan.stages.insert(1, stage("restore_cache", Action::RestoreCache(restore)));
    let (closed, log) = world.run(plan);
    assert!(closed.verdict.success && !log.contains("ignature="), "{log}");
    log
}

/// Caches of one part and of several come back, and are sent once only.
fn keeps_caches(server: &Server, signer: &Signer, most: Option<u64>) {
    for (name, bytes) in [("project/7/a small key", 1000), ("project/7/ein Schlüssel+&=%41", LARGE)] {
        let log = restore(server, signer, name, "true");
        assert_said(&log, &["Checking cache for", "Cache file does not exist", "Failed to extract cache"]);
        // The same bytes each time, and such that nothing makes smaller.
        let make = format!(
            "mkdir -p deps; seq 9999999 | gzip -n1 | head -c {bytes} > deps/large; ln -s large deps/link; cksum < deps/large"
        );
        let log = save(server, signer, name, most, &make);
        assert_said(&log, &["Uploading cache.zip to ", "Created cache"]);
        let log = restore(server, signer, name, "cksum < deps/link");
        assert_said(&log, &["Downloading cache from", "Successfully extracted cache"]);
        let log = save(server, signer, name, most, &make);
        assert_said(&log, &["Archive is up to date!", "Created cache"]);
        assert!(!log.contains("Uploading"), "{log}");
        let log = save(server, signer, name, most, &format!("{make}; echo x > deps/x"));
        assert_said(&log, &["Uploading cache.zip to ", "Created cache"]);
    }
}

fn refused(server: &Server, signer: &Signer, words: &str) {
    let log = restore(server, signer, "project/7/refused", "true");
    assert_said(&log, &["WARNING: ", words, "Failed to extract cache"]);
    let log = save(server, signer, "project/7/refused", None, "mkdir deps; touch deps/a");
    assert_said(&log, &["WARNING: ", words, "Failed to create cache"]);
}

fn as_it_is(url: &str, _: &str) -> String {
    url.to_owned()
}

fn s3(server: &Server) -> S3Settings {
    S3Settings {
        server_address: Some(server.address.clone()),
        bucket: BUCKET.into(),
        insecure: true,
        access: S3Access::Keys(Credentials {
            access_key: USER.into(),
            secret_key: Secret::new(PASSWORD),
            session_token: None,
        }),
        ..S3Settings::default()
    }
}

fn minio(test: impl Fn(&Server, &dyn Fn(S3Settings, &[(&str, &str)]) -> Signer)) {
    let Some(program) = program("minio") else { return };
    let server = Server::minio(&program);
    let signs = |settings: S3Settings, variables: &[(&str, &str)]| {
        server.signs(Settings::S3(Box::new(settings)), variables, as_it_is)
    };
    // It listens before it works.
    let ready = format!("http://{}/minio/health/ready", server.address);
    wait(|| ask(&server, "GET", &ready, &[], "").is_success(), "MinIO");
    test(&server, &signs);
}

#[test]
fn minio_keeps_caches() {
    minio(|server, signs| {
        keeps_caches(server, &signs(s3(server), &[]), None);
    });
}

#[test]
fn minio_keeps_caches_in_parts() {
    minio(|server, signs| {
        keeps_caches(server, &signs(s3(server), &[]), Some(2 * SINGLE_PUT));
    });
}

#[test]
fn minio_keeps_caches_encrypted_and_by_a_role() {
    minio(|server, signs| {
        let encrypted = S3Settings { encryption: Some(Encryption::S3), ..s3(server) };
        keeps_caches(server, &signs(encrypted, &[]), Some(2 * SINGLE_PUT));
        let kms = S3Settings { encryption: Some(Encryption::Kms), encryption_key: Some("key-1".into()), ..s3(server) };
        let name = "project/7/kms";
        let kms = signs(kms, &[]);
        assert_said(&save(server, &kms, name, None, "mkdir deps; echo x > deps/x"), &["Created cache"]);
        assert_said(&restore(server, &kms, name, "cat deps/x"), &["Successfully extracted cache"]);
        // A role brings a session token.
        let role = Some(RoleSettings { arn: "arn:minio:iam::1:role/any".into(), concurrency: Some(5), keeps: true });
        let token_service = format!("http://{}", server.address);
        let by_role = signs(S3Settings { role, ..s3(server) }, &[("AWS_ENDPOINT_URL_STS", &token_service)]);
        let (name, script) = ("project/7/role", "mkdir deps; head -c 9000000 /dev/urandom > deps/x");
        assert_said(&save(server, &by_role, name, Some(2 * SINGLE_PUT), script), &["Created cache"]);
        assert_said(
            &restore(server, &by_role, name, "cat deps/x | wc -c"),
            &["Successfully extracted cache", "9000000"],
        );
    });
}

/// The official runner gives an address and keys where it assumes a role.
#[test]
fn minio_keeps_caches_of_the_official_runner() {
    minio(|server, _| {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("one/deps")).unwrap();
        fs::create_dir_all(at("two")).unwrap();
        let content: Vec<u8> =
            (0..LARGE as u64).flat_map(|number| (number * number).to_le_bytes()).take(LARGE).collect();
        fs::write(at("one/deps/large"), &content).unwrap();
        let keys = format!("AWS_ACCESS_KEY_ID=\"{USER}\"\nAWS_PROFILE=\"\"\nAWS_SECRET_ACCESS_KEY=\"{PASSWORD}\"\n");
        fs::write(at("keys"), keys).unwrap();
        let store = format!("endpoint=http%3A%2F%2F{}&hostname_immutable=true&use_path_style=true", server.address);
        let address = |name: &str| format!("s3://{BUCKET}/project/7/{name}?awssdk=v2&{store}&region=eu-central-1");
        let (own, other) = (address("a%20key"), address("no%20key"));
        let save = ["cache-archiver", "--file", "../kept/cache.zip", "--path", "deps", "--env-file", "../keys"];
        let save = official(&at("one"), &[&save[..], &["--gocloud-url", &own]].concat());
        assert!(save.status.success() && text(&save).contains("Uploading cache.zip to http"), "{}", text(&save));
        assert!(!text(&save).contains("WARNING") && !at("kept/cache.zip").exists(), "{}", text(&save));
        let restore = ["cache-extractor", "--file", "../none/cache.zip", "--env-file", "../keys"];
        let restore = |first: &str, second: &str| {
            let addresses = ["--gocloud-url", first, "--alternate-gocloud-url", second];
            official(&at("two"), &[&restore[..], &addresses].concat())
        };
        let restored = restore(&other, &own);
        assert!(restored.status.success(), "{}", text(&restored));
        assert!(fs::read(at("two/deps/large")).unwrap() == content);
        let missing = restore(&other, &other);
        assert!(missing.status.code() == Some(1) && text(&missing).contains("Cache file does not exist"));
        let refused = official(&at("two"), &["cache-extractor", "--file", "../x.zip", "--gocloud-url", "gs://b/k"]);
        assert!(refused.status.code() == Some(1) && text(&refused).contains("the scheme \"gs\""), "{}", text(&refused));
    });
}

#[test]
fn what_minio_refuses_has_a_cause() {
    minio(|server, signs| {
        let keys = |access_key: &str, secret_key: &str| S3Settings {
            access: S3Access::Keys(Credentials {
                access_key: access_key.into(),
                secret_key: Secret::new(secret_key),
                session_token: None,
            }),
            ..s3(server)
        };
        refused(server, &signs(keys(USER, "another"), &[]), "SecretKey");
        refused(server, &signs(keys("nobody", PASSWORD), &[]), "AccessKey");
        refused(server, &signs(S3Settings { bucket: "no-such-bucket".into(), ..s3(server) }, &[]), "no such bucket");
        let behind = Signer { late: SignedDuration::from_hours(3), ..signs(s3(server), &[]) };
        refused(server, &behind, "clock");
        let ahead = Signer { late: SignedDuration::from_hours(-3), ..signs(s3(server), &[]) };
        refused(server, &ahead, "clock");
        let region = S3Settings { region: Some("eu-nowhere-1".into()), ..s3(server) };
        refused(server, &signs(region, &[]), "BucketLocation");
    });
}

#[test]
fn fake_gcs_server_keeps_caches() {
    let Some(program) = program("fake-gcs-server") else { return };
    let server = Server::fake_gcs(&program);
    let pair = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let key = GcsKey::Pair { access_id: "ci@p.iam.example".into(), private_key: Secret::new(pair.serialize_pem()) };
    let settings = Settings::Gcs(GcsSettings { bucket: BUCKET.into(), universe_domain: None, key });
    let rewrite =
        |url: &str, address: &str| url.replace("https://storage.googleapis.com", &format!("http://{address}"));
    keeps_caches(&server, &server.signs(settings, &[], rewrite), None);
}

#[test]
fn azurite_keeps_caches() {
    let Some(program) = program("azurite/node_modules/.bin/azurite-blob") else { return };
    let server = Server::azurite(&program);
    let with_key = |key: &str| {
        let settings = AzureSettings {
            account: ACCOUNT.into(),
            key: Some(Secret::new(key)),
            container: BUCKET.into(),
            domain: None,
        };
        let rewrite = |url: &str, address: &str| {
            url.replace(&format!("{ACCOUNT}.blob.core.windows.net"), &format!("{address}/{ACCOUNT}"))
        };
        server.signs(Settings::Azure(settings), &[], rewrite)
    };
    keeps_caches(&server, &with_key(ACCOUNT_KEY), None);
    refused(&server, &with_key("bm90IHRoZSBrZXk="), "AccountKey");
}
