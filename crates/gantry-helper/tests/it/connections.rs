//! Connections of managers, and the command line.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::Stdio;

use gantry_wire::frame::{Claim, Frame, FrameReader, Granted, Greeting, Offset, Phase, Protocols, Refusal};

use crate::world::{Manager, World, helper, wait_for};

#[test]
fn the_trace_can_be_followed_again_from_any_byte() {
    let world = World::new();
    let mut first = world.start(world.plan(&["i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done"]));
    first.until("some output", |manager| manager.trace.len() > 500);
    drop(first);
    let mut second = world.connect();
    assert!(second.hello().epoch >= 2);
    second.send(&Frame::Follow(Offset { offset: 123 }));
    let closed = second.closed();
    let whole = std::fs::read(world.path("/gantry-agent/trace")).unwrap();
    assert_eq!(whole.len() as u64, closed.trace_bytes);
    assert_eq!(second.trace, whole[123..]);
    second.start = None;
    second.trace.clear();
    second.send(&Frame::Follow(Offset { offset: 0 }));
    second.closed();
    assert_eq!(second.trace, whole);
}

#[test]
fn a_newer_connection_supersedes_the_older_one() {
    let world = World::new();
    let mut first = world.start(world.plan(&["while [ ! -e go ]; do sleep 0.05; done"]));
    first.until("the script", |manager| manager.state.stage.as_deref() == Some("step_script"));
    let mut second = world.connect();
    let hello = second.hello();
    assert_eq!((hello.epoch, hello.state.phase), (2, Phase::Running));
    second.send(&Frame::Follow(Offset { offset: 0 }));
    first.until_ended();
    std::fs::write(world.path("/builds/g/p/go"), "").unwrap();
    assert!(second.closed().verdict.success);
}

fn greeting(manager: &str, claim: Claim) -> Frame {
    let (protocols, version) = (Protocols::OURS, "0.1.0".to_owned());
    Frame::Greet(Greeting { protocols, version, manager: manager.to_owned(), claim })
}

fn refusal(manager: &Manager) -> Option<Refusal> {
    manager.others.iter().find_map(|frame| match frame {
        Frame::Refused(refused) => Some(refused.cause),
        _ => None,
    })
}

/// One connects, asks and is told why not; the one in charge notices nothing. When it is gone
/// another takes over with all that it needs, and the first never comes back.
#[test]
fn a_job_is_taken_over_once_its_manager_is_gone() {
    let world = World::new();
    let mut first = world.connect();
    assert_eq!(first.hello().adoption, None);
    first.send(&greeting("first", Claim::Resume));
    first.send(&Frame::Plan(Box::new(world.plan(&["echo begun; while [ ! -e go ]; do sleep 0.05; done; echo done"]))));
    first.send(&Frame::Follow(Offset { offset: 0 }));
    first.send(&Frame::Go);
    first.until_text("begun");
    assert!(first.others.contains(&Frame::Granted(Granted { epoch: 1 })));
    let mut second = world.connect();
    let hello = second.hello();
    assert_eq!(
        hello.relay.map(|relay| (relay.manager, relay.connected, relay.alone)),
        Some((Some("first".into()), true, false))
    );
    second.send(&greeting("second", Claim::Adopt));
    second.until("a refusal", |manager| refusal(manager) == Some(Refusal::RelayLives));
    first.send(&Frame::Acked(Offset { offset: 5 }));
    first.send(&Frame::Release);
    first.send(&Frame::Ping);
    first.until("an answer", |manager| manager.others.contains(&Frame::Pong));
    second.send(&greeting("second", Claim::Adopt));
    second.until("the grant", |manager| manager.others.contains(&Frame::Granted(Granted { epoch: 2 })));
    first.until_ended();
    let mut again = world.connect();
    let adoption = again.hello().adoption.unwrap();
    assert_eq!((adoption.job_id, adoption.job_token.expose(), adoption.acked), (7, "job-token", 5));
    assert!(adoption.started && adoption.acknowledged && adoption.trace.head.is_empty());
    again.send(&greeting("first", Claim::Resume));
    again.until("a refusal", |manager| refusal(manager) == Some(Refusal::Superseded));
    second.send(&Frame::Follow(Offset { offset: 0 }));
    std::fs::write(world.path("/builds/g/p/go"), "").unwrap();
    assert!(second.closed().verdict.success);
    second.send(&Frame::Reported);
    second.until("the word that it is reported", |manager| manager.state.reported);
}

