//! The way to the agent.

use std::time::Duration;

use gantry_core::Ending;
use gantry_core::ending::StartSetting;
use gantry_kube::{
    AgentStream, AttachError, AttachRequest, ExecEnd, HelperBinaries, HelperBinary, PackedHelper, Purpose, limits,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::Instant,
};

use crate::server::{Answer, Exec, World, job, on_node, reference, with_status};

const NOT_YET: Exec = Exec::Refused(Answer::Status(500, "InternalError", "container not found (\"helper\")"));

fn world(execs: impl IntoIterator<Item = Exec>) -> (World, Value) {
    let world = World::default();
    world.lock().execs.extend(execs);
    let pod = world.put(on_node(job("a")));
    (world, pod)
}

async fn connect(world: &World, pod: &Value, purpose: Purpose) -> Result<AgentStream, AttachError> {
    let pod = reference(pod);
    let cluster = world.cluster();
    let helper = HelperBinaries::new()
        .with("amd64", HelperBinary::new(vec![7; 200_000]))
        .with("arm64", HelperBinary::new(vec![9; 100_000]))
        .with(
            "ppc64le",
            HelperBinary::new(vec![1; 100_000]).with_packed(PackedHelper {
                receiver: vec![2; 30_000].into(),
                receiver_gzip: None,
                helper: vec![3; 50_000].into(),
            }),
        );
    let request = AttachRequest {
        pod: &pod,
        watch: cluster.watch_pod(&pod),
        helper: &helper,
        purpose,
        deadline: Instant::now() + Duration::from_secs(180),
    };
    cluster.connect_agent(request).await
}

async fn refused(execs: impl IntoIterator<Item = Exec>) -> AttachError {
    let (world, pod) = world(execs);
    connect(&world, &pod, Purpose::Start).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn it_is_tried_until_the_container_runs() {
    let early = [
        NOT_YET,
        Exec::Refused(Answer::Status(400, "BadRequest", "pod does not have a host assigned")),
        Exec::Refused(Answer::Lost),
        Exec::Fails("container is not running"),
        Exec::Bridge,
    ];
    let (world, pod) = world(early);
    let start = Instant::now();
    let mut stream = connect(&world, &pod, Purpose::Start).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(world.requests("/exec?"), 5);
    let exec = world.lock().requests.iter().find(|request| request.contains("/exec?")).cloned().unwrap();
    assert!(
        exec.contains("container=helper")
            && exec.contains("stdin=true")
            && exec.contains("command=gantry-attach&command=2")
    );

    // The bytes right behind the greeting are the stream's first.
    let mut hello = [0; 5];
    stream.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"hello");
    stream.write_all(b"ping").await.unwrap();
    stream.flush().await.unwrap();
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"ping");
    let outcome = stream.outcome();
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut echo).await.unwrap(), 0);
    assert_eq!(outcome.end(), Some(ExecEnd::Exited(0)));
}

#[tokio::test(start_paused = true)]
async fn large_output_and_input_do_not_block_each_other() {
    const SIZE: usize = 3_000_000;
    let (world, pod) = world([Exec::Bridge]);
    let stream = connect(&world, &pod, Purpose::Start).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async {
        writer.write_all(&vec![1; SIZE]).await.unwrap();
        writer.flush().await.unwrap();
    };
    let read = async {
        let mut all = vec![0; SIZE + 5];
        reader.read_exact(&mut all).await.unwrap();
        all
    };
    let ((), all) = tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(write, read) }).await.unwrap();
    assert!(all.ends_with(&[1; 100]));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_stream_closes_the_connection() {
    let (world, pod) = world([Exec::Bridge]);
    let stream = connect(&world, &pod, Purpose::Start).await.unwrap();
    assert_eq!(world.lock().closed_execs, 0);
    drop(stream);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(world.lock().closed_execs, 1);
}

#[tokio::test(start_paused = true)]
async fn a_helper_is_pushed_where_there_is_none() {
    let (world, pod) = world([NOT_YET, Exec::Push("x86_64")]);
    let mut stream = connect(&world, &pod, Purpose::Start).await.unwrap();
    assert_eq!(world.lock().pushed, vec![7; 200_000]);
    let mut hello = [0; 5];
    stream.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"hello");
}

