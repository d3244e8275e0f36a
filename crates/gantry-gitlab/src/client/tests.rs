//! The calls over a scripted transport: what is sent again, what is followed, what is observed.

use std::collections::VecDeque;
use std::sync::Mutex;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use gantry_core::JobState;
use http::{Request, Response};

use super::*;
use crate::answer::{DownloadError, PatchOutcome, UpdateOutcome, UploadAnswer};
use crate::observe::RequestObservation;
use crate::request::UploadQuery;
use gantry_http::{Body, ByteStream, Timeouts, TransportError, TransportFault};

type Scripted = Result<Response<&'static str>, TransportFault>;

/// Answers in order, and what was sent.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Scripted>>,
    sent: Mutex<Vec<(String, http::HeaderMap, String)>>,
    /// Seconds that each answer might have taken.
    limits: Mutex<Vec<u64>>,
}

impl Transport for Script {
    fn send(
        &self,
        request: Request<Body>,
        timeouts: Timeouts,
    ) -> BoxFuture<'_, Result<Response<ByteStream>, TransportError>> {
        self.limits.lock().unwrap().push(timeouts.head.as_secs());
        async move {
            let (head, body) = request.into_parts();
            let body = match body {
                Body::Bytes(bytes) => bytes.to_vec(),
                Body::Stream(mut pieces) => {
                    let mut all = Vec::new();
                    while let Some(piece) = pieces.next().await {
                        all.extend_from_slice(&piece?);
                    }
                    all
                }
            };
            let line = format!("{} {}", head.method, head.uri);
            self.sent.lock().unwrap().push((line, head.headers, String::from_utf8(body).unwrap()));
            let answer = self.answers.lock().unwrap().pop_front().expect("one more answer in the script");
            answer
                .map(|answer| {
                    answer
                        .map(|body| -> ByteStream { Box::pin(stream::iter([Ok(Bytes::from_static(body.as_bytes()))])) })
                })
                .map_err(|fault| TransportError::new(fault, "scripted"))
        }
        .boxed()
    }

    fn verified_chain_pem(&self) -> Option<String> {
        Some("(chain)".to_owned())
    }
}

impl Script {
    fn lines(&self) -> Vec<String> {
        self.sent.lock().unwrap().iter().map(|(line, ..)| line.clone()).collect()
    }
}

struct World {
    client: Client,
    script: Arc<Script>,
    observed: Arc<Mutex<Vec<RequestObservation>>>,
}

fn world(answers: impl IntoIterator<Item = Scripted>) -> World {
    let script = Arc::new(Script { answers: Mutex::new(answers.into_iter().collect()), ..Script::default() });
    let observed = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&observed);
    let options = ClientOptions {
        on_request: Some(Arc::new(move |observation| seen.lock().unwrap().push(observation.clone()))),
        ..ClientOptions::new("https://gitlab.example.com/sub")
    };
    let client = Client::with_transport(options, Arc::clone(&script) as Arc<dyn Transport>).unwrap();
    World { client, script, observed }
}

#[expect(clippy::unnecessary_wraps, reason = "one of two kinds of a scripted answer")]
fn says(status: u16) -> Scripted {
    Ok(Response::builder().status(status).body("").unwrap())
}

#[expect(clippy::unnecessary_wraps, reason = "one of two kinds of a scripted answer")]
fn json(status: u16, body: &'static str) -> Scripted {
    Ok(Response::builder().status(status).header("content-type", "application/json").body(body).unwrap())
}

#[expect(clippy::unnecessary_wraps, reason = "one of two kinds of a scripted answer")]
fn to(status: u16, location: &str) -> Scripted {
    Ok(Response::builder().status(status).header("location", location).body("").unwrap())
}

fn job() -> JobCredentials {
    JobCredentials { id: 42, token: "glcbt-1".into() }
}

fn info() -> RunnerInfo {
    RunnerInfo::kubernetes("bash", std::collections::BTreeMap::new())
}

