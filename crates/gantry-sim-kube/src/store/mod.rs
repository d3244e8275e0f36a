//! The cluster's memory: every object with one global resource version, and a bounded history for
//! watches. It knows nothing of HTTP, rights or pods; what an object may look like is decided
//! before it comes here.

pub(crate) mod object;
pub(crate) mod selector;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::sync::watch;

use crate::resources::ResourceType;

/// Where an object lives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) plural: &'static str,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(kind: &ResourceType, namespace: &str, name: &str) -> Self {
        Self { plural: kind.plural, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The key of an object of that type.
    pub(crate) fn of(kind: &ResourceType, object: &Value) -> Self {
        Self::new(kind, object::namespace(object), object::name(object))
    }
}

/// One change.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) plural: &'static str,
    /// The object after the change; for a removal, as it was last, with the removal's version.
    pub(crate) object: Arc<Value>,
    /// The object before the change; absent for a creation.
    pub(crate) before: Option<Arc<Value>>,
    pub(crate) removed: bool,
}

/// A watch asked for changes that are not kept any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooOld {
    /// The oldest version that can still be followed.
    pub(crate) oldest: u64,
}

/// What to do with an object inside [`Store::modify`].
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Leave it as it is.
    Keep,
    /// Put this in its place.
    Replace(Value),
    /// Put this in the place of its status.
    Status(Value),
    /// Remove it.
    Remove,
}

#[derive(Debug, Default)]
struct Inner {
    version: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Change>,
    /// How many changes are kept.
    kept: usize,
}

