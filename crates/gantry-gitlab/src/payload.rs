//! Decodes the payload of a job so that nothing is lost silently: a payload that cannot be
//! understood still gives id and token, so that the job can be reported failed. Messages name the
//! place and the kind of what is there, never a value.

use gantry_core::Secret;
use gantry_core::job::JobSpec;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use crate::limits;

/// A payload that is no job.
#[derive(Debug)]
pub(crate) struct Undecodable {
    pub(crate) id: Option<i64>,
    pub(crate) token: Option<Secret>,
    pub(crate) message: String,
}

/// Reads a job as GitLab hands it out, for who has its text from elsewhere. The error says what is
/// wrong with it and names no value.
pub fn read_job(text: &[u8]) -> Result<JobSpec, String> {
    decode(text).map_err(|undecodable| undecodable.message)
}

/// Reads the body of the 201 to `jobs/request`.
pub(crate) fn decode(body: &[u8]) -> Result<JobSpec, Undecodable> {
    let no_job = |message: String| Undecodable { id: None, token: None, message };
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(no_job(
            "the job payload is empty, although GitLab or a proxy before it announced a job".to_owned(),
        ));
    }
    if values(body) > limits::MAX_JOB_VALUES {
        return Err(no_job(format!("the job payload holds more than {} values", limits::MAX_JOB_VALUES)));
    }
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        let (line, column, size) = (error.line(), error.column(), body.len());
        no_job(format!("the job payload of {size} bytes is not JSON (line {line}, column {column})"))
    })?;
    if !value.is_object() {
        // The library would read a list as the fields in their order.
        return Err(no_job(format!("the job payload is {}, expected an object", kind(&value))));
    }
    let id = value.get("id").and_then(Value::as_i64).filter(|id| *id > 0);
    let token = value.get("token").and_then(Value::as_str).filter(|token| !token.is_empty()).map(Secret::new);
    let undecodable = |message: String| Undecodable { id, token: token.clone(), message };

    let spec: JobSpec = serde_path_to_error::deserialize(&value)
        .map_err(|error| undecodable(describe(&value, error.path(), &error.inner().to_string())))?;
    if spec.id <= 0 {
        return Err(undecodable(format!("the job payload has no usable id: {} is not a positive number", spec.id)));
    }
    if spec.token.is_empty() {
        return Err(undecodable("the job payload has no token, so nothing about the job could be reported".to_owned()));
    }
    Ok(spec)
}

/// About how many values the JSON of `body` holds: its separators outside of texts. Each costs many
/// times its bytes once it is read.
fn values(body: &[u8]) -> usize {
    let (mut count, mut in_text, mut escaped) = (0, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' | b':' | b'[' | b'{' if !in_text => count += 1,
            _ => {}
        }
    }
    count
}

/// `steps[0].script: found an object, expected a sequence`. `said` is the library's message, of
/// which only the end is used: its beginning quotes the value.
fn describe(whole: &Value, path: &Path, said: &str) -> String {
    let found = at(whole, path).map_or("something else", kind);
    let expected = said.rsplit_once(", expected ").map_or("another type", |(_, expected)| expected);
    format!("the job payload cannot be understood at {path}: found {found}, expected {expected}")
}

fn at<'a>(whole: &'a Value, path: &Path) -> Option<&'a Value> {
    path.iter().try_fold(whole, |value, segment| match segment {
        Segment::Seq { index } => value.get(index),
        Segment::Map { key } => value.get(key),
        Segment::Enum { .. } | Segment::Unknown => None,
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(body: &str) -> Undecodable {
        decode(body.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_wrong_type_is_named_without_its_value() {
        let cases = [
            r#"{"id": 7, "token": "tok3n", "steps": [{"name": "script", "script": "hunter2, expected nothing"}]}"#,
            r#"{"id": 7, "token": "tok3n", "variables": [{"key": "A", "value": "b"}, {"key": "P", "value": ["hunter2"]}]}"#,
            r#"{"id": 7, "token": "tok3n", "image": {"executor_opts": {"kubernetes": {"user": []}}}}"#,
            r#"{"id": 7, "token": "tok3n", "services": {}}"#,
            r#"{"id": "7", "token": "tok3n"}"#,
            r#"{"id": 7, "token": {"a": "hunter2"}}"#,
            r#"["hunter2"]"#,
        ];
        let messages: Vec<String> = cases.iter().map(|body| failed(body).message).collect();
        insta::assert_snapshot!(messages.join("\n"));
        assert!(!messages.join("").contains("hunter2") && !messages.join("").contains("tok3n"));
    }

    #[test]
    fn id_and_token_are_recovered() {
        let broken = failed(r#"{"id": 7, "token": "tok3n", "steps": 1}"#);
        assert_eq!((broken.id, broken.token.unwrap().expose()), (Some(7), "tok3n"));
        let broken = failed("not JSON with tok3n");
        assert!(broken.id.is_none() && broken.token.is_none() && !broken.message.contains("tok3n"));
    }

    #[test]
    fn what_came_instead_of_a_job_is_said() {
        assert!(
            failed("").message.starts_with("the job payload is empty") && failed(" \r\n").message.contains("empty")
        );
        assert!(failed("<html>").message.contains("of 6 bytes is not JSON"));
    }

    #[test]
    fn a_small_body_cannot_become_a_large_job() {
        let many = format!("{{\"id\": 1, \"token\": \"t\", \"x\": [{}0]}}", "0,".repeat(limits::MAX_JOB_VALUES));
        assert!(failed(&many).message.contains("more than"));
        let long = format!("{{\"id\": 1, \"token\": \"t\", \"x\": \"\\\"{}\"}}", ",".repeat(limits::MAX_JOB_VALUES));
        assert_eq!(decode(long.as_bytes()).unwrap().id, 1, "texts may hold anything");
    }

    #[test]
    fn id_and_token_must_make_sense() {
        for body in [r#"{"id": 0, "token": "t"}"#, r#"{"id": -1, "token": "t"}"#, r#"{"token": "t"}"#] {
            assert!(failed(body).message.contains("id"), "{body}");
        }
        for body in [r#"{"id": 1}"#, r#"{"id": 1, "token": ""}"#, r#"{"id": 1, "token": null}"#] {
            assert!(failed(body).message.contains("token"), "{body}");
        }
        assert_eq!(decode(br#"{"id": 1, "token": "t", "new_key": {}}"#).unwrap().id, 1);
    }
}
