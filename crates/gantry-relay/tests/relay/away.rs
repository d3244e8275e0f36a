//! A GitLab that is away, silent, slow, or answers nonsense for half an hour in the middle of a
//! job, and is back: on a clock that jumps.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use gantry_gitlab::{Body, ByteStream, Client, ClientOptions, Timeouts, Transport, TransportError, TransportFault};
use gantry_relay::{AckOutcome, Pace, RelayEnd, RelayJob, Report, acknowledge, keep_pending};
use http::{Method, Request, Response};
use tokio::sync::mpsc;
use tokio::time::{Instant, advance, sleep, sleep_until};

use super::{closed, creds, info, trace};

const HALF_AN_HOUR: Duration = Duration::from_mins(30);

/// When it begins, from the beginning of the relay.
const BEGINS: Duration = Duration::from_mins(2);

/// How often the job prints a piece, for an hour in all.
const PIECES: usize = 60;
const PIECE: usize = 5_000;

/// Most requests in that time: two in a minute for the log and the state each, with their inner
/// tries.
const MOST_REQUESTS: usize = 400;

/// What GitLab does instead of its work.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// Nobody listens.
    Away,
    /// It takes requests and says nothing.
    Silent,
    /// It takes them, and the connection breaks in the middle of its answer.
    Cut,
    /// It does its work a minute later than it is asked.
    Slow,
    /// It, or who stands before it, answers with this.
    Says(u16),
    /// Who stands before it asks for less, for so many seconds.
    Asks(u64),
    /// Who stands before it lets no piece of the log through, and everything else.
    RefusesPieces,
}

#[derive(Default)]
struct State {
    log: Vec<u8>,
    /// With their moments.
    finals: Vec<(String, Instant)>,
    troubled: usize,
    /// Of those, pieces of the log.
    pieces: usize,
    /// When others came.
    troubled_states: Vec<Instant>,
}

struct GitLab {
    trouble: Trouble,
    lasts: Duration,
    begun: Instant,
    state: Mutex<State>,
}

impl GitLab {
    /// In trouble for half an hour.
    fn new(trouble: Trouble) -> Arc<Self> {
        Arc::new(Self { trouble, lasts: HALF_AN_HOUR, begun: Instant::now(), state: Mutex::default() })
    }

    fn is_troubled(&self) -> bool {
        let since = self.begun.elapsed();
        since >= BEGINS && since < BEGINS + self.lasts
    }

    /// What it answers when it works.
    fn works(&self, head: &http::request::Parts, body: &Bytes) -> Response<ByteStream> {
        let mut state = self.state.lock().unwrap();
        let answer = Response::builder().header("Job-Status", "running");
        let answer = if head.method == Method::PATCH {
            let range = head.headers["content-range"].to_str().unwrap();
            let begins: usize = range.split('-').next().unwrap().parse().unwrap();
            let fits = begins == state.log.len();
            if fits {
                state.log.extend_from_slice(body);
            }
            let stored = format!("0-{}", state.log.len());
            answer.status(if fits { 202 } else { 416 }).header("Range", stored)
        } else {
            let said: serde_json::Value = serde_json::from_slice(body).unwrap();
            let said = said["state"].as_str().unwrap().to_owned();
            if said != "running" {
                state.finals.push((said, Instant::now()));
            }
            answer.status(200)
        };
        let body: ByteStream = Box::pin(stream::empty());
        answer.body(body).unwrap()
    }
}

/// The transport of a client that reaches it.
struct Way(Arc<GitLab>);

