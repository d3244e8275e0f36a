//! What kind of failure an API error is. Kinds come from status codes, machine-readable reasons and
//! error types, never from the words of a message, because those change between versions and are
//! translated by proxies.

use std::time::Duration;

use gantry_core::error_chain::{causes, chain};

use crate::{answers::TooLong, limits, quota::Quota};

/// The kinds of failure that callers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// 404, or 410 for a version that is no longer kept.
    Gone,
    /// 401: the credentials are not accepted.
    Unauthenticated,
    /// 403: the credentials are good, but not for this; also a quota or an admission plugin that
    /// says no.
    Forbidden,
    /// 409: another object or a newer version is in the way.
    Conflict,
    /// Any other 4xx: the request itself is wrong.
    Refused,
    /// 429: later.
    Throttled,
    /// No answer: no connection, TLS, time-out, a connection that broke.
    Broken,
    /// 5xx: the server could not do what it would have done.
    Server,
    /// An answer that cannot be understood.
    Garbled,
    /// The connection can never work as it is configured: a certificate that does not fit, a port
    /// where something else answers.
    Misconfigured,
    /// The request could not be made: credentials that cannot be read or fetched, a URL that cannot
    /// be built.
    Local,
}

impl Fault {
    /// Whether the same request may well succeed a little later.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::Throttled | Self::Broken | Self::Server | Self::Garbled | Self::Local)
    }

    fn of_code(code: u16) -> Self {
        match code {
            401 => Self::Unauthenticated,
            403 => Self::Forbidden,
            404 | 410 => Self::Gone,
            409 => Self::Conflict,
            429 => Self::Throttled,
            // 408 is the server's own time-out, not something wrong with the request.
            408 | 500..=599 => Self::Server,
            400..=499 => Self::Refused,
            _ => Self::Garbled,
        }
    }
}

/// A request that never got an answer of an API server, in a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Unusable {
    pub(crate) fault: Fault,
    pub(crate) message: String,
}

impl From<Unusable> for kube::Error {
    fn from(error: Unusable) -> Self {
        Self::Service(Box::new(error))
    }
}

/// A request to the API server that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// Which kind of failure.
    pub fault: Fault,
    /// HTTP status, 0 where there was no answer.
    pub code: u16,
    /// Machine-readable reason of the Kubernetes API, such as `AlreadyExists`; empty where there is
    /// none.
    pub reason: String,
    /// The API server's words, or how the connection failed.
    pub message: String,
    /// When to try again, if the server says so.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    /// No answer within `limit`.
    pub(crate) fn timed_out(limit: Duration) -> Self {
        Self::without_answer(Fault::Broken, format!("no answer within {} s", limit.as_secs()))
    }

    /// A failure without an HTTP status.
    pub(crate) fn without_answer(fault: Fault, message: String) -> Self {
        Self { fault, code: 0, reason: String::new(), message, retry_after: None }
    }

    /// What a `ResourceQuota` says, if one has refused a pod.
    pub(crate) fn quota(&self) -> Option<Quota> {
        (self.code == 403).then(|| Quota::read(&self.message)).flatten()
    }

    /// Whether `create` found the name taken.
    pub(crate) fn is_already_exists(&self) -> bool {
        self.reason == "AlreadyExists"
    }
}

impl From<&kube::core::Status> for ApiError {
    fn from(status: &kube::core::Status) -> Self {
        let retry_after = status.details.as_ref().map(|details| u64::from(details.retry_after_seconds));
        let code = if status.code == 0 { code_of_reason(&status.reason) } else { status.code };
        let words = if status.message.is_empty() { &status.reason } else { &status.message };
        let message = if words.is_empty() {
            format!("HTTP status {code} without a message")
        } else {
            shorten(words, limits::MESSAGE)
        };
        Self {
            fault: Fault::of_code(code),
            code,
            reason: status.reason.clone(),
            message,
            retry_after: retry_after
                .filter(|seconds| *seconds > 0)
                .map(|seconds| Duration::from_secs(seconds).min(limits::RETRY_AFTER_MOST)),
        }
    }
}

impl From<&kube::Error> for ApiError {
    fn from(error: &kube::Error) -> Self {
        use kube::{Error, client::UpgradeConnectionError as Upgrade};
        let fault = match error {
            _ if is_too_long(error) => Fault::Garbled,
            Error::Api(status) => return Self::from(status.as_ref()),
            Error::Service(error) if error.is::<Unusable>() => {
                let fault = error.downcast_ref::<Unusable>().map_or(Fault::Broken, |unusable| unusable.fault);
                return Self::without_answer(fault, error.to_string());
            }
            Error::UpgradeConnection(Upgrade::ProtocolSwitch(status)) => {
                return Self {
                    fault: Fault::of_code(status.as_u16()),
                    code: status.as_u16(),
                    reason: String::new(),
                    message: format!("HTTP status {status} where a WebSocket was asked for"),
                    retry_after: None,
                };
            }
            Error::UpgradeConnection(Upgrade::GetPendingUpgrade(_))
            | Error::HyperError(_)
            | Error::Service(_)
            | Error::ReadEvents(_) => Fault::Broken,
            Error::SerdeError(_)
            | Error::FromUtf8(_)
            | Error::UpgradeConnection(_)
            | Error::LinesCodecMaxLineLengthExceeded => Fault::Garbled,
            _ => Fault::Local,
        };
        Self::without_answer(fault, shorten(&chain(error), limits::MESSAGE))
    }
}

impl From<kube::Error> for ApiError {
    fn from(error: kube::Error) -> Self {
        Self::from(&error)
    }
}

/// Whether more came than is read. The connection is fine then, and what came cannot be understood.
fn is_too_long(error: &kube::Error) -> bool {
    causes(error).any(<dyn std::error::Error>::is::<TooLong>)
}

fn code_of_reason(reason: &str) -> u16 {
    match reason {
        "Unauthorized" => 401,
        "Forbidden" => 403,
        "NotFound" => 404,
        "AlreadyExists" | "Conflict" => 409,
        "Gone" | "Expired" => 410,
        "Invalid" => 422,
        "TooManyRequests" => 429,
        "BadRequest" => 400,
        "InternalError" => 500,
        "ServiceUnavailable" => 503,
        "ServerTimeout" | "Timeout" => 504,
        _ => 0,
    }
}

/// The first `limit` bytes of `text`, cut between characters.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    #[test]
    fn kinds_come_from_codes_and_reasons() {
        let kind = |code, reason: &str| ApiError::from(&Status::failure("words", reason).with_code(code)).fault;
        assert_eq!(kind(403, "Forbidden"), Fault::Forbidden);
        assert_eq!(kind(404, "NotFound"), Fault::Gone);
        assert_eq!(kind(0, "Expired"), Fault::Gone);
        assert_eq!(kind(422, "Invalid"), Fault::Refused);
        assert_eq!(kind(429, "TooManyRequests"), Fault::Throttled);
        assert_eq!(kind(500, "InternalError"), Fault::Server);
        assert_eq!(kind(0, "anything"), Fault::Garbled);
        assert!(!Fault::Forbidden.is_transient() && Fault::Server.is_transient());
    }

    #[test]
    fn the_servers_wish_to_wait_is_bounded() {
        let details = serde_json::from_value(serde_json::json!({"retryAfterSeconds": 4000})).unwrap();
        let error =
            ApiError::from(&Status::failure("slow down", "TooManyRequests").with_code(429).with_details(details));
        assert_eq!(error.retry_after, Some(limits::RETRY_AFTER_MOST));
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(shorten("aäb", 2), "a…");
        assert_eq!(shorten("aäb", 4), "aäb");
    }
}