#[tokio::test(start_paused = true)]
async fn a_packed_helper_follows_what_unpacks_it() {
    let (world, pod) = world([Exec::Push("ppc64le")]);
    let mut stream = connect(&world, &pod, Purpose::Start).await.unwrap();
    assert_eq!(world.lock().pushed, vec![2; 30_000]);
    assert_eq!(world.lock().unpacked, vec![3; 50_000]);
    let mut hello = [0; 5];
    stream.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"hello");
}

/// The node's architecture decides, in one exec as ever.
#[tokio::test(start_paused = true)]
async fn a_node_of_another_architecture_gets_its_helper() {
    let (world, pod) = world([NOT_YET, Exec::Push("aarch64")]);
    connect(&world, &pod, Purpose::Start).await.unwrap();
    assert_eq!(world.lock().pushed, vec![9; 100_000]);
    assert_eq!(world.requests("/exec?"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_push_that_cannot_work_says_why() {
    let error = refused([Exec::Push("riscv64")]).await;
    assert_eq!(
        error,
        AttachError::NoHelperFor { machine: "riscv64".into(), available: "aarch64, ppc64le, x86_64".into() }
    );
    let said = error.to_string();
    assert!(said.contains("install gantry-helper-riscv64 of this release beside the runner's program"), "{said}");
    let error = refused([Exec::DiskFull(50_000)]).await;
    assert_eq!(error, AttachError::Unusable { message: "No space left on device".into() });
    assert!(matches!(error.ending(Duration::ZERO), Ending::HelperUnusable { .. }));
}

#[tokio::test(start_paused = true)]
async fn another_protocol_is_not_spoken() {
    let error = refused([Exec::Says("gantry-bridge 9")]).await;
    assert_eq!(error, AttachError::Protocol { theirs: "9".into() });
    let error = refused([Exec::Says("Welcome to this image!")]).await;
    assert!(matches!(error, AttachError::Unusable { message } if message.contains("Welcome")));
}

#[tokio::test(start_paused = true)]
async fn a_message_without_measure_is_not_taken_in() {
    let huge = "x".repeat(2 * limits::EXEC_MESSAGE).leak();
    let error = refused([Exec::Says(huge)]).await;
    let AttachError::Deadline { last } = error else { panic!("{error}") };
    assert!(last.contains("the connection broke") && last.contains("too long"), "{last}");
}

#[tokio::test(start_paused = true)]
async fn a_missing_right_is_final_and_named() {
    let error =
        refused([NOT_YET, Exec::Refused(Answer::Status(403, "Forbidden", "cannot get resource \"pods/exec\""))]).await;
    assert!(matches!(error, AttachError::Forbidden { code: 403, .. }));
    let text = error.to_string();
    assert!(text.contains("the verbs get and create on pods/exec") && text.contains("cannot get resource"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_404_is_believed_only_after_a_look() {
    let not_found = Exec::Refused(Answer::Status(404, "NotFound", "pods \"a\" not found"));
    // The kubelet does not know it yet.
    let (known, pod) = world([not_found.clone(), Exec::Bridge]);
    connect(&known, &pod, Purpose::Start).await.unwrap();
    assert_eq!(known.requests("GET /api/v1/namespaces/ci/pods/a?"), 0);
    assert_eq!(known.lock().requests.iter().filter(|request| request.ends_with("/pods/a")).count(), 1);

    // It is gone, and the watch is late.
    let (gone, pod) = world([not_found]);
    let late = gone.clone();
    let connecting = connect(&gone, &pod, Purpose::Start);
    let vanish = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        late.end_watches();
        late.lock().watches.extend(vec![Answer::Hang; 50]);
        late.lock().lists.extend(vec![Answer::Hang; 50]);
        late.remove("a");
    };
    let start = Instant::now();
    let (result, ()) = tokio::join!(connecting, vanish);
    assert_eq!(result.unwrap_err(), AttachError::Pod { ending: Ending::PodDeleted { pod: "a".into() } });
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn what_the_pod_shows_ends_the_waiting() {
    let (world, pod) = world([NOT_YET]);
    let failing = pod.clone();
    let show = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        let build = json!([{"name": "build", "image": "b", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "InvalidImageName", "message": "couldn't parse image name"}}}]);
        world.put(with_status(failing, json!({"phase": "Pending", "containerStatuses": build})));
    };
    let start = Instant::now();
    let (result, ()) = tokio::join!(connect(&world, &pod, Purpose::Start), show);
    assert!(
        matches!(result.unwrap_err(), AttachError::Pod { ending: Ending::ImagePull { container, .. } } if container == "build")
    );
    assert_eq!(start.elapsed().as_secs(), 30);
    // 40 ms growing to 2 s.
    let tries = world.requests("/exec?");
    assert!((18..=26).contains(&tries), "{tries}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_tried_before_there_is_a_node() {
    let world = World::default();
    world.lock().execs.push_back(Exec::Bridge);
    let pod = world.put(job("a"));
    let schedule = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(world.requests("/exec?"), 0);
        world.put(on_node(pod.clone()));
    };
    let start = Instant::now();
    let (result, ()) = tokio::join!(connect(&world, &pod, Purpose::Start), schedule);
    result.unwrap();
    assert_eq!(start.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_says_what_stood_in_the_way() {
    let error = refused([NOT_YET]).await;
    assert_eq!(error, AttachError::Deadline { last: "container not found (\"helper\")".into() });
    let error = refused([Exec::Refused(Answer::Hang)]).await;
    assert_eq!(error, AttachError::Deadline { last: "no answer within 10 s".into() });

    let unschedulable = json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}]});
    let world = World::default();
    let pod = world.put(with_status(job("a"), unschedulable));
    let error = connect(&world, &pod, Purpose::Start).await.unwrap_err();
    let ending = error.ending(Duration::from_secs(180));
    assert_eq!(
        ending,
        Ending::PodStartTimeout {
            seconds: 180,
            setting: StartSetting::PollTimeout,
            detail: "Unschedulable: \"0/3 nodes are available\"".into()
        }
    );
}

#[tokio::test(start_paused = true)]
async fn an_agent_with_a_plan_is_reached_while_its_pod_is_being_deleted() {
    let (world, mut pod) = world([Exec::Bridge]);
    pod["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
    let pod = world.put(pod);
    connect(&world, &pod, Purpose::Resume).await.unwrap();
    let error = connect(&world, &pod, Purpose::Start).await.unwrap_err();
    assert_eq!(error, AttachError::Pod { ending: Ending::PodDeleted { pod: "a".into() } });
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_pods_is_reached_within_seconds() {
    let world = World::default();
    // As many as three tries of each pod.
    let mut execs = vec![NOT_YET; 180];
    execs.push(Exec::Bridge);
    world.lock().execs.extend(execs);
    let cluster = world.cluster();
    let start = Instant::now();
    let mut connecting = tokio::task::JoinSet::new();
    for index in 0..60 {
        let pod = reference(&world.put(on_node(job(&format!("job-{index}")))));
        let cluster = cluster.clone();
        connecting.spawn(async move {
            let request = AttachRequest {
                pod: &pod,
                watch: cluster.watch_pod(&pod),
                helper: &HelperBinaries::new(),
                purpose: Purpose::Start,
                deadline: Instant::now() + Duration::from_secs(60),
            };
            cluster.connect_agent(request).await
        });
    }
    let streams = connecting.join_all().await;
    assert!(streams.iter().all(Result::is_ok));
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_answer_is_tried_again_once_it_has_a_plan() {
    let silent = Exec::Says("gantry-error the agent does not answer");
    let (world, pod) = world([silent.clone(), Exec::Bridge]);
    connect(&world, &pod, Purpose::Resume).await.unwrap();
    assert!(
        matches!(refused([silent]).await, AttachError::Unusable { message } if message == "the agent does not answer")
    );
}
