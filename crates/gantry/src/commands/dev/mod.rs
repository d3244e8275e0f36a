//! `gantry dev`: a pipeline on this machine. Simulated GitLab, simulated Kubernetes and the daemon
//! run in this process, but they talk over the same sockets and run the same code as the separate
//! commands.

mod api;
mod args;
mod caches;
mod cluster;
mod collect;
mod engine;
mod follow;
mod git;
mod given;
mod image_files;
mod kept_images;
mod last_run;
mod listing;
mod log_view;
mod project;
mod report;
mod revision;
mod scratch;
mod screen;
mod session;
mod shell;
mod shown_text;
mod signals;
mod submodules;
mod tools;
mod which;
mod work_tree;
mod world;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::commands::runtime;
use crate::{exit_status, helper_binary};

use api::{Api, Request};
use args::DevArgs as Args;
use cluster::Target;
use engine::Engine;
use given::Given;
use last_run::LastRun;
use project::{Project, ProjectOptions};
use scratch::Scratch;
use screen::{Lost, Screen};
use session::Session;
use signals::{BROKEN_PIPE, Signals};
use which::Which;
pub(super) use world::spawn;
use world::{Images, Places, Pods, World};

pub(crate) use args::DevArgs;
pub(crate) use caches::{CACHES, IMAGES};
pub(crate) use given::OWN_FILE;
pub(crate) use which::CI_FILE;

/// Directory of a run with the programs of the helper image.
const HELPER_IMAGE: &str = "helper-image";

/// How long the end waits for output that a stopped terminal does not take.
const REMAINING_OUTPUT: Duration = Duration::from_secs(2);

/// Why there is nothing to run, in words for the user.
#[derive(Debug)]
struct BadInput(String);

/// Runs a pipeline to its end.
pub(crate) fn main(args: &DevArgs) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let mut scratch = None;
    let code = runtime.block_on(run(args, &mut scratch));
    // Without a bound a write that a stopped terminal does not take would hold the process.
    runtime.shutdown_timeout(REMAINING_OUTPUT);
    // Last: what ends in disorder may have been writing there.
    drop(scratch);
    code
}

/// What is there before the first job.
enum Prepared {
    /// Something to run.
    Session(Box<Session>),
    /// There was only something to show.
    Shown,
}

async fn run(args: &Args, scratch: &mut Option<Scratch>) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let helper = helper_binary::load()?;
    let mut screen = Screen::new();
    let scratch = scratch.insert(Scratch::make()?);
    let prepared = tokio::select! {
        received = signals.next() => return Ok(received.exit_code()),
        prepared = prepare(args, scratch, &mut screen) => prepared,
    };
    let prepared = match prepared {
        Err(error) if is_unread(&error) => return Ok(BROKEN_PIPE.exit_code()),
        prepared => prepared?,
    };
    match prepared {
        Ok(Prepared::Session(session)) => session.run(helper, &mut screen, &mut signals).await,
        Ok(Prepared::Shown) => Ok(ExitCode::SUCCESS),
        Err(BadInput(problem)) => {
            screen.say(&format!("gantry dev: {problem}")).await;
            Ok(ExitCode::from(exit_status::BAD_INPUT))
        }
    }
}

fn is_unread(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Lost::Unread(_)))
}

/// Finds out what is to be run, says so, and starts the simulators.
async fn prepare(args: &Args, scratch: &Scratch, screen: &mut Screen) -> anyhow::Result<Result<Prepared, BadInput>> {
    let opened = std::env::current_dir()
        .map_err(|error| BadInput(format!("the current directory cannot be used: {error}")))
        .and_then(|here| Which::choose(args, &here))
        .and_then(|which| {
            let wanted = ProjectOptions { git_ref: args.git_ref.as_deref(), is_committed: args.committed };
            let project = Project::open(which, &wanted, scratch.path())?;
            let given = Given::collect(args, project.repository())?;
            Ok((project, given))
        });
    let (project, given) = match opened {
        Ok(opened) => opened,
        Err(bad) => return Ok(Err(bad)),
    };
    let target = match Target::find(args).await {
        Ok(target) => target,
        Err(bad) => return Ok(Err(bad)),
    };
    let engine = match find_engine(args).await {
        Ok(engine) => engine,
        Err(bad) => return Ok(Err(bad)),
    };
    let is_run = !args.list && !args.dry_run;
    let (images, how) = images(target.as_ref(), engine.as_deref());
    let (verb, how) = if is_run { ("runs", format!(",\n{how}\n")) } else { ("would run", "\n\n".to_owned()) };
    screen.print(&format!("gantry dev {verb} {}{how}", project.title())).await?;
    for note in project.notes().iter().chain(&given.note) {
        screen.warn(note).await;
    }
    let caches = cache_directory(&project, screen).await;
    let request = match request(args, given, caches.as_deref()) {
        Ok(request) => request,
        Err(bad) => return Ok(Err(bad)),
    };
    let places = Places {
        dir: scratch.path(),
        caches: caches.as_deref(),
        includes: args.projects.iter().chain(&args.remotes).cloned().collect(),
    };
    if !is_run {
        return show(args, &project, &request, &places, screen).await;
    }
    let pods = target.map_or_else(|| local_pods(scratch, engine), |target| Ok(Pods::In(target)))?;
    let world = match World::start(&project, pods, args.serve, &places).await? {
        Ok(world) => world,
        Err(bad) => return Ok(Err(bad)),
    };
    if args.serve.is_some() {
        screen.print(&format!("The page: {}\n", world.gitlab_url())).await?;
    }
    let api = Rc::new(Api::new(world.gitlab_url())?);
    Ok(Ok(Prepared::Session(Box::new(Session {
        world,
        api,
        project,
        request,
        caches,
        artifacts: args.artifacts.clone(),
        images,
        is_served: args.serve.is_some(),
        is_watching: args.watch,
        shell: args.shell.clone(),
    }))))
}

