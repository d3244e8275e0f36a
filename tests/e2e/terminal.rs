//! People in a job: a terminal in its build container and a look at a port, as GitLab's proxy
//! brings them.

use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use gantry_tests::suite::Test;
use gantry_tests::visitor::Visitor;
use gantry_tests::world::{IMAGE, script};
use gantry_tests::{Helm, Kubectl, Need, Runner, RunnerOptions, World, until};
use nix::sys::signal::Signal;
use reqwest::StatusCode;
use serde_json::json;

use crate::chart;

const BOUND: Duration = Duration::from_secs(90);

/// What the manager says when a job waits for somebody.
const LINGERS: &str = "somebody is in its terminal";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("terminal: in the build container, and the job waits for it", entered),
        Test::new("terminal: nobody stays for longer than session_timeout", timed_out),
        Test::new("terminal: ports of a job's container", ports),
        Test::new("terminal: of a job whose manager was killed, through the one that goes on", adopted),
        Test::new("terminal: of a job whose manager was killed after its token was renewed", renewed),
        Test::new("terminal: through two replicas of the chart, and one that has started again", deployed)
            .needs(Need::Helm),
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
    // It ends with the job's pod, a moment after GitLab has the final state.
    until("the session to be closed", BOUND, async || {
        let (status, _) = visitor.get("/exec").await?;
        Ok(if status == StatusCode::NOT_FOUND { Ok(()) } else { Err(status.to_string()) })
    })
    .await?;
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

async fn adopted(world: Rc<World>) -> anyhow::Result<()> {
    // Whoever listens there is where GitLab has been told to go.
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let global = format!(
        "[session_server]\n  listen_address = \"{address}\"\n[gantry]\n  ticket_key = \"of both managers\"\n  \
         self_report_after = \"1h\"\n  abandon_after = \"2h\"\n"
    );
    let options = |name| RunnerOptions { global: global.clone(), ..RunnerOptions::new(name) };
    let first = Runner::start(&world, &options("terminal-first")).await?;
    // Containers of the simulated cluster share their ports.
    let server = format!("PORT=18753 {SERVER}");
    let mut job = script(&["echo in the script", &server, "while ! test -e /tmp/told; do sleep 0.2; done"]);
    job["image"] = json!({"name": IMAGE, "ports": [{"number": 18753, "protocol": "http", "name": "web"}]});
    let id = world.post_job(&first, &job).await?;
    world.gitlab.wait_for_text(id, "\nlistening", BOUND).await?;
    let visitor = Visitor::of(&world.gitlab, id).await?;
    world.keep_secret(&visitor.authorization);
    ensure!(visitor.get("/proxy/build/web/first").await?.0 == StatusCode::OK, "no port at the first manager");
    first.process.signal(Signal::SIGKILL)?;
    first.process.wait(BOUND).await?;

    let place = Some(first.place());
    let second = Runner::start(&world, &RunnerOptions { place, ..options("terminal-second") }).await?;
    let answer = until("the session to be there again", BOUND, async || {
        Ok(match visitor.get("/proxy/build/web/second").await {
            Ok((StatusCode::OK, said)) => Ok(said),
            other => Err(format!("{other:?}")),
        })
    });
    ensure!(answer.await?.starts_with("asked: GET /second HTTP/1.1"), "another answer");
    let stranger = Visitor { authorization: "another word".into(), ..Visitor::of(&world.gitlab, id).await? };
    ensure!(stranger.get("/exec").await?.0 == StatusCode::UNAUTHORIZED, "a stranger is let in");
    let Ok(mut terminal) = visitor.terminal().await? else { anyhow::bail!("no terminal") };
    terminal.types("echo $((40 + 2)) in $(pwd)\r").await?;
    terminal.shows("42 in /builds/").await?;
    terminal.types("touch /tmp/told; echo $((2 + 3)) told\r").await?;
    terminal.shows("5 told").await?;
    until("the job to wait for its terminal", BOUND, async || {
        let log = second.process.log();
        Ok(if log.contains(LINGERS) { Ok(()) } else { Err(gantry_tests::process::last_lines(&log, 5)) })
    })
    .await?;
    terminal.close().await?;
    let (job, log) = world.ended(id, BOUND).await?;
    ensure!(job.status == "success", "{job:?}\n{log}");
    let logs = [first.process.log(), second.process.log()].concat();
    ensure!(!logs.contains(&visitor.authorization), "the word is in a log");
    world.no_pods(&second).await
}

