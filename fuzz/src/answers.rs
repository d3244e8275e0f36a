//! Whatever GitLab, an object store or a secret store answers: nothing panics or asks for ever, and
//! no secret of ours comes back in words for people. The first line says who is asked and for what,
//! a line of three equals signs stands between the answers: a status, headers, an empty line, and
//! the body. After the last one the connection breaks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use gantry_core::job::{JobSpec, SecretSpec};
use gantry_core::{JobState, Secret};
use gantry_gitlab::{Client, ClientOptions, JobCredentials, JobRequest, JobUpdate, Registration, RunnerInfo};
use gantry_http::{Body, ByteStream, ContentRange, Timeouts, Transport, TransportError, TransportFault};
use gantry_storage::refusal::{self, Wish};
use gantry_storage::{Access, AzureSettings, GcsKey, GcsSettings, ObjectRequest, S3Access, S3Settings, Settings};
use http::{Request, Response};

/// What we send and nobody may read. Long enough that no answer has it by chance.
const TOKEN: &str = "glrt-FuzzingFuzzingFuzzing";

/// Answers are given in their order, whoever asks.
struct Script(Mutex<VecDeque<Response<Bytes>>>);

impl Transport for Script {
    fn send(&self, request: Request<Body>, _: Timeouts) -> BoxFuture<'_, Result<Response<ByteStream>, TransportError>> {
        async move {
            if let Body::Stream(mut body) = request.into_body() {
                while body.next().await.is_some() {}
            }
            let next = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let answer = next.ok_or_else(|| TransportError::new(TransportFault::Broken, "nothing follows"))?;
            // In two pieces, so that what reads them has to wait.
            let middle = answer.body().len() / 2;
            Ok(answer.map(|body| -> ByteStream {
                Box::pin(stream::iter([body.slice(..middle), body.slice(middle..)].map(Ok)))
            }))
        }
        .boxed()
    }
}

fn answer(text: &str) -> Option<Response<Bytes>> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let mut answer = Response::builder().status(lines.next()?.trim().parse::<u16>().ok()?);
    for line in lines {
        let (name, value) = line.split_once(':')?;
        answer = answer.header(name, value.trim());
    }
    answer.body(Bytes::copy_from_slice(body.as_bytes())).ok()
}

