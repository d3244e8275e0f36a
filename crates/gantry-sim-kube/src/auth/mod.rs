//! Who asks, and may they. Nothing here answers requests: it gives users and verdicts to the API
//! layer.

pub(crate) mod attributes;
pub(crate) mod rbac;
pub(crate) mod tokens;

/// Somebody whose token was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
}

/// Members of this group may do everything, whatever the roles say.
pub(crate) const MASTERS: &str = "system:masters";

impl User {
    /// The administrator whose token the cluster makes at start.
    pub(crate) fn admin() -> Self {
        Self {
            name: "kubernetes-admin".to_owned(),
            uid: String::new(),
            groups: vec![MASTERS.to_owned(), "system:authenticated".to_owned()],
        }
    }

    /// The user that a service account's tokens stand for.
    pub(crate) fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            uid: uid.to_owned(),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
        }
    }

    pub(crate) fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }
}
