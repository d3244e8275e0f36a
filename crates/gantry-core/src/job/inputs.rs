//! Inputs of a job's definition (payload key `inputs`).

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use crate::lenient::or_default;

payload! {
    /// One input of a job.
    pub struct Input {
        /// Its name.
        key: String,
        /// What it is.
        value: InputValue,
    }

    /// What an input is.
    pub struct InputValue {
        /// `string`, `number`, `boolean`, `array` or `struct`.
        #[serde(rename = "type")]
        kind: String,
        /// The value itself.
        content: InputContent,
        /// Whether it may be shown nowhere.
        sensitive: bool,
    }
}

/// The value of an input. Any may hold a secret, marked or not.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct InputContent(pub Value);

impl fmt::Debug for InputContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[MASKED]")
    }
}
