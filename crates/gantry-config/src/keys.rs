//! All keys of the file, from the declarations of the settings.

use std::sync::OnceLock;

use crate::declare::{Table as _, Walk};
use crate::key::Key;
use crate::settings::Settings;

/// All keys, tables included, each table before its keys, in the order of their declaration.
pub fn keys() -> &'static [Key] {
    static KEYS: OnceLock<Vec<Key>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let mut walk = Walk::default();
        Settings::describe(&mut walk);
        walk.into_keys()
    })
}
