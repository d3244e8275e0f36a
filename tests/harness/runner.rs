//! One `gantry run` with a namespace, a service account and a tag of its own, so that many can
//! share a world.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use reqwest::Url;

use crate::http;
use crate::process::{Process, last_lines};
use crate::until::until;
use crate::world::{IMAGE, World};

/// How long a runner may take until it asks for jobs, on a busy machine.
const START: Duration = Duration::from_secs(30);

/// What can be chosen about a runner. Texts are lines of its configuration file.
#[derive(Clone, Debug)]
pub struct RunnerOptions {
    /// Its tag and the prefix of everything that belongs to it; unique in its world.
    pub name: String,
    /// `concurrent`.
    pub concurrent: u32,
    /// `--log-level`.
    pub log_level: &'static str,
    /// Lines before the first table.
    pub global: String,
    /// Lines of `[[runners]]`.
    pub runner: String,
    /// Lines of `[runners.kubernetes]`, and tables below.
    pub kubernetes: String,
    /// `helper_image`.
    pub helper_image: String,
    /// URL of GitLab, when a proxy stands in front of it.
    pub gitlab: Option<String>,
    /// URL of the API server, when a proxy stands in front of it.
    pub kube: Option<String>,
    /// Authorities that are trusted in place of the cluster's own.
    pub ca_pem: Option<String>,
    /// Of another runner, when this one shares them.
    pub place: Option<RunnerPlacement>,
    /// The program, when it is not the world's.
    pub program: Option<PathBuf>,
    /// Variables of its process.
    pub environment: Vec<(String, String)>,
}

/// Where a runner's pods are, with whose rights they are made, and which jobs come to it.
#[derive(Clone, Debug)]
pub struct RunnerPlacement {
    /// The namespace.
    pub namespace: String,
    /// Token of the service account.
    pub account_token: String,
    /// Jobs with this tag come.
    pub tag: String,
}

impl RunnerOptions {
    /// Every choice at its default.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            concurrent: 4,
            log_level: "debug",
            global: String::new(),
            runner: String::new(),
            kubernetes: String::new(),
            helper_image: "helper:1".to_owned(),
            gitlab: None,
            kube: None,
            ca_pem: None,
            place: None,
            program: None,
            environment: Vec::new(),
        }
    }
}

/// A running `gantry run`.
#[derive(Debug)]
pub struct Runner {
    /// The process.
    pub process: Process,
    /// Jobs with this tag come to it.
    pub tag: String,
    /// Where its job pods are.
    pub namespace: String,
    /// Its configuration file.
    pub config: PathBuf,
    /// Token of its service account.
    pub account_token: String,
    /// Where its metrics server listens.
    pub address: SocketAddr,
    program: PathBuf,
    environment: Vec<(String, String)>,
    http: reqwest::Client,
}

/// What a process of a runner is started with.
struct Life<'a> {
    program: &'a Path,
    config: &'a Path,
    environment: &'a [(String, String)],
    log_level: &'a str,
}

