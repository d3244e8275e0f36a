//! Other ways into a pod than the agent's, for people: a shell in one of its containers, and a
//! connection to one of its ports. Both are `pods/exec`, which every runner may, so that no right
//! to `pods/attach` or `pods/proxy` is needed.

use gantry_wire::layout;
use kube::api::AttachParams;

use super::AgentStream;
use crate::{Cluster, error::ApiError};

/// The best shell that the container has, where the job's files are if they are there already.
const SHELL: &str = r#"cd "$1" 2>/dev/null; if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi"#;

/// The helper that is there, whichever way it came, joins its standard input and output to a port.
const FORWARD: &str = r#"if [ -x "$2" ]; then exec "$2" forward "$1"; else exec gantry-helper forward "$1"; fi"#;

impl Cluster {
    /// A shell with a terminal in a container of a pod, started in `directory`. What is read is the
    /// terminal's output.
    ///
    /// # Errors
    /// The API server refuses it, or the container does not run.
    pub async fn open_shell(&self, pod: &str, container: &str, directory: &str) -> Result<AgentStream, ApiError> {
        // A terminal has one output: standard error is in it.
        let params = AttachParams::default().container(container).stdin(true).stdout(true).stderr(false).tty(true);
        let command = ["sh", "-c", SHELL, "gantry-shell", directory].map(str::to_owned);
        let connection = self.open_exec(pod, command.to_vec(), &params).await?;
        Ok(AgentStream::new(connection))
    }

    /// A connection to a TCP port of a pod, by way of the helper container, which shares the pod's
    /// network. It ends at once where nothing listens; [`AgentStream::outcome`] says so.
    ///
    /// # Errors
    /// The API server refuses it, or the helper container does not run.
    pub async fn open_port(&self, pod: &str, port: u16) -> Result<AgentStream, ApiError> {
        let params = AttachParams::default().container(layout::HELPER).stdin(true).stdout(true).stderr(true);
        let port = port.to_string();
        let command = ["sh", "-c", FORWARD, "gantry-forward", &port, layout::PUSHED_BINARY].map(str::to_owned);
        let connection = self.open_exec(pod, command.to_vec(), &params).await?;
        Ok(AgentStream::new(connection))
    }
}
