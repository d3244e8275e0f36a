//! One request from its first try to the answer that stands: redirects (`redirect.rs`) inside of tries (`retry.rs`).

use bytes::Bytes;
use gantry_core::chance;
use http::{HeaderName, Request, Response};

use crate::body::drain;
use crate::limits;
use crate::redirect;
use crate::retry::{self, Moment, Twice};
use crate::transport::{Body, ByteStream, Timeouts, Transport, TransportError, TransportFault};

/// A request that was sent, with the body of its answer not yet read.
pub struct Sent {
    /// The answer to the last try, or why there is none.
    pub answer: Result<Response<ByteStream>, TransportError>,
    /// Tries, 1 or more.
    pub tries: u32,
    /// The server answered at least one try with a status that asks for less.
    pub pushed_back: bool,
}

/// Sends `request` until an answer stands. `timeouts` are for each try. The headers `tokens` stay with the server that the request is for,
/// as those do that HTTP itself knows as secret.
pub async fn send(
    transport: &dyn Transport,
    request: Request<Bytes>,
    tokens: &[HeaderName],
    timeouts: Timeouts,
    twice: Twice,
) -> Sent {
    let mut pushed_back = false;
    let mut tries = 0;
    loop {
        tries += 1;
        let answer = follow(transport, request.clone(), tokens, timeouts).await;
        let moment = Moment { tries, now: jiff::Timestamp::now(), random: chance::fraction() };
        let wait = match &answer {
            Ok(answer) => {
                pushed_back |= retry::is_push_back(answer.status());
                retry::after_answer(answer.status(), answer.headers(), moment)
            }
            Err(error) => retry::after_failure(error.fault(), twice, moment),
        };
        let Some(wait) = wait else { return Sent { answer, tries, pushed_back } };
        tracing::debug!(path = request.uri().path(), tries, ?wait, "waiting before the same request is sent again");
        if let Ok(answer) = answer {
            drain(answer.into_body()).await;
        }
        tokio::time::sleep(wait).await;
    }
}

/// Sends once, and again to wherever the answer redirects.
async fn follow(
    transport: &dyn Transport,
    mut request: Request<Bytes>,
    tokens: &[HeaderName],
    timeouts: Timeouts,
) -> Result<Response<ByteStream>, TransportError> {
    for _ in 0..limits::MAX_REDIRECTS {
        let answer = transport.send(request.clone().map(Body::Bytes), timeouts).await?;
        match redirect::next(&request, tokens, answer.status(), answer.headers()) {
            Some(next) => request = next,
            None => return Ok(answer),
        }
    }
    Err(TransportError::new(TransportFault::Request, "too many redirects"))
}
