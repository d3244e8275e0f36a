//! The inner retry layer (GitLab Runner 19.4, `network/retry_requester.go`): when one call is sent
//! again, and after what wait. Pure.
//!
//! Two deliberate differences: a server's wait is obeyed up to [`limits::MAX_SERVER_WAIT`] only,
//! and a broken connection is tried again for calls that do no harm when they arrive twice.

use std::time::Duration;

use gantry_core::backoff;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;

use crate::limits;
use crate::transport::TransportFault;

/// Whether a call may be sent again when it is not known whether it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idempotency {
    /// Such as setting what is set already.
    Idempotent,
    /// Such as `jobs/request`: a job whose answer got lost would be assigned to nobody.
    NotIdempotent,
}

/// Where and when a wait is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Tries made, 1 or more.
    pub tries: u32,
    /// The clock on the wall, for dates in headers.
    pub now: Timestamp,
    /// Random, 0 to 1: spreads the waits of many runners.
    pub random: f64,
}

/// Statuses by which a server asks for less (408, 429, 500, 502 to 504, and the proxies' own from
/// 512 up).
pub(crate) fn is_push_back(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504 | 512..)
}

/// Whether the same request would be answered the same way again: its sender is to blame (4xx, but
/// for those that ask for less), or it is to go elsewhere (3xx).
pub fn is_final(status: StatusCode) -> bool {
    (status.is_client_error() || status.is_redirection()) && !is_push_back(status)
}

/// The wait before the next try after an answer; nothing if the answer stands.
pub fn after_answer(status: StatusCode, headers: &HeaderMap, moment: Moment) -> Option<Duration> {
    if !is_push_back(status) || moment.tries >= limits::INNER_TRIES {
        return None;
    }
    Some(asked_wait(status, headers, moment.now).unwrap_or_else(|| pause(moment)))
}

/// The wait that a server asks for with an answer by which it asks for less, as far as it is
/// obeyed.
pub(crate) fn asked_wait(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    server_wait(headers, now).filter(|_| is_push_back(status)).map(|wait| wait.min(limits::MAX_SERVER_WAIT))
}

/// The wait before the next try when there was no answer; nothing if the failure stands. A time-out
/// stands: it has waited enough.
pub(crate) fn after_failure(fault: TransportFault, idempotency: Idempotency, moment: Moment) -> Option<Duration> {
    let again =
        idempotency == Idempotency::Idempotent && matches!(fault, TransportFault::Connect | TransportFault::Broken);
    (again && moment.tries < limits::INNER_TRIES).then(|| pause(moment))
}

/// `RateLimit-ResetTime` (a date) before `Retry-After` (seconds; a date is not understood there);
/// what lies in the past says nothing.
fn server_wait(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let reset = text("ratelimit-resettime").and_then(|date| {
        let until = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
        Duration::try_from(until.duration_since(now)).ok()
    });
    let usable = |wait: &Duration| !wait.is_zero();
    reset.filter(usable).or_else(|| text("retry-after")?.parse().ok().map(Duration::from_secs).filter(usable))
}

fn pause(moment: Moment) -> Duration {
    backoff::spread(backoff::doubled(limits::INNER_BACKOFF_FIRST, Duration::MAX, moment.tries), moment.random)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(tries: u32, random: f64) -> Moment {
        // 2015-10-21T07:28:00Z
        Moment { tries, now: Timestamp::from_second(1_445_412_480).unwrap(), random }
    }

    fn wait(status: u16, headers: &[(&'static str, &str)], tries: u32) -> Option<Duration> {
        let headers =
            headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect();
        after_answer(StatusCode::from_u16(status).unwrap(), &headers, moment(tries, 1.0))
    }

    #[test]
    fn statuses_that_are_tried_again() {
        let again: Vec<u16> = (100..600).filter(|status| wait(*status, &[], 1).is_some()).collect();
        let mut expected = vec![408, 429, 500, 502, 503, 504];
        expected.extend(512..600);
        assert_eq!(again, expected);
        assert_eq!(wait(503, &[], 5), None, "the fifth try is the last");
    }

    #[test]
    fn statuses_that_stand() {
        let is = |status: u16| is_final(StatusCode::from_u16(status).unwrap());
        assert!([301, 400, 401, 404, 409, 422].into_iter().all(is));
        assert!(![200, 201, 408, 429, 500, 503, 599].into_iter().any(is));
    }

    #[test]
    fn waits_without_advice_double() {
        let waits: Vec<_> = (1..5).map(|tries| wait(500, &[], tries).unwrap().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800]);
        assert_eq!(pause(moment(4, 0.0)), limits::INNER_BACKOFF_FIRST * 4);
    }

    #[test]
    fn waits_the_server_asks_for() {
        let millis = |headers: &[(&'static str, &str)]| wait(429, headers, 1).unwrap().as_millis();
        assert_eq!(millis(&[("retry-after", "7")]), 7_000);
        assert_eq!(millis(&[("ratelimit-resettime", "Wed, 21 Oct 2015 07:28:09 GMT"), ("retry-after", "7")]), 9_000);
        assert_eq!(millis(&[("ratelimit-resettime", "Wed, 21 Oct 2015 07:27:00 GMT"), ("retry-after", "7")]), 7_000);
        assert_eq!(millis(&[("retry-after", "86400")]), 60_000, "capped");
        for useless in ["0", "-3", "Wed, 21 Oct 2015 07:28:09 GMT", ""] {
            assert_eq!(millis(&[("retry-after", useless)]), 100, "{useless}");
        }
    }

    #[test]
    fn broken_connections() {
        let again = |fault, idempotency| after_failure(fault, idempotency, moment(1, 0.0)).is_some();
        assert!(
            again(TransportFault::Connect, Idempotency::Idempotent)
                && again(TransportFault::Broken, Idempotency::Idempotent)
        );
        assert!(
            !again(TransportFault::Broken, Idempotency::NotIdempotent)
                && !again(TransportFault::Timeout, Idempotency::Idempotent)
        );
        assert_eq!(after_failure(TransportFault::Broken, Idempotency::Idempotent, moment(5, 0.0)), None);
    }
}
