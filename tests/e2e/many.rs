//! Many jobs at once on one small node: none starves, and none fails because others start too.

use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use gantry_tests::suite::Test;
use gantry_tests::world::script;
use gantry_tests::{Runner, RunnerOptions, World};

/// Jobs, each in a pod of two containers.
const JOBS: u32 = 200;

/// Far more than two cores need that do nothing else.
const BOUND: Duration = Duration::from_secs(900);

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::new("many: two hundred jobs at once", at_once).takes(BOUND).alone()]
}

async fn at_once(world: Rc<World>) -> anyhow::Result<()> {
    // A real node takes 110 pods.
    let jobs = if world.cluster().is_given() { 50 } else { JOBS };
    let options = RunnerOptions {
        concurrent: jobs,
        log_level: "info",
        // The time that is left for a start grows with what the machine has to do.
        kubernetes: "    poll_timeout = 800\n".to_owned(),
        ..RunnerOptions::new("many")
    };
    let runner = Runner::start(&world, &options).await?;
    let mut ids = Vec::new();
    for number in 0..jobs {
        ids.push(world.post_job(&runner, &script(&[&format!("echo this is job {number}")])).await?);
    }
    let mut wrong = Vec::new();
    for (number, id) in ids.into_iter().enumerate() {
        let (job, log) = world.ended(id, BOUND).await?;
        if job.status != "success" || !log.contains(&format!("\nthis is job {number}\n")) {
            wrong.push(format!("job {number}: {job:?}\n{log}"));
        }
    }
    ensure!(wrong.is_empty(), "{} of {jobs} jobs did not succeed, the first one:\n{}", wrong.len(), wrong[0]);
    world.no_pods(&runner).await
}
