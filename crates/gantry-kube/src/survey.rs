//! What no job needs, for `doctor`: what the API server is, whether it would take a pod, what a
//! command in a container says, and which trial pods were left behind.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Resource as _,
    api::{AttachParams, ListParams, PostParams},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::{
    Cluster,
    attach::{AgentStream, ExecOutcome},
    error::{ApiError, Fault},
    limits,
    pods::PodRef,
    retry,
};

/// What a command in a container has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its standard output, at most [`limits::SAID`] bytes.
    pub stdout: String,
    /// How it ended and what it said on standard error, in one line.
    pub end: String,
    /// Whether it ended with 0.
    pub success: bool,
}

impl Cluster {
    /// The version that the API server says it is, such as `v1.34.2`. Tried once.
    ///
    /// # Errors
    /// It cannot be asked, or says none.
    pub async fn server_version(&self) -> Result<String, ApiError> {
        Ok(retry::once(self.client().apiserver_version()).await?.git_version)
    }

    /// Has the API server decide about `pod` as if it were made, admission, quotas and limit ranges
    /// included, and makes nothing. Needs the right to create pods. Tried once.
    ///
    /// # Errors
    /// It would be refused, or the question cannot be answered.
    pub async fn would_create(&self, pod: &Pod) -> Result<(), ApiError> {
        let pods: Api<Pod> = Api::namespaced(self.client().clone(), self.namespace());
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        retry::once(pods.create(&dry_run, pod)).await.map(|_| ())
    }

    /// Pods of the selector that nobody waits for any more: when the API server made `newest`,
    /// which is one of them, each was there for longer than its `activeDeadlineSeconds`. The
    /// kubelet ends none that has no node. Those that are being deleted are left out. Tried once.
    ///
    /// # Errors
    /// The API server cannot be asked, or says no.
    pub async fn overdue_pods(&self, selector: &str, newest: &PodRef) -> Result<Vec<PodRef>, ApiError> {
        let pods: Api<Pod> = Api::namespaced(self.client().clone(), self.namespace());
        let found = retry::once(pods.list(&ListParams::default().labels(selector))).await?;
        Ok(overdue(&found.items, newest))
    }

    /// Runs a command in a container and waits for its end, for at most [`limits::SAID_DEADLINE`].
    ///
    /// # Errors
    /// It cannot be run, or does not end in time.
    pub async fn run_in(
        &self,
        pod: &PodRef,
        container: &str,
        command: &[&str],
        input: &[u8],
    ) -> Result<Said, ApiError> {
        let params = AttachParams::default().container(container).stdin(true).stdout(true).stderr(true);
        let request = kube::core::Request::new(Pod::url_path(&(), Some(self.namespace())))
            .exec(&pod.name, command.iter().copied(), &params)
            .map_err(|error| ApiError::without_answer(Fault::Local, error.to_string()))?;
        let running = async {
            let connection = self.client().connect(request).await.map_err(ApiError::from)?;
            let mut stream = AgentStream::new(connection);
            let outcome = stream.outcome();
            let broken = |error: std::io::Error| ApiError::without_answer(Fault::Broken, error.to_string());
            stream.write_all(input).await.map_err(broken)?;
            stream.flush().await.map_err(broken)?;
            let mut stdout = Vec::new();
            let limit = u64::try_from(limits::SAID).unwrap_or(u64::MAX);
            (&mut stream).take(limit).read_to_end(&mut stdout).await.map_err(broken)?;
            Ok(said(&stdout, &outcome))
        };
        timeout(limits::SAID_DEADLINE, running)
            .await
            .unwrap_or_else(|_| Err(ApiError::timed_out(limits::SAID_DEADLINE)))
    }
}

/// Both times are of the API server's clock.
fn overdue(pods: &[Pod], newest: &PodRef) -> Vec<PodRef> {
    let made = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second());
    let is_newest = |pod: &&Pod| pod.metadata.uid.as_ref() == Some(&newest.uid);
    let Some(now) = pods.iter().find(is_newest).and_then(made) else { return Vec::new() };
    let is_over = |pod: &&Pod| {
        let lasts = pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
        made(pod).zip(lasts).is_some_and(|(made, lasts)| made.saturating_add(lasts) < now)
    };
    // What keeps such a pod, a finalizer perhaps, is not changed by a second request.
    let is_going = |pod: &&Pod| pod.metadata.deletion_timestamp.is_some();
    let named = |pod: &Pod| Some(PodRef { name: pod.metadata.name.clone()?, uid: pod.metadata.uid.clone()? });
    pods.iter().filter(is_over).filter(|pod| !is_going(pod)).filter_map(named).collect()
}

fn said(stdout: &[u8], outcome: &ExecOutcome) -> Said {
    let success = outcome.end() == Some(crate::ExecEnd::Exited(0));
    Said { stdout: String::from_utf8_lossy(stdout).into_owned(), end: outcome.explain(), success }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_that_nobody_waits_for() {
        let pod = |name: &str, made: &str, lasts: Option<i64>| -> Pod {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": name, "uid": name, "creationTimestamp": made},
                "spec": {"containers": [], "activeDeadlineSeconds": lasts},
            }))
            .unwrap()
        };
        let at = |time: &str| format!("2015-10-21T{time}Z");
        let mut going = pod("going", &at("07:00:00"), Some(600));
        going.metadata.deletion_timestamp = going.metadata.creation_timestamp.clone();
        let pods = [
            going,
            pod("old", &at("07:00:00"), Some(600)),
            pod("young", &at("07:20:00"), Some(600)),
            pod("unbounded", &at("06:00:00"), None),
            pod("newest", &at("07:28:00"), Some(600)),
        ];
        let newest = |name: &str| PodRef { name: name.to_owned(), uid: name.to_owned() };
        assert_eq!(overdue(&pods, &newest("newest")), [newest("old")]);
        assert_eq!(overdue(&pods, &newest("gone")), [], "nobody knows how late it is there");
    }
}
