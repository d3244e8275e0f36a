//! Names of objects that one task of this process looks after, and no second one meanwhile: an
//! entry that has changed begins only when what it was before has removed its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The names that are known. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct KeptNames {
    known: Arc<Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

impl KeptNames {
    /// What to hold while one looks after this name.
    pub(crate) fn of(&self, name: String) -> Arc<tokio::sync::Mutex<()>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(name).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::KeptNames;

    #[test]
    fn a_name_is_held_once() {
        let names = KeptNames::default();
        let (one, same, other) = (names.of("a".to_owned()), names.clone().of("a".to_owned()), names.of("b".to_owned()));
        let held = one.try_lock().expect("nobody holds it");
        assert!(same.try_lock().is_err() && other.try_lock().is_ok());
        drop(held);
        assert!(same.try_lock().is_ok());
    }
}
