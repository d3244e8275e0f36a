//! Which caches a job has, under which names, and where they are kept.

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_plan::{Access, Links, ObjectWant, Wants};
use gantry_wire::cache::SignedRequest;
use gantry_wire::plan::Action;
use serde_json::{Value, json};

use crate::bench::{context, golden, job, payload, plan, runner, try_plan, variable};

const STORE: &str = "[runners.cache]\nType = \"s3\"\nPath = \"team/caches\"\nMaxUploadedArchiveSize = 1000\n";

const VOLUME: &str = "[[runners.kubernetes.volumes.pvc]]\nname = \"caches\"\nmount_path = \"/cache\"\n";

fn wants(config: &str, more_job: &Value) -> Wants {
    gantry_plan::wants(&job(payload(more_job)), &runner(config), &context())
}

/// A signature for each object that is wanted.
fn signed(wants: &Wants) -> Links {
    let sign = |want: &ObjectWant| {
        let method = if want.access == Access::Read { "GET" } else { "PUT" };
        let url = format!("https://store/{}?signed={method}", want.name).into();
        (want.clone(), SignedRequest { url, ..SignedRequest::default() })
    };
    let requests: BTreeMap<_, _> = wants.objects.iter().map(sign).collect();
    Links { store: "the store".to_owned(), ca_pem: None, requests, life: None, problem: None }
}

#[test]
fn what_is_saved_is_signed_again_where_keys_end_before_the_job_has_to() {
    let job_of = || job(payload(&caches()));
    let links = signed(&wants(STORE, &caches()));
    let plan = |links: &Links| gantry_plan::plan(&job_of(), &runner(STORE), &context(), links).expect("a plan");
    assert_eq!(plan(&links).cache_renewal, None);
    let hour = Duration::from_secs(3600);
    let plan = plan(&Links { life: Some(hour), ..links });
    let renewal = plan.cache_renewal.clone().expect("what is signed again");
    let names: Vec<_> =
        renewal.objects.iter().map(|object| object.name.rsplit('/').next().unwrap_or_default()).collect();
    assert_eq!((renewal.life, names.as_slice()), (hour, ["deps-feature-x", "pushed", "main"].as_slice()));
    let saved = plan.pod_plan.stages.iter().filter_map(|stage| match &stage.action {
        Action::SaveCache(save) => Some(save.caches.iter().filter_map(|cache| cache.object.clone())),
        _ => None,
    });
    let mut saved: Vec<String> = saved.flatten().collect();
    saved.sort();
    assert_eq!(saved, renewal.objects.iter().map(|object| object.name.clone()).collect::<Vec<_>>());
}

/// The stages about caches of a job that got what it wanted.
fn stages(config: &str, more_job: &Value) -> Value {
    let links = signed(&wants(config, more_job));
    let plan = gantry_plan::plan(&job(payload(more_job)), &runner(config), &context(), &links).expect("a plan");
    let stages: Vec<Value> =
        plan.pod_plan.stages.iter().filter(|stage| stage.name.contains("cache")).map(|stage| json!(stage)).collect();
    json!(stages)
}

fn caches() -> Value {
    json!({
        "cache": [
            {"key": "deps-$CI_COMMIT_REF_SLUG", "paths": ["node_modules/"], "fallback_keys": ["deps-main", "deps-$CI_COMMIT_REF_SLUG"]},
            {"key": "../out", "untracked": true, "policy": "$CACHE_POLICY", "when": "always"},
            {"key": "pushed", "paths": ["build"], "policy": "push", "when": "on_failure"},
            {"paths": ["unnamed"]},
            {"key": "nothing in it"},
        ],
        "variables": [
            variable("CI_COMMIT_REF_SLUG", "feature-x"),
            variable("CACHE_POLICY", "pull"),
            variable("CACHE_FALLBACK_KEY", "for-all"),
            variable("CACHE_REQUEST_TIMEOUT", "3"),
            variable("RESTORE_CACHE_ATTEMPTS", "2"),
        ],
    })
}

#[test]
fn caches_in_a_store() {
    let (stages, wants) = (stages(STORE, &caches()), wants(STORE, &caches()));
    let names: Vec<String> =
        wants.objects.iter().map(|want| format!("{:?} {} for {}", want.access, want.name, want.key)).collect();
    golden!("caches_in_a_store", json!({"wants": names, "seconds": wants.valid_for.as_secs(), "stages": stages}));
}

#[test]
fn caches_on_a_volume() {
    let job = json!({"cache": [{"key": "k", "paths": ["a"], "fallback_keys": ["f"]}]});
    assert_eq!(wants(VOLUME, &job), Wants::default());
    golden!("caches_on_a_volume", stages(VOLUME, &job));
}

