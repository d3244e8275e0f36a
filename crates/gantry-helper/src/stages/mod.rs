//! The stages that run in the helper container, each in a task of its own that reports to the
//! engine. Dropping the task stops the stage and kills what it has started.

mod ahead;
mod artifacts;
mod caches;
mod cleanup;
mod file_variables;
mod movers;
pub(crate) mod ownership;
mod prepare;
mod script_environment;
pub(crate) mod sources;
pub(crate) mod temporary;
mod variables;

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_core::Ending;
use gantry_wire::plan::{Action, PodPlan, StagePlan};
use gantry_wire::shim::SecretText;
use gantry_wire::stage::JobStatus;
use nix::sys::signal::{Signal, killpg};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{AccessFlags, Pid, access};
use tokio::net::TcpStream;

use crate::layout::Layout;
use crate::outlet::Outlet;
use crate::ports::{Exit, Process as _, ProcessEvent, ScriptSetup, StageTry, Workshop};
use crate::process::launch::{Launched, launch};
use crate::process::reaper::Reaper;
use crate::{tasks, trees};

pub(crate) use variables::is_traced;

/// What a shell ends with when it cannot find a command.
pub(crate) const COMMAND_NOT_FOUND: i32 = 127;

/// Most of what a program said last that is read: a line of it.
const END_OF_ERRORS: u64 = 2048;

/// What a stage works with.
pub(crate) struct StageContext {
    pub(crate) plan: Arc<PodPlan>,
    /// Index of the stage in the plan.
    pub(crate) stage: usize,
    /// 1 for the first try.
    pub(crate) attempt: u32,
    pub(crate) status: JobStatus,
    pub(crate) layout: Layout,
    pub(crate) reaper: Reaper,
    pub(crate) outlet: Outlet,
    /// What was begun for a later stage.
    pub(crate) ahead: ahead::Slot,
}

/// Does the stages in this container, with its tools and its files.
pub(crate) struct Tools {
    pub(crate) layout: Layout,
    pub(crate) reaper: Reaper,
    /// The one that the helper container was started with; the agent's own lets everybody write to
    /// what it makes.
    pub(crate) inherited_umask: Mode,
    /// What was begun for a later stage.
    pub(crate) ahead: ahead::Slot,
}

impl Tools {
    /// What is made from now on gets the modes that the job wants.
    fn set_umask(&self, plan: &PodPlan) {
        if plan.keep_umask {
            umask(self.inherited_umask);
        }
    }
}

impl Workshop for Tools {
    fn perform(&self, work: StageTry, outlet: Outlet) -> BoxFuture<'static, Result<(), Ending>> {
        let StageTry { plan, stage, attempt, status } = work;
        self.set_umask(&plan);
        let (layout, reaper) = (self.layout.clone(), self.reaper.clone());
        let ahead = Arc::clone(&self.ahead);
        let context = StageContext { plan, stage, attempt, status, layout, reaper, outlet, ahead };
        async move {
            let plan = Arc::clone(&context.plan);
            match plan.stages.get(context.stage) {
                Some(stage) => perform(&context, stage).await,
                None => Ok(()),
            }
        }
        .boxed()
    }

    fn answers(&self, port: u16) -> BoxFuture<'static, bool> {
        async move {
            for address in [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)] {
                if TcpStream::connect((address, port)).await.is_ok() {
                    return true;
                }
            }
            false
        }
        .boxed()
    }

    fn prepare(&self, setup: ScriptSetup) -> BoxFuture<'static, Result<Vec<(String, SecretText)>, Ending>> {
        self.set_umask(&setup.plan);
        script_environment::prepare(setup, self.layout.clone()).boxed()
    }
}

async fn perform(context: &StageContext, stage: &StagePlan) -> Result<(), Ending> {
    match &stage.action {
        Action::Sources(_) if context.attempt == 1 => ahead::begin(context),
        Action::Sources(_) | Action::RestoreCache(_) => {}
        _ => ahead::give_up(context),
    }
    match &stage.action {
        Action::Prepare => prepare::run(context).await,
        Action::Sources(sources) => sources::run(context, sources).await,
        // Beside git there may have been too little memory for what was begun.
        Action::RestoreCache(_) if ahead::end(context).await => Ok(()),
        Action::RestoreCache(work) => caches::restore(context, work).await,
        Action::SaveCache(work) => caches::save(context, work).await,
        Action::DownloadArtifacts(downloads) => artifacts::download(context, downloads).await,
        Action::UploadArtifacts { artifacts, .. } => artifacts::upload(context, artifacts).await,
        Action::Cleanup => cleanup::run(context).await,
        _ => Err(Ending::Runner {
            message: format!("this helper does not know how to do the stage {}: use a newer helper image", stage.name),
        }),
    }
}

impl StageContext {
    /// Name of the stage, for messages.
    pub(crate) fn name(&self) -> &str {
        self.plan.stages.get(self.stage).map_or("", |stage| stage.name.as_str())
    }

