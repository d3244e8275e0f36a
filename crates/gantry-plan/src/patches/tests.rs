use gantry_config::pod_patch::PatchKind;
use gantry_wire::layout::SHARED_DIR;
use serde_json::json;

use super::*;

fn spec() -> api::PodSpec {
    let container = |name: &str| {
        json!({"name": name, "image": name, "command": ["sh", "-c", name], "securityContext": {}, "volumeMounts": [
            {"name": "repo", "mountPath": "/builds"}, {"name": "gantry", "mountPath": SHARED_DIR},
        ]})
    };
    serde_json::from_value(json!({
        "restartPolicy": "Never",
        "containers": [container(HELPER), container("db"), container(BUILD)],
        "volumes": [{"name": "repo", "emptyDir": {}}, {"name": "gantry", "emptyDir": {}}],
    }))
    .unwrap()
}

fn patch(kind: PatchKind, text: &str) -> PodSpecPatch {
    let source = PatchSource::Inline(Patch::parse(kind, text).unwrap());
    PodSpecPatch { name: "mine".to_owned(), source, kind }
}

fn patched(kind: PatchKind, text: &str) -> Result<(Value, Vec<HeadLine>), String> {
    let made = apply(spec(), &[patch(kind, text)], &PatchFiles::new());
    made.map(|(spec, lines)| (serde_json::to_value(spec).unwrap(), lines)).map_err(|error| error.to_string())
}

fn names(spec: &Value) -> Vec<&str> {
    spec["containers"].as_array().unwrap().iter().map(|container| container["name"].as_str().unwrap()).collect()
}

#[test]
fn a_gpu_by_each_kind_of_patch() {
    let expected = json!({"limits": {"nvidia.com/gpu": "1"}});
    let json = "- {op: add, path: /containers/0/resources/limits, value: {nvidia.com/gpu: \"1\"}}";
    let strategic = "containers: [{name: build, resources: {limits: {nvidia.com/gpu: 1}}}]";
    for (kind, text) in [(PatchKind::Json, json), (PatchKind::Strategic, strategic)] {
        let (spec, lines) = patched(kind, text).unwrap();
        assert_eq!(names(&spec), [HELPER, "db", BUILD]);
        assert_eq!(spec["containers"][2]["resources"], expected, "{kind}");
        assert_eq!(
            (&spec["containers"][0]["resources"], &spec["affinity"], &spec["initContainers"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
        assert_eq!(lines.len(), 1, "{lines:?}");
    }
    let (spec, _) = patched(PatchKind::Merge, "hostUsers: false\nschedulerName: volcano").unwrap();
    assert_eq!((&spec["hostUsers"], &spec["schedulerName"]), (&json!(false), &json!("volcano")));
}

#[test]
fn builds_on_a_volume_of_the_operator() {
    let text = "
        containers:
        - {name: build, volumeMounts: [{name: big, mountPath: /builds}]}
        - {name: helper, volumeMounts: [{name: big, mountPath: /builds}]}
        volumes:
        - name: big
          ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 5Gi}}}}}";
    let (spec, lines) = patched(PatchKind::Strategic, text).unwrap();
    assert_eq!(spec["containers"][0]["volumeMounts"][0], json!({"name": "big", "mountPath": "/builds"}));
    assert_eq!(spec["volumes"][2]["name"], "big");
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[test]
fn what_is_not_there_is_said_and_left_out() {
    let text = "{initContainers: [{name: init-permissions, securityContext: {runAsUser: 0}}], containers: [{name: build, gpus: 1}]}";
    let (spec, lines) = patched(PatchKind::Strategic, text).unwrap();
    assert_eq!(spec["initContainers"], Value::Null);
    let lines: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn what_means_something_else_here_is_said() {
    let said = |kind, text: &str| -> Vec<String> {
        let (_, lines) = patched(kind, text).unwrap();
        lines.into_iter().skip(1).map(|line| line.text).collect()
    };
    let lines = [
        said(
            PatchKind::Strategic,
            "volumes: [{name: logs, emptyDir: {medium: Memory}}, {name: scripts, emptyDir: {}}]",
        ),
        said(
            PatchKind::Strategic,
            "containers: [{name: helper, volumeMounts: [{name: scripts, mountPath: /scripts}]}]",
        ),
        said(PatchKind::Strategic, "initContainers: [{name: init-permissions, image: example/own}]"),
        said(PatchKind::Json, "[{op: add, path: /volumes/1/emptyDir/sizeLimit, value: 1Gi}]"),
        said(PatchKind::Json, "[{op: add, path: /containers/1/volumeMounts/0/readOnly, value: true}]"),
        said(PatchKind::Json, "[{op: replace, path: /volumes/0/emptyDir, value: {}}]"),
    ];
    insta::assert_snapshot!(lines.concat().join("\n"));
    for text in ["[{op: add, path: /volumes/-, value: {name: x}}]", "[{op: add, path: /volumes/0, value: {name: x}}]"] {
        assert_eq!(said(PatchKind::Json, text), Vec::<String>::new(), "{text}");
    }
    let (spec, lines) =
        patched(PatchKind::Strategic, "initContainers: [{name: init-permissions, image: x, command: [chown]}]")
            .unwrap();
    assert_eq!((spec["initContainers"][0]["image"].as_str(), lines.len()), (Some("x"), 1), "one that is whole");
}

#[test]
fn patches_that_would_break_the_pod_are_refused() {
    let refused = |kind, text| patched(kind, text).unwrap_err();
    let errors = [
        refused(PatchKind::Merge, "containers: [{name: build, image: x}]"),
        refused(PatchKind::Strategic, "containers: [{name: build, command: [bash]}]"),
        refused(PatchKind::Strategic, "containers: [{name: helper, volumeMounts: [{$patch: replace}]}]"),
        refused(PatchKind::Strategic, "volumes: [{name: gantry, $patch: delete}]"),
        refused(PatchKind::Strategic, "restartPolicy: Always"),
        refused(PatchKind::Strategic, "containers: [{image: x}]"),
        refused(PatchKind::Strategic, "hostUsers: [1]"),
        refused(PatchKind::Json, "[{op: remove, path: /containers/7}]"),
        refused(PatchKind::Json, "[{op: test, path: /containers/0/name, value: x}]"),
    ];
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn a_patch_out_of_a_file() {
    let path = PathBuf::from("/etc/patch.yaml");
    let of_file =
        PodSpecPatch { name: "file".to_owned(), source: PatchSource::File(path.clone()), kind: PatchKind::Merge };
    assert_eq!(files(std::slice::from_ref(&of_file)).collect::<Vec<_>>(), [path.as_path()]);
    let made = |content: Result<&str, &str>| {
        let content = content.map(str::to_owned).map_err(str::to_owned);
        apply(spec(), std::slice::from_ref(&of_file), &PatchFiles::from([(path.clone(), content)]))
    };
    assert_eq!(made(Ok("hostUsers: false")).unwrap().0.host_users, Some(false));
    let errors = [made(Ok("[]")).unwrap_err(), made(Err("No such file or directory")).unwrap_err()];
    insta::assert_snapshot!(errors.map(|error| error.to_string()).join("\n"));
}