impl Transport for Way {
    fn send(
        &self,
        request: Request<Body>,
        timeouts: Timeouts,
    ) -> BoxFuture<'_, Result<Response<ByteStream>, TransportError>> {
        let gitlab = Arc::clone(&self.0);
        async move {
            let (head, body) = request.into_parts();
            let Body::Bytes(body) = body else { panic!("a body of known length") };
            if !gitlab.is_troubled() {
                return Ok(gitlab.works(&head, &body));
            }
            {
                let mut state = gitlab.state.lock().unwrap();
                state.troubled += 1;
                if head.method == Method::PATCH {
                    state.pieces += 1;
                } else {
                    state.troubled_states.push(Instant::now());
                }
            }
            let fails = |fault| Err(TransportError::new(fault, "trouble"));
            match gitlab.trouble {
                Trouble::Away => fails(TransportFault::Connect),
                Trouble::Silent => {
                    sleep(timeouts.head).await;
                    fails(TransportFault::Timeout)
                }
                Trouble::Cut => {
                    // It has done what it was asked, and nobody hears of it.
                    let _ = gitlab.works(&head, &body);
                    fails(TransportFault::Broken)
                }
                Trouble::Slow => {
                    sleep(Duration::from_mins(1).min(timeouts.head)).await;
                    let answer = gitlab.works(&head, &body);
                    if timeouts.head > Duration::from_mins(1) { Ok(answer) } else { fails(TransportFault::Timeout) }
                }
                Trouble::Asks(seconds) => {
                    let answer = Response::builder().status(429).header("Retry-After", seconds);
                    Ok(answer.body(stream::empty().boxed()).unwrap())
                }
                Trouble::RefusesPieces if head.method != Method::PATCH => Ok(gitlab.works(&head, &body)),
                Trouble::RefusesPieces | Trouble::Says(_) => {
                    let status = if let Trouble::Says(status) = gitlab.trouble { status } else { 403 };
                    let page = stream::iter([Ok(Bytes::from_static(b"<html>"))]).boxed();
                    Ok(Response::builder().status(status).header("Content-Type", "text/html").body(page).unwrap())
                }
            }
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn half_an_hour_costs_nothing_of_a_log_and_its_end() {
    // All that promises nothing and takes nothing back; a 403 says nothing of the job here.
    let says =
        [201, 204, 301, 400, 401, 403, 404, 405, 408, 409, 410, 413, 422, 425, 429, 500, 501, 502, 503, 504, 520];
    let says = says.map(Trouble::Says);
    let others = [Trouble::Away, Trouble::Silent, Trouble::Cut, Trouble::Slow, Trouble::Asks(60), Trouble::Asks(3600)];
    let all = others.into_iter().chain(says);
    for trouble in all {
        let gitlab = GitLab::new(trouble);
        let whole = trace(PIECES * PIECE);
        assert_eq!(relayed(&gitlab, &whole).await, RelayEnd::Delivered, "{trouble:?}");
        let state = gitlab.state.lock().unwrap();
        assert!(state.log == whole, "{trouble:?}: {} of {} bytes", state.log.len(), whole.len());
        assert!(matches!(&state.finals[..], [(said, _)] if said == "failed"), "{trouble:?}: {:?}", state.finals);
        assert!((1..=MOST_REQUESTS).contains(&state.troubled), "{trouble:?}: {} requests", state.troubled);
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_refuses_pieces_costs_few_tries_and_no_state() {
    // While it is there, keep-alives go on as before, and pieces get one try a minute.
    let gitlab = GitLab::new(Trouble::RefusesPieces);
    let whole = trace(PIECES * PIECE);
    assert_eq!(relayed(&gitlab, &whole).await, RelayEnd::Delivered);
    {
        let state = gitlab.state.lock().unwrap();
        assert!(state.log == whole, "{} of {} bytes", state.log.len(), whole.len());
        assert_eq!(state.finals.len(), 1);
        let keep_alives = state.troubled - state.pieces;
        assert!((400..=460).contains(&keep_alives), "each 4 s: {keep_alives}");
        // Until that is proof they are tried as with any other failure.
        assert!((100..=300).contains(&state.pieces), "{} pieces", state.pieces);
    }

    // Where it stays, the end of the job is no hour away.
    let lasts = Duration::from_hours(3);
    let gitlab =
        Arc::new(GitLab { trouble: Trouble::RefusesPieces, lasts, begun: Instant::now(), state: Mutex::default() });
    assert_eq!(relayed(&gitlab, &whole).await, RelayEnd::Delivered);
    let state = gitlab.state.lock().unwrap();
    let [(said, when)] = &state.finals[..] else { panic!("{:?}", state.finals) };
    let after = *when - (gitlab.begun + Duration::from_mins(PIECES as u64 - 1));
    assert!(said == "failed" && after < Duration::from_secs(30), "{said} after {after:?}");
    assert!(whole.starts_with(&state.log) && state.log.len() < whole.len());
}

fn client(gitlab: &Arc<GitLab>) -> Client {
    let way = Arc::new(Way(Arc::clone(gitlab)));
    Client::with_transport(ClientOptions::new("https://gitlab.test"), way).unwrap()
}

/// A job that prints a piece each minute.
async fn relayed(gitlab: &Arc<GitLab>, whole: &[u8]) -> RelayEnd {
    let client = client(gitlab);
    let job = RelayJob {
        creds: creds(),
        info: info(),
        debug_trace: false,
        failure_reasons: vec!["script_failure".to_owned()],
        acknowledged: true,
        final_tries: 10,
        deadline: Instant::now() + Duration::from_hours(2),
        pace: Pace::default(),
    };
    let (inputs, inbox) = mpsc::channel(8);
    let (outbox, mut reports) = mpsc::channel::<Report>(8);
    let printing = async {
        for (number, piece) in whole.chunks(PIECE).enumerate() {
            sleep_until(gitlab.begun + Duration::from_mins(number as u64)).await;
            let offset = (number * PIECE) as u64;
            let bytes = Bytes::copy_from_slice(piece);
            inputs.send(gantry_relay::Input::Trace { offset, bytes }).await.unwrap();
        }
        inputs.send(closed(whole)).await.unwrap();
        std::future::pending::<()>().await;
    };
    let reading = async { while reports.recv().await.is_some() {} };
    let beside = async { tokio::join!(printing, reading) };
    tokio::select! {
        end = gantry_relay::run(client, job, inbox, outbox) => end,
        _ = beside => unreachable!("who prints waits for the end"),
    }
}

/// GitLab's own limit for an acknowledgement.
const ACKNOWLEDGE: Duration = Duration::from_mins(2);

#[tokio::test(start_paused = true)]
async fn a_job_is_not_acknowledged_for_longer_than_gitlab_waits() {
    let asks = [5, 60, 3600].map(Trouble::Asks);
    for trouble in [Trouble::Away, Trouble::Silent, Trouble::Slow, Trouble::Says(503)].into_iter().chain(asks) {
        let gitlab = GitLab::new(trouble);
        let client = client(&gitlab);
        advance(BEGINS).await;
        let asked = Instant::now();
        let mut heard = Vec::new();
        let trouble_heard = |message: Option<&str>| heard.push((message.map(str::to_owned), asked.elapsed()));
        let outcome = acknowledge(&client, &creds(), &info(), trouble_heard).await;
        let took = asked.elapsed();
        assert!(matches!(&heard[..], [(Some(_), at)] if *at <= ACKNOWLEDGE / 3), "{trouble:?}: {heard:?}");
        assert!(matches!(outcome, AckOutcome::Unanswered { .. }), "{trouble:?}: {outcome:?}");
        assert!(took <= ACKNOWLEDGE + Duration::from_secs(1), "{trouble:?}: {took:?}");
        assert!(took >= ACKNOWLEDGE / 2, "{trouble:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_is_kept_pending_twice_a_minute_whatever_wait_is_asked_for() {
    for (trouble, least) in [(Trouble::Asks(60), 9), (Trouble::Asks(3600), 9), (Trouble::Silent, 9), (Trouble::Away, 9)]
    {
        let gitlab = GitLab::new(trouble);
        let client = client(&gitlab);
        advance(BEGINS).await;
        let (creds, info) = (creds(), info());
        let five_minutes = Duration::from_mins(5) - Duration::from_secs(1);
        tokio::time::timeout(five_minutes, keep_pending(&client, &creds, &info)).await.unwrap_err();
        let troubled = gitlab.state.lock().unwrap().troubled;
        assert!(troubled >= least, "{trouble:?}: {troubled}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_goes_out_before_its_token_ends_though_every_answer_asks_for_a_minute() {
    // The log is over when GitLab begins to ask, ten minutes before the token ends.
    let lasts = Duration::from_hours(1);
    let gitlab = Arc::new(GitLab { trouble: Trouble::Asks(60), lasts, begun: Instant::now(), state: Mutex::default() });
    let client = client(&gitlab);
    advance(BEGINS).await;
    let deadline = Instant::now() + Duration::from_mins(10);
    let job = RelayJob {
        creds: creds(),
        info: info(),
        debug_trace: false,
        failure_reasons: Vec::new(),
        acknowledged: true,
        final_tries: 1,
        deadline,
        pace: Pace::default(),
    };
    let (inputs, inbox) = mpsc::channel(8);
    let (outbox, _reports) = mpsc::channel::<Report>(8);
    inputs.send(gantry_relay::Input::Trace { offset: 0, bytes: Bytes::from_static(b"abc") }).await.unwrap();
    inputs.send(closed(b"abc")).await.unwrap();
    let end = gantry_relay::run(client, job, inbox, outbox).await;
    assert!(matches!(end, RelayEnd::GaveUp { .. }), "{end:?}");
    let state = gitlab.state.lock().unwrap();
    let last_minute = deadline - Duration::from_mins(1)..deadline;
    assert!(state.troubled_states.iter().any(|at| last_minute.contains(at)), "{:?}", state.troubled_states);
    assert!(Instant::now() < deadline + Duration::from_mins(2));
}
