//! The controller that fills Secrets of the type `kubernetes.io/service-account-token`: with a
//! token of their service account that does not expire, the cluster's certificate authority, and
//! their namespace. Where the cluster is one from before 1.24 every service account also has such a
//! Secret without asking.

use std::{convert::Infallible, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{
    api::{self, Removal},
    auth::tokens::{AUDIENCE, Bound, Grant, SECRET_ACCOUNT, SECRET_TYPE},
    cluster::Cluster,
    ids, resources,
    store::{
        Key, Verdict,
        object::{self, items, map_mut, text},
    },
};

/// Its uid; the controller sets it, so that a token does not pass to a later account of the same
/// name.
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// The first version in which service accounts have no Secret of their own.
const WITHOUT_SECRETS: (u32, u32) = (1, 24);

/// Whether a change to this object can be work for the controller.
pub(crate) fn concerns(plural: &str, object: &Value) -> bool {
    plural == "serviceaccounts" || (plural == "secrets" && is_token(object))
}

fn is_token(secret: &Value) -> bool {
    text(secret, &["type"]) == SECRET_TYPE
}

/// Brings all Secrets of the type in order.
pub(crate) fn pass(cluster: &Cluster) {
    if cluster.config.version < WITHOUT_SECRETS {
        cluster.store.list(resources::core("serviceaccounts"), None).0.iter().for_each(|account| own(cluster, account));
    }
    for secret in cluster.store.list(resources::core("secrets"), None).0 {
        if is_token(&secret) && !object::is_terminating(&secret) {
            one(cluster, &secret);
        }
    }
}

/// Gives an account its own Secret, if it has none.
fn own(cluster: &Cluster, account: &Arc<Value>) {
    if !items(account, &["secrets"]).is_empty() || object::is_terminating(account) {
        return;
    }
    let (namespace, account_name) = (object::namespace(account), object::name(account));
    let name = format!("{account_name}-token-{}", ids::suffix());
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE,
        "metadata": {"name": name, "namespace": namespace, "annotations": {SECRET_ACCOUNT: account_name}}});
    if let Err(error) = api::add(cluster, resources::core("secrets"), secret, false) {
        tracing::debug!(namespace, account_name, message = error.message, "no Secret for a service account yet");
        return;
    }
    let done: Result<_, Infallible> =
        cluster.store.modify(&Key::of(resources::core("serviceaccounts"), account), |old| {
            let mut new = old.clone();
            object::list_mut(&mut new, &["secrets"]).push(json!({"name": name}));
            Ok(Verdict::Replace(new))
        });
    drop(done);
}

/// Fills a Secret, or removes it when its account is gone.
fn one(cluster: &Cluster, secret: &Value) {
    let (namespace, name) = (object::namespace(secret), text(secret, &["metadata", "annotations", SECRET_ACCOUNT]));
    let account = cluster.store.get(&Key::new(resources::core("serviceaccounts"), namespace, name));
    let uid = text(secret, &["metadata", "annotations", ACCOUNT_UID]);
    let key = Key::of(resources::core("secrets"), secret);
    let Some(account) = account.filter(|account| uid.is_empty() || uid == object::uid(account)) else {
        let removal = Removal { uid: Some(object::uid(secret).to_owned()), ..Removal::default() };
        if let Err(error) = api::begin_removal(cluster, resources::core("secrets"), &key, &removal) {
            tracing::debug!(message = error.message, "a token of no account was not removed");
        }
        return;
    };
    let missing = |field| text(secret, &["data", field]).is_empty();
    if uid == object::uid(&account) && !["token", "ca.crt", "namespace"].into_iter().any(missing) {
        return;
    }
    let token = missing("token").then(|| issue(cluster, secret, &account));
    let done: Result<_, Infallible> = cluster.store.modify(&key, |old| {
        let mut new = old.clone();
        let annotations = map_mut(&mut new, &["metadata", "annotations"]);
        annotations.insert(ACCOUNT_UID.to_owned(), json!(object::uid(&account)));
        let data = map_mut(&mut new, &["data"]);
        for (field, value) in
            [("token", token.as_deref()), ("ca.crt", Some(cluster.ca_pem.as_str())), ("namespace", Some(namespace))]
        {
            if let Some(value) = value {
                data.insert(field.to_owned(), json!(BASE64_STANDARD.encode(value)));
            }
        }
        Ok(Verdict::Replace(new))
    });
    drop(done);
}

fn issue(cluster: &Cluster, secret: &Value, account: &Value) -> String {
    let grant = Grant {
        namespace: object::namespace(secret).to_owned(),
        account: object::name(account).to_owned(),
        account_uid: object::uid(account).to_owned(),
        bound: Some(Bound {
            plural: "secrets",
            name: object::name(secret).to_owned(),
            uid: object::uid(secret).to_owned(),
        }),
        audiences: vec![AUDIENCE.to_owned()],
        expires: None,
    };
    cluster.tokens.issue(grant, cluster.clock.now().as_second())
}