/// Without `ticket_key` the token seals tickets and signs for the session server. It is exchanged
/// while a job runs, the manager is killed, and the next one has only the new token.
async fn renewed(world: Rc<World>) -> anyhow::Result<()> {
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let global = format!(
        "[session_server]\n  listen_address = \"{address}\"\n[gantry]\n  self_report_after = \"1h\"\n  \
         abandon_after = \"2h\"\n"
    );
    let mut runner = Runner::start(&world, &RunnerOptions { global, ..RunnerOptions::new("terminal-renewed") }).await?;
    let id = world.post_job(&runner, &script(&UNTIL_TOLD)).await?;
    world.gitlab.wait_for_text(id, "\nin the script", BOUND).await?;
    let visitor = Visitor::of(&world.gitlab, id).await?;
    world.keep_secret(&visitor.authorization);
    ensure!(visitor.get("/exec").await?.0 == StatusCode::METHOD_NOT_ALLOWED, "no session at the first manager");
    // Three quarters of the token's life are over.
    let text = std::fs::read_to_string(&runner.config)?;
    let (begun, ends) = ("2020-01-01T00:00:00Z", jiff::Timestamp::now() + Duration::from_secs(600));
    let life = format!("  token_obtained_at = {begun}\n  token_expires_at = {ends:.0}\n  executor =");
    std::fs::write(&runner.config, text.replace("  executor =", &life))?;
    runner.process.wait_for_line("the ticket of a job was sealed with the new token", BOUND).await?;
    let token = |text: &str| text.lines().find_map(|line| line.trim().strip_prefix("token = ").map(str::to_owned));
    let now = std::fs::read_to_string(&runner.config)?;
    ensure!(token(&now).is_some() && token(&now) != token(&text), "the same token:\n{now}");
    world.keep_secret(token(&now).unwrap_or_default().trim_matches('"'));
    runner.process.signal(Signal::SIGKILL)?;
    runner.process.wait(BOUND).await?;

    runner.again(&world).await?;
    let mut terminal = until("the session to be there again", BOUND, async || {
        Ok(match visitor.terminal().await {
            Ok(Ok(terminal)) => Ok(terminal),
            Ok(Err(status)) => Err(status.to_string()),
            Err(error) => Err(format!("{error:#}")),
        })
    })
    .await?;
    terminal.types("touch /tmp/told; echo $((2 + 3)) told\r").await?;
    terminal.shows("5 told").await?;
    terminal.close().await?;
    let (job, log) = world.ended(id, BOUND).await?;
    ensure!(job.status == "success", "{job:?}\n{log}");
    world.no_pods(&runner).await
}

/// A release of the chart with terminals, and its runner's tag.
struct Release {
    helm: Helm,
    kubectl: Kubectl,
    namespace: String,
    chart: String,
    tag: &'static str,
}

impl Release {
    async fn install(world: &World) -> anyhow::Result<Self> {
        let tag = "terminal-chart-runner";
        let token = world.gitlab.create_runner(tag).await?;
        world.keep_secret(&token);
        let release = Self {
            helm: Helm::new(world.cluster().kubeconfig()),
            kubectl: Kubectl::new(world.cluster().kubeconfig()),
            namespace: world.namespace("terminal-chart"),
            chart: chart::chart()?.display().to_string(),
            tag,
        };
        let (url, token) = (format!("gitlabUrl={}/", world.gitlab.url()), format!("runnerToken={token}"));
        let mut more = chart::set(&[&url, &token, "image.tag=latest"]);
        more.extend(["--create-namespace", "--set", "sessionServer.enabled=true,replicas=2,concurrent=1"]);
        release.upgrade(&more).await?;
        Ok(release)
    }

    async fn upgrade(&self, more: &[&str]) -> anyhow::Result<()> {
        let upgrade = ["upgrade", "ci", &self.chart, "--install", "--wait", "--timeout=90s", "--namespace"];
        self.helm.run(&[&upgrade[..], &[&self.namespace], more].concat()).await.map(drop)
    }

    /// Pod and address of each manager.
    async fn managers(&self) -> anyhow::Result<Vec<(String, String)>> {
        let path = "--output=jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{\"\\n\"}{end}";
        let selector = "--selector=app.kubernetes.io/name=gantry";
        let pods = self.kubectl.run(&["get", "pods", "--namespace", &self.namespace, selector, path]).await?;
        Ok(pods.lines().filter_map(|line| line.split_once(' ')).map(|(pod, ip)| (pod.into(), ip.into())).collect())
    }

