//! The stages in the helper container as data: how long they take, and whether fetching the sources
//! works.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_core::Ending;
use gantry_helper::ports::{Outlet, ScriptSetup, StageTry, Workshop};
use gantry_wire::plan::Action;
use gantry_wire::shim::SecretText;
use tokio::time::sleep;

use crate::pods::{Pod, Pods};

/// Git's exit code for a remote that cannot be reached.
const GIT_FAILED: i32 = 128;

/// The helper container's tools.
#[derive(Debug)]
pub(crate) struct DataTools {
    pods: Arc<Pods>,
    pod: Arc<Pod>,
}

impl DataTools {
    pub(crate) fn new(pods: Arc<Pods>, pod: Arc<Pod>) -> Self {
        Self { pods, pod }
    }
}

impl Workshop for DataTools {
    fn perform(&self, work: StageTry, outlet: Outlet) -> BoxFuture<'static, Result<(), Ending>> {
        let (pods, pod) = (Arc::clone(&self.pods), Arc::clone(&self.pod));
        async move {
            let Some(stage) = work.plan.stages.get(work.stage) else { return Ok(()) };
            let mut scripts = work.plan.stages.iter().filter_map(|stage| match &stage.action {
                Action::Script(script) => Some(script.text.expose()),
                _ => None,
            });
            let Some(job) = scripts.find_map(|script| pods.program(pod.job, script)) else { return Ok(()) };
            pods.ledger.tell(|| format!("job {} {} try {} in {}", pod.job, stage.name, work.attempt, pod.name));
            let one = (pod.name.clone(), stage.name.clone(), work.attempt);
            pods.ledger.of(pod.job, |facts| facts.tries.push(one));
            outlet.plain(&format!("{} begins", stage.name)).await;
            if !matches!(stage.action, Action::Sources(_)) {
                return Ok(());
            }
            sleep(job.tool.takes).await;
            outlet.plain(&format!("remote: {}", job.secret)).await;
            if work.attempt <= job.tool.failures {
                let message = "git fetch ended with exit code 128".to_owned();
                return Err(Ending::StageFailed { stage: stage.name.clone(), message, exit_code: GIT_FAILED });
            }
            pods.ledger.of(pod.job, |facts| facts.fetched = true);
            Ok(())
        }
        .boxed()
    }

    fn prepare(&self, setup: ScriptSetup) -> BoxFuture<'static, Result<Vec<(String, SecretText)>, Ending>> {
        async move {
            sleep(Duration::from_millis(2)).await;
            let variables = setup.plan.environment.iter();
            Ok(variables.map(|variable| (variable.key.clone(), SecretText(variable.value.clone()))).collect())
        }
        .boxed()
    }
}
