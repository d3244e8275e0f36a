//! The one encoder that writes secrets: `#[serde(with = "secret_text")]` on fields that travel from
//! the manager to the agent.

use gantry_core::Secret;
use serde::{Deserialize, Deserializer, Serializer};

pub(crate) fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    Secret::deserialize(deserializer)
}

/// The same for lists.
pub(crate) mod list {
    use super::{Deserialize, Deserializer, Secret, Serializer};

    pub(crate) fn serialize<S: Serializer>(secrets: &[Secret], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(secrets.iter().map(Secret::expose))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Secret>, D::Error> {
        Vec::<Secret>::deserialize(deserializer)
    }
}
