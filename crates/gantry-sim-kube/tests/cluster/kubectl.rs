//! The cluster through `kubectl`, which was made by others: it must work as it is.

use std::process::Stdio;

use tokio::{io::AsyncWriteExt, process::Command};

use crate::{TIMEOUT, World};

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: ci, labels: {app: x}}
spec:
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  containers:
  - {name: helper, image: "helper:1", command: [sh, -c, "echo from helper; sleep 600"]}
  - {name: build, image: "build:1", stdin: true, command: [sh]}
"#;

/// Runs kubectl: output, errors, exit code. `None` where it is not installed.
async fn run(world: &World, args: &[&str], input: &str) -> Option<(String, String, i32)> {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(&world.kubeconfig).args(args);
    start(command, input).await
}

async fn start(mut command: Command, input: &str) -> Option<(String, String, i32)> {
    let child = command
        .env("HOME", "/nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("cannot start kubectl: {error}"),
    };
    let mut stdin = child.stdin.take().expect("input");
    let feed = async move {
        // A command that does not read its input closes it; that is no failure.
        let _ = stdin.write_all(input.as_bytes()).await;
    };
    let done = async { tokio::join!(feed, child.wait_with_output()).1 };
    let output = tokio::time::timeout(TIMEOUT, done).await.expect("kubectl ends").expect("output");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Some((text(output.stdout), text(output.stderr), output.status.code().unwrap_or(-1)))
}

/// Runs kubectl and expects it to succeed.
async fn good(world: &World, args: &[&str], input: &str) -> String {
    let (out, err, code) = run(world, args, input).await.expect("kubectl was there before");
    assert_eq!(code, 0, "kubectl {args:?}: {out}{err}");
    out
}

/// A cluster, unless there is no kubectl to try it with.
async fn tried() -> Option<World> {
    let world = World::new().await;
    if run(&world, &["version"], "").await.is_some() {
        return Some(world);
    }
    println!("kubectl is not installed: its test is skipped");
    world.stop().await;
    None
}

#[tokio::test]
async fn kubectl_works() {
    let Some(world) = tried().await else { return };
    assert_eq!(good(&world, &["apply", "-f", "-"], POD).await, "pod/p created\n");
    good(&world, &["-n", "ci", "wait", "--for=condition=Ready", "pod/p", "--timeout=100s"], "").await;
    assert_eq!(good(&world, &["apply", "-f", "-"], POD).await, "pod/p unchanged\n");
    let changed = POD.replace("app: x", "app: z");
    assert_eq!(good(&world, &["apply", "-f", "-"], &changed).await, "pod/p configured\n");
    let table = good(&world, &["-n", "ci", "get", "pods", "-l", "app=z"], "").await;
    assert!(table.starts_with("NAME   READY   STATUS    RESTARTS   AGE\np      2/2     Running   0"), "{table}");
    assert_eq!(good(&world, &["-n", "ci", "logs", "p", "-c", "helper"], "").await, "from helper\n");
    let echoed = good(&world, &["-n", "ci", "exec", "-i", "p", "-c", "build", "--", "cat"], "hello\n").await;
    assert_eq!(echoed, "hello\n");
    let failed = ["-n", "ci", "exec", "p", "-c", "build", "--", "sh", "-c", "exit 3"];
    assert_eq!(run(&world, &failed, "").await.expect("kubectl").2, 3);
    assert!(good(&world, &["-n", "ci", "describe", "pod", "p"], "").await.contains("Started container build"));
    good(&world, &["-n", "ci", "create", "sa", "other"], "").await;
    assert!(good(&world, &["-n", "ci", "create", "token", "other"], "").await.starts_with("ey"));
    let can = ["-n", "ci", "auth", "can-i", "create", "pods", "--as=system:serviceaccount:ci:runner"];
    assert_eq!(good(&world, &can, "").await, "yes\n");
    assert!(good(&world, &["-n", "ci", "delete", "pod", "p"], "").await.starts_with("pod \"p\" deleted"));
    let rest = run(&world, &["-n", "ci", "get", "pods"], "").await.expect("kubectl");
    assert!(rest.1.starts_with("No resources found"), "{rest:?}");
    world.stop().await;
}

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: d, namespace: ci}
spec:
  replicas: 1
  selector: {matchLabels: {app: d}}
  template:
    metadata: {labels: {app: d}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: a, image: "a:1", command: [sh, -c, "echo one; echo two; sleep 600"]}
"#;

