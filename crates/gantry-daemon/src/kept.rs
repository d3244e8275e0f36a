//! Names of objects that one task of this process looks after, and no second one meanwhile: an
//! entry that has changed begins only when what it was before has removed its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// The names that are known. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct KeptNames {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    turns: BTreeMap<String, Arc<tokio::sync::Mutex<()>>>,
    wanted: BTreeSet<String>,
}

impl KeptNames {
    /// What to hold while one looks after this name.
    pub(crate) fn of(&self, name: String) -> Arc<tokio::sync::Mutex<()>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(state.turns.entry(name).or_default())
    }

    /// From now on these, and no others, are those of objects that somebody wants to be there,
    /// whoever's turn it is.
    pub(crate) fn want(&self, names: impl Iterator<Item = String>) {
        let names = names.collect();
        self.state.lock().unwrap_or_else(PoisonError::into_inner).wanted = names;
    }

    /// Whether somebody wants it.
    pub(crate) fn is_wanted(&self, name: &str) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).wanted.contains(name)
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

    #[test]
    fn what_is_wanted_is_said_anew_each_time() {
        let names = KeptNames::default();
        names.clone().want(["a".to_owned(), "b".to_owned()].into_iter());
        assert!(names.is_wanted("a") && names.is_wanted("b"));
        names.want(["b".to_owned()].into_iter());
        assert!(!names.is_wanted("a") && names.is_wanted("b"));
    }
}