    /// A job that offers a port and runs until it is told, once GitLab shows that it does.
    async fn job(&self, world: &World) -> anyhow::Result<(u64, Visitor)> {
        let mut job = script(&[&format!("PORT=18743 {SERVER}"), UNTIL_TOLD[1]]);
        job["tags"] = json!([self.tag]);
        job["image"] = json!({"name": IMAGE, "ports": [{"number": 18743, "protocol": "http", "name": "web"}]});
        let id = world.gitlab.post_job(&job).await?;
        world.gitlab.wait_for_text(id, "\nlistening", BOUND).await?;
        let visitor = Visitor::of(&world.gitlab, id).await?;
        world.keep_secret(&visitor.authorization);
        Ok((id, visitor))
    }
}

/// Looks at the job's port and tells it to end from its terminal.
async fn visited(world: &World, id: u64, visitor: &Visitor) -> anyhow::Result<()> {
    // As often as the server answers.
    for path in ["/seen", "/again"] {
        let (status, said) = visitor.get(&format!("/proxy/build/web{path}")).await?;
        ensure!(
            status == StatusCode::OK && said.starts_with(&format!("asked: GET {path} HTTP/1.1")),
            "{status}: {said}"
        );
    }
    let Ok(mut terminal) = visitor.terminal().await? else { anyhow::bail!("no terminal") };
    terminal.types("touch /tmp/told; echo $((2 + 3)) told in $(pwd)\r").await?;
    terminal.shows("5 told in /builds/").await?;
    terminal.close().await?;
    let job = world.gitlab.wait_final(id, BOUND).await?;
    ensure!(job.status == "success", "{job:?}\n{}", world.gitlab.text(id).await?);
    Ok(())
}

async fn deployed(world: Rc<World>) -> anyhow::Result<()> {
    let release = Release::install(&world).await?;
    // A place each: both replicas have one.
    let (first, second) = tokio::try_join!(release.job(&world), release.job(&world))?;
    let hosts = [&first.1, &second.1].map(|visitor| visitor.url.host_str().map(str::to_owned));
    ensure!(hosts[0] != hosts[1], "one replica has both: {hosts:?}");
    visited(&world, first.0, &first.1).await?;
    visited(&world, second.0, &second.1).await?;

    release.upgrade(&["--reuse-values", "--set", "replicas=1"]).await?;
    let manager = until("one manager", BOUND, async || {
        let managers = release.managers().await?;
        Ok(<[_; 1]>::try_from(managers).map_err(|all| format!("{all:?}")))
    });
    let [(pod, address)] = manager.await?;
    let (id, visitor) = release.job(&world).await?;
    ensure!(visitor.url.host_str() == Some(&address), "the session is elsewhere: {}", visitor.url);
    // Its container starts again, with the address of the pod and another process, which adopts.
    let exec = ["exec", "--namespace", &release.namespace, &pod, "--", "/bin/bash", "-c", "kill -TERM 1"];
    release.kubectl.run(&exec).await?;
    until("the session to be closed, or served by another process", BOUND, async || {
        let restarts = "--output=jsonpath={.status.containerStatuses[0].restartCount}";
        let restarts = release.kubectl.run(&["get", "pod", "--namespace", &release.namespace, &pod, restarts]).await?;
        Ok(if restarts == "1" { Ok(()) } else { Err(restarts) })
    })
    .await?;
    until("the session to be there again", BOUND, async || {
        // Not the port, which counts who connects to it.
        Ok(match visitor.get("/exec").await {
            Ok((StatusCode::METHOD_NOT_ALLOWED, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
    })
    .await?;
    visited(&world, id, &visitor).await?;
    release.helm.run(&["uninstall", "ci", "--namespace", &release.namespace, "--wait", "--timeout=90s"]).await.map(drop)
}

/// A server in what every Debian has, on port `$PORT`: it says what it was asked, twice.
const SERVER: &str = r#"perl -MIO::Socket::INET -e '$|=1; $s=IO::Socket::INET->new(LocalAddr=>"127.0.0.1",LocalPort=>$ENV{PORT},Listen=>5,ReuseAddr=>1) or die "no socket: $!"; print "listening\n"; for (1..2) { $c=$s->accept; $l=<$c>; $h=""; while (<$c>) { last unless /\S\S/; $h.=$_ } $l=~s/\s+$//; $b="asked: $l; authorization: ".($h=~/authorization/i?"yes":"no"); print $c "HTTP/1.1 200 OK\r\nContent-Length: ".length($b)."\r\n\r\n$b"; close $c }'"#;

async fn ports(world: Rc<World>) -> anyhow::Result<()> {
    let runner = runner(&world, "service-proxy", 600).await?;
    let mut job = script(&[&format!("PORT=18743 {SERVER}")]);
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