impl Runner {
    /// Registers and starts a runner, and waits until it asks for jobs.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(world: &World, options: &RunnerOptions) -> anyhow::Result<Self> {
        let runner = Self::launch(world, options).await?;
        until(&format!("runner {} to be ready", runner.tag), START, async || {
            if let Some(status) = runner.process.ended() {
                anyhow::bail!("the runner has ended ({status}):\n{}", runner.process.log());
            }
            Ok(match runner.get("/health/ready").await {
                Ok((200, _)) => Ok(()),
                Ok((_, why)) => Err(format!("{why}{}", last_lines(&runner.process.log(), 10))),
                Err(error) => Err(format!("{error:#}")),
            })
        })
        .await?;
        Ok(runner)
    }

    /// The same without waiting until it asks for jobs.
    ///
    /// # Errors
    /// It cannot be registered, or the process not started.
    pub async fn launch(world: &World, options: &RunnerOptions) -> anyhow::Result<Self> {
        let name = &options.name;
        let dir = world.dir().join(name);
        std::fs::create_dir(&dir).with_context(|| format!("is there another runner {name:?}?"))?;
        let place = if let Some(place) = options.place.clone() {
            place
        } else {
            let namespace = world.namespace(name);
            let account_token = world.kube.account(&namespace).await?;
            RunnerPlacement { namespace, account_token, tag: name.clone() }
        };
        let RunnerPlacement { namespace, account_token, tag } = place;
        let token = world.gitlab.register(world.registration_token(), &tag).await?;
        world.keep_secret(&token);
        world.keep_secret(&account_token);
        let ca_file = dir.join("ca.crt");
        std::fs::write(&ca_file, options.ca_pem.as_deref().unwrap_or_else(|| world.kube.ca_pem()))?;
        let RunnerOptions { concurrent, global, runner, kubernetes, helper_image, .. } = options;
        let url = options.gitlab.as_deref().unwrap_or_else(|| world.gitlab.url());
        let host = options.kube.as_deref().unwrap_or_else(|| world.kube.url());
        let text = format!(
            "concurrent = {concurrent}\ncheck_interval = 1\nlisten_address = \"127.0.0.1:0\"\n{global}\n\n\
             [[runners]]\n  name = \"{name}\"\n  url = \"{url}\"\n  token = \"{token}\"\n  executor = \"kubernetes\"\n  \
             request_concurrency = {concurrent}\n{runner}\n  [runners.feature_flags]\n    \
             FF_USE_ADAPTIVE_REQUEST_CONCURRENCY = false\n  [runners.kubernetes]\n    host = \"{host}\"\n    \
             ca_file = \"{ca}\"\n    bearer_token = \"{account_token}\"\n    namespace = \"{namespace}\"\n    \
             image = \"{IMAGE}\"\n    helper_image = \"{helper_image}\"\n    cleanup_grace_period_seconds = 0\n{kubernetes}\n",
            ca = ca_file.display(),
        );
        let config = dir.join("config.toml");
        std::fs::write(&config, text)?;
        let program = options.program.clone().unwrap_or_else(|| world.binaries().manager.clone());
        let environment = options.environment.clone();
        let life = Life { program: &program, config: &config, environment: &environment, log_level: options.log_level };
        let (process, address) = run(world, &format!("runner-{name}"), life).await?;
        let http = http::client()?;
        Ok(Self { process, tag, namespace, config, account_token, address, program, environment, http })
    }

    /// Starts the next life of a runner whose process has ended, with its file as it is now.
    ///
    /// # Errors
    /// The process cannot be started.
    pub async fn again(&mut self, world: &World) -> anyhow::Result<()> {
        let name = format!("{}-again", self.process.name());
        let Self { program, config, environment, .. } = &*self;
        let life = Life { program, config, environment, log_level: "debug" };
        (self.process, self.address) = run(world, &name, life).await?;
        Ok(())
    }

    /// Where its pods are, for another one that shares its work.
    pub fn place(&self) -> RunnerPlacement {
        let (namespace, account_token, tag) = (self.namespace.clone(), self.account_token.clone(), self.tag.clone());
        RunnerPlacement { namespace, account_token, tag }
    }

    /// Asks its metrics server: status and text.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        let url = Url::parse(&format!("http://{}{path}", self.address))?;
        let response = self.http.get(url).send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    /// The sum of a metric over all its series whose labels contain `labels`.
    ///
    /// # Errors
    /// The metrics server does not answer.
    pub async fn metric(&self, name: &str, labels: &str) -> anyhow::Result<Option<f64>> {
        let (_, text) = self.get("/metrics").await?;
        let series = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(labels))
        });
        let values: Vec<f64> =
            series.filter_map(|line| line.rsplit_once(' ').and_then(|(_, value)| value.parse().ok())).collect();
        Ok((!values.is_empty()).then(|| values.iter().sum()))
    }
}

/// A `gantry run` with this file, and where its metrics server listens.
async fn run(world: &World, name: &str, life: Life<'_>) -> anyhow::Result<(Process, SocketAddr)> {
    let Life { program, config, environment, log_level } = life;
    let config = config.display().to_string();
    let args = ["--log-format", "text", "--log-level", log_level, "run", "--config", &config].map(str::to_owned);
    let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let process = Process::start_with(name, world.dir(), program, &args, &environment)?;
    world.keep_log(process.log_path());
    let line = process.wait_for_line("Metrics server listening", START).await?;
    let (_, address) = line.split_once("address=").with_context(|| format!("no address in {line:?}"))?;
    let address = address.split_whitespace().next().unwrap_or_default().trim_matches('"').parse()?;
    Ok((process, address))
}
