//! Signature version 4, in a query and in a header. Pure.
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>

use jiff::Timestamp;

use super::Credentials;
use crate::encode::{hex, hmac_sha256, sha256_hex};
use crate::signing::{Draft, UNSIGNED, basic_date, basic_time};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Who signs what, and for how long.
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    pub(super) credentials: &'a Credentials,
    pub(super) region: &'a str,
    pub(super) now: Timestamp,
    /// How long the signature is valid.
    pub(super) seconds: i64,
}

/// Where a request goes.
pub(super) struct RequestTarget<'a> {
    pub(super) scheme: &'a str,
    pub(super) host: &'a str,
    /// Encoded.
    pub(super) path: &'a str,
    pub(super) query: Vec<(String, String)>,
}

/// The URL of a request to S3, signed with these headers.
pub(super) fn presign(signed: &Signed<'_>, place: &RequestTarget<'_>, headers: &[(String, String)]) -> String {
    let Signed { method, credentials, region, now, seconds } = signed;
    let scope = scope(*now, region, "s3");
    let mut draft = Draft {
        method,
        host: place.host,
        path: place.path,
        query: place.query.clone(),
        headers: headers.to_vec(),
        payload: UNSIGNED,
    };
    let mut add = |name: &str, value: String| draft.query.push((name.to_owned(), value));
    add("X-Amz-Algorithm", ALGORITHM.to_owned());
    add("X-Amz-Credential", format!("{}/{scope}", credentials.access_key));
    add("X-Amz-Date", basic_time(*now));
    add("X-Amz-Expires", seconds.to_string());
    if let Some(token) = &credentials.session_token {
        add("X-Amz-Security-Token", token.expose().to_owned());
    }
    let names = draft.signed_headers();
    draft.query.push(("X-Amz-SignedHeaders".to_owned(), names));
    let signature = signature(signed, &draft, "s3");
    format!("{}://{}{}?{}&X-Amz-Signature={signature}", place.scheme, place.host, place.path, draft.query())
}

/// The headers of a signed `POST` with this form as its body.
pub(super) fn sign_form(
    signed: &Signed<'_>,
    place: &RequestTarget<'_>,
    form: &str,
    service: &str,
) -> Vec<(&'static str, String)> {
    let Signed { credentials, region, now, .. } = signed;
    let time = basic_time(*now);
    let content = "application/x-www-form-urlencoded; charset=utf-8".to_owned();
    let mut headers = vec![("content-type", content), ("x-amz-date", time)];
    if let Some(token) = &credentials.session_token {
        headers.push(("x-amz-security-token", token.expose().to_owned()));
    }
    let payload = sha256_hex(form.as_bytes());
    let draft = Draft {
        method: signed.method,
        host: place.host,
        path: place.path,
        query: Vec::new(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        payload: &payload,
    };
    let signature = signature(signed, &draft, service);
    let credential = format!("{}/{}", credentials.access_key, scope(*now, region, service));
    let names = draft.signed_headers();
    let value = format!("{ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}");
    headers.push(("authorization", value));
    headers
}

fn scope(now: Timestamp, region: &str, service: &str) -> String {
    format!("{}/{region}/{service}/aws4_request", basic_date(now))
}

fn signature(signed: &Signed<'_>, draft: &Draft<'_>, service: &str) -> String {
    let Signed { credentials, region, now, .. } = signed;
    let text = format!("{ALGORITHM}\n{}\n{}\n{}", basic_time(*now), scope(*now, region, service), draft.digest());
    let key = format!("AWS4{}", credentials.secret_key.expose());
    let mut key = key.into_bytes();
    for part in [basic_date(*now).as_str(), region, service, "aws4_request"] {
        key = hmac_sha256(&key, part);
    }
    hex(&hmac_sha256(&key, &text))
}

#[cfg(test)]
mod tests {
    use gantry_core::Secret;

    use super::*;

    /// The example of Amazon's documentation for presigned URLs.
    #[test]
    fn the_documented_example() {
        let credentials = Credentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session_token: None,
        };
        let now = "2013-05-24T00:00:00Z".parse().unwrap();
        let signed = Signed { method: "GET", credentials: &credentials, region: "us-east-1", now, seconds: 86400 };
        let place = RequestTarget {
            scheme: "https",
            host: "examplebucket.s3.amazonaws.com",
            path: "/test.txt",
            query: Vec::new(),
        };
        assert_eq!(
            presign(&signed, &place, &[]),
            "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=\
             AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=\
             86400&X-Amz-SignedHeaders=host&X-Amz-Signature=\
             aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }
}
