//! One run of `gantry dev` from its first job on: pipelines one after another, and an end in order.

use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use gantry_core::error_chain::chain;
use gantry_daemon::HelperBinaries;

use crate::exit_status;

use super::api::{Api, Created, Pipeline, Request};
use super::follow::Follow;
use super::last_run::LastRun;
use super::project::Project;
use super::screen::Screen;
use super::signals::{BROKEN_PIPE, Received, Signals};
use super::world::{END, Images, World, blocking};
use super::{REMAINING_OUTPUT, collect, is_unread, shell};

/// How often the work tree is looked at for changes.
const LOOK: Duration = Duration::from_secs(1);

/// How long our own GitLab may take to cancel a pipeline before the runner ends its jobs all the
/// same.
const CANCEL: Duration = Duration::from_secs(2);

/// Everything that a run has.
pub(super) struct Session {
    pub(super) world: World,
    pub(super) api: Rc<Api>,
    pub(super) project: Project,
    pub(super) request: Request,
    /// Where the caches of this repository are kept, and what is known of its last run.
    pub(super) caches: Option<PathBuf>,
    /// Where the jobs' artifacts are copied to.
    pub(super) artifacts: Option<PathBuf>,
    /// What images are to its jobs.
    pub(super) images: Images,
    /// Whether there is a page that stays.
    pub(super) is_served: bool,
    /// Whether a change in the work tree begins a new pipeline.
    pub(super) is_watching: bool,
    /// The job whose container somebody wants to be in.
    pub(super) shell: Option<String>,
}

/// How a pipeline went.
enum Outcome {
    Over(Pipeline),
    /// The work tree is another one: its tree.
    Changed(String),
    Signal(Received),
    Failed(anyhow::Error),
}

impl Outcome {
    fn of(done: anyhow::Result<Pipeline>) -> Self {
        match done {
            Ok(pipeline) => Self::Over(pipeline),
            Err(error) if is_unread(&error) => Self::Signal(BROKEN_PIPE),
            Err(error) => Self::Failed(error),
        }
    }
}

impl Session {
    /// Runs pipelines until nothing more is wanted.
    pub(super) async fn run(
        mut self,
        helper: HelperBinaries,
        screen: &mut Screen,
        signals: &mut Signals,
    ) -> anyhow::Result<ExitCode> {
        let mut helper = Some(helper);
        loop {
            let created = self.api.create_pipeline(&self.project, &self.request).await?;
            let id = match created {
                Created::Pipeline { id, warnings } => {
                    for warning in warnings {
                        screen.warn(&warning).await;
                    }
                    id
                }
                Created::Refused(problems) => {
                    screen.say(&format!("gantry dev: {}", problems.join("\n"))).await;
                    if self.is_watching && self.next_change(screen, signals).await {
                        continue;
                    }
                    self.world.end().await;
                    return Ok(ExitCode::from(exit_status::BAD_INPUT));
                }
            };
            let are_more_to_come = self.is_watching || self.is_served;
            let mut follow = Follow::new(Rc::clone(&self.api), id, screen, self.images, are_more_to_come);
            let outcome = tokio::select! {
                received = signals.next() => Outcome::Signal(received),
                done = to_the_end(&mut self.world, &mut helper, self.shell.as_deref(), &mut follow) => Outcome::of(done),
                tree = change(&self.project, self.is_watching) => Outcome::Changed(tree),
            };
            match outcome {
                Outcome::Signal(received) => return self.interrupted(received, &mut follow, signals).await,
                Outcome::Changed(tree) => {
                    let _ = follow.cancel().await;
                    drop(follow);
                    self.take_up(&tree, screen).await;
                }
                Outcome::Over(pipeline) if self.is_watching => {
                    // The next change makes them anew.
                    let _ = self.collect(&pipeline, follow.screen).await;
                    let _ = follow.summarise(&pipeline).await;
                    drop(follow);
                    if !self.next_change(screen, signals).await {
                        self.world.end().await;
                        return Ok(code_of(&pipeline));
                    }
                }
                outcome => return self.finish(outcome, &mut follow, signals).await,
            }
        }
    }