/// The places where a cache is saved.
fn save_places(config: &str) -> Value {
    let job = json!({"cache": [{"key": "k", "paths": ["a"]}]});
    let stages = stages(config, &job);
    stages[1]["action"]["save_cache"]["caches"][0]["places"].clone()
}

#[test]
fn only_volumes_that_last_keep_caches() {
    let volume = |kind: &str, path: &str, more: &str| {
        format!("[[runners.kubernetes.volumes.{kind}]]\nname = \"c\"\nmount_path = {path:?}\n{more}\n")
    };
    for (config, expected) in [
        (volume("pvc", "/cache", ""), Some(("/cache", "acme/web/shop/k/cache.zip"))),
        (volume("host_path", "/cache/", ""), Some(("/cache", "acme/web/shop/k/cache.zip"))),
        (volume("nfs", "/cache", "server = \"s\"\npath = \"/p\""), Some(("/cache", "acme/web/shop/k/cache.zip"))),
        (
            format!("cache_dir = \"/mnt/all/caches\"\n{}", volume("pvc", "/mnt/all", "")),
            Some(("/mnt/all", "caches/acme/web/shop/k/cache.zip")),
        ),
        (volume("pvc", "/cache", "read_only = true"), None),
        (volume("empty_dir", "/cache", ""), None),
        (volume("pvc", "/cache2", ""), None),
        (volume("pvc", "/cache/below", ""), None),
        (format!("{}{}", volume("pvc", "/", "").replace("\"c\"", "\"d\""), ""), None),
    ] {
        if config.contains("mount_path = \"/\"") {
            continue;
        }
        let places = save_places(&config);
        match expected {
            Some((volume, path)) => {
                assert_eq!(places, json!([{"file": {"volume": volume, "path": path}}]), "{config}");
            }
            None => assert_eq!(places, Value::Null, "{config}"),
        }
    }
}

#[test]
fn a_store_comes_before_a_volume() {
    let places = save_places(&format!("{VOLUME}{STORE}"));
    assert!(places[0]["store"].is_object() && places[1]["file"].is_object(), "{places}");
}

#[test]
fn hashed_keys_find_the_objects_of_readable_ones() {
    let job = json!({"cache": [{"key": "a b", "paths": ["a"], "policy": "pull"}]});
    let config = format!("{STORE}Shared = true\n[runners.feature_flags]\nFF_HASH_CACHE_KEYS = true\n");
    let names: Vec<String> = wants(&config, &job).objects.into_iter().map(|want| want.name).collect();
    let hash = "c8687a08aa5d6ed2044328fa6a697ab8e96dc34291e8c034f7a6a0e1d7fd9c4f";
    let hashed = format!("team/caches/project/4711/c8/{hash}");
    assert!(names.contains(&"team/caches/project/4711/a b".to_owned()), "{names:?}");
    assert_eq!(
        names.iter().filter(|name| name.starts_with("team/caches/project/4711/") && name.len() == hashed.len()).count(),
        1
    );
}

#[test]
fn without_a_place_for_caches_the_log_says_so() {
    let job = json!({"cache": [{"key": "k", "paths": ["a"]}]});
    let plan = plan("", &job);
    let warning = plan.banner.iter().find(|line| line.text.contains("[runners.cache]")).unwrap();
    assert!(warning.text.contains("/cache"), "{}", warning.text);
    assert!(!plan.pod_plan.stages.iter().any(|stage| stage.name.contains("cache")));
}

#[test]
fn a_store_that_cannot_be_used_is_said_in_the_stages() {
    let job_with_cache = json!({"cache": [{"key": "k", "paths": ["a"]}]});
    let links = Links { problem: Some("no keys".to_owned()), ..Links::default() };
    let plan = gantry_plan::plan(&job(payload(&job_with_cache)), &runner(STORE), &context(), &links).expect("a plan");
    let stage = plan.pod_plan.stages.iter().find(|stage| stage.name == "restore_cache").unwrap();
    assert!(json!(stage).to_string().contains("the runner's cache store cannot be used: no keys"));
}

#[test]
fn what_does_not_exist_is_refused() {
    for (cache, words) in [
        (json!({"key": "k", "paths": ["a"], "policy": "fetch"}), "unknown cache policy fetch for k"),
        (json!({"key": "k", "paths": ["a"], "when": "never"}), "cache.when is \"never\""),
    ] {
        let error = try_plan(STORE, &json!({"cache": [cache]})).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn keys_of_protected_branches_are_no_fallback() {
    let job = json!({
        "cache": [{"key": "k", "paths": ["a"]}],
        "variables": [variable("CACHE_FALLBACK_KEY", "k-protected")],
    });
    let stages = stages(STORE, &job);
    let restore = &stages[0]["action"]["restore_cache"]["caches"][0];
    assert_eq!(restore["sources"].as_array().unwrap().len(), 1);
    assert!(restore["remarks"][0]["warning"].as_str().unwrap().contains("not allowed to end in \"-protected\""));
}
