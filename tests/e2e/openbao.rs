//! Secrets of jobs that a real OpenBao keeps, which is what HashiCorp Vault is too: it checks the
//! ID token of the job with the keys that GitLab publishes, as an operator sets it up.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gantry_tests::suite::Test;
use gantry_tests::world::script;
use gantry_tests::{Need, OpenBao, World, until};
use jiff::Timestamp;
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const BOUND: Duration = Duration::from_secs(60);

/// Who issues ID tokens, and for whom.
const ISSUER: &str = "https://gitlab.example.com";
const AUDIENCE: &str = "https://openbao.example.com";

/// What is kept: by engine of version 2 and 1, and in a namespace of its own.
const OF_VERSION_2: &str = "canary-of-version-two";
const OF_VERSION_1: &str = "canary-of-version-one";
const OF_TEAM: &str = "canary-of-the-team";

/// What jobs may read.
const POLICY: &str = r#"path "ops/data/prod/*" { capabilities = ["read"] }
path "old/prod/*" { capabilities = ["read"] }
path "nowhere/*" { capabilities = ["read"] }"#;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("openbao: both versions, a namespace and GitLab's own manager, as variable and file", kept)
            .needs(Need::OpenBao),
        Test::new("openbao: each refusal is a sentence", refused).needs(Need::OpenBao),
    ]
}

/// A GitLab as far as stores know one: its keys, and the ID tokens of its jobs.
struct Issuer {
    key: KeyPair,
    address: SocketAddr,
}

