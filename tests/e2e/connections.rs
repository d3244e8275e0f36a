//! What lies between the parts breaks: nothing of a job may be lost or told twice.

use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gantry_tests::suite::Test;
use gantry_tests::world::script;
use gantry_tests::{Job, Proxy, Runner, RunnerOptions, TlsFront, World, until};
use serde_json::json;

use crate::output::is_complete;

const BOUND: Duration = Duration::from_secs(100);

/// How long GitLab is away.
const OUTAGE: Duration = Duration::from_secs(20);

/// Lines that a talking job prints, in about ten seconds.
const LINES: u64 = 20_000;
const TALK: &str = "for i in $(seq 200); do seq -f 'line %.0f' $((i * 100 - 99)) $((i * 100)); sleep 0.05; done";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("connections: the API server's streams are cut", kube_cut),
        Test::new("connections: the API server is away", kube_away),
        Test::new("connections: the API server's streams are half open", kube_stranded),
        Test::new("connections: GitLab's connections are cut", gitlab_cut),
        Test::new("connections: GitLab is away in the middle", gitlab_away),
        Test::new("connections: GitLab is away at the end", gitlab_away_at_the_end),
        Test::new("connections: GitLab's certificate is replaced, and then tls-ca-file", certificate_replaced),
        Test::new("connections: GitLab asks for the client's certificate, of jobs too", client_certificate),
        Test::new("connections: a certificate comes into certs/ beside the file", certificate_comes),
    ]
}

pub(crate) fn address(url: &str) -> anyhow::Result<std::net::SocketAddr> {
    let authority = url.split("://").nth(1).and_then(|rest| rest.split('/').next());
    authority.and_then(|authority| authority.parse().ok()).with_context(|| format!("no address in {url}"))
}

async fn behind_kube_proxy(world: &World, name: &str) -> anyhow::Result<(Proxy, Runner)> {
    let proxy = Proxy::start(Ipv4Addr::LOCALHOST.into(), address(world.kube.url())?).await?;
    let kube = Some(format!("https://{}", proxy.address()));
    let runner = Runner::start(world, &RunnerOptions { kube, ..RunnerOptions::new(name) }).await?;
    Ok((proxy, runner))
}

async fn behind_gitlab_proxy(world: &World, name: &str) -> anyhow::Result<(Proxy, Runner)> {
    let proxy = Proxy::start(world.cluster().host, address(world.gitlab.url())?).await?;
    let gitlab = Some(format!("http://{}", proxy.address()));
    let runner = Runner::start(world, &RunnerOptions { gitlab, ..RunnerOptions::new(name) }).await?;
    Ok((proxy, runner))
}

fn complete(job: &Job, log: &str) -> anyhow::Result<()> {
    ensure!(job.status == "success", "{job:?}\n{}", &log[log.len().saturating_sub(2000)..]);
    ensure!(log.ends_with("\nJob succeeded"), "the end is missing: {:?}", &log[log.len().saturating_sub(500)..]);
    is_complete(log, "line", LINES)
}

async fn kube_cut(world: Rc<World>) -> anyhow::Result<()> {
    let (proxy, runner) = behind_kube_proxy(&world, "kube-cut").await?;
    let id = world.post_job(&runner, &script(&[TALK])).await?;
    world.gitlab.wait_for_text(id, "\nline 1000\n", BOUND).await?;
    proxy.cut();
    proxy.cut_after(20_000);
    world.gitlab.wait_for_text(id, "\nline 6000\n", BOUND).await?;
    let before = proxy.connections();
    proxy.cut();
    world.gitlab.wait_for_text(id, "\nline 12000\n", BOUND).await?;
    ensure!(proxy.connections() > before, "nobody connected again");
    proxy.cut_after(100);
    let (job, log) = world.ended(id, BOUND).await?;
    complete(&job, &log)?;
    world.no_pods(&runner).await
}

async fn kube_away(world: Rc<World>) -> anyhow::Result<()> {
    let (proxy, runner) = behind_kube_proxy(&world, "kube-away").await?;
    let id = world.post_job(&runner, &script(&[TALK])).await?;
    world.gitlab.wait_for_text(id, "\nline 1000\n", BOUND).await?;
    // The job ends in the meantime.
    proxy.refuse_for(OUTAGE).await;
    let (job, log) = world.ended(id, BOUND).await?;
    complete(&job, &log)?;
    world.no_pods(&runner).await
}

async fn kube_stranded(world: Rc<World>) -> anyhow::Result<()> {
    let (proxy, runner) = behind_kube_proxy(&world, "kube-stranded").await?;
    let id = world.post_job(&runner, &script(&[TALK])).await?;
    world.gitlab.wait_for_text(id, "\nline 1000\n", BOUND).await?;
    proxy.strand();
    let (job, log) = world.ended(id, BOUND).await?;
    complete(&job, &log)?;
    world.no_pods(&runner).await
}

async fn gitlab_cut(world: Rc<World>) -> anyhow::Result<()> {
    let (proxy, runner) = behind_gitlab_proxy(&world, "gitlab-cut").await?;
    let id = world.post_job(&runner, &script(&[TALK])).await?;
    for line in [1000, 5000, 9000] {
        world.gitlab.wait_for_text(id, &format!("\nline {line}\n"), BOUND).await?;
        proxy.cut();
    }
    // In the middle of an answer.
    proxy.cut_after(30);
    let (job, log) = world.ended(id, BOUND).await?;
    complete(&job, &log)?;
    world.no_pods(&runner).await
}

