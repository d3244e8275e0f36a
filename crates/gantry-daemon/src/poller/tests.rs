//! A whole daemon on a paused clock against a GitLab that answers every request for a job in the
//! same way, or that is in trouble for half an hour.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_gitlab::{Body, ByteStream, Timeouts, Transport, TransportError, TransportFault};

use super::*;
use crate::outside::stub::{self, Alone};
use crate::{App, signal_channel};

/// A GitLab whose every answer is this one.
struct Always {
    status: u16,
    content_type: &'static str,
    body: &'static str,
    requests: AtomicUsize,
}

impl Transport for Always {
    fn send(
        &self,
        _: http::Request<Body>,
        _: Timeouts,
    ) -> BoxFuture<'_, Result<http::Response<ByteStream>, TransportError>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let body: ByteStream = Box::pin(futures::stream::iter([Ok(bytes::Bytes::from_static(self.body.as_bytes()))]));
        let answer = http::Response::builder().status(self.status).header("content-type", self.content_type);
        async move { Ok(answer.body(body).unwrap()) }.boxed()
    }
}

/// What a GitLab does for half an hour, before it has no job for anybody.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// Nobody listens.
    Away,
    /// It takes requests and says nothing.
    Silent,
    /// It answers after a minute.
    Slow,
    /// Its answer breaks off in the middle.
    Cut,
    /// It, or who stands before it, says this.
    Says(u16),
}

const HALF_AN_HOUR: Duration = Duration::from_mins(30);

/// A GitLab that is in trouble and then works.
struct Troubled {
    trouble: Trouble,
    begun: Instant,
    /// When it was asked, from the beginning on.
    asked: Mutex<Vec<Duration>>,
}

impl Transport for Troubled {
    fn send(
        &self,
        _: http::Request<Body>,
        timeouts: Timeouts,
    ) -> BoxFuture<'_, Result<http::Response<ByteStream>, TransportError>> {
        let since = self.begun.elapsed();
        self.asked.lock().unwrap().push(since);
        async move {
            let fails = |fault| Err(TransportError::new(fault, "trouble"));
            let says = |status: u16, body: ByteStream| {
                let answer = http::Response::builder().status(status).header("content-type", "application/json");
                Ok(answer.body(body).unwrap())
            };
            let nothing = || -> ByteStream { Box::pin(futures::stream::empty()) };
            if since >= HALF_AN_HOUR {
                return says(204, nothing());
            }
            match self.trouble {
                Trouble::Away => fails(TransportFault::Connect),
                Trouble::Silent => {
                    sleep(timeouts.head).await;
                    fails(TransportFault::Timeout)
                }
                Trouble::Slow => {
                    sleep(Duration::from_mins(1)).await;
                    says(204, nothing())
                }
                Trouble::Cut => {
                    let half = Ok(bytes::Bytes::from_static(b"{\"id\": 7, "));
                    let broken = Err(TransportError::new(TransportFault::Broken, "cut"));
                    says(201, Box::pin(futures::stream::iter([half, broken])))
                }
                Trouble::Says(status) => says(status, nothing()),
            }
        }
        .boxed()
    }
}

/// How often it is asked in ten minutes by a runner with two workers.
async fn asked(status: u16, content_type: &'static str, body: &'static str) -> usize {
    let gitlab = Arc::new(Always { status, content_type, body, requests: AtomicUsize::new(0) });
    run(Arc::clone(&gitlab) as _, 3, Duration::from_mins(10)).await;
    gitlab.requests.load(Ordering::Relaxed)
}

/// A file with one runner, which has two workers and asks so often.
fn file(check_interval: u64) -> String {
    format!(
        "concurrent = 4\ncheck_interval = {check_interval}\n[[runners]]\nurl = \"http://gitlab.test\"\ntoken = \"glrt-a\"\n\
         executor = \"kubernetes\"\nrequest_concurrency = 2\n"
    )
}

/// Works with such a file for so long.
async fn run(gitlab: Arc<dyn Transport>, check_interval: u64, time: Duration) {
    run_beside(gitlab, &file(check_interval), |_| sleep(time)).await;
}

/// Works with this file for as long as something takes that knows where it is.
async fn run_beside<F: Future>(gitlab: Arc<dyn Transport>, text: &str, beside: impl FnOnce(PathBuf) -> F) {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.toml");
    std::fs::write(&config, text).unwrap();
    let beside = beside(config.clone());
    let app = App::build(stub::options(config, Arc::new(Alone(gitlab)))).await.unwrap();
    let (_signals, receiver) = signal_channel();
    tokio::select! {
        _ = app.run(receiver) => {}
        _ = beside => {}
    }
}

/// A GitLab that takes a while to hand out its one job, which nobody can read.
struct Slow {
    asked: AtomicUsize,
    told: AtomicUsize,
}

impl Slow {
    const TAKES: Duration = Duration::from_secs(10);
}

impl Transport for Slow {
    fn send(
        &self,
        request: http::Request<Body>,
        _: Timeouts,
    ) -> BoxFuture<'_, Result<http::Response<ByteStream>, TransportError>> {
        let says = |status: u16, body: &'static str| {
            let body: ByteStream = Box::pin(futures::stream::iter([Ok(bytes::Bytes::from_static(body.as_bytes()))]));
            Ok(http::Response::builder().status(status).header("content-type", "application/json").body(body).unwrap())
        };
        async move {
            if request.method() == http::Method::PUT {
                self.told.fetch_add(1, Ordering::Relaxed);
                return says(200, "");
            }
            if self.asked.fetch_add(1, Ordering::Relaxed) > 0 {
                return says(204, "");
            }
            sleep(Self::TAKES).await;
            says(201, "{\"id\": 7, \"token\": \"t\", \"variables\": 5}")
        }
        .boxed()
    }
}

