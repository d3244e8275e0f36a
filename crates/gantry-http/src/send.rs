//! One request from its first try to the answer that stands: redirects (`redirect.rs`) inside of
//! tries (`retry.rs`).

use std::time::Duration;

use bytes::Bytes;
use gantry_core::chance;
use http::{HeaderName, Request, Response};
use tokio::time::Instant;

use crate::body::drain;
use crate::limits;
use crate::redirect;
use crate::retry::{self, Idempotency, Moment};
use crate::transport::{Body, ByteStream, Timeouts, Transport, TransportError, TransportFault};

/// A request that was sent, with the body of its answer not yet read.
pub struct Sent {
    /// The answer to the last try, or why there is none.
    pub answer: Result<Response<ByteStream>, TransportError>,
    /// Tries, 1 or more.
    pub tries: u32,
    /// The server answered at least one try with a status that asks for less.
    pub pushed_back: bool,
    /// The wait that the server asks for with the answer that stands.
    pub asked_wait: Option<Duration>,
}

/// Sends `request` until an answer stands. `timeouts` are for each try. The headers `tokens` stay
/// with the server that the request is for, as those do that HTTP itself knows as secret.
pub async fn send(
    transport: &dyn Transport,
    request: Request<Bytes>,
    tokens: &[HeaderName],
    timeouts: Timeouts,
    idempotency: Idempotency,
) -> Sent {
    send_until(transport, request, tokens, timeouts, (idempotency, None)).await
}

/// The same for a caller who may have time for tries and waits until `until` only: an answer that
/// asks for a longer wait stands then.
pub async fn send_until(
    transport: &dyn Transport,
    request: Request<Bytes>,
    tokens: &[HeaderName],
    timeouts: Timeouts,
    (idempotency, until): (Idempotency, Option<Instant>),
) -> Sent {
    let mut pushed_back = false;
    let mut tries = 0;
    loop {
        tries += 1;
        let answer = follow(transport, request.clone(), tokens, timeouts, until).await;
        let moment = Moment { tries, now: jiff::Timestamp::now(), random: chance::fraction() };
        let mut asked_wait = None;
        let wait = match &answer {
            Ok(answer) => {
                pushed_back |= retry::is_push_back(answer.status());
                asked_wait = retry::asked_wait(answer.status(), answer.headers(), moment.now);
                retry::after_answer(answer.status(), answer.headers(), moment)
            }
            Err(error) => retry::after_failure(error.fault(), idempotency, moment),
        };
        let fits = |wait: &Duration| wait.saturating_add(limits::LEAST_TRY) <= left(until);
        let Some(wait) = wait.filter(fits) else { return Sent { answer, tries, pushed_back, asked_wait } };
        tracing::debug!(path = request.uri().path(), tries, ?wait, "waiting before the same request is sent again");
        if let Ok(answer) = answer {
            let spare = left(until).saturating_sub(wait.saturating_add(limits::LEAST_TRY));
            drain(answer.into_body(), spare).await;
        }
        tokio::time::sleep(wait).await;
    }
}

/// The time that the caller still has.
fn left(until: Option<Instant>) -> Duration {
    until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()))
}