async fn gitlab_away(world: Rc<World>) -> anyhow::Result<()> {
    let (proxy, runner) = behind_gitlab_proxy(&world, "gitlab-away").await?;
    let id = world.post_job(&runner, &script(&[TALK, "sleep 20", "echo at the end"])).await?;
    world.gitlab.wait_for_text(id, "\nline 1000\n", BOUND).await?;
    proxy.refuse_for(OUTAGE).await;
    let (job, log) = world.ended(id, BOUND).await?;
    ensure!(log.contains("\nat the end\n"), "{:?}", &log[log.len().saturating_sub(500)..]);
    complete(&job, &log)?;
    world.no_pods(&runner).await
}

async fn gitlab_away_at_the_end(world: Rc<World>) -> anyhow::Result<()> {
    let (proxy, runner) = behind_gitlab_proxy(&world, "gitlab-end").await?;
    let id = world.post_job(&runner, &script(&[TALK])).await?;
    world.gitlab.wait_for_text(id, "\nline 10000\n", BOUND).await?;
    proxy.refuse_for(OUTAGE).await;
    let (job, log) = world.ended(id, BOUND).await?;
    complete(&job, &log)?;
    world.no_pods(&runner).await
}

/// What the log says of a certificate that nobody vouches for.
const UNKNOWN_AUTHORITY: &str = "comes from an authority that is not trusted here";

async fn certificate_replaced(world: Rc<World>) -> anyhow::Result<()> {
    let mut front = TlsFront::start(world.cluster().host, address(world.gitlab.url())?).await?;
    let file = world.dir().join("gitlab-ca.crt");
    std::fs::write(&file, front.certificate())?;
    let lines = format!("  tls-ca-file = \"{}\"", file.display());
    let options = RunnerOptions { gitlab: Some(front.url()), runner: lines, ..RunnerOptions::new("ca-file") };
    let runner = Runner::start(&world, &options).await?;
    let id = world.post_job(&runner, &script(&[TALK])).await?;
    world.gitlab.wait_for_text(id, "\nline 1000\n", BOUND).await?;
    front.replace()?;
    until("the runner to refuse the other certificate", BOUND, async || {
        let log = runner.process.log();
        Ok(if log.contains(UNKNOWN_AUTHORITY) { Ok(()) } else { Err(gantry_tests::process::last_lines(&log, 5)) })
    })
    .await?;
    std::fs::write(&file, front.certificate())?;
    // The job that runs and the next one, with the process that has been there all the time.
    let (job, log) = world.ended(id, BOUND).await?;
    complete(&job, &log)?;
    let (job, log) = world.run_on(&runner, &script(&["echo trusted again"]), BOUND).await?;
    ensure!(job.status == "success" && log.contains("\ntrusted again\n"), "{job:?}\n{log}");
    world.no_pods(&runner).await
}

/// Sources, artifacts and the trace; and scripts that call GitLab themselves.
async fn client_certificate(world: Rc<World>) -> anyhow::Result<()> {
    let made = rcgen::generate_simple_self_signed(["runner".to_owned()])?;
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let host = world.cluster().host;
    let front = TlsFront::start_for(host, address(world.gitlab.url())?, Some(made.cert.der().clone())).await?;
    let mut lines = vec![format!("  clone_url = \"{}\"", front.url())];
    for (name, text) in [("ca", front.certificate()), ("cert", certificate.as_str()), ("key", key.as_str())] {
        let file = world.dir().join(format!("client-{name}.pem"));
        std::fs::write(&file, text)?;
        lines.push(format!("  tls-{name}-file = \"{}\"", file.display()));
    }
    let options =
        RunnerOptions { gitlab: Some(front.url()), runner: lines.join("\n"), ..RunnerOptions::new("client-cert") };
    let runner = Runner::start(&world, &options).await?;
    let cat = "cat $CI_SERVER_TLS_CERT_FILE; cat $CI_SERVER_TLS_KEY_FILE; echo shown; cat .git/HEAD > out.txt";
    let mut job = script(&[cat]);
    job["repo"] = json!("group/project");
    job["ref"] = json!("main");
    job["variables"] = json!([{"key": "GIT_STRATEGY", "value": "fetch"}]);
    job["artifacts"] = json!([{"paths": ["out.txt"], "artifact_type": "archive", "artifact_format": "zip"}]);
    let (job, log) = world.run_on(&runner, &job, BOUND).await?;
    ensure!(job.status == "success" && world.gitlab.artifacts(job.id).await?.len() == 1, "{job:?}\n{log}");
    let body = |pem: &str| pem.lines().nth(1).unwrap_or_default().to_owned();
    ensure!(log.contains(&body(&certificate)) && !log.contains(&body(&key)) && log.contains("\nshown\n"), "{log}");
    world.no_pods(&runner).await
}

async fn certificate_comes(world: Rc<World>) -> anyhow::Result<()> {
    let front = TlsFront::start(world.cluster().host, address(world.gitlab.url())?).await?;
    let options = RunnerOptions { gitlab: Some(front.url()), ..RunnerOptions::new("certs-directory") };
    let runner = Runner::launch(&world, &options).await?;
    until("the runner to refuse the certificate", BOUND, async || {
        let log = runner.process.log();
        Ok(if log.contains(UNKNOWN_AUTHORITY) { Ok(()) } else { Err(gantry_tests::process::last_lines(&log, 5)) })
    })
    .await?;
    let directory = runner.config.parent().context("no directory")?.join("certs");
    std::fs::create_dir(&directory)?;
    std::fs::write(directory.join(format!("{}.crt", world.cluster().host)), front.certificate())?;
    let (job, log) = world.run_on(&runner, &script(&["echo trusted now"]), BOUND).await?;
    ensure!(job.status == "success" && log.contains("\ntrusted now\n"), "{job:?}\n{log}");
    world.no_pods(&runner).await
}