/// Pods that are processes of this machine. With an engine only the helper container has its tools.
fn local_pods(scratch: &Scratch, engine: Option<Arc<Engine>>) -> anyhow::Result<Pods> {
    let programs = scratch.path().join(HELPER_IMAGE);
    helper_binary::install(&programs)?;
    let helper = tools::helper_image(&programs);
    Ok(match engine {
        Some(engine) => Pods::WithImages(tools::of_helper_alone(helper), engine),
        None => Pods::Here(tools::find(&|name: &str| std::env::var_os(name), helper)),
    })
}

/// What images are to the jobs, and how those run, for the first line.
fn images(target: Option<&Target>, engine: Option<&Engine>) -> (Images, String) {
    match (target, engine) {
        (Some(target), _) => (Images::OfNodes, format!("{}.", target.title())),
        (None, Some(engine)) => (Images::Here, engine.title()),
        (None, None) => {
            let how =
                "with the tools of this machine in containers that are local processes. Images are only names here.";
            (Images::Names, how.to_owned())
        }
    }
}

/// The container engine that `--images` asks for.
async fn find_engine(args: &Args) -> Result<Option<Arc<Engine>>, BadInput> {
    let Some(wanted) = &args.images else { return Ok(None) };
    let directory = caches::images(&|name: &str| std::env::var_os(name));
    let directory = directory
        .ok_or_else(|| BadInput("--images: neither HOME nor XDG_CACHE_HOME names a directory for images".to_owned()))?;
    Ok(Some(Arc::new(Engine::find(wanted, directory).await?)))
}

async fn cache_directory(project: &Project, screen: &mut Screen) -> Option<PathBuf> {
    match caches::directory(project.repository(), &|name: &str| std::env::var_os(name))? {
        Ok(directory) => Some(directory),
        Err(problem) => {
            screen.warn(&problem).await;
            None
        }
    }
}

/// Which pipeline the arguments ask for.
fn request(args: &Args, given: Given, caches: Option<&std::path::Path>) -> Result<Request, BadInput> {
    let mut jobs = args.jobs.clone();
    if args.failed {
        jobs = LastRun::load(caches).map_err(BadInput)?.failed;
    }
    let mut script = None;
    if let Some(job) = &args.shell {
        jobs = vec![job.clone()];
        script = Some((job.clone(), shell::script()));
    }
    Ok(Request { jobs, with_needs: !args.no_needs, start: args.manual.clone(), given, script })
}

/// Shows the plan, and runs nothing.
async fn show(
    args: &Args,
    project: &Project,
    request: &Request,
    places: &Places<'_>,
    screen: &mut Screen,
) -> anyhow::Result<Result<Prepared, BadInput>> {
    let world = match World::without_cluster(project, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), places).await? {
        Ok(world) => world,
        Err(bad) => return Ok(Err(bad)),
    };
    let planned = Api::new(world.gitlab_url())?.plan(project, request).await;
    world.end().await;
    let (plan, warnings) = match planned? {
        Ok(planned) => planned,
        Err(problems) => return Ok(Err(BadInput(problems.join("\n")))),
    };
    for warning in warnings {
        screen.warn(&warning).await;
    }
    let text = if args.list { listing::list(&plan, screen.style) } else { listing::dry_run(&plan, screen.style) };
    screen.print(&text).await?;
    Ok(Ok(Prepared::Shown))
}