/// The target.
pub fn target(text: &str) {
    let Some((question, answers)) = text.split_once('\n') else { return };
    let answers: VecDeque<_> = answers.split("\n===\n").filter_map(answer).collect();
    for answer in &answers {
        let _ = ContentRange::of(answer.headers());
        let body = String::from_utf8_lossy(answer.body());
        for wish in [Wish::Get, Wish::Put] {
            let _ = refusal::read("the store", wish, answer.status(), &body);
        }
    }
    let script = Arc::new(Script(Mutex::new(answers)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let said = runtime.expect("a runtime").block_on(ask(question, script));
    assert!(!said.contains(TOKEN), "a secret is where people can read it: {said}");
}

/// What is said about the answers.
async fn ask(question: &str, script: Arc<Script>) -> String {
    // Longer than all tries and pauses of one question together.
    let limit = Duration::from_secs(24 * 3600);
    let asked = async {
        match question.split_once(' ') {
            Some(("gitlab", what)) => ask_gitlab(what, script).await,
            Some(("store", what)) => ask_store(what, script).await,
            Some(("secret", what)) => ask_for_secret(what, script).await,
            _ => String::new(),
        }
    };
    tokio::time::timeout(limit, asked).await.expect("a question has an end")
}

async fn ask_gitlab(what: &str, script: Arc<Script>) -> String {
    let options = ClientOptions::new("https://gitlab.example.com");
    let client = Client::with_transport(options, script).expect("the URL is right");
    let (token, info) = (Secret::from(TOKEN), RunnerInfo::kubernetes("bash", [].into()));
    let job = JobCredentials { id: 7, token: token.clone() };
    let time = Duration::from_secs(30);
    match what {
        "reach" => format!("{:?}", client.reach().await),
        "register" => format!("{:?}", client.register(&token, &Registration::default()).await),
        "verify" => format!("{:?}", client.verify(&token, "s_1", &info).await),
        "reset" => format!("{:?}", client.reset_token(&token).await),
        "unregister" => format!("{:?}", client.unregister_manager(&token, "s_1").await),
        "update" => format!("{:?}", client.update_job(&job, &JobUpdate::of(JobState::Running), &info, time).await),
        "patch" => format!("{:?}", client.patch_trace(&job, (5, Bytes::from_static(b"log")), false, time).await),
        "download" => match client.download_part(7, &token, true, 2..6).await {
            Ok(mut part) => {
                while part.content.next().await.is_some() {}
                format!("{part:?}")
            }
            Err(error) => format!("{error:?} {error}"),
        },
        "job" => {
            let request = JobRequest { token: &token, system_id: "s_1", info: &info, last_update: None, session: None };
            format!("{:?}", client.request_job(request).await.answer)
        }
        _ => String::new(),
    }
}

async fn ask_store(what: &str, script: Arc<Script>) -> String {
    let settings = match what {
        "s3" => Settings::S3(Box::new(S3Settings {
            server_address: None,
            bucket: "b".into(),
            region: None,
            insecure: false,
            path_style: None,
            dual_stack: false,
            accelerate: false,
            access: S3Access::Surroundings,
            encryption: None,
            encryption_key: None,
            role: Some(gantry_storage::RoleSettings {
                arn: "arn:aws:iam::1:role/r".into(),
                concurrency: None,
                keeps: true,
            }),
        })),
        "gcs" => Settings::Gcs(GcsSettings { bucket: "b".into(), universe_domain: None, key: GcsKey::Surroundings }),
        "azure" => {
            Settings::Azure(AzureSettings { account: "a".into(), key: None, container: "c".into(), domain: None })
        }
        _ => return String::new(),
    };
    let world = gantry_storage::World {
        variable: Arc::new(|_| None),
        connect: Arc::new(move |_, _| Ok(Arc::<Script>::clone(&script))),
    };
    let store = gantry_storage::Store::new(settings, world);
    let request = ObjectRequest {
        name: "project/7/key".into(),
        access: Access::Write,
        valid_for: Duration::from_secs(3600),
        key: "key".into(),
        most: Some(1 << 40),
    };
    match store.sign(&request).await {
        // It is sent as it is.
        Ok(link) => {
            assert!(Request::get(link.url.expose()).body(()).is_ok(), "not a URL");
            String::new()
        }
        Err(error) => format!("{error:?} {error}"),
    }
}

async fn ask_for_secret(what: &str, script: Arc<Script>) -> String {
    let jwt = || Secret::from(TOKEN);
    let spec = match what {
        "gcp" => serde_json::json!({"gcp_secret_manager": {"name": "n", "version": "1", "server": {
            "project_number": "1", "workload_identity_federation_pool_id": "p",
            "workload_identity_federation_provider_id": "q", "jwt": jwt().expose()}}}),
        "azure" => serde_json::json!({"azure_key_vault": {"name": "n", "version": "", "server": {
            "client_id": "c", "tenant_id": "t", "jwt": jwt().expose(), "url": "https://v.vault.azure.net"}}}),
        "aws" => serde_json::json!({"aws_secrets_manager": {"secret_id": "s", "field": "f", "server": {
            "region": "eu-west-1", "jwt": jwt().expose(), "role_arn": "arn:aws:iam::1:role/r", "role_session_name": "n"}}}),
        vault => serde_json::json!({"vault": {"path": "p", "field": "f", "engine": {"name": vault, "path": "e"},
            "server": {"url": "https://vault.example.com", "namespace": "", "auth": {
                "name": "jwt", "path": "jwt", "data": {"jwt": jwt().expose(), "role": "r"}}}}}),
    };
    let payload = serde_json::json!({"id": 1, "token": "t", "secrets": {"S": spec}}).to_string();
    let job: JobSpec = gantry_gitlab::read_job(payload.as_bytes()).expect("a payload of our own");
    let spec: Option<&SecretSpec> = job.secrets.get("S");
    let Some(secret) = spec.and_then(|spec| gantry_secrets::resolve(spec, &str::to_owned)) else {
        return String::new();
    };
    let world = gantry_secrets::World {
        connect: Arc::new(move |_| Ok(Arc::<Script>::clone(&script))),
        variable: Arc::new(|_| None),
        now: Arc::new(jiff::Timestamp::now),
        google: gantry_secrets::Google::default(),
    };
    match secret.fetch(&world).await {
        Ok(_) => String::new(),
        Err(error) => format!("{error:?} {error}"),
    }
}
