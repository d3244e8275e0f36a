//! A registry of images for the nodes of the project's own cluster: every image whose name says so
//! takes its time, or wants a login, and is busybox then; there are no others. As far as a
//! container runtime asks (OCI distribution specification, pull).

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::{Path as Segments, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::cluster::{PRIVATE, PULLS};

/// Where the nodes look (`tests/cluster/lib/node`).
pub(crate) const PORT: u16 = 5050;

/// What is served, as `tests/cluster/images` has left it below the cache.
const ARCHIVE: &str = "gantry/images/image-busybox.tar";

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// A running registry. Ends with its owner.
#[derive(Debug)]
pub struct Registry(Option<JoinHandle<()>>);

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

struct Image {
    manifest: Bytes,
    digest: String,
    blobs: Vec<(String, Bytes)>,
}

impl Registry {
    /// Serves on an address of this machine, unless a run beside this one does already. Needs a
    /// `LocalSet`.
    ///
    /// # Errors
    /// There is no image to serve, or the address is not this machine's.
    pub async fn start(host: IpAddr) -> anyhow::Result<Self> {
        let image = Arc::new(Image::read(&archive()?)?);
        let listener = match TcpListener::bind((host, PORT)).await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return Ok(Self(None)),
            bound => bound.context("no port for the registry of slow images")?,
        };
        let routes = axum::Router::new()
            .route("/v2/", get(async || ()))
            .route("/v2/library/{name}/manifests/{reference}", get(manifest))
            .route("/v2/library/{name}/blobs/{digest}", get(blob))
            .with_state(image);
        Ok(Self(Some(tokio::task::spawn_local(async move {
            let _ = axum::serve(listener, routes).await;
        }))))
    }
}

fn archive() -> anyhow::Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).context("no HOME")?;
    Ok(cache.join(ARCHIVE))
}

impl Image {
    fn described(&self) -> Response {
        let kind = [(header::CONTENT_TYPE, MANIFEST)];
        (kind, [("docker-content-digest", self.digest.clone())], self.manifest.clone()).into_response()
    }

    /// Reads an archive in the form of `docker save`.
    fn read(archive: &Path) -> anyhow::Result<Self> {
        let list: Value = serde_json::from_slice(&member(archive, "manifest.json")?)?;
        let name = |value: &Value| value.as_str().map(str::to_owned).context("an archive without names");
        let mut blobs = vec![blob_of(archive, &name(&list[0]["Config"])?)?];
        for layer in list[0]["Layers"].as_array().context("an image without layers")? {
            blobs.push(blob_of(archive, &name(layer)?)?);
        }
        let described: Vec<Value> = blobs
            .iter()
            .zip(std::iter::once(CONFIG).chain(std::iter::repeat(LAYER)))
            .map(|((digest, bytes), kind)| json!({"mediaType": kind, "size": bytes.len(), "digest": digest}))
            .collect();
        let (config, layers) = described.split_first().context("an empty image")?;
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        let manifest = Bytes::from(serde_json::to_vec(&manifest)?);
        Ok(Self { digest: digest_of(&manifest), manifest, blobs })
    }
}

fn blob_of(archive: &Path, name: &str) -> anyhow::Result<(String, Bytes)> {
    let bytes = member(archive, name)?;
    Ok((digest_of(&bytes), Bytes::from(bytes)))
}

fn member(archive: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--to-stdout", "--file"]).arg(archive);
    // Names in an archive of a directory begin with it.
    tar.args(["--wildcards", "--no-anchored", name]);
    let output = tar.output().context("tar cannot be started")?;
    anyhow::ensure!(
        output.status.success(),
        "{} has no {name}: run  tests/cluster/images test\n{}",
        archive.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

fn digest_of(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = "sha256:".to_owned();
    for byte in <sha2::Sha256 as sha2::Digest>::digest(bytes) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

async fn manifest(
    State(image): State<Arc<Image>>,
    Segments((name, reference)): Segments<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let by_digest = reference == image.digest;
    if name.starts_with(PRIVATE.prefix) {
        return if is_known(&headers) { image.described() } else { refused() };
    }
    let Some((_, seconds)) = PULLS.into_iter().find(|(prefix, _)| name.starts_with(prefix)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if !by_digest {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
    image.described()
}

fn is_known(headers: &HeaderMap) -> bool {
    let wanted = format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", PRIVATE.user, PRIVATE.password)));
    headers.get(header::AUTHORIZATION).is_some_and(|given| given.as_bytes() == wanted.as_bytes())
}

fn refused() -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"images\"")]).into_response()
}

async fn blob(
    State(image): State<Arc<Image>>,
    Segments((name, digest)): Segments<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if name.starts_with(PRIVATE.prefix) && !is_known(&headers) {
        return refused();
    }
    match image.blobs.iter().find(|(known, _)| *known == digest) {
        Some((_, bytes)) => bytes.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
