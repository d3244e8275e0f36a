//! Namespaces that are made for one job each (`namespace_per_job`): removed when their job has
//! ended, and looked after when their manager has died, so that their jobs are gone on with and
//! nothing of them is left.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use gantry_kube::{Fault, LabeledNamespace};
use gantry_plan::{LABEL_FLEET, LABEL_JOB, LABEL_MANAGED, OwnNamespace};
use tokio::time::{Instant, sleep};

use crate::job_end::{JobEnd, JobSummary};
use crate::notices::{NamespaceLeft, NamespacesUnseen, Notice as _};
use crate::runner::Runner;
use crate::site::Site;
use crate::tasks;

/// How often namespaces that others have left are looked for: one list, which nobody has to wait
/// for.
const LOOK: Duration = Duration::from_mins(1);

/// How long a namespace must have been without pods to be left by everybody, beyond the time that a
/// pod has to start.
const EMPTY: Duration = Duration::from_mins(5);

/// Removes the namespace of a job that has ended here.
pub(crate) async fn remove(site: &Site, namespace: &OwnNamespace, summary: &JobSummary) {
    // Others may have the job, or people look into its pod: what is left then is found later.
    let is_done = matches!(summary.end, JobEnd::Reported(_) | JobEnd::Dropped(_) | JobEnd::Undelivered(_));
    if !is_done || summary.is_kept {
        return;
    }
    delete(site, namespace).await;
}

async fn delete(site: &Site, namespace: &OwnNamespace) {
    let name = site.cluster().namespace();
    match site.cluster().delete_namespace(namespace).await {
        Ok(()) => tracing::debug!(namespace = name, "removed the namespace of a job"),
        Err(error) => NamespaceLeft { namespace: name, error: &error }.say(),
    }
}

/// Looks after such namespaces for as long as the runner lives.
pub(crate) fn look_after(runner: &Arc<Runner>) {
    tasks::spawn(run(Arc::downgrade(runner)));
}

async fn run(runner: Weak<Runner>) {
    let mut keeper = Keeper::default();
    loop {
        let Some(live) = runner.upgrade() else { return };
        keeper.turn(&live).await;
        drop(live);
        sleep(LOOK).await;
    }
}

#[derive(Default)]
struct Keeper {
    /// Namespaces of ours, with their sites, and since when each has had no pod.
    left: BTreeMap<String, (Arc<Site>, Option<Instant>)>,
    refused: bool,
}

impl Keeper {
    async fn turn(&mut self, runner: &Arc<Runner>) {
        let selector = format!("{LABEL_MANAGED}=true,{LABEL_JOB}");
        let found = match runner.cluster().list_namespaces(&selector, LABEL_FLEET).await {
            Ok(found) => found,
            Err(error) => {
                if error.fault == Fault::Forbidden && !std::mem::replace(&mut self.refused, true) {
                    NamespacesUnseen.say();
                }
                return;
            }
        };
        let is_ours = |found: &LabeledNamespace| runner.fleet(&found.name).label() == found.value;
        let ours: Vec<String> = found.into_iter().filter(is_ours).map(|found| found.name).collect();
        self.left.retain(|name, _| ours.contains(name));
        for name in ours {
            if !self.left.contains_key(&name) {
                // The site's keeper goes on with its jobs, and removes pods that nobody needs.
                let Ok(site) = runner.joined_site(&name).await else { continue };
                self.left.insert(name.clone(), (site, None));
            }
            self.remove_if_empty(runner, &name).await;
        }
    }

    async fn remove_if_empty(&mut self, runner: &Runner, name: &str) {
        let Some((site, since)) = self.left.get_mut(name) else { return };
        let pods = site.cluster().list_pods(&format!("{LABEL_MANAGED}=true")).await;
        if !matches!(&pods, Ok(pods) if pods.is_empty()) {
            *since = None;
            return;
        }
        let since = *since.get_or_insert_with(Instant::now);
        // A manager may have made it just now.
        if since.elapsed() < runner.settings.kubernetes.timing.poll_timeout + EMPTY {
            return;
        }
        let fleet = runner.fleet(name).label();
        delete(&Arc::clone(site), &gantry_plan::own_namespace(name, &fleet)).await;
    }
}
