//! An agent whose manager is gone reports by itself.

use std::io::{BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use gantry_core::Ending;
use gantry_core::ending::StartSetting;
use gantry_wire::frame::{Frame, Offset};
use gantry_wire::plan::StartLimit;

use crate::http::{head, listen};
use crate::world::{World, wait, wait_for};

/// What the server has been told.
#[derive(Default)]
struct ServerState {
    trace: Vec<u8>,
    states: Vec<String>,
    /// What it says about the job.
    status: &'static str,
}

type Shared = Arc<Mutex<ServerState>>;

/// As much of GitLab as a trace and a state need.
fn server() -> (String, Shared) {
    let told = Arc::new(Mutex::new(ServerState { status: "running", ..ServerState::default() }));
    let shared = Arc::clone(&told);
    let address = listen(move |stream| serve(stream, &shared));
    (format!("http://{address}"), told)
}

fn serve(stream: TcpStream, told: &Shared) {
    let mut reader = BufReader::new(stream);
    let head = head(&mut reader);
    let lower = head.to_lowercase();
    let field = |name: &str| lower.split(&format!("\r\n{name}: ")).nth(1).and_then(|rest| rest.lines().next());
    let length = field("content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut told = told.lock().unwrap();
    let status = if lower.starts_with("patch") {
        let start: usize = field("content-range").unwrap().split('-').next().unwrap().parse().unwrap();
        if start == told.trace.len() {
            told.trace.extend_from_slice(&body);
            "202 Accepted"
        } else {
            "416 Range Not Satisfiable"
        }
    } else {
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        told.states.push(body["state"].as_str().unwrap().to_owned());
        "200 OK"
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nRange: 0-{}\r\nJob-Status: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        told.trace.len(),
        told.status
    );
    let _ = reader.into_inner().write_all(answer.as_bytes());
}

#[test]
fn trace_and_verdict_reach_gitlab_without_a_manager() {
    let (url, told) = server();
    let mut world = World::agent_with(&["--alone-after", "300"]);
    world.start_shim();
    let mut plan = world.plan(&["echo begun; while [ ! -e go ]; do sleep 0.05; done; echo done"]);
    plan.coordinator.url = url;
    let mut manager = world.start(plan);
    manager.until_text("begun");
    // The manager has delivered a part and says so for a part of that only.
    told.lock().unwrap().trace = manager.trace[..30].to_vec();
    manager.send(&Frame::Acked(Offset { offset: 10 }));
    drop(manager);
    std::fs::write(world.path("/builds/g/p/go"), "").unwrap();
    assert!(wait_for(&mut world.agent).success());
    let told = told.lock().unwrap();
    assert_eq!(told.trace, std::fs::read(world.path("/gantry-agent/trace")).unwrap());
    assert_eq!(told.states.last().unwrap(), "success");
}

#[test]
fn a_manager_that_comes_back_takes_over() {
    let (url, told) = server();
    let mut world = World::agent_with(&["--alone-after", "200"]);
    world.start_shim();
    let mut plan = world.plan(&["echo begun; while [ ! -e go ]; do sleep 0.05; done; echo done"]);
    plan.coordinator.url = url;
    let mut first = world.start(plan);
    first.until_text("begun");
    drop(first);
    wait(|| !told.lock().unwrap().trace.is_empty(), "the agent to report");
    let mut second = world.connect();
    second.hello();
    second.send(&Frame::Follow(Offset { offset: 0 }));
    std::fs::write(world.path("/builds/g/p/go"), "").unwrap();
    assert!(second.closed().verdict.success);
    assert!(told.lock().unwrap().states.iter().all(|state| state == "running"));
    let (agent, _) = world.leave(&mut second);
    assert!(agent.success());
}

#[test]
fn a_job_that_gitlab_has_ended_ends_here_too() {
    let (url, told) = server();
    told.lock().unwrap().status = "canceled";
    let mut world = World::agent_with(&["--alone-after", "200"]);
    world.start_shim();
    let mut plan = world.plan(&["echo begun; for i in $(seq 1200); do sleep 0.05; done"]);
    plan.coordinator.url = url;
    let mut manager = world.start(plan);
    manager.until_text("begun");
    drop(manager);
    assert!(wait_for(&mut world.agent).success());
    let log = std::fs::read_to_string(world.path("/gantry-agent/trace")).unwrap();
    assert!(log.ends_with("ERROR: Job failed: canceled\x1b[0;m\n"), "{log}");
}

/// Nobody is left who could see why.
#[test]
fn a_build_container_that_never_comes_ends_the_job_in_its_time() {
    let (url, told) = server();
    let mut world = World::agent_with(&["--alone-after", "200"]);
    let mut plan = world.plan(&["echo never"]);
    plan.coordinator.url = url;
    plan.start = Some(StartLimit { seconds: 15, setting: StartSetting::PrepareTimeout, remaining_ms: 300 });
    drop(world.start(plan));
    assert!(wait_for(&mut world.agent).success());
    let told = told.lock().unwrap();
    let trace = String::from_utf8_lossy(&told.trace);
    let words = "prepare timeout: exceeded timeout of 15s (prepare_timeout of the runner's config) while waiting for pod to start: the build container";
    assert!(trace.contains(words), "{trace}");
    assert_eq!(told.states.last().unwrap(), "failed");
}

#[test]
fn a_job_that_ends_before_it_was_started_is_reported_too() {
    let (url, told) = server();
    let mut world = World::agent_with(&["--alone-after", "200"]);
    let mut plan = world.plan(&["echo never"]);
    plan.coordinator.url = url;
    let mut manager = world.connect();
    manager.hello();
    manager.send(&Frame::Plan(Box::new(plan)));
    manager.until("accepted", |manager| manager.others.contains(&Frame::PlanAccepted));
    manager.send(&Frame::Fail(Ending::Runner { message: "the runner ends".into() }));
    manager.until("closed", |manager| manager.state.closed.is_some());
    drop(manager);
    assert!(wait_for(&mut world.agent).success());
    assert_eq!(told.lock().unwrap().states, ["running", "failed"]);
}

/// Nobody is left who could say that the services have started.
#[test]
fn a_job_with_services_goes_on_without_a_manager() {
    let (url, told) = server();
    let mut world = World::agent_with(&["--alone-after", "300"]);
    world.start_shim();
    let mut plan = world.plan(&["echo it runs"]);
    plan.coordinator.url = url;
    plan.wait_for_services = true;
    drop(world.start(plan));
    wait(|| told.lock().unwrap().states.iter().any(|state| state == "success"), "the verdict");
    let trace = String::from_utf8_lossy(&told.lock().unwrap().trace).into_owned();
    assert!(trace.contains("whether all services have started") && trace.contains("it runs"), "{trace}");
}
