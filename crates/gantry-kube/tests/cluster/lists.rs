//! Lists of more objects than one page holds.

use serde_json::json;

use crate::server::{World, job};

/// More than two pages.
const MANY: usize = 600;

#[tokio::test(start_paused = true)]
async fn namespaces_are_listed_to_the_last_page() {
    let world = World::default();
    for index in 0..MANY {
        let mut metadata = json!({"name": format!("ns-{index}"), "labels": {"gantry.dev/fleet": "a"}});
        if index == 0 {
            metadata["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
        }
        world.lock().namespaces.push(json!({"metadata": metadata}));
    }
    let found = world.cluster().list_namespaces("gantry.dev/fleet", "gantry.dev/fleet").await.unwrap();
    let names: Vec<&str> = found.iter().map(|namespace| namespace.name.as_str()).collect();
    assert_eq!((names.len(), names.first(), names.last()), (MANY - 1, Some(&"ns-1"), Some(&"ns-599")));
    assert!(found.iter().all(|namespace| namespace.value == "a"));
    assert_eq!(world.requests("labelSelector=gantry.dev%2Ffleet&limit="), 3, "{:?}", world.lock().requests);
}

#[tokio::test(start_paused = true)]
async fn pods_are_listed_to_the_last_page() {
    let world = World::default();
    for index in 0..MANY {
        world.put(job(&format!("job-{index}")));
    }
    assert_eq!(world.cluster().list_pods("gantry.dev/fleet=a").await.unwrap().len(), MANY);
    assert_eq!(world.requests("limit="), 3);
}
