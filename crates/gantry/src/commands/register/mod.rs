//! `gantry register`: makes a runner known to GitLab, or itself known as a manager of one, and
//! writes it into the configuration.
//!
//! Everything that can be wrong is found out before GitLab is asked, and what was made there is
//! undone when a later step fails. Start with [`main`]; the flags are in `flags/`, their values in
//! `values.rs`, the ways in `token.rs`, the entry in `entry.rs`.

pub(crate) mod args;
pub(crate) mod entry;
pub(crate) mod flags;
mod overruled;
mod prompt;
mod questions;
mod token;
mod unread;
pub(crate) mod values;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use gantry_config::edit;
use gantry_core::Secret;
use gantry_core::short_token::short_token;
use gantry_gitlab::{Client, Registered, RunnerInfo};
use jiff::Timestamp;

pub(crate) use self::args::RegisterArgs;
use self::entry::{Identity, Template};
use self::flags::Flag;
use self::token::{Manager, TokenKind};
use self::values::Settings;
use crate::commands::coordinator::{self, TlsFiles};
use crate::commands::runner_file::{self, RunnerFile, env};
use crate::commands::{config_path, even_if_interrupted, runtime, texts_of_environment};
use crate::go_arguments;

/// Variable of third-party images that means `concurrent` (no variable of the reference).
const CONCURRENT: &str = "RUNNER_CONCURRENT_BUILDS";

/// Stands for a token that GitLab has not given yet.
const NOT_YET: &str = "not-yet-known";

/// Registers.
pub(crate) fn main(args: &RegisterArgs) -> anyhow::Result<ExitCode> {
    warn_about_arguments(args);
    let flags = flags::all();
    let mut settings = Settings::read(&flags, &args.given, &env)?;
    check_access_level(&settings)?;
    let path = config_path::or_default(Some(PathBuf::from(settings.text("config"))));
    let template = template(&settings)?;
    let file = RunnerFile::open(&path)?;
    let named = unread::named_in(&[template.text(), &file.text()]);
    for remark in Settings::remarks(&flags, &args.given, &named, texts_of_environment()) {
        tracing::warn!("{remark}");
    }
    questions::complete(&mut settings, &template)?;
    if let Some(overruled) = template.overruled(&flags, &settings, &env) {
        tracing::warn!("{overruled}");
    }
    let way = token::choose(&settings)?;
    let is_there = file.entries().iter().any(|entry| entry.runner.token == *way.token());
    let concurrent = concurrent(&file);
    let parts = Parts { flags, settings, template, path, file, concurrent };
    let info = parts.check()?;
    runner_file::prepare(&parts.path)?;
    let system_id = gantry_daemon::system_id(&parts.path)?;
    let client = coordinator::client(&parts.url(), &parts.tls(), &parts.path)?;
    // Not before everything has been found to be right: who reads that something is done must be
    // able to believe it.
    if let Some(warning) = token::warning(&parts.settings, &way) {
        tracing::warn!("{warning}");
    }
    if is_there {
        tracing::warn!("{} has a runner with this token already; another entry is added", parts.path.display());
    }
    runtime()?.block_on(parts.register(&client, (&way, is_there), &system_id, &info))
}

/// A registration that lacks nothing but GitLab's answer.
struct Parts {
    flags: Vec<Flag>,
    settings: Settings,
    template: Template,
    path: PathBuf,
    file: RunnerFile,
    concurrent: u32,
}

impl Parts {
    /// The address of GitLab; the template's is expanded as the daemon will.
    fn url(&self) -> String {
        self.text("url", "url")
    }

