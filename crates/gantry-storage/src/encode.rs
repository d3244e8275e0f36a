//! Texts as signatures and queries want them.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// Everything but letters, digits and `-._~` as `%XX` (RFC 3986).
pub(crate) fn uri(text: &str) -> String {
    encode(text, false)
}

/// The same with slashes as they are.
pub(crate) fn uri_path(text: &str) -> String {
    encode(text, true)
}

fn encode(text: &str, slashes: bool) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (slashes && byte == b'/') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// Pairs as a query.
pub(crate) fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{}={}", uri(name), uri(value))).collect();
    pairs.join("&")
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hmac_sha256(key: &[u8], text: &str) -> Vec<u8> {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// The text of the first element of that name. The answers of stores are small and flat.
pub(crate) fn element(xml: &str, name: &str) -> Option<String> {
    let mut rest = xml;
    loop {
        let at = rest.find(&format!("<{name}"))?;
        rest = rest.get(at + 1 + name.len()..)?;
        let (attributes, after) = rest.split_once('>')?;
        if attributes.is_empty() || attributes.starts_with(' ') {
            let text = after.split('<').next()?;
            let entities =
                [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#34;", "\""), ("&amp;", "&")];
            return Some(entities.iter().fold(text.to_owned(), |text, (entity, meant)| text.replace(entity, meant)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_encoded_as_signatures_want() {
        assert_eq!(uri("a b/ü~"), "a%20b%2F%C3%BC~");
        assert_eq!(uri_path("a b/ü~"), "a%20b/%C3%BC~");
        assert_eq!(query([("a b", "1/2"), ("c", "")]), "a%20b=1%2F2&c=");
    }

    #[test]
    fn elements_of_flat_answers() {
        let xml = "<?xml?><Error><CodeX>no</CodeX><Code>NoSuchKey</Code><Message>a &amp; b</Message></Error>";
        assert_eq!(element(xml, "Code").as_deref(), Some("NoSuchKey"));
        assert_eq!(element(xml, "Message").as_deref(), Some("a & b"));
        let location =
            "<LocationConstraint xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">eu-west-1</LocationConstraint>";
        assert_eq!(element(location, "LocationConstraint").as_deref(), Some("eu-west-1"));
        assert_eq!(element(xml, "Region"), None);
        assert_eq!(element("<Code", "Code"), None);
    }

    /// RFC 4231, test case 2.
    #[test]
    fn hmac_of_the_standard() {
        let mac = hmac_sha256(b"Jefe", "what do ya want for nothing?");
        assert_eq!(hex(&mac), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
