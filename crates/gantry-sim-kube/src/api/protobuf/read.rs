//! From protobuf to JSON.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    Object,
    wire::{Fields, Item, entry, text},
};
use crate::{
    clock,
    schema::{Count, Field, KUBERNETES, Kind, Presence},
};

/// Deepest nesting of messages that is followed.
const DEPTH: usize = 24;

/// Reads a message by its fields; those that are not among them are skipped. `None` where the bytes
/// are broken.
pub(super) fn message(bytes: &[u8], fields: &[Field]) -> Option<Object> {
    nested(bytes, fields, DEPTH)
}

fn nested(bytes: &[u8], fields: &[Field], depth: usize) -> Option<Object> {
    let depth = depth.checked_sub(1)?;
    let mut object = Object::new();
    for found in Fields(bytes) {
        let (number, item) = found?;
        let Some(field) = fields.iter().find(|field| field.number == number) else { continue };
        let Some(name) = field.name else {
            let Value::Object(inner) = value(&item, field.kind, depth)?? else { return None };
            object.extend(inner);
            continue;
        };
        match (field.count, item) {
            (Count::One, item) => {
                let Some(value) = value(&item, field.kind, depth)? else { continue };
                if field.presence == Presence::Written || !is_empty(&value) {
                    object.insert(name.to_owned(), value);
                }
            }
            (Count::List, item) => {
                let value = value(&item, field.kind, depth)?.unwrap_or(Value::Null);
                object.entry(name).or_insert_with(|| json!([])).as_array_mut()?.push(value);
            }
            (Count::Map, Item::Bytes(bytes)) => {
                let (key, bytes) = entry(bytes)?;
                let value = value(&Item::Bytes(bytes), field.kind, depth)?.unwrap_or(Value::Null);
                object.entry(name).or_insert_with(|| json!({})).as_object_mut()?.insert(text(key)?, value);
            }
            (Count::Map, _) => return None,
        }
    }
    Some(object)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Object(fields) => fields.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Bool(true) => false,
    }
}

/// One value. Outside `None` is a broken one, inside one that says nothing, such as a time that was
/// never set.
#[expect(clippy::option_option, reason = "broken and absent are different things")]
fn value(item: &Item<'_>, kind: Kind, depth: usize) -> Option<Option<Value>> {
    let value = match (kind, item) {
        (Kind::Text, Item::Bytes(bytes)) => json!(text(bytes)?),
        (Kind::Bytes, Item::Bytes(bytes)) => json!(BASE64_STANDARD.encode(bytes)),
        (Kind::Flag, Item::Number(number)) => json!(*number != 0),
        (Kind::Number, Item::Number(number)) => json!(number.cast_signed()),
        (Kind::Time | Kind::MicroTime, Item::Bytes([])) => return Some(None),
        (Kind::Time, Item::Bytes(bytes)) => json!(clock::stamp(time(bytes)?)),
        (Kind::MicroTime, Item::Bytes(bytes)) => json!(clock::stamp_micros(time(bytes)?)),
        (Kind::Quantity, Item::Bytes(bytes)) => json!(inner_text(bytes)?),
        (Kind::Json, Item::Bytes(bytes)) => serde_json::from_str(&inner_text(bytes)?).ok()?,
        (Kind::Texts, Item::Bytes(bytes)) => {
            let texts = Fields(bytes).map(|field| match field? {
                (_, Item::Bytes(bytes)) => text(bytes),
                _ => None,
            });
            json!(texts.collect::<Option<Vec<String>>>()?)
        }
        (Kind::Either, Item::Bytes(bytes)) => either(bytes)?,
        (Kind::Message(name), Item::Bytes(bytes)) => Value::Object(nested(bytes, KUBERNETES.get(name)?, depth)?),
        _ => return None,
    };
    Some(Some(value))
}

/// The only field of a message that has one text.
fn inner_text(bytes: &[u8]) -> Option<String> {
    match Fields(bytes).next() {
        None => Some(String::new()),
        Some(Some((1, Item::Bytes(bytes)))) => text(bytes),
        Some(_) => None,
    }
}

fn time(bytes: &[u8]) -> Option<Timestamp> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Item::Number(number)) => seconds = number.cast_signed(),
            (2, Item::Number(number)) => nanos = i32::try_from(number.cast_signed()).ok()?,
            _ => {}
        }
    }
    Timestamp::from_duration(SignedDuration::new(seconds, nanos)).ok()
}

fn either(bytes: &[u8]) -> Option<Value> {
    let (mut is_text, mut amount, mut word) = (false, 0, String::new());
    for field in Fields(bytes) {
        match field? {
            (1, Item::Number(number)) => is_text = number == 1,
            (2, Item::Number(number)) => amount = number.cast_signed(),
            (3, Item::Bytes(bytes)) => word = text(bytes)?,
            _ => {}
        }
    }
    Some(if is_text { json!(word) } else { json!(amount) })
}
