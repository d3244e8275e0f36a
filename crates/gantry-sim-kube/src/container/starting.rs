//! What starting a container and starting a command in one have in common: checks, pipes, and the
//! order to a new launcher.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use tokio::sync::OnceCell;

use super::{
    channel::Order,
    error::{RuntimeError, StartError},
    memory::Home,
    spec::{ContainerSpec, Privilege},
    streams::Streams,
    supervise::{self, Started},
};

/// A start takes some ten milliseconds. On a machine with far too much to do it may take seconds;
/// after this it is stuck.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Places of a container where no volume can be: they would break what the runtime itself needs
/// there.
const NO_VOLUMES: [&str; 2] = ["/", "/proc"];

/// What all handles to one runtime share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) launcher: PathBuf,
    /// An empty directory: every container mounts its root file system on it, unseen by all others.
    pub(super) root: PathBuf,
    pub(super) hidden: Vec<PathBuf>,
    pub(super) privilege: OnceCell<Result<Privilege, RuntimeError>>,
    /// Where control groups can be made, if anywhere.
    pub(super) cgroups: OnceCell<Option<Home>>,
    pub(super) watch_memory: bool,
    pub(super) kill_groups: bool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.root);
    }
}

pub(super) fn validate(spec: &ContainerSpec) -> Result<(), StartError> {
    let invalid = |text: String| Err(StartError::Invalid(text));
    let strings = spec.args.iter().chain(spec.env.iter().flat_map(|(name, value)| [name, value]));
    if strings.chain([&spec.name, &spec.hostname]).any(|text| text.contains('\0')) {
        return invalid("an argument or environment variable contains a NUL byte".to_owned());
    }
    if let Some((name, _)) = spec.env.iter().find(|(name, _)| name.is_empty() || name.contains('=')) {
        return invalid(format!("{name:?} cannot be the name of an environment variable"));
    }
    let shown = spec.tools.iter().flat_map(|tools| tools.home.iter().chain(tools.shown.iter().map(|(_, place)| place)));
    for target in spec.mounts.iter().map(|mount| &mount.target).chain(shown) {
        let sound = target.is_absolute() && !target.components().any(|part| part == Component::ParentDir);
        if !sound || NO_VOLUMES.iter().any(|place| target == Path::new(place)) {
            return invalid(format!("nothing can be mounted on {}", target.display()));
        }
    }
    Ok(())
}

/// Names what the runtime was doing when something failed.
pub(super) fn setup(step: &'static str) -> impl Fn(io::Error) -> StartError {
    move |error| StartError::Setup { step: step.to_owned(), reason: error.to_string() }
}

/// Makes the pipes of a command, unless it gets a terminal, which is made in the container. Returns
/// the command's side too.
pub(super) fn connect(spec: &ContainerSpec) -> Result<(Streams, Vec<OwnedFd>), StartError> {
    if spec.tty {
        return Ok((Streams::default(), Vec::new()));
    }
    Streams::pipes(spec.stdin).map_err(setup("make pipes"))
}

/// The pipes, or the terminal that the launcher has sent instead.
pub(super) fn streams(pipes: Streams, started: &mut Started, stdin: bool) -> Result<Streams, StartError> {
    match started.terminal.take() {
        Some(controller) => Streams::terminal(controller, stdin).map_err(setup("open the terminal")),
        None => Ok(pipes),
    }
}

/// Gives an order to a new launcher. The files are closed here when the launcher has them.
pub(super) async fn start_within_deadline(
    launcher: &Path,
    order: &Order,
    files: Vec<OwnedFd>,
) -> Result<Started, StartError> {
    let start = supervise::start(launcher, order, &files);
    match tokio::time::timeout(START_DEADLINE, start).await {
        Ok(started) => started,
        Err(_) => Err(StartError::Deadline { seconds: START_DEADLINE.as_secs() }),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Mount, *};

    fn with_target(target: &str) -> ContainerSpec {
        let mount = Mount { source: "/tmp".into(), target: target.into(), read_only: false };
        ContainerSpec { mounts: vec![mount], ..ContainerSpec::default() }
    }

    #[test]
    fn impossible_mount_targets_are_refused() {
        for target in ["relative", "/", "/proc", "/a/../b", ""] {
            assert!(validate(&with_target(target)).is_err(), "{target:?}");
        }
        assert!(validate(&with_target("/builds/group/x.tmp")).is_ok());
    }

    #[test]
    fn impossible_variables_are_refused() {
        for (name, value) in [("A=B", ""), ("", "x"), ("A", "x\0y")] {
            let env = vec![(name.to_owned(), value.to_owned())];
            assert!(validate(&ContainerSpec { env, ..ContainerSpec::default() }).is_err(), "{name:?}");
        }
    }
}