async fn poll(world: &World) -> Poll {
    let (token, info) = (Secret::new("glrt-1"), info());
    world
        .client
        .request_job(JobRequest { token: &token, system_id: "r_1", info: &info, last_update: None, session: None })
        .await
}

#[tokio::test(start_paused = true)]
async fn a_server_that_pushes_back_is_asked_again_with_the_same_id() {
    let world = world([says(503), says(502), json(201, r#"{"id": 1, "token": "t"}"#)]);
    let poll = poll(&world).await;
    let JobAnswer::Job(job) = poll.answer else { panic!("{poll:?}") };
    assert_eq!((job.spec.id, job.tls_ca_chain_pem.as_deref()), (1, Some("(chain)")));
    assert!(poll.pushed_back);
    let ids: Vec<_> =
        world.script.sent.lock().unwrap().iter().map(|(_, headers, _)| headers["x-request-id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]) && ids[0].len() == 32);
    let observed = world.observed.lock().unwrap();
    let seen = observed.iter().map(|o| (o.endpoint.as_str(), o.method, o.path.as_str(), o.status, o.attempts));
    assert_eq!(seen.collect::<Vec<_>>(), [("request_job", "post", "/sub/api/v4/jobs/request", 201, 3)]);
}

#[tokio::test(start_paused = true)]
async fn five_tries_and_the_last_answer_stands() {
    let world = world([says(503), says(503), says(503), says(503), says(503)]);
    let poll = poll(&world).await;
    assert!(matches!(poll.answer, JobAnswer::Unavailable { .. }) && poll.healthy() && poll.pushed_back);
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_tried_again_only_where_that_is_harmless() {
    let polled = world([Err(TransportFault::Broken)]);
    let poll = poll(&polled).await;
    assert!(matches!(poll.answer, JobAnswer::Failed(CallError::Transport(_))) && poll.healthy());
    assert_eq!(polled.observed.lock().unwrap()[0].status, -1);

    let updated = world([Err(TransportFault::Broken), Err(TransportFault::Connect), says(200)]);
    let answer =
        updated.client.update_job(&job(), &JobUpdate::of(JobState::Running), &info(), limits::ANSWER_TIMEOUT).await;
    assert!(matches!(answer.outcome, UpdateOutcome::Accepted), "{answer:?}");

    let stalled = world([Err(TransportFault::Timeout)]);
    let answer = stalled.client.patch_trace(&job(), (0, Bytes::from_static(b"x")), false, limits::ANSWER_TIMEOUT).await;
    assert!(matches!(answer.outcome, PatchOutcome::Unreachable(_)), "{answer:?}");
    assert_eq!(stalled.observed.lock().unwrap()[0].path, "/sub/api/v4/jobs/{id}/trace");
}

#[tokio::test(start_paused = true)]
async fn a_call_about_a_job_is_over_in_its_time_whatever_wait_is_asked_for() {
    let asks = || Ok(Response::builder().status(429).header("retry-after", "60").body("").unwrap());
    let asks_less = || Ok(Response::builder().status(429).header("retry-after", "15").body("").unwrap());
    let world = world([asks(), asks(), asks_less(), asks_less(), asks_less()]);
    let time = Duration::from_secs(40);
    let updated = world.client.update_job(&job(), &JobUpdate::of(JobState::Running), &info(), time).await;
    assert!(matches!(updated.outcome, UpdateOutcome::Later(_)), "{updated:?}");
    assert_eq!(updated.headers.asked_wait, Some(Duration::from_secs(60)));
    let patched = world.client.patch_trace(&job(), (0, Bytes::from_static(b"x")), false, time).await;
    assert_eq!(patched.headers.asked_wait, Some(Duration::from_secs(60)));
    let patched = world.client.patch_trace(&job(), (0, Bytes::from_static(b"x")), false, time).await;
    assert_eq!(patched.headers.asked_wait, Some(Duration::from_secs(15)));
    assert_eq!(*world.script.limits.lock().unwrap(), [40, 40, 40, 25, 10]);
}

#[tokio::test(start_paused = true)]
async fn verification_of_old_and_new_servers() {
    async fn verify(answers: Vec<Scripted>) -> (VerifyOutcome, usize) {
        let world = world(answers);
        let outcome = world.client.verify(&"glrt-1".into(), "r_1", &info()).await;
        (outcome, world.script.lines().len())
    }
    let (outcome, calls) = verify(vec![json(200, r#"{"id": 5, "token": "glrt-1", "token_expires_at": null}"#)]).await;
    assert!(matches!(outcome, VerifyOutcome::Valid(Registered { id: 5, .. })) && calls == 1, "{outcome:?}");
    let (outcome, calls) = verify(vec![says(200), says(200)]).await;
    assert!(matches!(outcome, VerifyOutcome::Valid(Registered { id: 0, .. })) && calls == 2, "{outcome:?}");
    let page = Response::builder().status(200).header("content-type", "text/html; charset=utf-8");
    let (outcome, calls) = verify(vec![Ok(page.body("<title>Sign in</title>").unwrap()), says(200)]).await;
    let VerifyOutcome::Unsure { message } = outcome else { panic!("{outcome:?}") };
    assert!(message.starts_with("GitLab answered with status 200: OK, with a page for browsers") && calls == 1);
    let (outcome, _) = verify(vec![json(403, r#"{"message": "403 Forbidden"}"#)]).await;
    assert!(matches!(outcome, VerifyOutcome::Invalid { .. }), "{outcome:?}");
    let (outcome, _) = verify(vec![Err(TransportFault::Connect)]).await;
    let VerifyOutcome::Unsure { message } = outcome else { panic!("{outcome:?}") };
    assert_eq!(message, "no answer from GitLab: cannot connect: scripted");
}

#[tokio::test(start_paused = true)]
async fn a_redirected_registration_says_which_url_to_configure() {
    let world = world([to(301, "https://new.example.com/api/v4/runners")]);
    let error = world.client.register(&"GR1348941".into(), &Registration::default()).await.unwrap_err();
    assert!(error.to_string().contains("redirected to https://new.example.com"), "{error}");
    assert_eq!(world.script.lines().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn artifacts_are_fetched_from_object_storage_without_the_token() {
    let content = Ok(Response::builder().status(200).header("content-length", "3").body("zip").unwrap());
    let world = world([to(302, "https://storage.example.com/a?sig=1"), content]);
    let mut download = world.client.download_artifact(41, &"glcbt-0".into(), true).await.unwrap();
    assert_eq!(download.content_length, Some(3));
    assert_eq!(download.content.next().await.unwrap().unwrap(), "zip");
    let sent = world.script.sent.lock().unwrap();
    assert!(sent[0].1.contains_key("job-token") && !sent[1].1.contains_key("job-token"), "{sent:?}");
    assert_eq!(sent[1].0, "GET https://storage.example.com/a?sig=1");
}

#[tokio::test(start_paused = true)]
async fn parts_of_artifacts_say_of_how_much() {
    let part = |status: u16, range: &str| {
        let answer = Response::builder().status(status).header("content-length", "2").header("content-range", range);
        Ok(answer.body("ip").unwrap())
    };
    let world = world([
        to(302, "https://storage.example.com/a?sig=1"),
        part(206, "bytes 1-2/3"),
        part(200, ""),
        part(206, "bytes 1-2/*"),
        part(206, "bytes 0-1/3"),
    ]);
    let token = Secret::new("glcbt-0");
    let ask = async || world.client.download_part(41, &token, true, 1..3).await;
    assert_eq!(ask().await.unwrap().whole_length, Some(3));
    assert_eq!(world.script.sent.lock().unwrap()[1].1["range"], "bytes=1-2");
    assert_eq!(ask().await.unwrap().whole_length, None, "all of it came");
    for of in ["an unknown length", "another place"] {
        assert!(matches!(ask().await, Err(DownloadError::Failed(CallError::Malformed { .. }))), "{of}");
    }
}

#[tokio::test(start_paused = true)]
async fn downloads_that_fail() {
    let error = world([says(404)]).client.download_artifact(41, &"t".into(), false).await.unwrap_err();
    assert!(matches!(error, DownloadError::NotFound));
    let error =
        world([to(302, "https://a.example.com/"), says(403)]).client.download_artifact(41, &"t".into(), true).await;
    assert!(matches!(error, Err(DownloadError::Forbidden { status: 403, .. })), "{error:?}");
    let error = world([says(410)]).client.download_artifact(41, &"t".into(), false).await;
    assert!(matches!(error, Err(DownloadError::Refused { status: 410, .. })), "{error:?}");
    let round = (0..gantry_http::limits::MAX_REDIRECTS).map(|_| to(302, "https://gitlab.example.com/again"));
    let error = world(round).client.download_artifact(41, &"t".into(), false).await;
    assert!(matches!(error, Err(DownloadError::Failed(CallError::Transport(_)))), "{error:?}");
}

async fn upload(world: &World) -> UploadAnswer {
    let query = UploadQuery { filename: "my \"a\".zip".into(), ..UploadQuery::default() };
    let content = || -> ByteStream { Box::pin(stream::iter([Ok(Bytes::from_static(b"PK"))])) };
    world.client.upload_artifact(&job(), &query, (&content, &|_| {}), UploadTimeouts::default()).await
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_one_form_field() {
    let sent = world([to(307, "https://gitlab.example.com/other"), says(201)]);
    assert!(matches!(upload(&sent).await, UploadAnswer::Uploaded));
    let sent = sent.script.sent.lock().unwrap();
    assert_eq!(sent[1].0, "POST https://gitlab.example.com/other");
    assert_eq!(sent[0].2, sent[1].2, "made anew for the redirect");
    let boundary = sent[0].1["content-type"].to_str().unwrap().split_once("boundary=").unwrap().1;
    insta::assert_snapshot!(sent[0].2.replace(boundary, "(boundary)").replace('\r', "\\r"));
}

#[tokio::test(start_paused = true)]
async fn tries_of_an_upload() {
    for (status, tries) in [(500, 3), (503, 6), (408, 3), (429, 3), (400, 1), (401, 1), (404, 1), (403, 1), (413, 1)] {
        let world = world((0..tries).map(|_| says(status)));
        let start = tokio::time::Instant::now();
        let answer = upload(&world).await;
        assert_eq!(world.script.lines().len(), tries, "{status}");
        match status {
            403 => assert!(matches!(answer, UploadAnswer::Forbidden { .. })),
            413 => assert!(matches!(answer, UploadAnswer::TooLarge { .. })),
            400 | 401 | 404 => {
                assert!(matches!(answer, UploadAnswer::Refused { status: said, .. } if said == status), "{answer:?}");
            }
            _ => assert!(matches!(answer, UploadAnswer::Failed { .. })),
        }
        let waited = start.elapsed().as_secs();
        assert_eq!(
            waited,
            match tries {
                1 => 0,
                3 => 1 + 2,
                _ => 1 + 2 + 4 + 5 + 5,
            },
            "{status}"
        );
    }
}

#[test]
fn request_ids_are_uuids() {
    let id = request_id();
    assert_eq!(id.len(), 32);
    assert_eq!(&id[12..13], "4");
    assert!("89ab".contains(&id[16..17]), "{id}");
}

/// Callers spawn these; a future that cannot move between threads would not compile here.
#[tokio::test]
async fn calls_can_be_spawned() {
    fn spawnable(future: impl Future<Output = ()> + Send + 'static) -> impl Future<Output = ()> {
        future
    }
    let world = world([says(201), says(204)]);
    let client = world.client.clone();
    spawnable(async move {
        let content = || -> ByteStream { Box::pin(stream::empty()) };
        client.upload_artifact(&job(), &UploadQuery::default(), (&content, &|_| {}), UploadTimeouts::default()).await;
        let (token, info) = (Secret::new("t"), info());
        client
            .request_job(JobRequest { token: &token, system_id: "r_1", info: &info, last_update: None, session: None })
            .await;
    })
    .await;
    assert_eq!(world.script.lines().len(), 2);
}

mod matrix;
