//! `pods/exec` through a real client.

use kube::api::{AttachParams, AttachedProcess};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{LOOK, PATIENCE, World, never, sh};

async fn try_exec(world: &World, pod: &str, container: &str, script: &str) -> Result<AttachedProcess, kube::Error> {
    let params = AttachParams::default().container(container).stdin(true).stdout(true).stderr(true);
    world.pods().exec(pod, ["sh", "-c", script], &params).await
}

/// Tries until a command runs in the container.
pub(crate) async fn until_it_works(world: &World, pod: &str, container: &str) -> bool {
    tokio::time::timeout(PATIENCE, async {
        while try_exec(world, pod, container, "true").await.is_err() {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await
    .is_ok()
}

async fn running(world: &World) {
    world.pod("p", never(&json!([sh("a", "sleep 60")]))).await;
    assert!(until_it_works(world, "p", "a").await);
}

/// Output, errors, and the exit code (0 for success, -1 for no code).
async fn finish(mut process: AttachedProcess) -> (Vec<u8>, String, i32) {
    let status = process.take_status().expect("a status");
    let (mut stdout, mut stderr) = (process.stdout().expect("output"), process.stderr().expect("errors"));
    let (mut out, mut err) = (Vec::new(), String::new());
    let all = async {
        let (read_out, read_err, status) =
            tokio::join!(stdout.read_to_end(&mut out), stderr.read_to_string(&mut err), status);
        read_out.expect("output");
        read_err.expect("errors");
        status.expect("a status")
    };
    let status = tokio::time::timeout(PATIENCE, all).await.expect("the command ends");
    let code = match status.status.as_deref() {
        Some("Success") => 0,
        _ => status
            .details
            .and_then(|details| details.causes)
            .and_then(|causes| causes.into_iter().find(|cause| cause.reason.as_deref() == Some("ExitCode")))
            .and_then(|cause| cause.message?.parse().ok())
            .unwrap_or(-1),
    };
    (out, err, code)
}

#[tokio::test]
async fn streams_and_exit_codes_arrive() {
    let world = World::new().await;
    running(&world).await;
    let process = try_exec(&world, "p", "a", "echo out; echo err >&2; exit 7").await.expect("exec");
    assert_eq!(finish(process).await, (b"out\n".to_vec(), "err\n".to_owned(), 7));
    let mut process = try_exec(&world, "p", "a", "head -c 5; exit 0").await.expect("exec");
    process.stdin().expect("input").write_all(b"12345").await.expect("written");
    assert_eq!(finish(process).await, (b"12345".to_vec(), String::new(), 0));
    world.stop().await;
}

#[tokio::test]
async fn large_output_arrives_whole() {
    let world = World::new().await;
    running(&world).await;
    let process = try_exec(&world, "p", "a", "head -c 20000000 /dev/zero").await.expect("exec");
    let (out, _, code) = finish(process).await;
    assert_eq!((out.len(), code), (20_000_000, 0));
    world.stop().await;
}

#[tokio::test]
async fn a_vanished_client_closes_the_input_and_kills_nothing() {
    let world = World::new().await;
    running(&world).await;
    let process = try_exec(&world, "p", "a", "cat; echo end > /tmp/end; sleep 0.2; echo more > /tmp/more").await;
    drop(process.expect("exec"));
    let found = tokio::time::timeout(PATIENCE, async {
        loop {
            let process = try_exec(&world, "p", "a", "cat /tmp/end /tmp/more").await.expect("exec");
            if finish(process).await.0 == b"end\nmore\n" {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    });
    found.await.expect("the command goes on to its end");
    world.stop().await;
}

#[tokio::test]
async fn a_killed_container_ends_its_commands_with_137() {
    let world = World::new().await;
    running(&world).await;
    let process = try_exec(&world, "p", "a", "echo up; sleep 60").await.expect("exec");
    world.sim("pods/ci/p/oom", json!({"container": "a"})).await;
    assert_eq!(finish(process).await.2, 137);
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_entered_is_refused_before_the_upgrade() {
    let world = World::with(|config| config.missing_images = vec!["b:*".to_owned()]).await;
    world.pod("p", never(&json!([sh("a", "sleep 60"), sh("b", "sleep 60")]))).await;
    assert!(until_it_works(&world, "p", "a").await);
    let refusal = async |pod: &str, container: &str| match try_exec(&world, pod, container, "true").await {
        Err(kube::Error::Api(status)) => (status.code, status.message.clone()),
        other => panic!("{:?}", other.err()),
    };
    let message = "Internal error occurred: unable to upgrade connection: container not found (\"b\")";
    assert_eq!(refusal("p", "b").await, (500, message.to_owned()));
    assert_eq!(refusal("p", "c").await, (400, "container c is not valid for pod p".to_owned()));
    assert_eq!(refusal("q", "a").await, (404, "pods \"q\" not found".to_owned()));
    world.stop().await;
}

#[tokio::test]
async fn newer_servers_refuse_after_the_upgrade() {
    let world = World::with(|config| {
        config.missing_images = vec!["b:*".to_owned()];
        config.exec_errors_after_upgrade = true;
    })
    .await;
    world.pod("p", never(&json!([sh("a", "sleep 60"), sh("b", "sleep 60")]))).await;
    assert!(until_it_works(&world, "p", "a").await);
    let mut process = try_exec(&world, "p", "b", "true").await.expect("the upgrade succeeds");
    let status = process.take_status().expect("a status");
    let status = tokio::time::timeout(PATIENCE, status).await.expect("in time").expect("a status");
    assert_eq!((status.reason.as_deref(), status.code), (Some("InternalError"), Some(500)));
    world.stop().await;
}
