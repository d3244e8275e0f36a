//! Connections of managers, and the command line.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::Stdio;

use gantry_wire::frame::{Frame, FrameReader, Offset, Phase};

use crate::world::{World, helper, wait_for};

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
    first.until_ended();
    second.send(&Frame::Follow(Offset { offset: 0 }));
    std::fs::write(world.path("/builds/g/p/go"), "").unwrap();
    assert!(second.closed().verdict.success);
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
    let refusals = |manager: &crate::world::Manager| {
        manager.others.iter().filter(|frame| matches!(frame, Frame::Refused(_))).count()
    };
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
    assert_eq!(greeting, format!("gantry-bridge {}\n", gantry_wire::PROTOCOL));
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
    world.connect().hello();
    wait_for(&mut bridge);
}

#[test]
fn the_command_line_says_what_it_speaks() {
    let fits = |protocol: u32| helper().arg("fits").arg(protocol.to_string()).status().unwrap().code();
    assert_eq!((fits(gantry_wire::PROTOCOL), fits(gantry_wire::PROTOCOL + 1)), (Some(0), Some(1)));
    assert!(helper().arg("--version").stdout(Stdio::null()).status().unwrap().success());
}
