//! `gantry dev`: a pipeline on this machine. Simulated GitLab, simulated Kubernetes and the daemon run in this process, but they talk over
//! the same sockets and run the same code as the separate commands.

mod api;
mod log_view;
mod project;
mod report;
mod world;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::commands::{interrupted, listen_address, runtime};
use crate::helper_binary;

use api::{Api, Created};
use project::Project;
use world::World;

/// Exit code for input that cannot be used.
const BAD_INPUT: u8 = 2;

/// Exit code after an interruption, as shells give it for SIGINT.
const INTERRUPTED: u8 = 130;

/// How often the pipeline is looked at: often enough that logs look live.
const LOOK: Duration = Duration::from_millis(200);

/// Where the page is if nothing else is said.
const PAGE: &str = "127.0.0.1:8080";

/// Arguments of `gantry dev`.
#[derive(Debug, Args)]
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
    let helper = helper_binary::load()?;
    runtime()?.block_on(async {
        let project = match Project::open(args.repo.as_deref(), args.git_ref.as_deref()) {
            Ok(project) => project,
            Err(bad) => return Ok(refuse(&bad)),
        };
        println!("gantry dev runs the scripts of {} with the tools of this machine,", project.title());
        println!("in containers that are local processes. Images are only names here.\n");
        let listen = args.serve.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let world = match World::start(&project, helper, listen).await? {
            Ok(world) => world,
            Err(bad) => return Ok(refuse(&bad)),
        };
        if args.serve.is_some() {
            println!("The page: {}\n", world.gitlab_url());
        }
        let finished = tokio::select! {
            code = pipeline(&world, &project, &args.jobs) => Some(code),
            () = interrupted() => None,
        };
        let code = match finished {
            None => {
                eprintln!("\ninterrupted: ending the jobs");
                Ok(ExitCode::from(INTERRUPTED))
            }
            Some(Ok(code)) if args.serve.is_some() => look_around(&world).await.map(|()| code),
            Some(code) => code,
        };
        world.end().await;
        code
    })
}

/// Keeps everything running until somebody has seen enough.
async fn look_around(world: &World) -> anyhow::Result<()> {
    println!(
        "\nThe page stays at {}: look around, run pipelines, retry jobs. Ctrl-C ends everything.",
        world.gitlab_url()
    );
    let mut ended = std::pin::pin!(interrupted());
    loop {
        if let Some(problem) = world.runner_problem() {
            anyhow::bail!(problem);
        }
        tokio::select! {
            () = &mut ended => return Ok(()),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

fn refuse(bad: &BadInput) -> ExitCode {
    eprintln!("gantry dev: {}", bad.0);
    ExitCode::from(BAD_INPUT)
}

async fn pipeline(world: &World, project: &Project, jobs: &[String]) -> anyhow::Result<ExitCode> {
    let api = Api::new(world.gitlab_url());
    let created = match api.create_pipeline(project, jobs).await? {
        Created::Pipeline { id, warnings } => {
            for warning in warnings {
                eprintln!("\x1b[0;33mWARNING: {warning}\x1b[0;m");
            }
            id
        }
        Created::Refused(problems) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            return Ok(ExitCode::from(BAD_INPUT));
        }
    };
    let mut view = log_view::LogView::default();
    loop {
        let pipeline = api.pipeline(created).await?;
        for job in &pipeline.jobs {
            view.show(&api, job).await?;
        }
        if pipeline.is_over() && pipeline.jobs.iter().all(|job| view.is_complete(job)) {
            println!("{}", report::table(&pipeline, &view));
            let problem = world.runner_problem();
            if let Some(problem) = problem {
                eprintln!("gantry dev: {problem}");
            }
            return Ok(if pipeline.status == "success" { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        if let Some(problem) = world.runner_problem() {
            anyhow::bail!(problem);
        }
        tokio::time::sleep(LOOK).await;
    }
}
