//! People in a job: a terminal in its build container and a look at a port, as GitLab's proxy
//! brings them.

use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use gantry_tests::suite::Test;
use gantry_tests::visitor::Visitor;
use gantry_tests::world::{IMAGE, script};
use gantry_tests::{Runner, RunnerOptions, World, until};
use reqwest::StatusCode;
use serde_json::json;

const BOUND: Duration = Duration::from_secs(90);

/// What the manager says when a job waits for somebody.
const LINGERS: &str = "somebody is in its terminal";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("terminal: in the build container, and the job waits for it", entered),
        Test::new("terminal: nobody stays for longer than session_timeout", timed_out),
        Test::new("terminal: ports of a job's container", ports),
    ]
}

async fn runner(world: &World, name: &str, timeout: u32) -> anyhow::Result<Runner> {
    let global = format!("[session_server]\n  listen_address = \"127.0.0.1:0\"\n  session_timeout = {timeout}\n");
    Runner::start(world, &RunnerOptions { global, ..RunnerOptions::new(name) }).await
}

/// A job that runs until there is a file.
const UNTIL_TOLD: [&str; 2] = ["echo in the script", "while ! test -e /tmp/told; do sleep 0.2; done"];

async fn entered(world: Rc<World>) -> anyhow::Result<()> {
    let runner = runner(&world, "terminal", 600).await?;
    let id = world.post_job(&runner, &script(&UNTIL_TOLD)).await?;
    world.gitlab.wait_for_text(id, "\nin the script", BOUND).await?;
    let visitor = Visitor::of(&world.gitlab, id).await?;
    world.keep_secret(&visitor.authorization);
    let stranger = Visitor { authorization: "another word".into(), ..Visitor::of(&world.gitlab, id).await? };
    ensure!(stranger.get("/exec").await?.0 == StatusCode::UNAUTHORIZED, "a stranger is let in");
    ensure!(stranger.terminal().await?.err() == Some(StatusCode::UNAUTHORIZED), "a stranger has a terminal");
    ensure!(visitor.get("/exec").await?.0 == StatusCode::METHOD_NOT_ALLOWED, "a terminal without WebSocket");
    ensure!(visitor.get("/other").await?.0 == StatusCode::NOT_FOUND, "something else is there");
    let Ok(mut terminal) = visitor.terminal().await? else { anyhow::bail!("no terminal") };
    terminal.types("echo $((40 + 2)) in $(pwd) on $(tty)\r").await?;
    terminal.shows("42 in /builds/").await?;
    terminal.shows(" on /dev/pts/").await?;
    ensure!(visitor.terminal().await?.err() == Some(StatusCode::LOCKED), "two in one terminal");
    terminal.types("touch /tmp/told; echo $((2 + 3)) told\r").await?;
    terminal.shows("5 told").await?;
    until("the job to wait for its terminal", BOUND, async || {
        let log = runner.process.log();
        Ok(if log.contains(LINGERS) { Ok(()) } else { Err(gantry_tests::process::last_lines(&log, 5)) })
    })
    .await?;
    let job = world.gitlab.job(id).await?;
    ensure!(job.status == "running", "it does not wait: {job:?}");
    // The container is there still.
    terminal.types("echo $((50 + 1))\r").await?;
    terminal.shows("51").await?;
    terminal.close().await?;
    let (job, log) = world.ended(id, BOUND).await?;
    ensure!(job.status == "success", "{job:?}\n{log}");
    ensure!(visitor.get("/exec").await?.0 == StatusCode::NOT_FOUND, "the session outlives its job");
    ensure!(!runner.process.log().contains(&visitor.authorization), "the word is in the log");
    world.no_pods(&runner).await
}

async fn timed_out(world: Rc<World>) -> anyhow::Result<()> {
    let runner = runner(&world, "terminal-timeout", 1).await?;
    let id = world.post_job(&runner, &script(&UNTIL_TOLD)).await?;
    world.gitlab.wait_for_text(id, "\nin the script", BOUND).await?;
    let visitor = Visitor::of(&world.gitlab, id).await?;
    world.keep_secret(&visitor.authorization);
    let Ok(mut terminal) = visitor.terminal().await? else { anyhow::bail!("no terminal") };
    terminal.types("touch /tmp/told; echo $((1 + 1)) told\r").await?;
    terminal.shows("2 told").await?;
    terminal.ends().await?;
    let (job, log) = world.ended(id, BOUND).await?;
    ensure!(job.status == "success", "{job:?}\n{log}");
    world.no_pods(&runner).await
}

/// A server in what every Debian has: it says what it was asked, twice.
const SERVER: &str = r#"perl -MIO::Socket::INET -e '$|=1; $s=IO::Socket::INET->new(LocalAddr=>"127.0.0.1",LocalPort=>18743,Listen=>5,ReuseAddr=>1) or die "no socket: $!"; print "listening\n"; for (1..2) { $c=$s->accept; $l=<$c>; $h=""; while (<$c>) { last unless /\S\S/; $h.=$_ } $l=~s/\s+$//; $b="asked: $l; authorization: ".($h=~/authorization/i?"yes":"no"); print $c "HTTP/1.1 200 OK\r\nContent-Length: ".length($b)."\r\n\r\n$b"; close $c }'"#;

async fn ports(world: Rc<World>) -> anyhow::Result<()> {
    let runner = runner(&world, "service-proxy", 600).await?;
    let mut job = script(&[SERVER]);
    let ports =
        json!([{"number": 18743, "protocol": "http", "name": "default_port"}, {"number": 18744, "protocol": "http"}]);
    job["image"] = json!({"name": IMAGE, "ports": ports});
    let id = world.post_job(&runner, &job).await?;
    world.gitlab.wait_for_text(id, "\nlistening", BOUND).await?;
    let visitor = Visitor::of(&world.gitlab, id).await?;
    world.keep_secret(&visitor.authorization);
    let (status, _) = visitor.get("/proxy/build/80/").await?;
    ensure!(status == StatusCode::NOT_FOUND, "a port that the job does not offer: {status}");
    let (status, said) = visitor.get("/proxy/build/18744/").await?;
    ensure!(status == StatusCode::BAD_GATEWAY && said.contains("listens on port 18744"), "{status}: {said}");
    for (what, asked) in [
        ("/proxy/build/18743/a%20b/c?x=1&y", "GET /a%20b/c?x=1&y HTTP/1.1"),
        ("/proxy/build/default_port/", "GET / HTTP/1.1"),
    ] {
        let answer = visitor.get(what).await?;
        let wanted = (StatusCode::OK, format!("asked: {asked}; authorization: no"));
        ensure!(answer == wanted, "{what}: {answer:?}");
    }
    let (job, log) = world.ended(id, BOUND).await?;
    ensure!(job.status == "success", "{job:?}\n{log}");
    world.no_pods(&runner).await
}
