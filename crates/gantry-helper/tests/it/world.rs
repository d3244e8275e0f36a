//! A pod without a cluster: the real agent and shim, as processes below a directory of their own.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use gantry_core::Secret;
use gantry_wire::frame::{Closed, Frame, FrameReader, Hello, Offset, State};
use gantry_wire::plan::{Action, Coordinator, EnvVar, Paths, PodPlan, Script, StagePlan, TracePlan};

/// Longest wait for anything, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) root: tempfile::TempDir,
    pub(crate) agent: Child,
    pub(crate) shim: Option<Child>,
}

impl World {
    /// An agent without a shim.
    pub(crate) fn agent_alone() -> Self {
        Self::agent_with(&[])
    }

    /// An agent with further arguments, without a shim. Its trace can be read under its name.
    pub(crate) fn agent_with(arguments: &[&str]) -> Self {
        Self::agent_as_in_a_pod(&[&["--keep-trace"], arguments].concat())
    }

    /// An agent with these arguments, without a shim.
    pub(crate) fn agent_as_in_a_pod(arguments: &[&str]) -> Self {
        let root = tempfile::Builder::new().prefix("gh").tempdir().unwrap();
        // Other users take part too.
        std::fs::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let agent =
            helper().args(["agent", "--any-peer"]).args(arguments).arg("--root").arg(root.path()).spawn().unwrap();
        let world = Self { root, agent, shim: None };
        wait(|| world.path("/gantry/gantry-helper").exists(), "the agent's binary");
        world
    }

    /// Agent and shim.
    pub(crate) fn new() -> Self {
        let mut world = Self::agent_alone();
        world.start_shim();
        world
    }

    pub(crate) fn start_shim(&mut self) {
        self.shim = Some(self.shim_command().spawn().unwrap());
    }

