//! The runtime: finds out by which right containers can be made here, checks what is asked for, and
//! starts them.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::OnceCell;

use super::{
    channel::{Layout, Order, Task},
    error::{RuntimeError, StartError},
    handle::{Container, Parts},
    memory::{Home, Watchdog},
    spec::{ContainerSpec, Privilege},
    starting::{Inner, connect, start_within_deadline, streams, validate},
    supervise::Limit,
};

/// Longest host name of Linux that kubelet makes of a pod's name.
const MAX_HOSTNAME: usize = 63;

/// A user as containers have them.
const PROBE_USER: u32 = 1000;

/// Beginning of the names of mount points in the state directory; the process id of their maker
/// follows.
const ROOT_PREFIX: &str = "root-";

/// Starts containers. Clones are handles to the same runtime.
#[derive(Debug, Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

impl Runtime {
    /// A runtime that keeps what it needs in `state_dir` (made if missing; no container can see it)
    /// and starts containers through `launcher`: `/proc/self/exe` if this program's `main` calls
    /// [`super::run_if_launcher`], else a program that does.
    pub fn new(state_dir: impl AsRef<Path>, launcher: impl Into<PathBuf>) -> Result<Self, RuntimeError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let make = |path: &Path| -> io::Result<(PathBuf, PathBuf)> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            let path = path.canonicalize()?;
            sweep(&path);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let root = path.join(format!("{ROOT_PREFIX}{}-{number}", std::process::id()));
            fs::create_dir(&root)?;
            Ok((path, root))
        };
        let path = state_dir.as_ref();
        let (state_dir, root) =
            make(path).map_err(|error| RuntimeError::StateDir { path: path.to_owned(), reason: error.to_string() })?;
        Ok(Self {
            inner: Arc::new(Inner {
                launcher: launcher.into(),
                root,
                hidden: vec![state_dir],
                privilege: OnceCell::new(),
                cgroups: OnceCell::new(),
                watch_memory: false,
                kill_groups: false,
            }),
        })
    }

    /// The same, hiding further directories of the host from all containers (such as the one with
    /// all pods' volumes). Has an effect only before the first clone.
    #[must_use]
    pub fn hide(mut self, directories: impl IntoIterator<Item = PathBuf>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.hidden.extend(directories.into_iter().map(|path| path.canonicalize().unwrap_or(path)));
        }
        self
    }

    /// The same, enforcing memory limits by the watchdog even where control groups can be made. Has
    /// an effect only before the first clone.
    #[must_use]
    pub fn watch_memory(mut self) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.watch_memory = true;
        }
        self
    }

    /// The same, killing every process of a container when one passes the limit. Has an effect only
    /// before the first clone.
    #[must_use]
    pub fn kill_groups(mut self) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.kill_groups = true;
        }
        self
    }

    /// Finds out, by building one, whether and by which right containers can be made. The answer is
    /// kept.
    pub async fn check(&self) -> Result<Privilege, RuntimeError> {
        self.inner.privilege.get_or_init(|| self.find_privilege()).await.clone()
    }

    async fn find_privilege(&self) -> Result<Privilege, RuntimeError> {
        let root = if nix::unistd::geteuid().is_root() {
            match self.probe(Privilege::Root).await {
                Err(StartError::Runtime(error)) => return Err(error),
                Err(error) => error.to_string(),
                Ok(()) => return Ok(Privilege::Root),
            }
        } else {
            "this is an ordinary user".to_owned()
        };
        match self.probe(Privilege::UserNamespace).await {
            Err(StartError::Runtime(error)) => Err(error),
            Err(error) => Err(RuntimeError::Unavailable { root, user_namespace: error.to_string() }),
            Ok(()) => Ok(Privilege::UserNamespace),
        }
    }

    async fn probe(&self, privilege: Privilege) -> Result<(), StartError> {
        // With a user, since root of a half-mapped user namespace may have all rights and still
        // cannot change users.
        let (name, hostname) = ("probe".to_owned(), "probe".to_owned());
        let (uid, gid) = (Some(PROBE_USER), Some(PROBE_USER));
        let spec = ContainerSpec { name, uid, gid, hostname, ..ContainerSpec::default() };
        let order = Order { privilege, spec, task: Task::Probe(self.layout()), cgroup: None };
        start_within_deadline(&self.inner.launcher, &order, Vec::new()).await.map(drop)
    }

    /// Starts a container. When this returns, the kernel has accepted its command.
    pub async fn start(&self, mut spec: ContainerSpec) -> Result<Container, StartError> {
        let privilege = self.check().await?;
        validate(&spec)?;
        spec.hostname.truncate(spec.hostname.floor_char_boundary(MAX_HOSTNAME));
        for mount in &mut spec.mounts {
            let found = tokio::fs::canonicalize(&mount.source).await;
            let missing =
                |error: io::Error| StartError::MountSource { path: mount.source.clone(), reason: error.to_string() };
            mount.source = found.map_err(missing)?;
        }
        if let Some(tools) = &mut spec.tools {
            // Links would lead elsewhere once the host's root is out of sight.
            tools.shown.retain_mut(|(source, _)| source.canonicalize().map(|found| *source = found).is_ok());
        }
        let group = match spec.memory_limit {
            Some(limit) if !self.inner.watch_memory => {
                let home = self.inner.cgroups.get_or_init(|| async { Home::find() }).await;
                home.as_ref().and_then(|home| home.create(limit, self.inner.kill_groups).ok())
            }
            _ => None,
        };
        let mut layout = self.layout();
        layout.cgroup_view = group.as_ref().map(super::memory::Cgroup::view);
        let cgroup = group.as_ref().map(|group| group.procs().display().to_string());
        let (pipes, files) = connect(&spec)?;
        let stdin = spec.stdin;
        let order = Order { privilege, spec, task: Task::Start(layout), cgroup };
        let mut started = match start_within_deadline(&self.inner.launcher, &order, files).await {
            Ok(started) => started,
            Err(error) => {
                if let Some(group) = &group {
                    group.remove().await;
                }
                return Err(error);
            }
        };
        let streams = streams(pipes, &mut started, stdin)?;
        let limit = match (order.spec.memory_limit, group) {
            (None, _) => Limit::None,
            (Some(_), Some(group)) if started.in_cgroup => Limit::Cgroup(group),
            (Some(bytes), _) => Limit::Watchdog(Watchdog::new(bytes, self.inner.kill_groups)),
        };
        let cgroup = order.cgroup.filter(|_| started.in_cgroup);
        let runtime = Arc::clone(&self.inner);
        Ok(Container::new(Parts { runtime, privilege, spec: order.spec, cgroup, started, streams, limit }))
    }

    fn layout(&self) -> Layout {
        Layout {
            root: self.inner.root.display().to_string(),
            hidden: self.inner.hidden.iter().map(|path| path.display().to_string()).collect(),
            cgroup_view: None,
        }
    }
}

/// Removes what runtimes left behind that were killed. Only empty directories can go, so nothing
/// can be lost.
fn sweep(state_dir: &Path) {
    for entry in fs::read_dir(state_dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(ROOT_PREFIX)?.split('-').next());
        if maker.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}