    /// Ends the run after its only pipeline.
    async fn finish(
        self,
        outcome: Outcome,
        follow: &mut Follow<'_>,
        signals: &mut Signals,
    ) -> anyhow::Result<ExitCode> {
        let mut code = match &outcome {
            Outcome::Over(pipeline) => code_of(pipeline),
            _ => ExitCode::FAILURE,
        };
        if let Outcome::Over(pipeline) = &outcome
            && !self.collect(pipeline, follow.screen).await
        {
            code = ExitCode::FAILURE;
        }
        if self.is_served
            && let Outcome::Over(pipeline) = &outcome
        {
            let _ = follow.summarise(pipeline).await;
            if !look_around(&self.world, follow, signals).await {
                code = ExitCode::FAILURE;
            }
            self.world.end().await;
            return Ok(code);
        }
        let left_behind = self.world.left_behind();
        let in_time = tokio::select! {
            in_time = self.world.end() => in_time,
            _ = signals.next() => false,
        };
        if !in_time {
            follow.screen.warn("not everything has ended in time; what is left ends with this process").await;
        }
        if let Some(problem) = left_behind {
            follow.screen.warn(problem).await;
        }
        match outcome {
            Outcome::Over(pipeline) => {
                let _ = follow.summarise(&pipeline).await;
                Ok(code)
            }
            Outcome::Failed(error) => Err(error),
            Outcome::Signal(received) => Ok(received.exit_code()),
            Outcome::Changed(_) => Ok(code),
        }
    }

    /// Ends the jobs, keeps what those before have left, shows what they still say, and the table.
    /// A second signal leaves at once.
    async fn interrupted(
        mut self,
        received: Received,
        follow: &mut Follow<'_>,
        signals: &mut Signals,
    ) -> anyhow::Result<ExitCode> {
        let ending = async {
            // Before the runner hears of it: it would end its jobs as failed, and be the first at
            // times. A GitLab that cannot be asked has no table either.
            let _ = tokio::time::timeout(CANCEL, follow.cancel()).await;
            self.world.stop_runner();
            let last = show_rest(received, &self.world, follow).await;
            // Where nobody reads what is shown, the jobs have left their artifacts all the same.
            let unread = if last.is_none() { follow.look().await.ok() } else { None };
            let kept = match last.as_ref().or(unread.as_ref()) {
                Some(pipeline) => self.keep(pipeline).await,
                None => None,
            };
            if let (Some(kept), Some(_)) = (&kept, &last) {
                self.say_kept(kept, follow.screen).await;
            }
            let in_time = self.world.end().await;
            let Some(pipeline) = last else { return };
            if !in_time {
                follow.screen.warn("not everything has ended in time; what is left ends with this process").await;
            }
            let _ = follow.summarise(&pipeline).await;
        };
        tokio::select! {
            () = ending => {}
            _ = signals.next() => {}
        }
        Ok(received.exit_code())
    }

    /// Keeps what later runs and the user want of a pipeline that is over, and says so. False if
    /// artifacts that were asked for are not there.
    async fn collect(&self, pipeline: &Pipeline, screen: &mut Screen) -> bool {
        let Some(kept) = self.keep(pipeline).await else { return true };
        self.say_kept(&kept, screen).await;
        kept.is_ok()
    }

    /// The same without a word: how many files of artifacts were copied, if any are wanted.
    async fn keep(&self, pipeline: &Pipeline) -> Option<anyhow::Result<usize>> {
        if let Some(directory) = &self.caches {
            LastRun::keep(directory, pipeline);
        }
        Some(collect::artifacts(&self.api, pipeline, self.artifacts.as_ref()?).await)
    }

