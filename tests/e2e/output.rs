//! Logs: large ones, odd ones, and the limit.

use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use gantry_tests::suite::Test;
use gantry_tests::world::{IMAGE, script};
use gantry_tests::{Runner, RunnerOptions, World};
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(60);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("output: three megabytes arrive complete", large),
        Test::new("output: the limit", limit),
        Test::new("output: bytes that are no text", binary),
        Test::new("output: one line of a megabyte", long_line),
        Test::new("output: no newline at the end", no_newline),
        Test::new("output: carriage returns", carriage_returns),
        Test::new("output: the streams keep their order", two_streams),
        Test::new("output: a variable of 200 KiB", large_variable),
        Test::new("output: a masked value at every place of a long text", masks_in_bulk),
        Test::new("output: masked names of images stay out of log and metrics", masked_images),
    ]
}

/// The numbers that a log has as lines of the form `<word> <number> …`.
pub(crate) fn numbers(log: &str, word: &str) -> Vec<u64> {
    let number = |line: &str| line.strip_prefix(word)?.trim_start().split(' ').next()?.parse().ok();
    log.lines().filter_map(number).collect()
}

/// Every number from 1 to `last`, once and in order.
pub(crate) fn is_complete(log: &str, word: &str, last: u64) -> anyhow::Result<()> {
    let found = numbers(log, word);
    let wrong = found.iter().copied().zip(1..).find(|(number, expected)| number != expected);
    ensure!(
        wrong.is_none() && found.len() as u64 == last,
        "{} numbers, not {last}; the first wrong one and what should be there: {wrong:?}",
        found.len()
    );
    Ok(())
}

async fn large(world: Rc<World>) -> anyhow::Result<()> {
    let filler = "x".repeat(90);
    let command = format!("seq -f 'line %.0f {filler}' 1 25000");
    let (job, log) = world.run(&script(&[&command]), BOUND).await?;
    ensure!(job.status == "success" && job.trace_bytes > 3_000_000, "{job:?}");
    is_complete(&log, "line", 25_000)?;
    ensure!(log.ends_with("\nJob succeeded"));
    Ok(())
}

async fn limit(world: Rc<World>) -> anyhow::Result<()> {
    let runner = "  output_limit = 100\n".to_owned();
    let runner = Runner::start(&world, &RunnerOptions { runner, ..RunnerOptions::new("limit") }).await?;
    let (job, log) = world.run_on(&runner, &script(&["seq -f 'line %.0f' 1 50000"]), BOUND).await?;
    ensure!(job.status == "success", "{job:?}");
    ensure!(
        log.contains("Job's log exceeded limit of 102400 bytes."),
        "no notice at the end: {:?}",
        &log[log.len().saturating_sub(300)..]
    );
    ensure!(job.trace_bytes < 110_000, "{job:?}");
    let found = numbers(&log, "line");
    is_complete(&log, "line", found.len() as u64)
}

async fn binary(world: Rc<World>) -> anyhow::Result<()> {
    let commands = [
        "printf 'a\\377b\\303\\n'",
        "head -c 200000 /dev/urandom",
        "echo",
        "printf '\\360\\237'; sleep 0.3; printf '\\216\\211\\n'",
    ];
    let (job, log) = world.run(&script(&commands), BOUND).await?;
    ensure!(job.status == "success", "{job:?}");
    let raw = world.gitlab.raw_trace(job.id).await?;
    ensure!(std::str::from_utf8(&raw).is_ok(), "the log is not UTF-8");
    ensure!(log.contains("\na\u{fffd}b\u{fffd}\n"), "no replacement of wrong bytes");
    ensure!(log.contains("\n🎉\n"), "a character in two pieces was torn");
    Ok(())
}

async fn long_line(world: Rc<World>) -> anyhow::Result<()> {
    let (job, log) = world.run(&script(&["head -c 1000000 /dev/zero | tr '\\0' y; echo"]), BOUND).await?;
    let longest = log.lines().map(str::len).max().unwrap_or_default();
    ensure!(job.status == "success" && longest == 1_000_000, "{job:?}: longest line {longest}");
    ensure!(log.lines().any(|line| line.len() == 1_000_000 && line.bytes().all(|byte| byte == b'y')));
    Ok(())
}

