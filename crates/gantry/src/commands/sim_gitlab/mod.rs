//! `gantry sim gitlab`: the simulated coordinator alone.

mod settings;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use gantry_sim_gitlab::{Config, SimGitlab};

use crate::commands::{interrupted, listen_address, output, runtime};

use settings::{SettingsArgs, TimingArgs};

/// What can be asked of it besides what runners ask; docs/simulated-gitlab.md has all of it.
const PATHS: &str = "\
Open the address in a browser to see pipelines and logs. The same for programs, JSON in and out:
  POST /sim/pipelines {\"repo\": \"group/project\", \"ref\": \"main\"}   run a .gitlab-ci.yml
  POST /sim/jobs {\"steps\": [{\"name\": \"script\", \"script\": [\"date\"]}]}   queue one job payload
  GET  /sim/pipelines, /sim/jobs, /sim/jobs/<id>, /sim/jobs/<id>/trace?offset=<n>, /sim/jobs/<id>/artifacts
  POST /sim/jobs/<id>/cancel, cancel?force=true, retry, play, erase, trace/lock?seconds=<n>
  POST /sim/pipelines/<id>/cancel
  GET  /sim/violations, /sim/requests   broken rules, and what was asked and answered
  POST /sim/faults {\"endpoint\": \"trace\", \"fault\": \"status\", \"status\": 503, \"count\": 3}
       also \"delay\", \"drop\", \"hang\", \"cut\", \"stall\"; GET and DELETE /sim/faults
  PUT  /sim/mode {\"mode\": \"maintenance\"}   or \"migration\", \"normal\"
  GET, POST /sim/runners; PATCH, DELETE /sim/runners/<id>
docs/simulated-gitlab.md has all of it, with examples.";

/// Arguments of `gantry sim gitlab`.
#[derive(Debug, Args)]
#[command(after_help = PATHS)]
pub(crate) struct SimGitlabArgs {
    /// Where to listen, such as 127.0.0.1:8080
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = listen_address)]
    listen: SocketAddr,
    /// URL under which runners and job pods reach the simulator
    #[arg(long, value_name = "URL")]
    external_url: Option<String>,
    /// A git repository to serve, as group/project=directory; may be repeated
    #[arg(long = "repo", value_name = "NAME=DIR", value_parser = repo)]
    repos: Vec<(String, PathBuf)>,
    /// Token of the runner that exists from the start; random if absent
    #[arg(long, value_name = "glrt-…")]
    token: Option<String>,
    /// Token with which runners may register
    #[arg(long, value_name = "TOKEN")]
    registration_token: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    timing: TimingArgs,
}

fn repo(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, dir)) if !name.is_empty() && !dir.is_empty() => Ok((name.to_owned(), PathBuf::from(dir))),
        _ => Err("write NAME=DIR, such as group/project=/srv/project".to_owned()),
    }
}

/// Serves until interrupted.
pub(crate) fn main(args: SimGitlabArgs) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let config = Config {
            external_url: args.external_url,
            repos: args.repos,
            runner_token: args.token,
            registration_token: args.registration_token,
            timing: args.timing.timing(),
            settings: args.settings.settings(),
            ..Config::new(args.listen)
        };
        let sim = SimGitlab::bind(config).await.context("the simulated GitLab cannot start")?;
        output(&format!("simulated GitLab: {}\nrunner token:     {}\n", sim.url(), sim.runner_token()))?;
        sim.serve(interrupted()).await?;
        Ok(ExitCode::SUCCESS)
    })
}
