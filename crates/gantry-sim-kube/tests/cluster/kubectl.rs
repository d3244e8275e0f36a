//! The cluster through `kubectl`, which was made by others: it must work as it is.

use std::process::Stdio;

use tokio::{io::AsyncWriteExt, process::Command};

use crate::{PATIENCE, World};

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: ci, labels: {app: x}}
spec:
  terminationGracePeriodSeconds: 1
  restartPolicy: Never
  containers:
  - {name: helper, image: "helper:1", command: [sh, -c, "echo from helper; sleep 60"]}
  - {name: build, image: "build:1", stdin: true, command: [sh]}
"#;

/// Runs kubectl: output, errors, exit code. `None` where it is not installed.
async fn run(world: &World, args: &[&str], input: &str) -> Option<(String, String, i32)> {
    let child = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(&world.kubeconfig)
        .args(args)
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
    let output = tokio::time::timeout(PATIENCE, done).await.expect("kubectl ends").expect("output");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Some((text(output.stdout), text(output.stderr), output.status.code().unwrap_or(-1)))
}

/// Runs kubectl and expects it to succeed.
async fn good(world: &World, args: &[&str], input: &str) -> String {
    let (out, err, code) = run(world, args, input).await.expect("kubectl was there before");
    assert_eq!(code, 0, "kubectl {args:?}: {out}{err}");
    out
}

#[tokio::test]
async fn kubectl_works() {
    let world = World::new().await;
    if run(&world, &["version"], "").await.is_none() {
        println!("kubectl is not installed: its test is skipped");
        return world.stop().await;
    }
    assert_eq!(good(&world, &["apply", "-f", "-"], POD).await, "pod/p created\n");
    good(&world, &["-n", "ci", "wait", "--for=condition=Ready", "pod/p", "--timeout=20s"], "").await;
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
