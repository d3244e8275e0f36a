//! How often each verb was asked of each resource: the simulator's audit log in small, read at `GET
//! /sim/requests`.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use serde_json::{Value, json};

/// Most different pairs kept; paths come from clients, so without a bound a client could fill the
/// memory. What comes after is counted under `other`.
const MAX_PAIRS: usize = 1_024;

/// Counts of requests.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<BTreeMap<(String, String), u64>>);

impl Counters {
    pub(crate) fn count(&self, verb: &str, resource: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (verb.to_owned(), resource.to_owned());
        if counts.len() >= MAX_PAIRS && !counts.contains_key(&key) {
            key = ("other".to_owned(), "other".to_owned());
        }
        *counts.entry(key).or_default() += 1;
    }

    /// `{"items": [{"verb", "resource", "count"}]}`, ordered by verb and resource.
    pub(crate) fn to_json(&self) -> Value {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let items: Vec<Value> = counts
            .iter()
            .map(|((verb, resource), count)| json!({"verb": verb, "resource": resource, "count": count}))
            .collect();
        json!({"kind": "RequestCounts", "items": items})
    }
}
