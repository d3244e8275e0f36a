//! The controllers that a cluster cannot do without: emptying namespaces that are being removed,
//! collecting objects whose owners are gone, restoring default service accounts, forgetting old
//! events. Others are in files of their own.

use std::{collections::HashSet, convert::Infallible, sync::Arc, time::Duration};

use serde_json::json;

use crate::{
    account_tokens,
    api::{self, Removal},
    apps,
    cluster::Cluster,
    resources::{self, TYPES},
    store::{
        Key, Verdict,
        object::{self, items, text},
    },
};

/// Changes are handled together that come within this time, since every pass looks at all objects.
const SETTLE: Duration = Duration::from_millis(20);
/// A pass without any change, to forget old events.
const IDLE: Duration = Duration::from_secs(60);
/// How long events are kept, as in a real cluster.
const EVENT_SECONDS: i64 = 3_600;

/// Runs until the cluster stops.
pub(crate) async fn run(cluster: Arc<Cluster>) {
    let mut follow = cluster.store.follow();
    let stopping = cluster.tasks.stopping();
    // What was there before the cluster ran is work too.
    let mut seen = 0;
    loop {
        follow.borrow_and_update();
        if needs_pass(&cluster, &mut seen) {
            pass(&cluster);
        }
        upkeep(&cluster);
        tokio::select! {
            () = stopping.cancelled() => return,
            changed = follow.changed() => if changed.is_err() { return } else { tokio::time::sleep(SETTLE).await },
            () = tokio::time::sleep(IDLE) => forget_events(&cluster),
        }
    }
}

/// Only removals, namespaces that begin to go, and tokens of service accounts can make work; most
/// changes are pods' statuses and events.
fn needs_pass(cluster: &Cluster, seen: &mut u64) -> bool {
    let Ok((changes, upto)) = cluster.store.since(*seen) else {
        *seen = cluster.store.version();
        return true;
    };
    *seen = upto;
    changes.iter().any(|change| {
        let namespace = Key::new(resources::core("namespaces"), "", object::namespace(&change.object));
        let leaving = cluster.store.get(&namespace).is_none_or(|namespace| object::is_terminating(&namespace));
        let tokens = account_tokens::concerns(change.plural, &change.object);
        change.removed || change.plural == "namespaces" || leaving || tokens
    })
}

/// Statuses that follow from other objects, and pods that replica sets want. Changes nothing where
/// all is well.
fn upkeep(cluster: &Cluster) {
    apps::pass(cluster);
    for budget in cluster.store.list(resources::any("poddisruptionbudgets"), None).0 {
        let status = api::budgets::status(cluster, &budget);
        let key = Key::of(resources::any("poddisruptionbudgets"), &budget);
        let done: Result<_, Infallible> = cluster.store.modify(&key, |_| Ok(Verdict::Status(status)));
        drop(done);
    }
    let (quotas, _) = cluster.store.list(resources::core("resourcequotas"), None);
    let mut namespaces: Vec<&str> = quotas.iter().map(|quota| object::namespace(quota)).collect();
    namespaces.dedup();
    for namespace in namespaces {
        api::policy::quota::refresh(cluster, namespace);
    }
}

fn pass(cluster: &Cluster) {
    collect_orphans(cluster);
    account_tokens::pass(cluster);
    let (namespaces, _) = cluster.store.list(resources::core("namespaces"), None);
    for namespace in &namespaces {
        if object::is_terminating(namespace) {
            empty(cluster, object::name(namespace));
        } else {
            let accounts = resources::core("serviceaccounts");
            let roots = resources::core("configmaps");
            let name = object::name(namespace);
            let missing = cluster.store.get(&Key::new(accounts, name, "default")).is_none()
                || cluster.store.get(&Key::new(roots, name, "kube-root-ca.crt")).is_none();
            if missing {
                api::bootstrap_namespace(cluster, name);
            }
        }
    }
}

/// Removes what is in a namespace, and the namespace once nothing is left.
fn empty(cluster: &Cluster, namespace: &str) {
    let mut left = 0;
    for kind in TYPES.iter().filter(|kind| kind.namespaced && kind.stored) {
        for object in cluster.store.list(kind, Some(namespace)).0 {
            let removal = Removal::default();
            match api::begin_removal(cluster, kind, &Key::of(kind, &object), &removal) {
                Ok((_, gone)) => left += usize::from(!gone),
                Err(error) => tracing::debug!(message = error.message, "cannot empty the namespace yet"),
            }
        }
    }
    if left > 0 {
        return;
    }
    let key = Key::new(resources::core("namespaces"), "", namespace);
    let done: Result<_, Infallible> = cluster.store.modify(&key, |old| {
        if items(old, &["metadata", "finalizers"]).is_empty() {
            return Ok(Verdict::Remove);
        }
        let mut new = old.clone();
        object::map_mut(&mut new, &["spec"]).insert("finalizers".to_owned(), json!([]));
        Ok(Verdict::Replace(new))
    });
    drop(done);
}

/// Removes objects all of whose owners are gone.
fn collect_orphans(cluster: &Cluster) {
    let everything = cluster.store.everything();
    let owners = |object| items(object, &["metadata", "ownerReferences"]);
    let owned: Vec<_> = everything.iter().filter(|(_, object)| !owners(object).is_empty()).collect();
    if owned.is_empty() {
        return;
    }
    let uids: HashSet<&str> = everything.iter().map(|(_, object)| object::uid(object)).collect();
    for (key, object) in owned {
        if owners(object).iter().any(|owner| uids.contains(text(owner, &["uid"]))) {
            continue;
        }
        let removal = Removal { uid: Some(object::uid(object).to_owned()), ..Removal::default() };
        if let Err(error) = api::begin_removal(cluster, resources::any(key.plural), key, &removal) {
            tracing::debug!(message = error.message, "an ownerless object was not collected");
        }
    }
}

fn forget_events(cluster: &Cluster) {
    let events = resources::core("events");
    let oldest = cluster.clock.now().as_second() - EVENT_SECONDS;
    for event in cluster.store.list(events, None).0 {
        let last = text(&event, &["lastTimestamp"]).parse::<jiff::Timestamp>();
        if last.is_ok_and(|last| last.as_second() < oldest) {
            let done: Result<_, Infallible> = cluster.store.modify(&Key::of(events, &event), |_| Ok(Verdict::Remove));
            drop(done);
        }
    }
}