#[tokio::test]
async fn kubectl_rolls_scales_and_discovers() {
    let Some(world) = tried().await else { return };
    let ci = ["-n", "ci"];
    let with = |args: &[&'static str]| [&ci[..], args].concat();
    good(&world, &["apply", "-f", "-"], DEPLOYMENT).await;
    let told = good(&world, &with(&["rollout", "status", "deployment/d", "--timeout=100s"]), "").await;
    assert!(told.ends_with("deployment \"d\" successfully rolled out\n"), "{told}");
    assert_eq!(good(&world, &with(&["scale", "deployment/d", "--replicas=2"]), "").await, "deployment.apps/d scaled\n");
    good(&world, &with(&["rollout", "status", "deployment/d", "--timeout=100s"]), "").await;
    let table = good(&world, &with(&["get", "deploy"]), "").await;
    assert!(table.contains("d      2/2     2            2"), "{table}");
    let lines = good(&world, &with(&["logs", "deploy/d", "--tail=1"]), "").await;
    assert_eq!(lines, "two\n");
    good(&world, &with(&["create", "quota", "q", "--hard=pods=20,requests.cpu=4"]), "").await;
    good(&world, &["create", "priorityclass", "high", "--value=5"], "").await;
    good(&world, &with(&["create", "pdb", "b", "--selector=app=d", "--min-available=1"]), "").await;
    good(&world, &with(&["create", "deployment", "e", "--image=e:1", "--replicas=0"]), "").await;
    let shown = good(&world, &with(&["get", "quota,pdb,priorityclass", "--no-headers"]), "").await;
    for row in
        ["pods: 2/20, requests.cpu: 0/4", "poddisruptionbudget.policy/b   1", "priorityclass.scheduling.k8s.io/high"]
    {
        assert!(shown.contains(row), "{row} is not in {shown}");
    }
    let kinds = good(&world, &["api-resources", "--no-headers"], "").await;
    for kind in ["Pod", "Deployment", "PodDisruptionBudget", "PriorityClass", "ResourceQuota", "LimitRange", "Role"] {
        assert!(kinds.lines().any(|line| line.ends_with(&format!(" {kind}"))), "{kind} is not in {kinds}");
    }
    good(&world, &with(&["get", "all"]), "").await;
    good(&world, &with(&["describe", "deployment", "d"]), "").await;
    good(&world, &with(&["describe", "node", "gantry-sim"]), "").await;
    good(&world, &with(&["delete", "deployment", "d", "--cascade=foreground", "--timeout=100s"]), "").await;
    world.stop().await;
}

#[tokio::test]
async fn kubectl_applies_on_the_server_with_conflicts() {
    let Some(world) = tried().await else { return };
    let map = |value: &str| {
        format!(
            r#"{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "m", "namespace": "ci"}},
            "data": {{"k": "{value}"}}}}"#
        )
    };
    let apply = ["apply", "--server-side", "-f", "-"];
    assert_eq!(good(&world, &apply, &map("1")).await, "configmap/m serverside-applied\n");
    assert_eq!(good(&world, &apply, &map("2")).await, "configmap/m serverside-applied\n");
    let other = ["apply", "--server-side", "--field-manager=other", "-f", "-"];
    let (_, err, code) = run(&world, &other, &map("3")).await.expect("kubectl");
    assert_ne!(code, 0);
    assert!(err.contains("Apply failed with 1 conflict: conflict with \"kubectl\": .data.k"), "{err}");
    good(&world, &["apply", "--server-side", "--field-manager=other", "--force-conflicts", "-f", "-"], &map("3")).await;
    let shown = good(&world, &["-n", "ci", "get", "cm", "m", "-o", "jsonpath={.data.k}"], "").await;
    assert_eq!(shown, "3");
    // A pod that was applied by the client before becomes the server's business.
    good(&world, &["apply", "-f", "-"], POD).await;
    good(&world, &["apply", "--server-side", "-f", "-"], POD).await;
    world.stop().await;
}

#[tokio::test]
async fn kubectl_applies_lists_and_explains() {
    let Some(world) = tried().await else { return };
    let list = |value: &str| {
        let map = format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: m}}, data: {{k: {value}}}}}");
        let account = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: a}}";
        format!("{{apiVersion: v1, kind: List, items: [{map}, {account}]}}")
    };
    let apply = ["-n", "ci", "apply", "-f", "-"];
    assert_eq!(good(&world, &apply, &list("one")).await, "configmap/m created\nserviceaccount/a created\n");
    assert_eq!(good(&world, &apply, &list("one")).await, "configmap/m unchanged\nserviceaccount/a unchanged\n");
    let server_side = ["-n", "ci", "apply", "--server-side", "--force-conflicts", "-f", "-"];
    good(&world, &server_side, &list("one")).await;
    let (out, err, code) = run(&world, &["-n", "ci", "diff", "-f", "-"], &list("two")).await.expect("kubectl");
    assert!(code == 1 && out.contains("-  k: one\n+  k: two\n"), "{code} {out}{err}");
    let (_, err, code) = run(&world, &apply, &list("one, typo: [1]")).await.expect("kubectl");
    assert!(code != 0 && err.contains("ValidationError(ConfigMap.data.typo): invalid type"), "{err}");
    let explained = good(&world, &["explain", "pod.spec.containers"], "").await;
    for field in ["FIELD: containers <[]Container>", "imagePullPolicy\t<string>", "resources\t<ResourceRequirements>"] {
        assert!(explained.contains(field), "{field:?} is not in {explained}");
    }
    world.stop().await;
}

