//! `gantry dev`: a pipeline on this machine. Simulated GitLab, simulated Kubernetes and the daemon run in this process, but they talk over
//! the same sockets and run the same code as the separate commands.

mod api;
mod follow;
mod git;
mod log_view;
mod project;
mod report;
mod revision;
mod scratch;
mod screen;
mod signals;
mod submodules;
mod tools;
mod world;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use gantry_daemon::HelperBinaries;

use crate::commands::{listen_address, runtime};
use crate::helper_binary;

use api::{Api, Created, Pipeline};
use follow::Follow;
use project::Project;
use scratch::Scratch;
use screen::{Screen, Unread};
use signals::{BROKEN_PIPE, Received, Signals};
use world::{END, World};

/// Exit code for input that cannot be used.
const BAD_INPUT: u8 = 2;

/// Where the page is if nothing else is said.
const PAGE: &str = "127.0.0.1:8080";

/// How long the end waits for output that a stopped terminal does not take.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What the scripts get of this machine, and how a run ends.
const ABOUT: &str = "\
Scripts run with the tools of this machine: the system's, and your own by your PATH and by what variables such as
RUSTUP_HOME, NVM_DIR, PYENV_ROOT, GOPATH or JAVA_HOME name. In the containers your home is empty but for the
directories of such tools; what a job writes there goes with its container. Keys, credentials and settings of the
home (.ssh, .aws, .gitconfig, .netrc, .config, ...) are not shown to scripts: give a job what it needs by variables.

A commit is run, not the work tree. Output that is no terminal is plain, and so is all output with NO_COLOR set.
Ctrl-C ends the jobs and shows the table; a second one leaves at once. Exit code: 0 if the pipeline succeeds, 1 if
not, 2 if there is nothing to run, 128 and the number of the signal if one ends the pipeline.";

/// Arguments of `gantry dev`.
#[derive(Debug, Args)]
#[command(after_long_help = ABOUT)]
pub(crate) struct DevArgs {
    /// Your own git repository; its .gitlab-ci.yml is run. Default: a sample project
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
    /// Branch, tag or commit; default: what is checked out
    #[arg(long = "ref", value_name = "REF", requires = "repo")]
    git_ref: Option<String>,
    /// Run only this job; may be repeated
    #[arg(long = "job", value_name = "NAME")]
    jobs: Vec<String>,
    /// Keep running after the pipeline and show everything on a page; Ctrl-C ends it. ADDR is the page's, such as
    /// 127.0.0.1:9000
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = PAGE, value_parser = listen_address)]
    serve: Option<SocketAddr>,
}

/// Why there is nothing to run, in words for the user.
#[derive(Debug)]
struct BadInput(String);

/// Runs a pipeline to its end.
pub(crate) fn main(args: &DevArgs) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let mut scratch = None;
    let code = runtime.block_on(run(args, &mut scratch));
    // Without a bound a write that a stopped terminal does not take would hold the process.
    runtime.shutdown_timeout(LAST_WORDS);
    // Last: what ends in disorder may have been writing there.
    drop(scratch);
    code
}

/// A pipeline that is there and waits for its runner.
struct Prepared {
    world: World,
    api: Api,
    pipeline: u64,
}

async fn run(args: &DevArgs, scratch: &mut Option<Scratch>) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let helper = helper_binary::load()?;
    let mut screen = Screen::new();
    let scratch = scratch.insert(Scratch::make()?);
    let prepared = tokio::select! {
        received = signals.next() => return Ok(received.exit_code()),
        prepared = prepare(args, scratch, &mut screen) => prepared,
    };
    let prepared = match prepared {
        Err(error) if error.is::<Unread>() => return Ok(BROKEN_PIPE.exit_code()),
        prepared => prepared?,
    };
    let Prepared { mut world, api, pipeline } = match prepared {
        Ok(prepared) => prepared,
        Err(BadInput(problem)) => {
            screen.say(&format!("gantry dev: {problem}")).await;
            return Ok(ExitCode::from(BAD_INPUT));
        }
    };
    let mut follow = Follow::new(api, pipeline, &mut screen);
    let outcome = tokio::select! {
        received = signals.next() => Outcome::Signal(received),
        done = to_the_end(&mut world, helper, &mut follow) => Outcome::of(done),
    };
    if let Outcome::Signal(received) = outcome {
        return interrupted(received, world, &mut follow, &mut signals).await;
    }
    let mut code = match &outcome {
        Outcome::Over(pipeline) if pipeline.status == "success" => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    };
    if args.serve.is_some()
        && let Outcome::Over(pipeline) = &outcome
    {
        let _ = follow.summarise(pipeline).await;
        if !look_around(&world, &mut follow, &mut signals).await {
            code = ExitCode::FAILURE;
        }
        world.end().await;
        return Ok(code);
    }
    let left_behind = world.left_behind();
    let in_time = tokio::select! {
        in_time = world.end() => in_time,
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
    }
}

