//! The API as clients use it for any object: watches, patches, conflicts, owners.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent, WatchParams},
    core::ObjectMeta,
};
use serde_json::json;

use crate::{LOOK, TIMEOUT, World};

fn map(value: serde_json::Value) -> ConfigMap {
    serde_json::from_value(value).expect("a map")
}

#[tokio::test]
async fn a_watch_sees_what_its_selector_selects() {
    let world = World::new().await;
    let maps: Api<ConfigMap> = Api::namespaced(world.admin(), "ci");
    let version =
        maps.list(&ListParams::default()).await.expect("a list").metadata.resource_version.expect("a version");
    let params = WatchParams::default().labels("app=x").timeout(60);
    let events = maps.watch(&params, &version).await.expect("a watch").boxed();
    for name in ["one", "two"] {
        let labels = json!({"app": if name == "one" { "x" } else { "y" }});
        let object = map(json!({"metadata": {"name": name, "labels": labels}}));
        maps.create(&PostParams::default(), &object).await.expect("created");
    }
    let label = |value: &str| Patch::Merge(json!({"metadata": {"labels": {"app": value}}}));
    let by = PatchParams::default();
    maps.patch("two", &by, &label("x")).await.expect("patched");
    maps.patch("one", &by, &label("z")).await.expect("patched");
    maps.delete("two", &DeleteParams::default()).await.expect("deleted");
    let seen = events.take(4).map_ok(|event| match event {
        WatchEvent::Added(object) => format!("+{}", object.metadata.name.unwrap_or_default()),
        WatchEvent::Deleted(object) => format!("-{}", object.metadata.name.unwrap_or_default()),
        other => format!("{other:?}"),
    });
    let seen: Vec<String> = tokio::time::timeout(TIMEOUT, seen.try_collect()).await.expect("in time").expect("events");
    assert_eq!(seen, ["+one", "+two", "-one", "-two"]);
    world.stop().await;
}

#[tokio::test]
async fn stale_updates_and_wrong_preconditions_conflict() {
    let world = World::new().await;
    let maps: Api<ConfigMap> = Api::namespaced(world.admin(), "ci");
    let first = maps.create(&PostParams::default(), &map(json!({"metadata": {"name": "m"}}))).await.expect("created");
    maps.patch("m", &PatchParams::default(), &Patch::Merge(json!({"data": {"a": "1"}}))).await.expect("patched");
    let code = |error: kube::Error| match error {
        kube::Error::Api(status) => (status.code, status.reason.clone()),
        other => panic!("{other}"),
    };
    let stale = maps.replace("m", &PostParams::default(), &first).await.expect_err("stale");
    assert_eq!(code(stale), (409, "Conflict".to_owned()));
    let again = maps.create(&PostParams::default(), &map(json!({"metadata": {"name": "m"}}))).await.expect_err("taken");
    assert_eq!(code(again), (409, "AlreadyExists".to_owned()));
    let wrong = Preconditions { uid: Some("other".to_owned()), resource_version: None };
    let params = DeleteParams { preconditions: Some(wrong), ..DeleteParams::default() };
    assert_eq!(code(maps.delete("m", &params).await.expect_err("another object")), (409, "Conflict".to_owned()));
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n"}, "data": {"k": "v"}});
    let applied = maps.patch("n", &PatchParams::apply("test"), &Patch::Apply(applied)).await.expect("applied");
    assert_eq!(applied.data.expect("data")["k"], "v");
    world.stop().await;
}

#[tokio::test]
async fn who_owns_a_field_is_shown_as_a_tree_everywhere() {
    let world = World::new().await;
    let maps: Api<ConfigMap> = Api::namespaced(world.admin(), "ci");
    let object = map(json!({"metadata": {"name": "m"}, "data": {"a": "1"}}));
    let made = maps.create(&PostParams::default(), &object).await.expect("created");
    let owned = |meta: &ObjectMeta, at: usize| {
        let record = &meta.managed_fields.as_deref().expect("records")[at];
        record.fields_v1.as_ref().expect("fields").0.clone()
    };
    let tree = json!({"f:data": {"f:a": {}}});
    assert_eq!(owned(&made.metadata, 0), tree);
    let listed = maps.list(&ListParams::default().fields("metadata.name=m")).await.expect("a list");
    assert_eq!(owned(&listed.items[0].metadata, 0), tree);
    let only = maps.get_metadata("m").await.expect("the metadata");
    assert_eq!(owned(&only.metadata, 0), tree);
    let events = maps.watch(&WatchParams::default().fields("metadata.name=m"), "0").await.expect("a watch");
    let first = tokio::time::timeout(TIMEOUT, events.boxed().try_next()).await.expect("in time").expect("an event");
    let Some(WatchEvent::Added(seen)) = first else { panic!("{first:?}") };
    assert_eq!(owned(&seen.metadata, 0), tree);
    // Who sends it back as it came has changed only what is new.
    let mut changed = seen;
    changed.data.get_or_insert_default().insert("b".to_owned(), "2".to_owned());
    let by = PostParams { field_manager: Some("editor".to_owned()), ..PostParams::default() };
    let replaced = maps.replace("m", &by, &changed).await.expect("replaced");
    assert_eq!([0, 1].map(|at| owned(&replaced.metadata, at)), [tree, json!({"f:data": {"f:b": {}}})]);
    world.stop().await;
}