#[tokio::test]
async fn kubectl_finds_the_token_of_a_service_account() {
    let Some(world) = tried().await else { return };
    let secret = r"{apiVersion: v1, kind: Secret, type: kubernetes.io/service-account-token,
        metadata: {name: t, annotations: {kubernetes.io/service-account.name: runner}}}";
    good(&world, &["-n", "ci", "apply", "-f", "-"], secret).await;
    good(&world, &["-n", "ci", "wait", "--for=jsonpath={.data.token}", "secret/t", "--timeout=100s"], "").await;
    let path =
        r"jsonpath={.items[?(@.metadata.annotations['kubernetes\.io/service-account\.name']=='runner')].data.token}";
    let token = good(&world, &["-n", "ci", "get", "secrets", "-o", path], "").await;
    assert!(token.len() > 100 && !token.contains(' '), "{token}");
    world.stop().await;
}

#[tokio::test]
async fn kubectl_edits_copies_and_talks() {
    let Some(world) = tried().await else { return };
    good(&world, &["apply", "-f", "-"], POD).await;
    good(&world, &["-n", "ci", "wait", "--for=condition=Ready", "pod/p", "--timeout=100s"], "").await;
    let mut edit = Command::new("kubectl");
    edit.arg("--kubeconfig").arg(&world.kubeconfig).args(["-n", "ci", "edit", "pod", "p"]);
    edit.env("KUBE_EDITOR", "sed -i s/app:.x/app:\\ edited/");
    let (out, err, code) = start(edit, "").await.expect("kubectl");
    assert_eq!((out.as_str(), code), ("pod/p edited\n", 0), "{err}");
    let files = tempfile::tempdir().expect("a directory");
    let (here, back) = (files.path().join("here"), files.path().join("back"));
    std::fs::write(&here, "some text\n").expect("a file");
    let (here, back) = (here.display().to_string(), back.display().to_string());
    good(&world, &["cp", &here, "ci/p:/tmp/there", "-c", "build"], "").await;
    good(&world, &["cp", "ci/p:/tmp/there", &back, "-c", "build"], "").await;
    assert_eq!(std::fs::read_to_string(&back).expect("the file"), "some text\n");
    // A terminal on both sides, where `script` can make one for kubectl.
    let mut terminal = Command::new("script");
    let exec = format!(
        "kubectl --kubeconfig {} -n ci exec -it p -c build -- sh -c 'test -t 0 && test -t 1 && echo terminal'",
        world.kubeconfig.display()
    );
    terminal.args(["-qec", &exec, "/dev/null"]);
    match start(terminal, "").await {
        Some((out, _, code)) => assert!(code == 0 && out.contains("terminal"), "{code} {out}"),
        None => println!("there is no program `script`: the terminal is not tried"),
    }
    let typed = good(&world, &["-n", "ci", "attach", "-i", "p", "-c", "build"], "echo attached; exit 0\n").await;
    assert!(typed.contains("attached"), "{typed}");
    world.stop().await;
}

#[tokio::test]
async fn kubectl_shows_faults_as_on_a_real_cluster() {
    let Some(world) = tried().await else { return };
    good(&world, &["apply", "-f", "-"], POD).await;
    good(&world, &["-n", "ci", "wait", "--for=condition=Ready", "pod/p", "--timeout=100s"], "").await;
    let lost = world.fault(serde_json::json!({"kind": "kubelet-restart", "seconds": 600})).await;
    let (_, err, code) = run(&world, &["-n", "ci", "logs", "p", "-c", "helper"], "").await.expect("kubectl");
    assert!(code != 0 && err.contains("connect: connection refused"), "{err}");
    world.mend(lost).await;
    assert_eq!(good(&world, &["-n", "ci", "logs", "p", "-c", "helper"], "").await, "from helper\n");
    good(&world, &["cordon", "gantry-sim"], "").await;
    let nodes = good(&world, &["get", "nodes"], "").await;
    assert!(nodes.contains("Ready,SchedulingDisabled"), "{nodes}");
    good(&world, &["drain", "gantry-sim", "--force", "--delete-emptydir-data", "--timeout=100s"], "").await;
    world.stop().await;
}