/// A manager of the first version does not greet. It is heard, but not after one that greets.
#[test]
fn managers_of_the_first_version_are_heard_until_one_takes_over_that_greets() {
    let world = World::agent_alone();
    let mut old = world.connect();
    old.hello();
    old.send(&Frame::Plan(Box::new(world.plan(&["true"]))));
    old.until("acceptance", |manager| manager.others.contains(&Frame::PlanAccepted));
    let mut new = world.connect();
    assert_eq!(new.hello().state.phase, Phase::Planned);
    drop(old);
    // Until the agent has seen that the old one is gone it stays in charge.
    while !new.others.iter().any(|frame| matches!(frame, Frame::Granted(_))) {
        new.others.clear();
        new.send(&greeting("new", Claim::Replace));
        new.until("an answer", |manager| !manager.others.is_empty());
    }
    let mut old = world.connect();
    old.hello();
    old.send(&Frame::Go);
    old.until("a refusal", |manager| refusal(manager) == Some(Refusal::Superseded));
}

#[test]
fn a_reader_that_does_not_read_holds_nobody_up() {
    let world = World::new();
    let mut first = world.connect();
    first.hello();
    first.send(&Frame::Plan(Box::new(world.plan(&["yes | head -c 8000000"]))));
    first.send(&Frame::Follow(Offset { offset: 0 }));
    first.send(&Frame::Go);
    crate::world::wait(
        || std::fs::metadata(world.path("/gantry-agent/trace")).is_ok_and(|file| file.len() > 8_000_000),
        "the job to go on without its reader",
    );
    let mut second = world.connect();
    second.hello();
    second.send(&Frame::Follow(Offset { offset: 0 }));
    assert!(second.closed().verdict.success);
}

#[test]
fn plans_that_make_no_sense_are_refused() {
    let world = World::agent_alone();
    let mut manager = world.connect();
    manager.hello();
    let mut plan = world.plan(&["true"]);
    plan.paths.project_dir = "relative".into();
    manager.send(&Frame::Go);
    manager.send(&Frame::Plan(Box::new(plan)));
    let refusals = |manager: &Manager| manager.others.iter().filter(|frame| matches!(frame, Frame::Refused(_))).count();
    manager.until("two refusals", |manager| refusals(manager) == 2);
    manager.send(&Frame::Plan(Box::new(world.plan(&["true"]))));
    manager.until("acceptance", |manager| manager.others.contains(&Frame::PlanAccepted));
}

#[test]
fn the_bridge_joins_its_two_ends() {
    let world = World::agent_alone();
    let mut bridge = helper()
        .args(["bridge", "--root"])
        .arg(world.root.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = bridge.stdin.take().unwrap();
    let mut output = BufReader::new(bridge.stdout.take().unwrap());
    let mut greeting = String::new();
    output.read_line(&mut greeting).unwrap();
    assert_eq!(greeting, format!("gantry-bridge {} {}\n", gantry_wire::PROTOCOL, gantry_wire::OLDEST_PROTOCOL));
    input.write_all(&Frame::Ping.to_bytes()).unwrap();
    let mut reader = FrameReader::default();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let mut part = [0; 1000];
        let count = output.read(&mut part).unwrap();
        assert!(count > 0);
        reader.push(&part[..count]);
        while let Some(frame) = reader.next_frame().unwrap() {
            seen.push(frame);
        }
    }
    assert!(matches!(seen[0], Frame::Hello(_)));
    assert_eq!(seen[1], Frame::Pong);
    drop(input);
    assert!(wait_for(&mut bridge).success());
}

#[test]
fn a_bridge_whose_reader_has_stopped_does_not_stay() {
    let world = World::new();
    let mut bridge = helper()
        .args(["bridge", "--root"])
        .arg(world.root.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = bridge.stdin.take().unwrap();
    let plan = world.plan(&["yes | head -c 4000000"]);
    for frame in [Frame::Plan(Box::new(plan)), Frame::Follow(Offset { offset: 0 }), Frame::Go] {
        input.write_all(&frame.to_bytes()).unwrap();
    }
    crate::world::wait(
        || std::fs::metadata(world.path("/gantry-agent/trace")).is_ok_and(|file| file.len() > 4_000_000),
        "more output than any pipe holds",
    );
    let mut manager = world.connect();
    manager.hello();
    manager.send(&Frame::Acked(Offset { offset: 0 }));
    wait_for(&mut bridge);
}

#[test]
fn the_command_line_says_what_it_speaks() {
    let fits = |protocol: u32| helper().arg("fits").arg(protocol.to_string()).status().unwrap().code();
    for (protocol, code) in
        [(gantry_wire::PROTOCOL, 0), (gantry_wire::OLDEST_PROTOCOL, 0), (gantry_wire::PROTOCOL + 1, 1)]
    {
        assert_eq!(fits(protocol), Some(code), "{protocol}");
    }
    assert!(helper().arg("--version").stdout(Stdio::null()).status().unwrap().success());
}
