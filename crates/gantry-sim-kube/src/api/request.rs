//! What a request's method, path and query mean. Pure.

use http::{Method, Uri};

use crate::{
    auth::attributes::Attributes,
    resources::{self, ResourceType},
};

/// The pairs of a query string, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(uri: &Uri) -> Self {
        axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri).map(|pairs| Self(pairs.0)).unwrap_or_default()
    }

    /// The first value of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Every value of that name, in order.
    pub(crate) fn all<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a flag is on.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| ["1", "t", "T", "true", "TRUE", "True"].contains(&value))
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }
}

/// A request for a resource.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) kind: &'static ResourceType,
    pub(crate) verb: &'static str,
    /// Empty across all namespaces, and for cluster-wide types.
    pub(crate) namespace: String,
    /// Empty for the collection.
    pub(crate) name: String,
    pub(crate) subresource: String,
    pub(crate) query: Query,
}

/// What a path is about.
#[derive(Debug, Clone)]
pub(crate) enum PathSubject {
    Resource(Box<Target>),
    /// A resource-like path of a type that this server does not have; the wish is still told to the
    /// authorizer.
    Unknown(Attributes),
    /// `/version`, `/api`, `/sim/…`
    Path,
}

/// Reads a request.
pub(crate) fn read(method: &Method, uri: &Uri) -> PathSubject {
    let segments: Vec<&str> = uri.path().split('/').filter(|segment| !segment.is_empty()).collect();
    let (group, version, rest) = match segments.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return PathSubject::Path,
    };
    let (namespace, plural, rest) = match rest {
        // A namespace is itself a resource: `/namespaces/x` and its status are about `x`, anything
        // longer is inside.
        ["namespaces"] | ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => ("", "namespaces", &rest[1..]),
        ["namespaces", namespace, plural, rest @ ..] => (*namespace, *plural, rest),
        [plural, rest @ ..] => ("", *plural, rest),
        [] => return PathSubject::Path,
    };
    let name = rest.first().copied().unwrap_or("").to_owned();
    let subresource = rest.get(1..).unwrap_or(&[]).join("/");
    let query = Query::of(uri);
    let verb = verb(method, &name, &query);
    let found = resources::find(group, version, plural).filter(|kind| kind.namespaced || namespace.is_empty());
    let Some(kind) = found else {
        return PathSubject::Unknown(Attributes {
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource: plural.to_owned(),
            subresource,
            namespace: namespace.to_owned(),
            name,
            path: None,
        });
    };
    PathSubject::Resource(Box::new(Target { kind, verb, namespace: namespace.to_owned(), name, subresource, query }))
}

fn verb(method: &Method, name: &str, query: &Query) -> &'static str {
    match (method, name.is_empty()) {
        (&Method::GET | &Method::HEAD, true) if query.flag("watch") => "watch",
        (&Method::GET | &Method::HEAD, true) => "list",
        (&Method::GET | &Method::HEAD, false) => "get",
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) => "patch",
        (&Method::DELETE, true) => "deletecollection",
        (&Method::DELETE, false) => "delete",
        _ => "",
    }
}

impl Target {
    /// The request in the words of authorization.
    pub(crate) fn attributes(&self) -> Attributes {
        let mut namespace = self.namespace.clone();
        let mut name = self.name.clone();
        if self.kind.plural == "namespaces" {
            namespace.clone_from(&name);
        }
        if name.is_empty() && self.verb != "create" {
            // A list or watch of one name is a wish about that name, so that `resourceNames` can
            // allow it.
            one_name(self.query.get("fieldSelector").unwrap_or("")).clone_into(&mut name);
        }
        Attributes {
            verb: self.verb.to_owned(),
            group: self.kind.group.to_owned(),
            resource: self.kind.plural.to_owned(),
            subresource: self.subresource.clone(),
            namespace,
            name,
            path: None,
        }
    }
}

fn one_name(selector: &str) -> &str {
    selector
        .split(',')
        .find_map(|part| {
            let rest = part.strip_prefix("metadata.name=")?;
            Some(rest.strip_prefix('=').unwrap_or(rest))
        })
        .unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(method: &Method, uri: &str) -> Target {
        match read(method, &uri.parse().unwrap()) {
            PathSubject::Resource(target) => *target,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn paths_are_understood() {
        let one = target(&Method::GET, "/api/v1/namespaces/ci/pods/x/exec?command=a&command=b");
        assert_eq!((one.kind.plural, one.verb, one.namespace.as_str()), ("pods", "get", "ci"));
        assert_eq!((one.name.as_str(), one.subresource.as_str()), ("x", "exec"));
        assert_eq!(one.query.all("command").collect::<Vec<_>>(), ["a", "b"]);
        let all = target(&Method::GET, "/api/v1/pods?watch=true");
        assert_eq!((all.verb, all.namespace.as_str()), ("watch", ""));
        let space = target(&Method::DELETE, "/api/v1/namespaces/ci");
        assert_eq!(
            (space.kind.plural, space.verb, space.attributes().namespace.as_str()),
            ("namespaces", "delete", "ci")
        );
        let role = target(&Method::PUT, "/apis/rbac.authorization.k8s.io/v1/namespaces/ci/roles/r");
        assert_eq!((role.kind.plural, role.verb), ("roles", "update"));
    }

    #[test]
    fn other_paths_are_not_resources() {
        let read = |path: &str| read(&Method::GET, &path.parse().unwrap());
        assert!(
            matches!(read("/apis/apps/v1/namespaces/ci/daemonsets"), PathSubject::Unknown(wish) if wish.group == "apps")
        );
        assert!(matches!(read("/api/v1"), PathSubject::Path));
        assert!(matches!(read("/version"), PathSubject::Path));
        assert!(matches!(read("/api/v1/namespaces/ci/nodes"), PathSubject::Unknown(_)));
    }

    #[test]
    fn a_watch_of_one_name_is_about_that_name() {
        let one = target(&Method::GET, "/api/v1/namespaces/ci/pods?watch=1&fieldSelector=metadata.name%3Dp");
        assert_eq!(one.attributes().name, "p");
    }
}
