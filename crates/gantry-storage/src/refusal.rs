//! What the answer of a store means, in words that say which setting helps. Pure.

use http::StatusCode;

use crate::encode::element;

/// What was asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To get an object.
    Get,
    /// To put one.
    Put,
}

/// What an answer without success means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such object.
    Missing,
    /// The store has trouble of its own: worth another try.
    Trouble(String),
    /// Anything else, in words for people.
    Refused(String),
}

/// Whether an answer is a page for people. No store answers with one: a proxy or a portal on the
/// way does.
pub fn is_page(body: &str) -> bool {
    let start: String = body.trim_start().chars().take(14).collect();
    let start = start.to_lowercase();
    start.starts_with("<html") || start.starts_with("<!doctype html")
}

/// Reads the answer of `store`, which is said in words. `body` is what came with it, or its
/// beginning.
pub fn read(store: &str, wish: Wish, status: StatusCode, body: &str) -> Refusal {
    let number = status.as_u16();
    if is_page(body) && number != 404 {
        let said = format!(
            "a page for people came instead of the answer of {store} ({status}): a proxy or portal on the way answers for it"
        );
        return if number >= 500 { Refusal::Trouble(said) } else { Refusal::Refused(said) };
    }
    let code = element(body, "Code").unwrap_or_default();
    if let Some(help) = help(&code, wish) {
        return Refusal::Refused(format!("{store} refused ({number} {code}): {help}"));
    }
    let message = element(body, "Message").unwrap_or_default();
    let said = match (code.as_str(), message.lines().next().unwrap_or_default()) {
        ("", "") => status.to_string(),
        (code, "") => format!("{number} {code}"),
        ("", message) => format!("{number}: {message}"),
        (code, message) => format!("{number} {code}: {message}"),
    };
    if is_passing(&code) {
        return Refusal::Trouble(format!("{store} has trouble ({said})"));
    }
    match number {
        404 if wish == Wish::Get => Refusal::Missing,
        404 => Refusal::Refused(format!("{store} is not there ({said}): is the name of the bucket right?")),
        411 | 501 => Refusal::Refused(format!("{store} does not take uploads of this kind ({said})")),
        408 | 429 | 500.. => Refusal::Trouble(format!("{store} has trouble ({said})")),
        400 | 403 if message.contains("expired") => Refusal::Refused(format!(
            "{store} says that the signature has ended ({said}): it lives as long as the job may run, so the clock of the machine that the \
             runner is on is behind"
        )),
        400 | 403 if message.contains("not valid yet") => Refusal::Refused(format!(
            "{store} says that the signature is of a time to come ({said}): set the clock of the machine that the runner is on"
        )),
        403 if wish == Wish::Get => Refusal::Refused(format!(
            "{store} does not let the runner read ({said}): its key needs s3:GetObject, or what the store calls it. Without s3:ListBucket a \
             store may say this of a cache that is not there yet"
        )),
        403 => Refusal::Refused(format!(
            "{store} does not let the runner write ({said}): its key needs s3:PutObject, or what the store calls it"
        )),
        413 => Refusal::Refused(format!("{store} does not take an archive of this size ({said})")),
        301 | 307 => Refusal::Refused(format!(
            "{store} is somewhere else ({said}): set BucketLocation to the region of the bucket"
        )),
        _ => Refusal::Refused(format!("{store} refused ({said})")),
    }
}

/// Codes by which stores ask for another try, whatever status comes with them.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
fn is_passing(code: &str) -> bool {
    matches!(
        code,
        "RequestTimeout" | "OperationAborted" | "SlowDown" | "InternalError" | "ServerBusy" | "OperationTimedOut"
    )
}