/// How the pipeline went.
enum Outcome {
    Over(Pipeline),
    Signal(Received),
    Failed(anyhow::Error),
}

impl Outcome {
    fn of(done: anyhow::Result<Pipeline>) -> Self {
        match done {
            Ok(pipeline) => Self::Over(pipeline),
            Err(error) if error.is::<Unread>() => Self::Signal(BROKEN_PIPE),
            Err(error) => Self::Failed(error),
        }
    }
}

/// Finds out what is to be run, says so, starts the simulators and makes the pipeline.
async fn prepare(args: &DevArgs, scratch: &Scratch, screen: &mut Screen) -> anyhow::Result<Result<Prepared, BadInput>> {
    let project = match Project::open(args.repo.as_deref(), args.git_ref.as_deref(), scratch.path()) {
        Ok(project) => project,
        Err(bad) => return Ok(Err(bad)),
    };
    let head = format!(
        "gantry dev runs {},\nwith the tools of this machine in containers that are local processes. Images are only names here.\n",
        project.title()
    );
    screen.print(&head).await?;
    for note in project.notes() {
        screen.warn(note).await;
    }
    let listen = args.serve.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let tools = tools::find(&|name| std::env::var_os(name));
    let world = match World::start(&project, tools, listen, scratch.path()).await? {
        Ok(world) => world,
        Err(bad) => return Ok(Err(bad)),
    };
    if args.serve.is_some() {
        screen.print(&format!("The page: {}\n", world.gitlab_url())).await?;
    }
    let api = Api::new(world.gitlab_url())?;
    match api.create_pipeline(&project, &args.jobs).await? {
        Created::Pipeline { id, warnings } => {
            for warning in warnings {
                screen.warn(&warning).await;
            }
            Ok(Ok(Prepared { world, api, pipeline: id }))
        }
        Created::Refused(problems) => {
            world.end().await;
            Ok(Err(BadInput(problems.join("\n"))))
        }
    }
}

async fn to_the_end(world: &mut World, helper: HelperBinaries, follow: &mut Follow<'_>) -> anyhow::Result<Pipeline> {
    follow.announce().await?;
    world.run_jobs(helper).await?;
    follow.until_over(world).await
}

/// Ends the jobs, shows what they still say, and the table. A second signal leaves at once.
async fn interrupted(
    received: Received,
    mut world: World,
    follow: &mut Follow<'_>,
    signals: &mut Signals,
) -> anyhow::Result<ExitCode> {
    world.stop_runner();
    let ending = async {
        // A GitLab that cannot be asked has no table either.
        let _ = follow.cancel().await;
        let last = last_words(received, &world, follow).await;
        let in_time = world.end().await;
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

/// Shows what there still is to show while the runner ends. A terminal that takes nothing is not waited for.
async fn last_words(received: Received, world: &World, follow: &mut Follow<'_>) -> Option<Pipeline> {
    if received == BROKEN_PIPE {
        return None;
    }
    let showing = async {
        follow.screen.say(&format!("\n{}: ending the jobs; once more leaves at once", received.name)).await;
        follow.until_over(world).await
    };
    let long_enough = async {
        let _ = tokio::time::timeout(END, world.runner_ended()).await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    tokio::select! {
        shown = showing => shown.ok(),
        () = long_enough => None,
    }
}

/// Keeps everything running until somebody has seen enough. False if the runner has ended by itself.
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
