//! Bearer tokens: the administrator's and those of service accounts. They look like the JSON web
//! tokens of a real cluster, because clients read `exp` from them, but are accepted only because
//! they are in this table. Tokens are never written to logs.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::User;
use crate::{
    resources,
    store::{Key, Store, object},
};

/// The type of Secrets that hold a token of a service account.
pub(crate) const SECRET_TYPE: &str = "kubernetes.io/service-account-token";
/// Their annotation with the account's name, which users set.
pub(crate) const SECRET_ACCOUNT: &str = "kubernetes.io/service-account.name";

/// Above this many tokens the expired ones are thrown away before another is kept.
const SWEEP_ABOVE: usize = 4_096;

/// What a service account's token is bound to.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) namespace: String,
    pub(crate) account: String,
    pub(crate) account_uid: String,
    /// An object without which the token is not valid.
    pub(crate) bound: Option<Bound>,
    pub(crate) audiences: Vec<String>,
    /// Seconds since the epoch; `None` for a token that is in a Secret and lives as long as that.
    pub(crate) expires: Option<i64>,
}

/// A pod or Secret that a token is bound to.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) plural: &'static str,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Grant {
    fn has_expired(&self, now: i64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// All tokens of a cluster.
#[derive(Debug)]
pub(crate) struct Tokens {
    admin: String,
    grants: Mutex<HashMap<String, Grant>>,
}

/// The only audience that the API server itself accepts.
pub(crate) const AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

impl Tokens {
    pub(crate) fn new() -> Self {
        Self { admin: format!("gantry-sim-admin-{}", random_text()), grants: Mutex::default() }
    }

    pub(crate) fn admin(&self) -> &str {
        &self.admin
    }

    /// Makes a token for a service account.
    pub(crate) fn issue(&self, grant: Grant, now: i64) -> String {
        let token = encode(&grant, now);
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        if grants.len() >= SWEEP_ABOVE {
            grants.retain(|_, grant| !grant.has_expired(now));
        }
        grants.insert(token.clone(), grant);
        token
    }

    /// Who the bearer is; `None` when the token is unknown, expired, for another audience, or what
    /// it is bound to is gone.
    pub(crate) fn user(&self, store: &Store, token: &str, now: i64) -> Option<User> {
        if token == self.admin {
            return Some(User::admin());
        }
        let grant = self.grants.lock().unwrap_or_else(PoisonError::into_inner).get(token)?.clone();
        if grant.has_expired(now) || !grant.audiences.iter().any(|audience| audience == AUDIENCE) {
            return None;
        }
        let lives = |plural: &str, name: &str, uid: &str| {
            let key = Key::new(resources::core(plural), &grant.namespace, name);
            store.get(&key).is_some_and(|found| object::uid(&found) == uid)
        };
        if !lives("serviceaccounts", &grant.account, &grant.account_uid) {
            return None;
        }
        if grant.bound.as_ref().is_some_and(|bound| !lives(bound.plural, &bound.name, &bound.uid)) {
            return None;
        }
        Some(User::service_account(&grant.namespace, &grant.account, &grant.account_uid))
    }
}

fn random_text() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

fn encode(grant: &Grant, now: i64) -> String {
    let claims = match grant.expires {
        Some(expires) => claims(grant, now, expires),
        None => lasting_claims(grant),
    };
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(&json!({"alg": "RS256", "kid": "gantry-sim"})), part(&claims), random_text())
}

/// The claims of a token that was asked for.
fn claims(grant: &Grant, now: i64, expires: i64) -> Value {
    let mut claims = json!({
        "aud": grant.audiences,
        "exp": expires,
        "iat": now,
        "nbf": now,
        "iss": AUDIENCE,
        "jti": crate::ids::uid(),
        "sub": format!("system:serviceaccount:{}:{}", grant.namespace, grant.account),
        "kubernetes.io": {
            "namespace": grant.namespace,
            "serviceaccount": {"name": grant.account, "uid": grant.account_uid},
        },
    });
    if let Some(Bound { plural, name, uid }) = &grant.bound {
        let kind = resources::core(plural).singular;
        object::map_mut(&mut claims, &["kubernetes.io"]).insert(kind.to_owned(), json!({"name": name, "uid": uid}));
    }
    claims
}

/// The claims of a token in a Secret, which has no end.
fn lasting_claims(grant: &Grant) -> Value {
    json!({
        "iss": "kubernetes/serviceaccount",
        "kubernetes.io/serviceaccount/namespace": grant.namespace,
        "kubernetes.io/serviceaccount/secret.name": grant.bound.as_ref().map(|bound| &bound.name),
        "kubernetes.io/serviceaccount/service-account.name": grant.account,
        "kubernetes.io/serviceaccount/service-account.uid": grant.account_uid,
        "sub": format!("system:serviceaccount:{}:{}", grant.namespace, grant.account),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_as_long_as_its_account_and_its_time() {
        let store = Store::new(8);
        let accounts = resources::core("serviceaccounts");
        store.create(accounts, json!({"metadata": {"namespace": "a", "name": "sa", "uid": "1"}})).unwrap();
        let tokens = Tokens::new();
        let grant = Grant {
            namespace: "a".into(),
            account: "sa".into(),
            account_uid: "1".into(),
            bound: None,
            audiences: vec![AUDIENCE.into()],
            expires: Some(100),
        };
        let token = tokens.issue(grant.clone(), 0);
        assert_eq!(tokens.user(&store, &token, 99).unwrap().name, "system:serviceaccount:a:sa");
        assert!(tokens.user(&store, &token, 100).is_none());
        assert!(tokens.user(&store, "nonsense", 1).is_none());
        let foreign = tokens.issue(Grant { audiences: vec!["vault".into()], ..grant.clone() }, 0);
        assert!(tokens.user(&store, &foreign, 1).is_none());
        let pod = Bound { plural: "pods", name: "p".into(), uid: "2".into() };
        let bound = tokens.issue(Grant { bound: Some(pod), ..grant }, 0);
        assert!(tokens.user(&store, &bound, 1).is_none());
        store.modify::<()>(&Key::new(accounts, "a", "sa"), |_| Ok(crate::store::Verdict::Remove)).unwrap();
        assert!(tokens.user(&store, &token, 1).is_none());
    }
}