/// What helps against a code that says enough.
fn help(code: &str, wish: Wish) -> Option<&'static str> {
    Some(match code {
        "SignatureDoesNotMatch" => {
            "its secret key is another than the SecretKey or PrivateKey of the runner's [runners.cache]"
        }
        "AuthenticationFailed" | "AuthorizationFailure" => {
            "the signature is not accepted: is AccountKey right, and the clock of the runner? A signature ends with the job's time-out"
        }
        "InvalidAccessKeyId" => "it does not know the AccessKey of the runner's [runners.cache]",
        "InvalidToken" => {
            "it does not know the session token of the runner: SessionToken belongs to other keys, or has ended"
        }
        "ExpiredToken" => {
            "the runner's temporary keys have ended: SessionToken has to be renewed; those of a role are renewed as long as a runner \
             is there"
        }
        "RequestTimeTooSkewed" | "RequestNotReadyYet" | "RequestNotYetValid" => {
            "its clock and that of the runner differ: set the clock of the machine that the runner is on"
        }
        "NoSuchBucket" | "ContainerNotFound" => {
            "there is no such bucket: is its name right in [runners.cache], and its region?"
        }
        "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "AuthorizationQueryParametersError"
        | "IllegalLocationConstraintException"
        // MinIO's word for an upload that was signed for another region.
        | "MissingFields" => {
            "the bucket is in another region: set BucketLocation to the region of the bucket"
        }
        "EntityTooLarge" => match wish {
            Wish::Put => {
                "the archive is larger than it takes at once (5 GB on Amazon): cache less, or set MaxUploadedArchiveSize"
            }
            Wish::Get => return None,
        },
        "KMS.NotFoundException" | "KMS.DisabledException" => "ServerSideEncryptionKeyID names no usable key",
        "AccountIsDisabled" | "UserProjectAccountProblem" => "the account is disabled",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(wish: Wish, status: u16, body: &str) -> Refusal {
        read("the S3 bucket \"c\" at minio", wish, StatusCode::from_u16(status).unwrap(), body)
    }

    #[test]
    fn an_object_that_is_missing_is_no_refusal() {
        assert_eq!(said(Wish::Get, 404, "<Error><Code>NoSuchKey</Code></Error>"), Refusal::Missing);
        assert_eq!(said(Wish::Get, 404, "<html>"), Refusal::Missing);
        assert_eq!(said(Wish::Get, 404, "<Error><Code>BlobNotFound</Code></Error>"), Refusal::Missing);
    }

    #[test]
    fn a_code_may_ask_for_another_try() {
        for (status, code) in [(400, "RequestTimeout"), (409, "OperationAborted"), (503, "SlowDown")] {
            let answer = said(Wish::Put, status, &format!("<Error><Code>{code}</Code></Error>"));
            assert!(matches!(answer, Refusal::Trouble(_)), "{answer:?}");
        }
        assert!(matches!(said(Wish::Put, 409, "<Error><Code>BucketNotEmpty</Code></Error>"), Refusal::Refused(_)));
    }

    #[test]
    fn causes_are_named() {
        for (wish, status, code, words) in [
            (Wish::Get, 404, "NoSuchBucket", "there is no such bucket"),
            (Wish::Put, 403, "SignatureDoesNotMatch", "SecretKey"),
            (Wish::Get, 403, "InvalidAccessKeyId", "AccessKey"),
            (Wish::Put, 403, "RequestTimeTooSkewed", "clock"),
            (Wish::Get, 301, "PermanentRedirect", "BucketLocation"),
            (Wish::Get, 403, "AccessDenied", "s3:ListBucket"),
            (Wish::Put, 403, "AccessDenied", "s3:PutObject"),
        ] {
            let body = format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
            let Refusal::Refused(text) = said(wish, status, &body) else { panic!("{code}") };
            assert!(text.contains(words) && text.contains("the S3 bucket \"c\" at minio"), "{text}");
        }
        for message in ["Request has expired", "Request is not valid yet"] {
            let body = format!("<Error><Code>AccessDenied</Code><Message>{message}</Message></Error>");
            assert!(matches!(said(Wish::Get, 403, &body), Refusal::Refused(text) if text.contains("clock")));
        }
        assert!(matches!(said(Wish::Put, 503, ""), Refusal::Trouble(text) if text.contains("503")));
        for page in ["<html><body>Sign in", " <!DOCTYPE html>"] {
            assert!(matches!(said(Wish::Put, 200, page), Refusal::Refused(text) if text.contains("proxy")), "{page}");
            assert!(matches!(said(Wish::Get, 403, page), Refusal::Refused(text) if text.contains("proxy")), "{page}");
            assert!(matches!(said(Wish::Get, 502, page), Refusal::Trouble(text) if text.contains("proxy")), "{page}");
        }
    }
}
