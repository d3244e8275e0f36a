//! `pods/exec` through a real client.

use kube::api::{AttachParams, AttachedProcess};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::{LOOK, TIMEOUT, World, never, sh};

async fn try_exec(world: &World, pod: &str, container: &str, script: &str) -> Result<AttachedProcess, kube::Error> {
    let params = AttachParams::default().container(container).stdin(true).stdout(true).stderr(true);
    world.pods().exec(pod, ["sh", "-c", script], &params).await
}

/// Tries until a command runs in the container.
pub(crate) async fn until_it_works(world: &World, pod: &str, container: &str) -> bool {
    tokio::time::timeout(TIMEOUT, async {
        while try_exec(world, pod, container, "true").await.is_err() {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await
    .is_ok()
}

/// Tries until a script ends well in the container.
pub(crate) async fn until_it_succeeds(world: &World, pod: &str, container: &str, script: &str) {
    let tries = async {
        loop {
            if let Ok(process) = try_exec(world, pod, container, script).await
                && finish(process).await.2 == 0
            {
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(TIMEOUT, tries).await.expect("the script ends well");
}

/// Runs a script that may end its own container, so that nobody can say how it ended.
pub(crate) async fn run(world: &World, pod: &str, container: &str, script: &str) {
    let process = try_exec(world, pod, container, script).await.expect("exec");
    let _ = tokio::time::timeout(TIMEOUT, process.join()).await.expect("it ends");
}

async fn running(world: &World) {
    world.pod("p", never(&json!([sh("a", "sleep 600")]))).await;
    assert!(until_it_works(world, "p", "a").await);
}

/// Waits until the command has said that it runs (its first line is `up`), and gives back the rest
/// of its output.
async fn until_up(process: &mut AttachedProcess) -> impl AsyncRead + Unpin + use<> {
    let mut stdout = process.stdout().expect("output");
    let mut line = [0; 3];
    tokio::time::timeout(TIMEOUT, stdout.read_exact(&mut line)).await.expect("in time").expect("output");
    assert_eq!(&line, b"up\n");
    stdout
}

/// Output, errors, and the exit code (0 for success, -1 for no code).
async fn finish(mut process: AttachedProcess) -> (Vec<u8>, String, i32) {
    let stdout = process.stdout().expect("output");
    finish_with(process, stdout).await
}

async fn finish_with(mut process: AttachedProcess, mut stdout: impl AsyncRead + Unpin) -> (Vec<u8>, String, i32) {
    let status = process.take_status().expect("a status");
    let mut stderr = process.stderr().expect("errors");
    let (mut out, mut err) = (Vec::new(), String::new());
    let all = async {
        let (read_out, read_err, status) =
            tokio::join!(stdout.read_to_end(&mut out), stderr.read_to_string(&mut err), status);
        read_out.expect("output");
        read_err.expect("errors");
        status.expect("a status")
    };
    let status = tokio::time::timeout(TIMEOUT, all).await.expect("the command ends");
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
    let found = tokio::time::timeout(TIMEOUT, async {
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
    let mut process = try_exec(&world, "p", "a", "echo up; sleep 600").await.expect("exec");
    // A container that is killed before the command has begun gives an error and no code.
    let stdout = until_up(&mut process).await;
    world.sim("pods/ci/p/oom", json!({"container": "a"})).await;
    assert_eq!(finish_with(process, stdout).await.2, 137);
    world.stop().await;
}

/// The answer to an upgrade that is refused: status, content type, body.
async fn upgrade(world: &World, pod: &str, container: &str, protocol: &str) -> (u16, String, String) {
    let path = format!("/api/v1/namespaces/ci/pods/{pod}/exec?container={container}&command=true&stdout=1");
    let request = http::Request::get(path)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", protocol);
    let answer = world.raw(request, &serde_json::Value::Null).await;
    let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or("").to_owned();
    (answer.status().as_u16(), kind, answer.into_body())
}

#[tokio::test]
async fn a_server_can_be_without_newer_protocols() {
    let world = World::with(|config| *config = config.clone().like_1_20()).await;
    running(&world).await;
    assert_eq!(upgrade(&world, "p", "a", "v5.channel.k8s.io").await.0, 403);
    // The client offers both, and gets the older one.
    let process = try_exec(&world, "p", "a", "exit 7").await.expect("exec");
    assert_eq!(finish(process).await.2, 7);
    world.stop().await;
}

#[tokio::test]
async fn a_missing_command_is_an_error_behind_the_upgrade() {
    let world = World::new().await;
    running(&world).await;
    let params = AttachParams::default().container("a").stdout(true).stderr(true);
    let mut process = world.pods().exec("p", ["no-such-program"], &params).await.expect("the upgrade succeeds");
    let status = process.take_status().expect("a status");
    let status = tokio::time::timeout(TIMEOUT, status).await.expect("in time").expect("a status");
    assert_eq!((status.reason.as_deref(), status.code), (Some("InternalError"), Some(500)));
    let message = status.message.unwrap_or_default();
    assert!(message.contains("exec: \"no-such-program\": executable file not found in $PATH"), "{message}");
    world.stop().await;
}

#[tokio::test]
async fn attached_clients_share_the_first_process() {
    let world = World::new().await;
    let mut container =
        sh("a", "echo up; while read line; do echo \"got $line\"; test \"$line\" = end && exit 3; done");
    container["stdin"] = json!(true);
    world.pod("p", never(&json!([container]))).await;
    world.until("p", |pod| !crate::state(pod, "a")["running"].is_null()).await;
    let params = AttachParams::default().container("a").stdin(true).stdout(true).stderr(true);
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::namespaced(world.admin(), "ci");
    let mut one = pods.attach("p", &params).await.expect("attached");
    let mut other = pods.attach("p", &params).await.expect("attached");
    let (mut input, mut heard) = (one.stdin().expect("input"), one.stdout().expect("output"));
    let mut overheard = other.stdout().expect("output");
    // The server has connected a client when its first answer has come.
    let mut line = String::new();
    let mut ask = async |text: &[u8]| {
        input.write_all(text).await.expect("written");
        let mut byte = [0];
        line.clear();
        while !line.ends_with('\n') {
            tokio::time::timeout(TIMEOUT, heard.read_exact(&mut byte)).await.expect("in time").expect("output");
            line.push(char::from(byte[0]));
        }
        line.clone()
    };
    assert_eq!(ask(b"one\n").await, "got one\n");
    assert_eq!(ask(b"end\n").await, "got end\n");
    let mut rest = String::new();
    let read = overheard.read_to_string(&mut rest);
    tokio::time::timeout(TIMEOUT, read).await.expect("in time").expect("output");
    assert!(rest.ends_with("got end\n"), "{rest}");
    let status = one.take_status().expect("a status");
    let status = tokio::time::timeout(TIMEOUT, status).await.expect("in time").expect("a status");
    assert_eq!(status.status.as_deref(), Some("Success"));
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_entered_is_refused_before_the_upgrade() {
    let world = World::with(|config| config.missing_images = vec!["b:*".to_owned()]).await;
    world.pod("p", never(&json!([sh("a", "sleep 600"), sh("b", "sleep 600")]))).await;
    assert!(until_it_works(&world, "p", "a").await);
    let refusal = async |pod: &str, container: &str| match try_exec(&world, pod, container, "true").await {
        Err(kube::Error::Api(status)) => (status.code, status.message.clone()),
        other => panic!("{:?}", other.err()),
    };
    // Kubelet's own text, passed on: no `Status` object.
    let (code, kind, body) = upgrade(&world, "p", "b", "v4.channel.k8s.io").await;
    assert_eq!((code, kind.as_str(), body.as_str()), (500, "text/plain; charset=utf-8", "container not found (\"b\")"));
    // A sub-protocol that nobody speaks.
    let (code, _, body) = upgrade(&world, "p", "a", "v9.channel.k8s.io").await;
    assert_eq!((code, body.as_str()), (403, ""));
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
    world.pod("p", never(&json!([sh("a", "sleep 600"), sh("b", "sleep 600")]))).await;
    assert!(until_it_works(&world, "p", "a").await);
    let mut process = try_exec(&world, "p", "b", "true").await.expect("the upgrade succeeds");
    let status = process.take_status().expect("a status");
    let status = tokio::time::timeout(TIMEOUT, status).await.expect("in time").expect("a status");
    assert_eq!((status.reason.as_deref(), status.code), (Some("InternalError"), Some(500)));
    world.stop().await;
}