    fn text(&self, long: &str, key: &str) -> String {
        Some(self.settings.text(long))
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| gantry_core::variables::expand(&self.template.get(key), env))
    }

    fn tls(&self) -> TlsFiles {
        let file = |key: &str| Some(self.text(key, key)).filter(|path| !path.is_empty()).map(PathBuf::from);
        TlsFiles {
            ca: file("tls-ca-file"),
            cert: file("tls-cert-file"),
            key: file("tls-key-file"),
            ..TlsFiles::default()
        }
    }

    fn entry(&self, identity: &Identity) -> anyhow::Result<String> {
        entry::text(&self.flags, &self.settings, &self.template, identity)
    }

    /// Reads the entry as the daemon will, before GitLab is asked for anything: an entry that
    /// cannot run must leave nothing behind.
    fn check(&self) -> anyhow::Result<RunnerInfo> {
        let identity =
            Identity { id: None, token: Secret::new(NOT_YET), obtained: Timestamp::UNIX_EPOCH, expires: None };
        let entry = self.entry(&identity)?;
        entry::appended(&self.file.text(), &entry).with_context(|| self.path.display().to_string())?;
        let text = format!("concurrent = {}\n{entry}", self.concurrent);
        let place = |problem: &gantry_config::Problem| {
            let path = problem.path.strip_prefix("runners[0].").unwrap_or(&problem.path);
            let hint = problem.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
            format!("{path}: {}{hint}", problem.message)
        };
        let refuse = |errors: &mut dyn Iterator<Item = &gantry_config::Problem>| {
            anyhow::anyhow!("{}", errors.map(place).collect::<Vec<_>>().join("; "))
        };
        match gantry_config::load(&text, &env) {
            Err(problems) => Err(refuse(&mut problems.errors())),
            Ok(loaded) if !loaded.unusable.is_empty() => {
                Err(refuse(&mut loaded.unusable.iter().flat_map(|entry| &entry.errors)))
            }
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    tracing::warn!("{}", place(warning));
                }
                let runner = loaded.settings.runners.first().context("the entry is not a runner")?;
                if let Some(limit) = runner.limit.filter(|limit| limit.get() > self.concurrent) {
                    tracing::warn!("limit: {limit} is more than concurrent ({}): raise concurrent", self.concurrent);
                }
                Ok(gantry_daemon::wiring::runner_info(runner))
            }
        }
    }

    /// Asks GitLab and writes the file. Interrupts are heard from here on, so that none can come
    /// between the two.
    async fn register(
        &self,
        client: &Client,
        (way, is_there): (&TokenKind, bool),
        system_id: &str,
        info: &RunnerInfo,
    ) -> anyhow::Result<ExitCode> {
        let attributes = token::attributes(&self.settings, &self.settings.text("name"));
        let manager = Manager { system_id, info, attributes: &attributes };
        // What it has made after an interrupt is undone.
        let (answer, is_interrupted) = even_if_interrupted(token::register(client, way, &manager)).await;
        let registered = match answer {
            Some(answer) => answer?,
            None => bail!("interrupted before GitLab answered: look there for a runner without contact"),
        };
        tracing::info!(runner = short_token(registered.token.expose()), "{}", way.succeeded());
        let written = if is_interrupted { Err(anyhow::anyhow!("interrupted")) } else { self.write(&registered) };
        match written {
            Ok(()) => {
                tracing::info!("Runner registered successfully. A running gantry takes it up within seconds.");
                if let Some(expires) = coordinator::expiry(registered.token_expires_at.as_deref()) {
                    tracing::info!(
                        "its token ends at {expires}; `gantry run` renews it in time, where it may write this file"
                    );
                }
                tracing::info!(
                    "Configuration (with the authentication token) was saved in {:?}",
                    self.path.display().to_string()
                );
                Ok(ExitCode::SUCCESS)
            }
            Err(error) if self.settings.flag("leave-runner", false) => {
                Err(error.context("the runner is in GitLab, and was left there, but not in the configuration"))
            }
            Err(error) if !way.makes(is_there) => {
                Err(error.context("the runner is in GitLab as it was before, but not in the configuration"))
            }
            Err(error) => match coordinator::unregister(client, &registered.token, system_id).await {
                Ok(()) => Err(error.context("the runner was not registered")),
                Err(undo) => {
                    tracing::error!("the runner is left in GitLab: {:#}", anyhow::Error::new(undo));
                    Err(error.context("the runner is in GitLab but not in the configuration"))
                }
            },
        }
    }

    /// Appends the entry to the file as it is now.
    fn write(&self, registered: &Registered) -> anyhow::Result<()> {
        let identity = Identity {
            id: Some(registered.id).filter(|id| *id > 0),
            token: registered.token.clone(),
            obtained: Timestamp::now(),
            expires: coordinator::expiry(registered.token_expires_at.as_deref()),
        };
        let _held = runner_file::hold(&self.path)?;
        let file = RunnerFile::open(&self.path)?;
        let existing = if file.exists() { file.text() } else { edit::new_file(self.concurrent) };
        let text = entry::appended(&existing, &self.entry(&identity)?)?;
        runner_file::save(&self.path, &text)
    }
}

fn warn_about_arguments(args: &RegisterArgs) {
    go_arguments::warn_about_words(&args.words);
    if !args.other_executors.is_empty() {
        tracing::warn!("flags of other executors are ignored: --{}", args.other_executors.join(", --"));
    }
}

fn check_access_level(settings: &Settings) -> anyhow::Result<()> {
    match settings.text("access-level").as_str() {
        "" | "not_protected" | "ref_protected" => Ok(()),
        other => bail!("--access-level: {other:?} is neither not_protected nor ref_protected"),
    }
}

fn template(settings: &Settings) -> anyhow::Result<Template> {
    let path = settings.text("template-config");
    if path.is_empty() {
        return Ok(Template::empty());
    }
    let text =
        std::fs::read_to_string(Path::new(&path)).with_context(|| format!("the template {path} cannot be read"))?;
    Template::parse(&text).with_context(|| format!("the template {path} cannot be used"))
}

/// How many jobs may run at once: as an existing file says, else what [`CONCURRENT`] asks for in a
/// new one.
fn concurrent(file: &RunnerFile) -> u32 {
    let asked = env(CONCURRENT).filter(|text| !text.is_empty());
    if file.exists() {
        let now = file.settings().map_or(1, |settings| settings.concurrent.get());
        if asked.as_ref().is_some_and(|asked| asked.trim() != now.to_string()) {
            tracing::warn!("{CONCURRENT} has no effect: {} exists and says concurrent = {now}", file.path().display());
        }
        return now;
    }
    let Some(asked) = asked else { return 1 };
    match asked.trim().parse() {
        Ok(number) if number > 0 => {
            tracing::info!("concurrent = {number} in the new configuration, because {CONCURRENT} says so");
            number
        }
        _ => {
            tracing::warn!("{CONCURRENT} has no effect: {asked:?} is not a number of jobs");
            1
        }
    }
}