/// Sends once, and again to wherever the answer redirects, all of it before `until`.
async fn follow(
    transport: &dyn Transport,
    mut request: Request<Bytes>,
    tokens: &[HeaderName],
    timeouts: Timeouts,
    until: Option<Instant>,
) -> Result<Response<ByteStream>, TransportError> {
    for _ in 0..limits::MAX_REDIRECTS {
        let in_time = Timeouts { head: timeouts.head.min(left(until)), ..timeouts };
        let answer = transport.send(request.clone().map(Body::Bytes), in_time).await?;
        match redirect::next(&request, tokens, answer.status(), answer.headers()) {
            Some(next) => request = next,
            None => return Ok(answer),
        }
    }
    Err(TransportError::new(TransportFault::Request, "too many redirects"))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use futures::future::BoxFuture;
    use futures::{FutureExt as _, stream};
    use http::StatusCode;
    use http::header::{LOCATION, RETRY_AFTER};

    use super::*;

    const TOKEN: HeaderName = HeaderName::from_static("job-token");
    /// What pushes back asks for this wait.
    const ASKED: Duration = Duration::from_secs(7);
    const TIMEOUTS: Timeouts = Timeouts { head: Duration::from_secs(1), idle: Duration::from_secs(1) };

    /// Answers in order: a status and where it redirects, or a fault. Keeps where requests went and
    /// whether the token went with them.
    struct Script {
        /// Each answer takes so long.
        takes: Duration,
        answers: Mutex<VecDeque<Result<(u16, &'static str), TransportFault>>>,
        sent: Mutex<Vec<(String, bool)>>,
    }

    impl Script {
        fn of(answers: &[Result<(u16, &'static str), TransportFault>]) -> Self {
            let answers = Mutex::new(answers.iter().copied().collect());
            Self { takes: Duration::ZERO, answers, sent: Mutex::default() }
        }

        async fn get(&self, idempotency: Idempotency) -> (Result<StatusCode, TransportFault>, u32, bool) {
            let sent = self.get_until(idempotency, None).await;
            let answer = sent.answer.map(|answer| answer.status()).map_err(|error| error.fault());
            (answer, sent.tries, sent.pushed_back)
        }

        async fn get_until(&self, idempotency: Idempotency, until: Option<Instant>) -> Sent {
            let request =
                Request::builder().uri("https://a.test/1").header(TOKEN, "secret").body(Bytes::new()).unwrap();
            send_until(self, request, &[TOKEN], TIMEOUTS, (idempotency, until)).await
        }
    }

    impl Transport for Script {
        fn send(
            &self,
            request: Request<Body>,
            timeouts: Timeouts,
        ) -> BoxFuture<'_, Result<Response<ByteStream>, TransportError>> {
            self.sent.lock().unwrap().push((request.uri().to_string(), request.headers().contains_key(TOKEN)));
            let answer = self.answers.lock().unwrap().pop_front().expect("one more answer in the script");
            // Its body never ends: whoever waits for it must give up.
            let body = || -> ByteStream { Box::pin(stream::pending()) };
            let answer = answer
                .map(|(status, to)| {
                    let answer = Response::builder().status(status).header(LOCATION, to);
                    let answer = if status == 429 { answer.header(RETRY_AFTER, ASKED.as_secs()) } else { answer };
                    answer.body(body()).unwrap()
                })
                .map_err(|fault| TransportError::new(fault, "scripted"));
            let answering = tokio::time::timeout(timeouts.head, tokio::time::sleep(self.takes));
            async {
                answering.await.map_err(|elapsed| TransportError::new(TransportFault::Timeout, elapsed)).and(answer)
            }
            .boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_try_begins_where_the_request_is_for() {
        let elsewhere = "https://b.test/2";
        let script = Script::of(&[Ok((302, elsewhere)), Ok((503, "")), Ok((302, elsewhere)), Ok((200, ""))]);
        assert_eq!(script.get(Idempotency::NotIdempotent).await, (Ok(StatusCode::OK), 2, true));
        let (first, second) = (("https://a.test/1".to_owned(), true), (elsewhere.to_owned(), false));
        assert_eq!(*script.sent.lock().unwrap(), [first.clone(), second.clone(), first, second]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_wait_and_no_try_goes_on_behind_the_callers_time() {
        for (time, tries) in [(ASKED, 1), (ASKED * 2, 2), (ASKED * 6, 4)] {
            let pushing = Script::of(&[Ok((429, "")); 5]);
            let begun = Instant::now();
            let sent = pushing.get_until(Idempotency::Idempotent, Some(begun + time)).await;
            assert_eq!((sent.answer.unwrap().status(), sent.tries), (StatusCode::TOO_MANY_REQUESTS, tries), "{time:?}");
            assert_eq!(sent.asked_wait, Some(ASKED));
            assert!(begun.elapsed() <= time, "{:?} of {time:?}", begun.elapsed());
        }
        let round = Script { takes: TIMEOUTS.head * 9 / 10, ..Script::of(&[Ok((307, "/1")); 10]) };
        let (begun, time) = (Instant::now(), TIMEOUTS.head * 5);
        let sent = round.get_until(Idempotency::Idempotent, Some(begun + time)).await;
        assert_eq!((sent.answer.err().map(|error| error.fault()), sent.tries), (Some(TransportFault::Timeout), 1));
        let (took, hops) = (begun.elapsed().as_secs(), round.sent.lock().unwrap().len());
        assert_eq!((took, hops), (time.as_secs(), 6), "redirects included");
        let fine = Script::of(&[Ok((200, ""))]).get_until(Idempotency::Idempotent, None).await;
        assert_eq!(fine.asked_wait, None);
    }

    #[tokio::test(start_paused = true)]
    async fn tries_and_redirects_have_an_end() {
        let pushing = Script::of(&[Ok((503, "")); 5]);
        assert_eq!(pushing.get(Idempotency::Idempotent).await, (Ok(StatusCode::SERVICE_UNAVAILABLE), 5, true));
        let broken = Script::of(&[Err(TransportFault::Broken), Ok((204, ""))]);
        assert_eq!(broken.get(Idempotency::Idempotent).await, (Ok(StatusCode::NO_CONTENT), 2, false));
        let broken = Script::of(&[Err(TransportFault::Broken)]);
        assert_eq!(broken.get(Idempotency::NotIdempotent).await, (Err(TransportFault::Broken), 1, false));
        let round = Script::of(&[Ok((302, "/1")); 10]);
        assert_eq!(round.get(Idempotency::Idempotent).await, (Err(TransportFault::Request), 1, false));
    }
}