#[tokio::test]
async fn what_is_owned_or_inside_goes_along() {
    let world = World::new().await;
    let maps: Api<ConfigMap> = Api::namespaced(world.admin(), "ci");
    let owner =
        maps.create(&PostParams::default(), &map(json!({"metadata": {"name": "owner"}}))).await.expect("created");
    let reference = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid}]);
    let owned = map(json!({"metadata": {"generateName": "owned-", "ownerReferences": reference}}));
    let owned = maps.create(&PostParams::default(), &owned).await.expect("created").metadata.name.expect("a name");
    assert_eq!(owned.len(), "owned-".len() + 5);
    maps.delete("owner", &DeleteParams::default()).await.expect("deleted");
    gone(|| maps.get_opt(&owned)).await;
    let spaces: Api<Namespace> = Api::all(world.admin());
    spaces.delete("ci", &DeleteParams::default()).await.expect("deleted");
    gone(|| spaces.get_opt("ci")).await;
    world.stop().await;
}

async fn gone<T, F: Future<Output = kube::Result<Option<T>>>>(get: impl Fn() -> F) {
    tokio::time::timeout(TIMEOUT, async {
        while get().await.expect("an answer").is_some() {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await
    .expect("the object goes");
}

#[tokio::test]
async fn nonsense_is_refused_and_hurts_nobody() {
    let world = World::new().await;
    let ask = async |method: &str, path: &str, body: &str| {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = http::Request::builder().method(method).uri(path).header("content-type", kind);
        let request = request.body(body.as_bytes().to_vec()).expect("a request");
        match world.admin().request_text(request).await {
            Ok(_) | Err(kube::Error::Api(_)) => {}
            Err(error) => panic!("{method} {path} {body}: no answer: {error:?}"),
        }
    };
    let bodies = [
        "",
        "1",
        "[]",
        "{",
        r#"{"spec":"x","status":1,"metadata":{}}"#,
        r#"{"metadata":{"name":"n","labels":3}}"#,
        r#"{"spec":{"containers":[1,"x",{"name":1,"env":[2],"resources":{"requests":{"cpu":"9e30"}}}],"volumes":[3]}}"#,
        r#"{"gracePeriodSeconds":9223372036854775807,"spec":{"finalizers":1},"rules":[1],"subjects":"x","data":[]}"#,
    ];
    let paths = [
        "/api/v1/namespaces",
        "/api/v1/namespaces/ci",
        "/api/v1/namespaces/ci/status",
        "/api/v1/namespaces/ci/pods",
        "/api/v1/namespaces/ci/pods/p",
        "/api/v1/namespaces/ci/serviceaccounts/runner/token",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/ci/rolebindings",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "/sim/pods/ci/p/evict",
    ];
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        for (path, body) in paths.iter().flat_map(|path| bodies.iter().map(move |body| (path, body))) {
            ask(method, path, body).await;
        }
    }
    ask("GET", "/api/v1/pods?watch=1&timeoutSeconds=18446744073709551615&resourceVersion=x", "").await;
    // Scheduler, controllers and kubelet still do their work.
    let spaces: Api<Namespace> = Api::all(world.admin());
    gone(|| spaces.get_opt("ci")).await;
    spaces
        .create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": "new"}})).unwrap())
        .await
        .expect("a namespace");
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(world.admin(), "new");
    let pod = json!({"metadata": {"name": "p"}, "spec": crate::never(&json!([crate::sh("a", "true")]))});
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.expect("a pod");
    tokio::time::timeout(TIMEOUT, async {
        while pods.get("p").await.expect("the pod").status.and_then(|status| status.phase).as_deref()
            != Some("Succeeded")
        {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await
    .expect("the pod runs");
    world.stop().await;
}
