//! What the agent is told about services.

use serde_json::json;

use crate::bench::{lines, plan, variable};

#[test]
fn ports_that_nobody_has_named_are_waited_for_unless_the_operator_says_no() {
    let named = json!({"name": "redis:7", "variables": [variable("HEALTHCHECK_TCP_PORT", "7000")]});
    let job = json!({"services": [{"name": "redis:7"}, named]});
    let ports = |config: &str| -> Vec<Vec<u16>> {
        plan(config, &job).pod_plan.services.list.into_iter().map(|service| service.ports).collect()
    };
    assert_eq!(ports(""), [vec![6379], vec![7000]]);
    assert_eq!(ports("[runners.gantry]\nwait_for_known_services = false\n"), [vec![], vec![7000]]);
}

/// A job's port is one that each of its services may have: only a service's own has to answer
/// (GitLab Runner 19.4).
#[test]
fn a_port_of_the_job_is_only_assumed() {
    let named = json!({"name": "x", "variables": [variable("HEALTHCHECK_TCP_PORT", "7000")]});
    let job =
        json!({"services": [{"name": "redis:7"}, named], "variables": [variable("HEALTHCHECK_TCP_PORT", "57110")]});
    let ports = |config: &str| -> Vec<(Vec<u16>, bool)> {
        let list = plan(config, &job).pod_plan.services.list.into_iter();
        list.map(|service| (service.ports, service.assumed)).collect()
    };
    let expected = [(vec![57110], true), (vec![7000], false)];
    assert_eq!(ports(""), expected);
    assert_eq!(ports("[runners.gantry]\nwait_for_known_services = false\n"), expected);
}

/// A service that names a file variable among its own can read its file, and no other: an image of
/// somebody else's sees no secret that it was not given.
#[test]
fn files_of_file_variables_are_for_services_that_name_one() {
    let file = json!({"key": "FV", "value": "content", "file": true, "public": true});
    let asking = json!({"name": "postgres:16", "variables": [variable("POSTGRES_PASSWORD_FILE", "$FV")]});
    let job = json!({"services": [{"name": "redis:7"}, asking], "variables": [file]});
    let plan = plan("", &job);
    let mounts = |container: &str| {
        let containers = &plan.pod.spec.as_ref().unwrap().containers;
        let container = containers.iter().find(|found| found.name == container).unwrap();
        let mounts = container.volume_mounts.iter().flatten().filter(|mount| mount.name == "gantry-tmp");
        mounts.map(|mount| mount.read_only).collect::<Vec<_>>()
    };
    assert_eq!((mounts("svc-0"), mounts("svc-1")), (vec![], vec![Some(true)]));
    let said = lines(&plan.banner).into_iter().filter(|line| line.contains("file variables")).collect::<Vec<_>>();
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("service redis:7 (container svc-0) has the path"), "{said:?}");
}