    /// Runs a program with its output in the log.
    pub(crate) async fn tool(&self, command: Command) -> io::Result<Exit> {
        Ok(self.told(launch(&self.reaper, command)?).await)
    }

    /// Waits for the end of what runs already, with its output in the log.
    async fn told(&self, mut process: Launched) -> Exit {
        loop {
            match process.next().await {
                ProcessEvent::Output(bytes) => self.outlet.output(bytes).await,
                ProcessEvent::Ended(exit) => return exit,
            }
        }
    }

    /// Runs a program whose output nobody wants.
    pub(crate) async fn quiet_tool(&self, command: Command) -> io::Result<Exit> {
        let mut process = launch(&self.reaper, command)?;
        loop {
            if let ProcessEvent::Ended(exit) = process.next().await {
                return Ok(exit);
            }
        }
    }

    /// Runs a program for the sake of its standard output, which is in a file of ours without a
    /// name; `None` if it does not end with 0.
    pub(crate) async fn answer_of(&self, mut command: Command) -> io::Result<Option<File>> {
        let mut answer = tempfile::tempfile_in(self.layout.agent_dir())?;
        command.stdout(answer.try_clone()?).stderr(Stdio::null());
        let exit = self.wait_for(command).await?;
        answer.rewind()?;
        Ok(exit.success().then_some(answer))
    }

    /// Runs a program whose output nobody wants, but for the last line of its standard error.
    pub(crate) async fn complaint_of(&self, mut command: Command) -> io::Result<(Exit, String)> {
        let mut errors = tempfile::tempfile_in(self.layout.agent_dir())?;
        command.stdout(Stdio::null()).stderr(errors.try_clone()?);
        let exit = self.wait_for(command).await?;
        let length = errors.metadata()?.len();
        errors.seek(SeekFrom::Start(length.saturating_sub(END_OF_ERRORS)))?;
        let mut text = Vec::new();
        errors.take(END_OF_ERRORS).read_to_end(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
        Ok((exit, last.unwrap_or_default().to_owned()))
    }

    /// Runs a program whose output is taken care of.
    async fn wait_for(&self, mut command: Command) -> io::Result<Exit> {
        let child = command.stdin(Stdio::null()).process_group(0).spawn()?;
        let group = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        let exit = self.reaper.register(group);
        let mut running = Running { group, has_ended: false };
        let exit = exit.await.map_err(io::Error::other)?;
        running.has_ended = true;
        Ok(exit)
    }

    /// Why a tool of the helper image could not be started. A job may hide the image's tools by a
    /// variable of its own.
    pub(crate) fn cannot_start(&self, tool: &str, error: &io::Error) -> Ending {
        let own_path = std::env::var_os("PATH").unwrap_or_default();
        let is_there =
            std::env::split_paths(&own_path).any(|directory| access(&directory.join(tool), AccessFlags::X_OK).is_ok());
        if is_there && self.plan.environment.iter().any(|variable| variable.key == "PATH") {
            return Ending::StageFailed {
                stage: self.name().to_owned(),
                message: format!(
                    "the variable PATH of this job hides {tool} of the helper image ({error}): take PATH out of the job's variables, and \
                     extend it in the script, as in export PATH=\"/opt/tool/bin:$PATH\""
                ),
                exit_code: COMMAND_NOT_FOUND,
            };
        }
        let message = if error.kind() == io::ErrorKind::NotFound {
            format!("there is no {tool} in the helper image: use one that has it, such as gitlab-runner-helper")
        } else {
            format!("{tool} cannot be started in the helper container: {error}")
        };
        Ending::HelperUnusable { message }
    }

    /// Makes the project's directory, if it is not there.
    pub(crate) async fn make_project_dir(&self) -> Result<(), Ending> {
        self.make_directory(&self.plan.paths.project_dir).await
    }

    /// Makes a directory of the job below that of all builds. What an earlier job has put in its
    /// place goes.
    pub(crate) async fn make_directory(&self, directory: &str) -> Result<(), Ending> {
        let (base, path) = (PathBuf::from(&self.plan.paths.builds_dir), PathBuf::from(directory));
        let made = tasks::blocking(move || trees::make_below(&base, &path)).await.and_then(|result| result);
        let replaced = made.map_err(|error| self.trouble(&format!("cannot make the directory {directory}"), &error))?;
        for path in replaced {
            let text = format!("{} was no directory and has been replaced by one", path.display());
            self.outlet.warning(text).await;
        }
        Ok(())
    }

    /// A failure of this stage that the pod itself is to blame for.
    pub(crate) fn trouble(&self, what: &str, error: &io::Error) -> Ending {
        Ending::Runner { message: format!("{} failed in the pod: {what}: {error}", self.name()) }
    }
}

/// A process group that ends with the stage that has started it.
struct Running {
    group: Pid,
    has_ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended {
            // One without members has ended already.
            let _ = killpg(self.group, Signal::SIGKILL);
        }
    }
}

/// The pod's name: a container's host name is that unless the pod says otherwise.
pub(crate) fn host_name() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