/// All objects of the cluster.
#[derive(Debug)]
pub(crate) struct Store {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

impl Store {
    /// An empty store that keeps the last `kept` changes.
    pub(crate) fn new(kept: usize) -> Self {
        // Version 1 is taken, so that no list ever shows version 0, which has a meaning of its own
        // in requests.
        Self { inner: Mutex::new(Inner { version: 1, kept, ..Inner::default() }), changed: watch::Sender::new(1) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock was held cannot leave an object half written: values are replaced
        // whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version of the newest change.
    pub(crate) fn version(&self) -> u64 {
        self.lock().version
    }

    /// Follows the version of the newest change.
    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.lock().objects.get(key).cloned()
    }

    /// Every object of a type, in one namespace or in all, ordered by namespace and name, with the
    /// version it is from.
    pub(crate) fn list(&self, kind: &ResourceType, namespace: Option<&str>) -> (Vec<Arc<Value>>, u64) {
        let inner = self.lock();
        let from = Key::new(kind, namespace.unwrap_or(""), "");
        let objects = inner
            .objects
            .range(from..)
            .take_while(|(key, _)| key.plural == kind.plural && namespace.is_none_or(|name| key.namespace == name))
            .map(|(_, object)| Arc::clone(object))
            .collect();
        (objects, inner.version)
    }

    /// Every object of every type.
    pub(crate) fn everything(&self) -> Vec<(Key, Arc<Value>)> {
        self.lock().objects.iter().map(|(key, object)| (key.clone(), Arc::clone(object))).collect()
    }

    /// Adds an object; `Err` gives it back when one of that key exists.
    pub(crate) fn create(&self, kind: &ResourceType, mut object: Value) -> Result<Arc<Value>, Box<Value>> {
        let mut inner = self.lock();
        let key = Key::of(kind, &object);
        if inner.objects.contains_key(&key) {
            return Err(Box::new(object));
        }
        inner.version += 1;
        object::set_version(&mut object, inner.version);
        let object = Arc::new(object);
        inner.objects.insert(key, Arc::clone(&object));
        let change = Change {
            version: inner.version,
            plural: kind.plural,
            object: Arc::clone(&object),
            before: None,
            removed: false,
        };
        self.record(&mut inner, change);
        Ok(object)
    }

    /// Changes one object without anybody coming between. `decide` runs under the lock and must be
    /// quick. The answer is the object afterwards (for a removal, as it was last); `Ok(None)` when
    /// there is no such object.
    pub(crate) fn modify<E>(
        &self,
        key: &Key,
        decide: impl FnOnce(&Value) -> Result<Verdict, E>,
    ) -> Result<Option<Arc<Value>>, E> {
        let mut inner = self.lock();
        let Some(before) = inner.objects.get(key).cloned() else { return Ok(None) };
        // An update that changes nothing is not a change: no new version, no watch event.
        match decide(&before)? {
            Verdict::Keep => Ok(Some(before)),
            Verdict::Replace(mut object) => {
                object::set_version_text(&mut object, object::version_text(&before));
                if object == *before {
                    return Ok(Some(before));
                }
                Ok(Some(self.replace(&mut inner, key, before, object)))
            }
            Verdict::Status(status) => {
                if before.get("status") == Some(&status) {
                    return Ok(Some(before));
                }
                // Statuses change most often, and the rest of an object is large: the old status is
                // not copied, nor anything compared.
                let rest = before.as_object().into_iter().flatten().filter(|(name, _)| *name != "status");
                let mut object: Value = rest.map(|(name, value)| (name.clone(), value.clone())).collect();
                object["status"] = status;
                Ok(Some(self.replace(&mut inner, key, before, object)))
            }
            Verdict::Remove => {
                inner.objects.remove(key);
                inner.version += 1;
                let mut object = Value::clone(&before);
                object::set_version(&mut object, inner.version);
                let object = Arc::new(object);
                let change = Change {
                    version: inner.version,
                    plural: key.plural,
                    object: Arc::clone(&object),
                    before: Some(before),
                    removed: true,
                };
                self.record(&mut inner, change);
                Ok(Some(object))
            }
        }
    }

    fn replace(&self, inner: &mut Inner, key: &Key, before: Arc<Value>, mut object: Value) -> Arc<Value> {
        inner.version += 1;
        object::set_version(&mut object, inner.version);
        let object = Arc::new(object);
        inner.objects.insert(key.clone(), Arc::clone(&object));
        let change = Change {
            version: inner.version,
            plural: key.plural,
            object: Arc::clone(&object),
            before: Some(before),
            removed: false,
        };
        self.record(inner, change);
        object
    }

    fn record(&self, inner: &mut Inner, change: Change) {
        let version = change.version;
        inner.history.push_back(change);
        if inner.history.len() > inner.kept {
            inner.history.pop_front();
        }
        self.changed.send_replace(version);
    }

    /// Forgets all changes so far: whoever wants to follow from an older version has to list again.
    pub(crate) fn forget_history(&self) {
        let mut inner = self.lock();
        inner.history.clear();
        // A version that nobody has seen, so that even the newest one is too old to follow from.
        inner.version += 1;
    }

    /// The changes after `version`, oldest first, and the version up to which they tell everything.
    pub(crate) fn since(&self, version: u64) -> Result<(Vec<Change>, u64), TooOld> {
        let inner = self.lock();
        let oldest = inner.history.front().map_or(inner.version, |change| change.version - 1);
        if version < oldest {
            return Err(TooOld { oldest });
        }
        let first = inner.history.partition_point(|change| change.version <= version);
        Ok((inner.history.range(first..).cloned().collect(), inner.version))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::core;

    fn pod(name: &str) -> Value {
        json!({"metadata": {"namespace": "a", "name": name}})
    }

    #[test]
    fn a_list_stays_in_its_type_and_namespace() {
        let store = Store::new(8);
        let pods = core("pods");
        store.create(pods, pod("x")).unwrap();
        store.create(core("secrets"), pod("s")).unwrap();
        store.create(pods, json!({"metadata": {"namespace": "b", "name": "y"}})).unwrap();
        assert_eq!(store.list(pods, Some("a")).0.len(), 1);
        assert_eq!(store.list(pods, None).0.len(), 2);
        assert_eq!(store.list(core("configmaps"), None).0.len(), 0);
    }

    #[test]
    fn an_update_without_change_has_no_event() {
        let store = Store::new(8);
        store.create(core("pods"), pod("x")).unwrap();
        let key = Key::new(core("pods"), "a", "x");
        let version = store.version();
        store.modify::<()>(&key, |object| Ok(Verdict::Replace(object.clone()))).unwrap();
        assert_eq!(store.version(), version);
        store.modify::<()>(&key, |_| Ok(Verdict::Remove)).unwrap();
        let (changes, upto) = store.since(version).unwrap();
        assert_eq!((changes.len(), upto), (1, version + 1));
        assert!(changes[0].removed);
    }

    #[test]
    fn history_is_bounded() {
        let store = Store::new(8);
        for index in 0..=8 {
            store.create(core("pods"), pod(&index.to_string())).unwrap();
        }
        assert!(store.since(1).is_err());
        assert!(store.since(store.version() - 1).is_ok());
    }
}