/// Who has mended what made GitLab refuse a token need not wait for the rest of an hour.
#[tokio::test(start_paused = true)]
async fn a_file_that_is_read_again_revives_a_runner() {
    let gitlab = Arc::new(Always {
        status: 403,
        content_type: "application/json",
        body: "{\"message\": \"403 Forbidden\"}",
        requests: AtomicUsize::new(0),
    });
    let asked = || gitlab.requests.load(Ordering::Relaxed);
    let beside = |config: PathBuf| async move {
        sleep(Duration::from_mins(10)).await;
        let before = asked();
        sleep(Duration::from_mins(10)).await;
        assert_eq!(asked(), before, "it is left alone");
        std::fs::write(config, format!("# mended\n{}", file(PACE))).unwrap();
        sleep(Duration::from_secs(PACE)).await;
        assert!(asked() > before, "the file was read again");
    };
    run_beside(Arc::clone(&gitlab) as _, &file(PACE), beside).await;
}

/// GitLab fails a job that it has handed out and that nobody has taken.
#[tokio::test(start_paused = true)]
async fn a_job_that_comes_while_the_file_changes_is_not_lost() {
    let gitlab = Arc::new(Slow { asked: AtomicUsize::new(0), told: AtomicUsize::new(0) });
    let beside = |config: PathBuf| async move {
        sleep(Slow::TAKES / 2).await;
        std::fs::write(config, file(PACE * 2)).unwrap();
        sleep(Slow::TAKES).await;
    };
    run_beside(Arc::clone(&gitlab) as _, &file(PACE), beside).await;
    assert!(gitlab.asked.load(Ordering::Relaxed) > 1, "the file has not begun to count");
    assert!(gitlab.told.load(Ordering::Relaxed) > 0, "nobody has told GitLab anything about the job");
}

/// Its request has the only place, and is about to be held for ten minutes.
#[tokio::test(start_paused = true)]
async fn a_changed_runner_does_not_wait_long_for_a_silent_gitlab() {
    let gitlab = Arc::new(Troubled { trouble: Trouble::Silent, begun: Instant::now(), asked: Mutex::default() });
    let text = file(PACE).replace("concurrent = 4", "concurrent = 1");
    let changed = Duration::from_secs(10);
    let beside = |config: PathBuf| {
        let text = format!("# mended\n{}", text.replace("gitlab.test", "gitlab.example.com"));
        async move {
            sleep(changed).await;
            std::fs::write(config, text).unwrap();
            sleep(2 * LAST_ANSWER).await;
        }
    };
    run_beside(Arc::clone(&gitlab) as _, &text, beside).await;
    let asked = gitlab.asked.lock().unwrap();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[1] > changed + LAST_ANSWER, "GitLab had too little time for a job: {asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_promise_without_a_job_is_no_reason_to_ask_at_once() {
    let json = "application/json";
    let quiet = asked(204, json, "").await;
    assert!(quiet > 100, "{quiet}");
    for body in ["", "{}", "null", "[]", "<html>", "{\"id\": 1}", "{\"id\": 0, \"token\": \"t\"}"] {
        let requests = asked(201, json, body).await;
        assert!((5..=30).contains(&requests), "{body:?}: {requests} requests");
    }
    let page = asked(201, "text/html", "<html>").await;
    assert!(page <= quiet, "{page} requests");
}

/// It is asked at its usual pace and not more often, and found soon once it is back: after a
/// silence when that request is given up, and after refusals of the token when the pause for those
/// is over.
#[tokio::test(start_paused = true)]
async fn a_gitlab_that_is_back_after_half_an_hour_is_found() {
    let says = [403, 404, 429, 503].map(Trouble::Says);
    for trouble in [Trouble::Away, Trouble::Silent, Trouble::Slow, Trouble::Cut].into_iter().chain(says) {
        let gitlab = Arc::new(Troubled { trouble, begun: Instant::now(), asked: Mutex::default() });
        let soon = match trouble {
            Trouble::Silent => Duration::from_mins(10),
            Trouble::Slow => Duration::from_mins(1),
            Trouble::Says(403) => Duration::from_mins(32),
            _ => Duration::from_secs(PACE + 1),
        };
        run(Arc::clone(&gitlab) as _, PACE, HALF_AN_HOUR + soon).await;
        let asked = gitlab.asked.lock().unwrap();
        assert!(asked.iter().any(|at| *at >= HALF_AN_HOUR), "{trouble:?}: not within {soon:?}");
        // One of the two workers rests while nothing comes, but for the first minutes; where GitLab
        // asks for less there are five tries each.
        let during = asked.iter().filter(|at| **at < HALF_AN_HOUR).count();
        let most = 5 * usize::try_from(HALF_AN_HOUR.as_secs() / PACE).unwrap() + 10;
        assert!((2..=most).contains(&during), "{trouble:?}: {during} requests");
    }
}

/// How often it is asked, in seconds.
const PACE: u64 = 30;

#[test]
fn the_rest_grows_and_never_falls_below_the_interval() {
    let rests = |interval| {
        let seconds = |count| rest_after_bad_answers(Duration::from_millis(interval), count).as_millis();
        [1, 2, 3, 99].map(seconds)
    };
    assert_eq!(rests(3_000), [3_000, 6_000, 12_000, 60_000]);
    assert_eq!(rests(0), [1_000, 2_000, 4_000, 60_000]);
    assert_eq!(rests(300_000), [300_000; 4]);
}
