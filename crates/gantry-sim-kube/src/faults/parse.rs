//! From the JSON of an order to a fault. An order with a word that is not known is refused: a fault
//! that silently does nothing is worse than none.

use std::time::Duration;

use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{Effect, Fault};

/// A day: longer than anybody waits, and safe to add to a clock.
const LONGEST: f64 = 86_400.0;

/// Seconds as a duration, within reason.
pub(super) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.clamp(0.0, LONGEST)).unwrap_or_default()
}

pub(super) fn fault(order: &Value) -> Result<Fault, String> {
    let mut fields = order.as_object().ok_or("a fault is a JSON object with a \"kind\"")?.clone();
    let count = taken(&mut fields, "count", Value::as_u64)?;
    let lasts = taken(&mut fields, "seconds", Value::as_f64)?;
    let probability = taken(&mut fields, "probability", Value::as_f64)?.unwrap_or(1.0);
    let seed = taken(&mut fields, "seed", Value::as_u64)?;
    if !(0.0..=1.0).contains(&probability) {
        return Err("\"probability\" is a number from 0 to 1".to_owned());
    }
    let given: Vec<String> = fields.keys().cloned().collect();
    let effect: Effect =
        serde_json::from_value(Value::Object(fields)).map_err(|error| format!("no such fault: {error}"))?;
    let known = serde_json::to_value(&effect).unwrap_or_default();
    if let Some(unknown) = given.iter().find(|field| known.get(field.as_str()).is_none()) {
        return Err(format!("a fault of the kind {} has no field {unknown:?}", known["kind"]));
    }
    if let Effect::Refuse { status, .. } = &effect
        && !(400..600).contains(status)
    {
        return Err("\"status\" is an HTTP status from 400 to 599".to_owned());
    }
    let now = Instant::now();
    let lasts = lasts.or_else(|| effect.default_seconds());
    Ok(Fault {
        left: count.or_else(|| effect.default_count()),
        effect,
        hits: 0,
        probability,
        rng: seed.map_or_else(|| StdRng::seed_from_u64(rand::random()), StdRng::seed_from_u64),
        since: now,
        until: lasts.map(|lasts| now + seconds(lasts)),
    })
}

fn taken<T>(fields: &mut Map<String, Value>, name: &str, read: fn(&Value) -> Option<T>) -> Result<Option<T>, String> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => read(&value).map(Some).ok_or_else(|| format!("{name:?} cannot be {value}")),
    }
}