async fn no_newline(world: Rc<World>) -> anyhow::Result<()> {
    let (job, log) = world.run(&script(&["printf 'one'", "printf 'no newline'"]), BOUND).await?;
    ensure!(job.status == "success" && log.contains("no newline\n"), "{log}");
    ensure!(log.ends_with("\nJob succeeded"), "{log}");
    Ok(())
}

async fn carriage_returns(world: Rc<World>) -> anyhow::Result<()> {
    let (job, log) = world.run(&script(&["printf '10%%\\r20%%\\r100%%\\n'", "printf 'dos\\r\\n'"]), BOUND).await?;
    ensure!(job.status == "success" && log.contains("\n10%\r20%\r100%\n") && log.contains("\ndos\r\n"), "{log:?}");
    Ok(())
}

async fn two_streams(world: Rc<World>) -> anyhow::Result<()> {
    let command = "for i in $(seq 1 200); do echo \"out $i\"; echo \"err $i\" >&2; done";
    let (job, log) = world.run(&script(&[command]), BOUND).await?;
    ensure!(job.status == "success", "{job:?}");
    is_complete(&log, "out", 200)?;
    is_complete(&log, "err", 200)
}

async fn large_variable(world: Rc<World>) -> anyhow::Result<()> {
    let value = "0123456789abcdef".repeat(200 * 64);
    let mut job = script(&[
        "echo \"length ${#LARGE} end ${LARGE: -4}\"",
        "wc -c < \"$FILE\"",
        "ls / > /dev/null",
        "echo commands work",
    ]);
    job["variables"] = json!([
        {"key": "LARGE", "value": value},
        {"key": "FILE", "value": value, "file": true},
    ]);
    let (job, log) = world.run(&job, BOUND).await?;
    let lines = ["length 204800 end cdef", "204800"];
    ensure!(lines.iter().all(|line| log.lines().any(|other| other == *line)), "{job:?}\n{log}");
    ensure!(job.status == "success" && log.contains("\ncommands work"), "{job:?}\n{log}");
    Ok(())
}

async fn masks_in_bulk(world: Rc<World>) -> anyhow::Result<()> {
    let mut job =
        script(&["perl -e 'for my $n (1..3000) { print \"n $n \", \".\" x ($n % 97), $ENV{BULK}, \"\\n\" }'"]);
    job["variables"] = json!([{"key": "BULK", "value": "bulk-secret-0123456789", "masked": true}]);
    let (job, log) = world.run(&job, BOUND).await?;
    let masked = log.matches("[MASKED]").count();
    ensure!(job.status == "success" && masked == 3000, "{job:?}: {masked} masked");
    is_complete(&log, "n", 3000)?;
    ensure!(job.exit_code.is_none_or(|code| code == 0), "{:?}", Value::from(job.exit_code));
    Ok(())
}

/// The kubelet and the API server repeat the names of images. Those are in the pod, where they must
/// be, but in nothing that the manager says.
async fn masked_images(world: Rc<World>) -> anyhow::Result<()> {
    let runner = Runner::start(&world, &RunnerOptions::new("masked-images")).await?;
    let canaries = ["Canary-One/of-mine:1", "Canary-Two/\u{e4}\"of mine"];
    for (image, service) in [(canaries[0], None), (canaries[1], None), (IMAGE, Some(canaries[0]))] {
        let mut job = script(&["echo never"]);
        job["tags"] = json!([runner.tag]);
        job["token"] = json!(
            format!("glcbt-masked-image-{image:?}-{service:?}").replace(|c: char| !c.is_ascii_alphanumeric(), "-")
        );
        job["image"] = json!({"name": if service.is_none() { "$PICTURE" } else { image }});
        let value = service.unwrap_or(image);
        job["variables"] = json!([{"key": "PICTURE", "value": value, "masked": true}]);
        if service.is_some() {
            job["services"] = json!([{"name": "$PICTURE"}]);
        }
        // Not by the world: what a pod must name is no secret there.
        let id = world.gitlab.post_job(&job).await?;
        let (job, log) = world.ended(id, BOUND).await?;
        ensure!(job.status == "failed" && !log.contains("anary-"), "{job:?}\n{log}");
    }
    let said =
        [runner.process.log(), runner.get("/metrics").await?.1, runner.get("/debug/jobs/list").await?.1].join("\n");
    let shown: Vec<&str> = said.lines().filter(|line| line.contains("anary-")).collect();
    ensure!(shown.is_empty(), "{shown:#?}");
    ensure!(said.contains("Job failed") && said.contains("[MASKED]"));
    Ok(())
}