    /// A shim that is not started yet.
    pub(crate) fn shim_command(&self) -> Command {
        let mut shim = Command::new(self.path("/gantry/gantry-helper"));
        shim.args(["shim", "--root"]).arg(self.root.path()).stdin(Stdio::null());
        shim
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    pub(crate) fn connect(&self) -> Manager {
        Manager::new(UnixStream::connect(self.path("/gantry-agent/manager.sock")).unwrap())
    }

    /// A plan whose scripts are these.
    pub(crate) fn plan(&self, scripts: &[&str]) -> PodPlan {
        let at = |path: &str| self.path(path).to_string_lossy().into_owned();
        let mut stages = vec![stage("prepare_script", Action::Prepare)];
        stages.extend(scripts.iter().enumerate().map(|(at, text)| {
            let name = if at == 0 { "step_script".to_owned() } else { format!("step_{at}") };
            stage(&name, Action::Script(script(text)))
        }));
        std::fs::create_dir_all(at("/builds/g/p")).unwrap();
        PodPlan {
            job_id: 7,
            job_token: Secret::new("job-token"),
            project_id: 1,
            coordinator: Coordinator {
                url: "http://127.0.0.1:1".into(),
                ca_pem: None,
                identity: None,
                proxies: None,
                upload_timeout_ms: 10_000,
                response_header_timeout_ms: 10_000,
            },
            manager_host: "manager-host".into(),
            timeout_seconds: 3600,
            remaining_ms: 3_600_000,
            acknowledged: false,
            script_timeout_ms: None,
            after_script_timeout_ms: 300_000,
            after_script_ignore_errors: true,
            script_grace_ms: 5000,
            keep_umask: false,
            paths: Paths {
                builds_dir: at("/builds"),
                project_dir: at("/builds/g/p"),
                temp_dir: at("/builds/g/p.tmp"),
                temp_volume: Some(at("/gantry-tmp")),
            },
            environment: Vec::new(),
            trace: TracePlan {
                head: "Running with gantry\n".into(),
                masks: Vec::new(),
                token_prefixes: Vec::new(),
                timestamps: false,
                sections: false,
                limit_bytes: 64 << 20,
                debug_trace: false,
            },
            stages,
            wait_for_services: false,
            failure_reasons: Vec::new(),
            alone: gantry_wire::plan::Alone::default(),
            start: None,
            build_memory_limit: None,
            build_resources: gantry_wire::usage::ResourcePlan::default(),
            services: gantry_wire::services::ServicesPlan::default(),
            get_sources_timeout_ms: None,
            posix_shell: false,
            keep_failed: None,
        }
    }

    /// Hands `plan` over and starts it, following the trace from its first byte.
    pub(crate) fn start(&self, plan: PodPlan) -> Manager {
        let mut manager = self.connect();
        manager.hello();
        manager.send(&Frame::Plan(Box::new(plan)));
        manager.until("the plan to be accepted", |manager| manager.others.contains(&Frame::PlanAccepted));
        manager.send(&Frame::Follow(Offset { offset: 0 }));
        manager.send(&Frame::Go);
        manager
    }

    /// Runs `plan` to its end.
    pub(crate) fn run(&self, plan: PodPlan) -> (Closed, String) {
        let mut manager = self.start(plan);
        let closed = manager.closed();
        (closed, manager.text())
    }

    /// Says that the verdict is reported, and waits until agent and shim have left.
    pub(crate) fn leave(mut self, manager: &mut Manager) -> (ExitStatus, Option<ExitStatus>) {
        manager.send(&Frame::Reported);
        (wait_for(&mut self.agent), self.shim.as_mut().map(wait_for))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for child in [Some(&mut self.agent), self.shim.as_mut()].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn helper() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gantry-helper"));
    command.stdin(Stdio::null());
    command
}

pub(crate) fn stage(name: &str, action: Action) -> StagePlan {
    StagePlan { name: name.into(), title: format!("Doing {name}"), attempts: 1, action }
}

pub(crate) fn script(text: &str) -> Script {
    Script { text: Secret::new(text) }
}

pub(crate) fn variable(key: &str, value: &str) -> EnvVar {
    EnvVar { key: key.into(), value: value.into(), file: false }
}

pub(crate) fn wait(mut condition: impl FnMut() -> bool, what: &str) {
    let until = Instant::now() + TIMEOUT;
    while !condition() {
        assert!(Instant::now() < until, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn wait_for(child: &mut Child) -> ExitStatus {
    let mut status = None;
    wait(
        || {
            status = child.try_wait().unwrap();
            status.is_some()
        },
        "a process to end",
    );
    status.unwrap()
}

/// Resident memory of a process in bytes, at its peak.
pub(crate) fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// A manager's end of a connection.
pub(crate) struct Manager {
    stream: UnixStream,
    reader: FrameReader,
    /// The trace from the offset of the first piece.
    pub(crate) trace: Vec<u8>,
    pub(crate) start: Option<u64>,
    pub(crate) state: State,
    /// Frames that are neither trace nor state.
    pub(crate) others: Vec<Frame>,
    /// The other side has closed the connection.
    pub(crate) ended: bool,
}

impl Manager {
    pub(crate) fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        Self {
            stream,
            reader: FrameReader::default(),
            trace: Vec::new(),
            start: None,
            state: State::default(),
            others: Vec::new(),
            ended: false,
        }
    }

    pub(crate) fn send(&mut self, frame: &Frame) {
        self.stream.write_all(&frame.to_bytes()).unwrap();
    }

    pub(crate) fn hello(&mut self) -> Hello {
        self.until("hello", |manager| manager.others.iter().any(|frame| matches!(frame, Frame::Hello(_))));
        let hello = self.others.iter().find_map(|frame| match frame {
            Frame::Hello(hello) => Some(hello.clone()),
            _ => None,
        });
        hello.unwrap()
    }

    /// Reads until `condition` holds.
    pub(crate) fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let until = Instant::now() + TIMEOUT;
        while !condition(self) {
            assert!(
                Instant::now() < until,
                "waited too long for {what}; {:?}; log so far:\n{}",
                self.state,
                self.text()
            );
            assert!(!self.ended, "the connection ended before {what}; log so far:\n{}", self.text());
            self.read_some();
        }
    }

    /// Reads until the other side has closed the connection.
    pub(crate) fn until_ended(&mut self) {
        let until = Instant::now() + TIMEOUT;
        while !self.ended {
            assert!(Instant::now() < until, "waited too long for the connection to end");
            self.read_some();
        }
    }

    pub(crate) fn until_text(&mut self, text: &str) {
        self.until(text, |manager| manager.text().contains(text));
    }

    /// Reads until the verdict is closed and the whole trace is here, and checks the two against
    /// each other.
    pub(crate) fn closed(&mut self) -> Closed {
        self.until("the end of the job", |manager| {
            manager
                .state
                .closed
                .as_ref()
                .is_some_and(|closed| manager.start.unwrap_or(0) + manager.trace.len() as u64 == closed.trace_bytes)
        });
        let closed = self.state.closed.clone().unwrap();
        if let (Some(0), Some(sum)) = (self.start, closed.trace_crc32) {
            assert_eq!(crc32(&self.trace), sum);
        }
        closed
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.trace).into_owned()
    }

    fn read_some(&mut self) {
        let mut part = vec![0; 256 * 1024];
        match self.stream.read(&mut part) {
            Ok(0) => self.ended = true,
            Ok(count) => self.reader.push(&part[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.ended = true,
        }
        while let Some(frame) = self.reader.next_frame().unwrap() {
            match frame {
                Frame::Trace { offset, bytes } => {
                    let start = *self.start.get_or_insert(offset);
                    assert_eq!(offset, start + self.trace.len() as u64, "a hole in the trace");
                    self.trace.extend_from_slice(&bytes);
                }
                Frame::State(state) => self.state = state,
                Frame::Hello(hello) => {
                    self.state = hello.state.clone();
                    self.others.push(Frame::Hello(hello));
                }
                other => self.others.push(other),
            }
        }
    }
}

/// CRC-32 (IEEE), written here so that the product's own is checked.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

pub(crate) fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "protocol.file.allow=always"])
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