    async fn say_kept(&self, kept: &anyhow::Result<usize>, screen: &mut Screen) {
        let Some(to) = &self.artifacts else { return };
        let to = to.display();
        match kept {
            Ok(0) => screen.say(&format!("no job has left artifacts for {to}")).await,
            Ok(1) => screen.say(&format!("1 file of the jobs' artifacts is in {to}")).await,
            Ok(count) => screen.say(&format!("{count} files of the jobs' artifacts are in {to}")).await,
            Err(error) => screen.warn(&format!("the artifacts were not copied: {}", chain(error.as_ref()))).await,
        }
    }

    /// Waits for a change of the work tree and takes it up. False if a signal came.
    async fn next_change(&mut self, screen: &mut Screen, signals: &mut Signals) -> bool {
        screen.say("waiting for a change of a file; Ctrl-C ends everything").await;
        let tree = tokio::select! {
            tree = change(&self.project, true) => tree,
            _ = signals.next() => return false,
        };
        self.take_up(&tree, screen).await;
        true
    }

    async fn take_up(&mut self, tree: &str, screen: &mut Screen) {
        let said = match self.project.take_up(tree) {
            Ok(()) => format!("\nsomething has changed: {}", self.project.title()),
            Err(what) => format!("the work tree cannot be read ({what}); the last one is run again"),
        };
        screen.say(&said).await;
    }
}

fn code_of(pipeline: &Pipeline) -> ExitCode {
    if pipeline.status == "success" { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Ready with the tree of the work tree once it is another one than that which is run, and has
/// stayed so for one look.
async fn change(project: &Project, is_watching: bool) -> String {
    let mut last = None;
    loop {
        let Some(work) = project.work_tree().filter(|_| is_watching).cloned() else {
            return std::future::pending().await;
        };
        tokio::time::sleep(LOOK).await;
        // A file that is just being written is looked at again.
        let Ok(Ok(tree)) = blocking(move || work.tree()).await else { continue };
        if project.is_run(&tree) {
            last = None;
        } else if last.as_ref() == Some(&tree) {
            return tree;
        } else {
            last = Some(tree);
        }
    }
}

async fn to_the_end(
    world: &mut World,
    helper: &mut Option<HelperBinaries>,
    shell: Option<&str>,
    follow: &mut Follow<'_>,
) -> anyhow::Result<Pipeline> {
    let concurrent = follow.announce().await?;
    if let Some(helper) = helper.take() {
        world.run_jobs(helper, concurrent).await?;
    }
    if let Some(job) = shell {
        return shell::enter(job, world, follow).await;
    }
    follow.until_over(world).await
}

/// Shows what there still is to show while the runner ends. A terminal that takes nothing is not
/// waited for.
async fn show_rest(received: Received, world: &World, follow: &mut Follow<'_>) -> Option<Pipeline> {
    if received == BROKEN_PIPE {
        return None;
    }
    let showing = async {
        follow.screen.say(&format!("\n{}: ending the jobs; once more leaves at once", received.name)).await;
        follow.until_over(world).await
    };
    let long_enough = async {
        let _ = tokio::time::timeout(END, world.runner_ended()).await;
        tokio::time::sleep(REMAINING_OUTPUT).await;
    };
    tokio::select! {
        shown = showing => shown.ok(),
        () = long_enough => None,
    }
}

/// Keeps everything running until somebody has seen enough. False if the runner has ended by
/// itself.
async fn look_around(world: &World, follow: &mut Follow<'_>, signals: &mut Signals) -> bool {
    let text = format!(
        "\nThe page stays at {}: look around, run pipelines, retry jobs. Ctrl-C ends everything.\n",
        world.gitlab_url()
    );
    let _ = follow.screen.print(&text).await;
    tokio::select! {
        _ = signals.next() => true,
        () = world.runner_ended() => {
            follow.screen.warn("the runner has ended unexpectedly").await;
            false
        }
    }
}
