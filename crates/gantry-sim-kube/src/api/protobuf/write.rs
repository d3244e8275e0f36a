//! From JSON to protobuf.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::Value;

use super::{
    Object,
    wire::{put_bytes, put_number},
};
use crate::schema::{Count, Field, Kind, Table};

/// Writes what an object has of these fields. A value of another type than its field is left out:
/// objects other than pods are kept as they come.
pub(crate) fn message(table: &Table, object: &Object, fields: &[Field]) -> Vec<u8> {
    let mut to = Vec::new();
    for field in fields {
        let Some(name) = field.name else {
            if let Kind::Message(inner) = field.kind {
                let fields = table.get(inner).map_or(&[][..], Vec::as_slice);
                put_bytes(&mut to, field.number, &message(table, object, fields));
            }
            continue;
        };
        match (field.count, object.get(name)) {
            (Count::One, Some(value)) => one(&mut to, table, field.number, field.kind, value),
            (Count::List, Some(Value::Array(list))) => {
                for value in list {
                    one(&mut to, table, field.number, field.kind, value);
                }
            }
            (Count::Map, Some(Value::Object(map))) => {
                for (key, value) in map {
                    let mut entry = Vec::new();
                    put_bytes(&mut entry, 1, key.as_bytes());
                    one(&mut entry, table, 2, field.kind, value);
                    put_bytes(&mut to, field.number, &entry);
                }
            }
            _ => {}
        }
    }
    to
}

fn one(to: &mut Vec<u8>, table: &Table, number: u64, kind: Kind, value: &Value) {
    match (kind, value) {
        (Kind::Text, Value::String(text)) => put_bytes(to, number, text.as_bytes()),
        (Kind::Bytes, Value::String(text)) => {
            put_bytes(to, number, &BASE64_STANDARD.decode(text).unwrap_or_default());
        }
        (Kind::Flag, Value::Bool(flag)) => put_number(to, number, i64::from(*flag)),
        (Kind::Number, Value::Number(amount)) => {
            if let Some(amount) = amount.as_i64() {
                put_number(to, number, amount);
            }
        }
        (Kind::Time | Kind::MicroTime, Value::String(text)) => put_bytes(to, number, &time(text)),
        (Kind::Quantity, Value::String(text)) => put_inner(to, number, text),
        (Kind::Quantity, Value::Number(amount)) => put_inner(to, number, &amount.to_string()),
        (Kind::Json, Value::Null) => {}
        (Kind::Json, value) => put_inner(to, number, &value.to_string()),
        (Kind::Texts, Value::Array(list)) => {
            let mut texts = Vec::new();
            list.iter().filter_map(Value::as_str).for_each(|text| put_bytes(&mut texts, 1, text.as_bytes()));
            put_bytes(to, number, &texts);
        }
        (Kind::Either, Value::String(text)) => {
            let mut either = Vec::new();
            put_number(&mut either, 1, 1);
            put_bytes(&mut either, 3, text.as_bytes());
            put_bytes(to, number, &either);
        }
        (Kind::Either, Value::Number(amount)) => {
            let mut either = Vec::new();
            put_number(&mut either, 1, 0);
            put_number(&mut either, 2, amount.as_i64().unwrap_or(0));
            put_bytes(to, number, &either);
        }
        (Kind::Message(name), Value::Object(inner)) => {
            let fields = table.get(name).map_or(&[][..], Vec::as_slice);
            put_bytes(to, number, &message(table, inner, fields));
        }
        _ => {}
    }
}

fn put_inner(to: &mut Vec<u8>, number: u64, text: &str) {
    let mut inner = Vec::new();
    put_bytes(&mut inner, 1, text.as_bytes());
    put_bytes(to, number, &inner);
}

/// Seconds and nanoseconds; nothing for what is no time.
fn time(text: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    if let Ok(time) = text.parse::<Timestamp>() {
        put_number(&mut fields, 1, time.as_second());
        put_number(&mut fields, 2, i64::from(time.subsec_nanosecond()));
    }
    fields
}
