//! The canonical form of a request, which AWS (signature version 4) and Google (V4 signing) both
//! sign. Pure.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::encode;

/// What stands for a body that is not signed.
pub(crate) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// A request that is to be signed.
pub(crate) struct Draft<'a> {
    pub(crate) method: &'a str,
    /// With its port, unless that is the usual one.
    pub(crate) host: &'a str,
    /// Encoded.
    pub(crate) path: &'a str,
    /// As it is, not encoded.
    pub(crate) query: Vec<(String, String)>,
    /// Without `host`.
    pub(crate) headers: Vec<(String, String)>,
    /// SHA-256 of the body, or [`UNSIGNED`].
    pub(crate) payload: &'a str,
}

impl Draft<'_> {
    /// Headers in order, with `host`.
    fn sorted_headers(&self) -> Vec<(String, String)> {
        let own = self.headers.iter().map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        let mut headers: Vec<_> = own.chain([("host".to_owned(), self.host.to_owned())]).collect();
        headers.sort();
        headers
    }

    /// Names of the headers that are signed, in order.
    pub(crate) fn signed_headers(&self) -> String {
        let names: Vec<String> = self.sorted_headers().into_iter().map(|(name, _)| name).collect();
        names.join(";")
    }

    /// The query in canonical order, encoded.
    pub(crate) fn query(&self) -> String {
        let mut pairs: Vec<(String, String)> =
            self.query.iter().map(|(name, value)| (encode::uri(name), encode::uri(value))).collect();
        pairs.sort();
        let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("&")
    }

    /// SHA-256 of the canonical request.
    pub(crate) fn digest(&self) -> String {
        let headers = self.sorted_headers().iter().fold(String::new(), |mut lines, (name, value)| {
            let _ = writeln!(lines, "{name}:{value}");
            lines
        });
        let Self { method, path, payload, .. } = self;
        let canonical = format!("{method}\n{path}\n{}\n{headers}\n{}\n{payload}", self.query(), self.signed_headers());
        encode::sha256_hex(canonical.as_bytes())
    }
}

/// `20130524T000000Z`.
pub(crate) fn basic_time(now: Timestamp) -> String {
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// `20130524`.
pub(crate) fn basic_date(now: Timestamp) -> String {
    now.strftime("%Y%m%d").to_string()
}
