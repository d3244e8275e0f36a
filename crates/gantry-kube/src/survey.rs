//! Questions that no job needs an answer to, for `doctor`: what the API server is, whether it would
//! take a pod, and what a command in a container says.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Resource as _,
    api::{AttachParams, PostParams},
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

fn said(stdout: &[u8], outcome: &ExecOutcome) -> Said {
    let success = outcome.end() == Some(crate::ExecEnd::Exited(0));
    Said { stdout: String::from_utf8_lossy(stdout).into_owned(), end: outcome.explain(), success }
}
