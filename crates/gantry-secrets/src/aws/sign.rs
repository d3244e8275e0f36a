//! Signature Version 4 of AWS, for requests to `/` with a body.

use std::fmt::Write as _;

use gantry_core::Secret;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

/// Credentials.
pub(crate) struct Keys {
    pub(crate) id: String,
    pub(crate) key: Secret,
    /// Of those that end.
    pub(crate) session: Option<Secret>,
}

/// A call to sign.
pub(crate) struct Call<'a> {
    pub(crate) host: String,
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
    pub(crate) content_type: &'a str,
    pub(crate) target: Option<&'a str>,
    pub(crate) body: String,
}

impl Call<'_> {
    /// The headers to send, the signature among them.
    pub(crate) fn signed(&self, keys: &Keys, now: Timestamp) -> Vec<(&'static str, String)> {
        let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let date = now.strftime("%Y%m%d").to_string();
        // In the order of their names.
        let mut headers = vec![
            ("content-type", self.content_type.to_owned()),
            ("host", self.host.clone()),
            ("x-amz-date", time.clone()),
        ];
        headers.extend(keys.session.as_ref().map(|session| ("x-amz-security-token", session.expose().to_owned())));
        headers.extend(self.target.map(|target| ("x-amz-target", target.to_owned())));
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let mut lines = String::new();
        for (name, value) in &headers {
            let _ = writeln!(lines, "{name}:{}", value.trim());
        }
        let digest = hex(&Sha256::digest(self.body.as_bytes()));
        let request = format!("POST\n/\n\n{lines}\n{names}\n{digest}");
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(request.as_bytes())));
        let first = format!("AWS4{}", keys.key.expose());
        let key = [date.as_str(), self.region, self.service, "aws4_request"]
            .iter()
            .fold(first.into_bytes(), |key, part| hmac(&key, part));
        let signature = hex(&hmac(&key, &to_sign));
        let authorization =
            format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", keys.id);
        // The transport sends the host by itself.
        headers.retain(|(name, _)| *name != "host");
        headers.push(("authorization", authorization));
        headers
    }
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    // Keys of any length are taken.
    Hmac::<Sha256>::new_from_slice(key).map_or_else(
        |_| Vec::new(),
        |mut mac| {
            mac.update(text.as_bytes());
            mac.finalize().into_bytes().to_vec()
        },
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `post-x-www-form-urlencoded` of AWS's published test suite for Signature Version 4.
    #[test]
    fn a_published_vector() {
        let keys = Keys {
            id: "AKIDEXAMPLE".to_owned(),
            key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session: None,
        };
        let call = Call {
            host: "example.amazonaws.com".to_owned(),
            service: "service",
            region: "us-east-1",
            content_type: "application/x-www-form-urlencoded",
            target: None,
            body: "Param1=value1".to_owned(),
        };
        let headers = call.signed(&keys, "2015-08-30T12:36:00Z".parse().unwrap());
        let authorization = &headers.iter().find(|(name, _)| *name == "authorization").unwrap().1;
        assert!(
            authorization.ends_with("Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
            "{authorization}"
        );
    }
}