impl Issuer {
    async fn start() -> anyhow::Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let x = URL_SAFE_NO_PAD.encode(key.der_bytes());
        let keys =
            json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": "1", "x": x}]});
        let router = Router::new().route("/oauth/discovery/keys", get(async move || axum::Json(keys)));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        #[expect(clippy::disallowed_methods, reason = "a server runs beside the test")]
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { key, address })
    }

    /// The ID token of a job, good for so many seconds.
    fn token(&self, audience: &str, seconds: i64) -> anyhow::Result<String> {
        let now = Timestamp::now().as_second();
        let head = json!({"alg": "EdDSA", "typ": "JWT", "kid": "1"});
        let claims = json!({
            "iss": ISSUER, "aud": audience, "sub": "project_path:group/project:ref_type:branch:ref:main",
            "iat": now - 600, "nbf": now - 600, "exp": now + seconds, "project_path": "group/project",
        });
        let part = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", part(&head), part(&claims));
        let signature = self.key.sign(signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// An OpenBao in which jobs of `group/project` may read some secrets, in and outside of a
/// namespace.
async fn keeper(world: &World, name: &str) -> anyhow::Result<(OpenBao, Issuer)> {
    for secret in [OF_VERSION_2, OF_VERSION_1, OF_TEAM] {
        world.keep_secret(secret);
    }
    let issuer = Issuer::start().await?;
    let bao = OpenBao::start(name, world.dir()).await?;
    bao.ask(Method::POST, "", "sys/namespaces/team", &json!({})).await?;
    for namespace in ["", "team"] {
        let post = async |path: &str, body: Value| bao.ask(Method::POST, namespace, path, &body).await;
        post("sys/auth/gitlab", json!({"type": "jwt"})).await?;
        let keys = format!("http://{}/oauth/discovery/keys", issuer.address);
        post("auth/gitlab/config", json!({"jwks_url": keys, "bound_issuer": ISSUER, "jwt_supported_algs": ["EdDSA"]}))
            .await?;
        let role = json!({
            "role_type": "jwt", "user_claim": "project_path", "bound_audiences": [AUDIENCE],
            "bound_claims": {"project_path": "group/project"}, "token_policies": ["ci"], "token_explicit_max_ttl": 60,
        });
        post("auth/gitlab/role/ci", role).await?;
        post("sys/policies/acl/ci", json!({"policy": POLICY})).await?;
        post("sys/mounts/ops", json!({"type": "kv", "options": {"version": "2"}})).await?;
        post("sys/mounts/old", json!({"type": "kv"})).await?;
        let password = if namespace.is_empty() { OF_VERSION_2 } else { OF_TEAM };
        // An engine of version 2 is being set up for a moment after it is mounted.
        until("the engine to take a secret", BOUND, async || {
            let put = post("ops/data/prod/db", json!({"data": {"password": password}})).await;
            Ok(put.map_err(|error| error.to_string()))
        })
        .await?;
        post("ops/data/closed/db", json!({"data": {"password": "nobody's"}})).await?;
        post("old/prod/db", json!({"password": OF_VERSION_1, "port": 5432})).await?;
    }
    Ok((bao, issuer))
}

/// One secret, as GitLab hands it out with a job.
fn secret(url: &str, (engine, mount): (&str, &str), (path, field): (&str, &str)) -> Value {
    json!({"file": false, "vault": {
        "server": {"url": url, "auth": {"name": "jwt", "path": "gitlab", "data": {"jwt": "$ID_TOKEN", "role": "ci"}}},
        "engine": {"name": engine, "path": mount}, "path": path, "field": field}})
}

fn job(secrets: &Value, token: &str, lines: &[&str]) -> Value {
    let mut job = script(lines);
    job["secrets"] = secrets.clone();
    job["variables"] = json!([{"key": "ID_TOKEN", "value": token, "masked": true}]);
    job
}

async fn kept(world: Rc<World>) -> anyhow::Result<()> {
    let (bao, issuer) = keeper(&world, "openbao").await?;
    let token = issuer.token(AUDIENCE, 300)?;
    let of = |engine, mount, field| secret(&bao.url, (engine, mount), ("prod/db", field));
    let mut in_file = of("kv-v2", "ops", "password");
    in_file["file"] = json!(true);
    let mut of_team = of("kv-v2", "ops", "password");
    of_team["vault"]["server"]["namespace"] = json!("team");
    let inline_auth = json!({"jwt": token, "role": "ci", "auth_mount": "gitlab"});
    let of_gitlab = json!({"file": false, "gitlab_secrets_manager": {
        "server": {"url": bao.url, "inline_auth": inline_auth},
        "engine": {"name": "kv-v2", "path": "ops"}, "path": "prod/db", "field": "password"}});
    let secrets = json!({
        "TWO": of("kv-v2", "ops", "password"), "IN_FILE": in_file, "ONE": of("kv-v1", "old", "password"),
        "PORT": of("generic", "old", "port"), "OF_TEAM": of_team, "OF_GITLAB": of_gitlab,
    });
    let lines = [
        "echo \"two: $TWO; one: $ONE; team: $OF_TEAM; gitlab: $OF_GITLAB; port: $((PORT + 1))\"",
        "echo \"lengths: ${#TWO} ${#ONE} ${#OF_TEAM} ${#OF_GITLAB} $(wc -c < \"$IN_FILE\")\"",
        "test \"$(cat \"$IN_FILE\")\" = \"$TWO\"",
        "test \"$OF_GITLAB\" = \"$TWO\"",
    ];
    let (job, log) = world.run(&job(&secrets, &token, &lines), BOUND).await?;
    ensure!(job.status == "success", "{job:?}\n{log}");
    let (two, one, team) = (OF_VERSION_2.len(), OF_VERSION_1.len(), OF_TEAM.len());
    for words in [
        "two: [MASKED]; one: [MASKED]; team: [MASKED]; gitlab: [MASKED]; port: 5433",
        &format!("lengths: {two} {one} {team} {two} {two}"),
    ] {
        ensure!(log.contains(words), "{words:?} is not in:\n{log}");
    }
    Ok(())
}

async fn refused(world: Rc<World>) -> anyhow::Result<()> {
    let (bao, issuer) = keeper(&world, "openbao-refuses").await?;
    let good = issuer.token(AUDIENCE, 300)?;
    let of = |mount, path, field| secret(&bao.url, ("kv-v2", mount), (path, field));
    let mut other_role = of("ops", "prod/db", "password");
    other_role["vault"]["server"]["auth"]["data"]["role"] = json!("deploy");
    let mut other_namespace = of("ops", "prod/db", "password");
    other_namespace["vault"]["server"]["namespace"] = json!("nobody");
    let whole = of("ops", "prod/db", "password");
    let reason = "runner_configuration_error";
    let refusals = [
        (&whole, issuer.token("https://elsewhere.example.com", 300)?, "the login with status 400", "audience"),
        (&whole, issuer.token(AUDIENCE, -300)?, "the login with status 400", "expired"),
        (&other_role, good.clone(), "the login with status 400", "role \"deploy\" could not be found"),
        (&other_namespace, good.clone(), "the login with status 40", ""),
        (&of("ops", "closed/db", "password"), good.clone(), "status 403 Forbidden", "permission denied"),
        (&of("ops", "prod/db", "user"), good.clone(), "has no field \"user\" at \"prod/db\" of the engine \"ops\"", ""),
        (&of("ops", "prod/none", "password"), good.clone(), "has no field \"password\" at \"prod/none\"", ""),
        (&of("nowhere", "db", "password"), good.clone(), "status 404 Not Found", "no handler for route"),
    ];
    for (secret, token, words, said) in refusals {
        fails(&world, secret, &token, reason, &[words, said]).await?;
    }
    bao.ask(Method::PUT, "", "sys/seal", &json!({})).await?;
    let reason = "runner_external_dependency_failure";
    fails(&world, &whole, &good, reason, &["status 503 Service Unavailable", "sealed"]).await?;
    bao.kill().await?;
    fails(&world, &whole, &good, reason, &["cannot be reached"]).await
}

/// The job with this secret fails before it begins, and its log says so in these words.
async fn fails(world: &World, secret: &Value, token: &str, reason: &str, words: &[&str]) -> anyhow::Result<()> {
    let (job, log) = world.run(&job(&json!({"SECRET": secret}), token, &["echo never"]), BOUND).await?;
    ensure!(job.failure_reason.as_deref() == Some(reason), "{job:?}\n{log}");
    let line = log.lines().find(|line| line.contains("resolving secret \"SECRET\"")).context(log.clone())?;
    for words in words.iter().chain([&"Vault at 127.0.0.1"]) {
        ensure!(line.contains(words), "{words:?} is not in {line:?}");
    }
    ensure!(!log.contains(token) && !log.contains("\nnever"), "{log}");
    Ok(())
}
