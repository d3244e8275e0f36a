//! Texts: of errors, of addresses, of values.

use serde_json::Value;
use url::Url;

/// Characters of a store's words that are kept: a proxy may answer with a page.
const WORDS: usize = 200;

/// What a store says about a refusal: the messages of its JSON, else its text, on one line.
pub(crate) fn shortened(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let errors =
        value["errors"].as_array().map(|list| list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; "));
    let said = ["error_description", "message", "Message"].iter().find_map(|key| value[key].as_str());
    let said = said.or_else(|| value["error"]["message"].as_str()).or_else(|| value["error"].as_str());
    let words = errors.filter(|words| !words.is_empty()).or_else(|| said.map(str::to_owned));
    let words = words.unwrap_or_else(|| text.to_owned());
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(WORDS).collect();
    match (short.is_empty(), short.len() < line.len()) {
        (true, _) => "no word".to_owned(),
        (_, true) => format!("{short}…"),
        _ => short,
    }
}

/// A value as the text of a variable: what is no text is written as JSON writes it.
pub(crate) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// A path below a server's address, whose parts are encoded.
pub(crate) fn below(server: &str, path: &str) -> String {
    let encoded: Vec<String> = path.trim_matches('/').split('/').map(segment).collect();
    format!("{}/{}", server.trim_end_matches('/'), encoded.join("/"))
}

/// One part of a path.
pub(crate) fn segment(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// A form.
pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (key, value) in pairs {
        form.append_pair(key, value);
    }
    form.finish()
}

/// The server of an address, for errors.
pub(crate) fn server(url: &str) -> String {
    Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_else(|| format!("{url:?}"))
}

/// The content of the first XML element of that name.
pub(crate) fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_refusals() {
        for (text, words) in [
            (r#"{"errors": ["permission denied", "1 error"]}"#, "permission denied; 1 error"),
            (r#"{"errors": []}"#, r#"{"errors": []}"#),
            (r#"{"error": {"message": "no such secret"}}"#, "no such secret"),
            (r#"{"error": "invalid_client", "error_description": "AADSTS70021"}"#, "AADSTS70021"),
            ("", "no word"),
            ("<html>\n<h1>Sorry</h1>", "<html> <h1>Sorry</h1>"),
        ] {
            assert_eq!(shortened(text), words);
        }
        assert_eq!(shortened(&"x".repeat(500)).chars().count(), WORDS + 1);
    }

    #[test]
    fn paths_and_values() {
        assert_eq!(below("https://v/", "/ops/data/prod db"), "https://v/ops/data/prod%20db");
        assert_eq!(plain(&serde_json::json!(7)).as_deref(), Some("7"));
        assert_eq!(plain(&Value::Null), None);
        assert_eq!(element("<A><B> x </B></A>", "B").as_deref(), Some("x"));
        assert_eq!(server("https://vault.test:8200/x"), "vault.test");
    }
}
