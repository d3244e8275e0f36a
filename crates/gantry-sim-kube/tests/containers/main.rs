//! Containers as they are seen by the kubelet and from inside. Every test runs by whatever right
//! this process has: root, or a user namespace.

mod entering;
mod files;
mod lifecycle;
mod memory;
mod users;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use gantry_sim_kube::container::{
    Container, ContainerSpec, ExecChild, ExecSpec, ExitStatus, Input, Mount, Output, Privilege, Runtime, StartError,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// No wait of a test takes longer than this, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Environment variable that names another copy of the launcher.
const LAUNCHER: &str = "GANTRY_TEST_LAUNCHER";

fn launcher() -> PathBuf {
    std::env::var_os(LAUNCHER).map_or_else(|| env!("CARGO_BIN_EXE_gantry-sim-launcher").into(), PathBuf::from)
}

/// A runtime, and a directory for what tests share with containers.
struct World {
    runtime: Runtime,
    host: TempDir,
    _state: TempDir,
}

impl World {
    fn new() -> Self {
        Self::of(|runtime| runtime)
    }

    fn of(change: impl FnOnce(Runtime) -> Runtime) -> Self {
        let state = tempfile::tempdir().expect("a temporary directory");
        let host = tempfile::tempdir().expect("a temporary directory");
        let runtime = change(Runtime::new(state.path(), launcher()).expect("a state directory"));
        Self { runtime, host, _state: state }
    }

    /// A directory that any user of any container may write to, as an `emptyDir` is.
    fn volume(&self, name: &str, target: &str) -> Mount {
        use std::os::unix::fs::PermissionsExt;
        let source = self.host.path().join(name);
        std::fs::create_dir_all(&source).expect("make a volume");
        std::fs::set_permissions(&source, std::fs::Permissions::from_mode(0o777)).expect("open a volume to all");
        Mount { source, target: target.into(), read_only: false }
    }

    /// Whether containers are made by the right of root.
    async fn is_root(&self) -> bool {
        within(self.runtime.check()).await.expect("containers work") == Privilege::Root
    }

    async fn start(&self, spec: ContainerSpec) -> Container {
        within(self.runtime.start(spec)).await.expect("the container starts")
    }

    /// Runs a container to its end: status, output, errors.
    async fn run(&self, spec: ContainerSpec) -> (ExitStatus, String, String) {
        let container = self.start(spec).await;
        let (stdout, stderr) = container.take_output().expect("output");
        let stderr = stderr.expect("errors");
        let (stdout, stderr) = within(async { tokio::join!(text(stdout), text(stderr)) }).await;
        (within(container.wait()).await, stdout, stderr)
    }

    async fn fail(&self, spec: ContainerSpec) -> StartError {
        within(self.runtime.start(spec)).await.expect_err("the container does not start")
    }
}

/// A container that runs a script with `sh`.
fn sh(script: &str) -> ContainerSpec {
    ContainerSpec {
        name: "test".to_owned(),
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        hostname: "pod-1".to_owned(),
        ..ContainerSpec::default()
    }
}

/// A command that runs a script with `sh` in a container.
fn exec_sh(script: &str) -> ExecSpec {
    ExecSpec { args: ["sh", "-c", script].map(str::to_owned).to_vec(), ..ExecSpec::default() }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, future).await.expect("this takes too long")
}

async fn text(mut output: Output) -> String {
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes).await.expect("read output");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until the output so far contains this.
async fn until(output: &mut Output, wanted: &str) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        loop {
            let mut chunk = [0; 1024];
            let count = output.read(&mut chunk).await.expect("read output");
            bytes.extend_from_slice(&chunk[..count]);
            let text = String::from_utf8_lossy(&bytes);
            if text.contains(wanted) {
                return text.into_owned();
            }
            assert!(count > 0, "{wanted:?} never came, only {text:?}");
        }
    };
    within(reading).await
}

async fn write(input: &mut Input, text: &str) {
    within(input.write_all(text.as_bytes())).await.expect("write input");
}

/// Runs a command in a container to its end: status, output, errors.
async fn exec(container: &Container, spec: ExecSpec) -> (ExitStatus, String, String) {
    let mut child = within(container.exec(spec)).await.expect("the command starts");
    let (stdout, stderr) = finish(&mut child).await;
    (within(child.wait()).await, stdout, stderr)
}

async fn finish(child: &mut ExecChild) -> (String, String) {
    let (stdout, stderr) = (child.stdout.take().expect("output"), child.stderr.take().expect("errors"));
    within(async { tokio::join!(text(stdout), text(stderr)) }).await
}

/// Whether a process exists and is no zombie.
fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Waits until something holds.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
