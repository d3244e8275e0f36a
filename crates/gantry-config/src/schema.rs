//! The keys as a JSON Schema (draft 7), which editors use to complete, explain and check a
//! `config.toml`.

use serde_json::{Map, Value, json};

use crate::key::{Form, Key};
use crate::keys::keys;

/// A duration in Go's notation, as the reference writes it.
const DURATION: &str =
    r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))*$|^$";

/// The schema of the whole file.
pub fn schema() -> Value {
    let mut schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "config.toml of gantry",
        "description": "Configuration of a GitLab runner for Kubernetes",
    });
    merge(&mut schema, &table(""));
    schema
}

/// The keys of the table with this path; tables without a declaration of their own are made on the
/// way.
fn table(path: &str) -> Value {
    let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
    let mut properties = Map::new();
    for key in keys() {
        let Some(rest) = key.path.strip_prefix(&prefix) else { continue };
        match rest.split_once('.') {
            None => {
                properties.insert(key.name().to_owned(), of(key));
            }
            Some((inner, _)) if !inner.ends_with("[]") && !properties.contains_key(inner) => {
                properties.insert(inner.to_owned(), table(&format!("{prefix}{inner}")));
            }
            Some(_) => {}
        }
    }
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

fn of(key: &Key) -> Value {
    let mut schema = value(key);
    let effect = key.effect.remark().map(|remark| format!(" ({remark})")).unwrap_or_default();
    merge(&mut schema, &json!({ "description": format!("{}{effect}", key.about) }));
    if let Some(default) = default(key) {
        merge(&mut schema, &json!({ "default": default }));
    }
    schema
}

fn value(key: &Key) -> Value {
    let map_of = |value: &str| json!({ "type": "object", "additionalProperties": { "type": value } });
    match &key.form {
        Form::Text | Form::Secret | Form::Path | Form::Quantity => json!({ "type": "string" }),
        Form::Pattern => json!({ "type": "string", "format": "regex" }),
        Form::Words(words) => json!({ "type": "string", "enum": words }),
        Form::WordList(words) => {
            let word = json!({ "type": "string", "enum": words });
            json!({ "oneOf": [word, { "type": "array", "items": word }] })
        }
        Form::Flag | Form::Switch => json!({ "type": "boolean" }),
        Form::Signed => json!({ "type": "integer" }),
        Form::Decimal => json!({ "type": "number", "minimum": 0 }),
        Form::FromOne => json!({ "type": "integer", "minimum": 1 }),
        Form::Positive | Form::Whole | Form::Seconds => json!({ "type": "integer", "minimum": 0 }),
        Form::Duration | Form::DurationFromZero => {
            json!({ "oneOf": [{ "type": "string", "pattern": DURATION }, { "type": "integer", "minimum": 0 }] })
        }
        Form::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Form::Numbers => json!({ "type": "array", "items": { "type": "integer" } }),
        Form::TextMap => map_of("string"),
        Form::SwitchMap => map_of("boolean"),
        Form::CountMap => map_of("integer"),
        Form::Table => table(&key.path),
        Form::Tables => json!({ "type": "array", "items": table(&key.path) }),
        // Dates are no type of JSON.
        Form::Time | Form::Anything => json!({}),
    }
}

fn default(key: &Key) -> Option<Value> {
    if key.default.is_empty() {
        return None;
    }
    Some(match key.form {
        Form::Flag | Form::Switch => json!(key.default == "true"),
        Form::Positive | Form::FromOne | Form::Whole | Form::Signed | Form::Seconds => {
            json!(key.default.parse::<i64>().ok()?)
        }
        Form::Decimal => json!(key.default.parse::<f64>().ok()?),
        _ => json!(key.default),
    })
}

/// Adds the members of one object to another.
fn merge(schema: &mut Value, more: &Value) {
    if let (Value::Object(schema), Value::Object(more)) = (schema, more) {
        schema.extend(more.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'s>(schema: &'s Value, path: &[&str]) -> &'s Value {
        path.iter().fold(schema, |schema, key| {
            let table = if schema["type"] == "array" { &schema["items"] } else { schema };
            &table["properties"][key]
        })
    }

    #[test]
    fn every_key_is_in_it_with_its_words() {
        let schema = schema();
        for key in keys() {
            let path: Vec<&str> = key.path.split('.').map(|part| part.trim_end_matches("[]")).collect();
            let description = at(&schema, &path)["description"].as_str().unwrap_or_default();
            assert!(description.starts_with(&key.about), "{}: {description:?}", key.path);
        }
        assert_eq!(at(&schema, &["runners", "artifact", "upload_timeout"])["default"], "1h0m0s");
        assert_eq!(at(&schema, &["runners", "kubernetes", "poll_timeout"])["default"], 180);
        assert_eq!(at(&schema, &["runners", "kubernetes", "privileged"])["type"], "boolean");
        assert_eq!(at(&schema, &["gantry", "on_terminate"])["enum"], json!(["hand-over", "abort"]));
    }
}
