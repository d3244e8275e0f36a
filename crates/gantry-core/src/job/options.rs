//! Options of an image for one executor each (payload key `executor_opts`). Unlike elsewhere in a
//! payload, keys that there are not are kept: a job must not run without what it asks for.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

macro_rules! options {
    ($($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
            /// Keys beside these.
            pub unknown: Vec<String>,
        }

        impl $name {
            /// The keys that there are.
            pub const KEYS: &[&str] = &[$(stringify!($field)),*];
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Keys;
                impl<'de> Visitor<'de> for Keys {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object of options")
                    }
                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let mut options = $name::default();
                        while let Some(key) = map.next_key::<String>()? {
                            match key.as_str() {
                                $(stringify!($field) => {
                                    options.$field = map.next_value::<Option<$type>>()?.unwrap_or_default();
                                })*
                                _ => {
                                    map.next_value::<IgnoredAny>()?;
                                    options.unknown.push(key);
                                }
                            }
                        }
                        Ok(options)
                    }
                }
                deserializer.deserialize_map(Keys)
            }
        }
    )*};
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
