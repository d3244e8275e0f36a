//! Options of an image for one executor each (payload key `executor_opts`). Unlike elsewhere in a
//! payload, keys that there are not are kept: a job must not run without what it asks for.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer};

use crate::lenient::or_default;

macro_rules! options {
    ($($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        pub struct $name {
            $($(#[$field_meta])* #[serde(default, deserialize_with = "or_default")] pub $field: $type,)*
            /// Keys beside these.
            #[serde(flatten, deserialize_with = "keys")]
            pub unknown: Vec<String>,
        }

        impl $name {
            /// The keys that there are.
            pub const KEYS: &[&str] = &[$(stringify!($field)),*];
        }
    )*};
}

/// The keys of an object alone.
#[expect(clippy::zero_sized_map_values, reason = "an object has values, and nobody wants them")]
fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    BTreeMap::<String, IgnoredAny>::deserialize(deserializer).map(|object| object.into_keys().collect())
}

options! {
    /// Options of an image for one executor each.
    pub struct ExecutorOpts {
        /// Those for this executor.
        kubernetes: KubernetesOpts,
        /// Those for the Docker executor, which jobs for both kinds of runners have.
        docker: DockerOpts,
    }

    /// Options of an image for the Docker executor.
    pub struct DockerOpts {
        /// `linux/arm64`, for instance.
        platform: String,
        /// A name or `UID`, perhaps with a group.
        user: Option<UserOpt>,
    }

    /// Options of an image for the Kubernetes executor.
    pub struct KubernetesOpts {
        /// `UID` or `UID:GID`, decimal.
        user: Option<UserOpt>,
    }
}

/// A user given as text or as a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserOpt(pub String);

impl<'de> Deserialize<'de> for UserOpt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct User;
        impl Visitor<'_> for User {
            type Value = UserOpt;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a user as text or as an integer")
            }
            fn visit_str<E>(self, text: &str) -> Result<UserOpt, E> {
                Ok(UserOpt(text.to_owned()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<UserOpt, E> {
                Ok(UserOpt(number.to_string()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<UserOpt, E> {
                Ok(UserOpt(number.to_string()))
            }
        }
        deserializer.deserialize_any(User)
    }
}
