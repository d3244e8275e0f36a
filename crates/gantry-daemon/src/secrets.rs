//! Secrets of a job, fetched before it is planned: each becomes a masked variable, of the kind that
//! its job wants. What went wrong is one sentence in the job log.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use gantry_config::RunnerSettings;
use gantry_core::error_chain::chain;
use gantry_core::feature_flags;
use gantry_core::job::{JobSpec, SecretSpec};
use gantry_core::variables::{Variable, Variables};
use gantry_core::{Ending, FailureReason, Secret};
use gantry_http::{HttpTransport, Options, TlsFiles, Transport};
use gantry_plan::HeadLine;
use gantry_secrets::{Google, Kind, SecretError, World};
use jiff::Timestamp;
use tokio::time::timeout;

/// All secrets of a job together. GitLab waits two minutes for a job to be acknowledged, which
/// comes behind this and behind the signing of caches.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Secrets that are fetched at once.
const AT_ONCE: usize = 4;

/// Pause between two tries, of which a job may ask for some (`SECRETS_RETRIEVAL_ATTEMPTS`, GitLab
/// Runner 19.4).
const PAUSE: Duration = Duration::from_secs(2);
const ATTEMPTS: &str = "SECRETS_RETRIEVAL_ATTEMPTS";
const MOST_ATTEMPTS: u32 = 10;

/// Whether a secret that is not there fails the job; it does (GitLab Runner 19.4).
const FAILS_IF_MISSING: &str = "FF_SECRET_RESOLVING_FAILS_IF_MISSING";

/// Fetches secrets for the jobs of one entry.
pub(crate) struct Resolver {
    world: World,
}

impl Resolver {
    /// Connects to nobody yet. Certificates of stores are looked for by their hosts in
    /// `directories`.
    pub(crate) fn new(directories: Vec<PathBuf>) -> Self {
        Self { world: world(directories) }
    }

    /// Replaces the secrets of `job` by variables, and returns what the job log says about it.
    ///
    /// # Errors
    /// How the job ends for want of a secret.
    pub(crate) async fn resolve(
        &self,
        job: &mut JobSpec,
        runner: &RunnerSettings,
    ) -> Result<Vec<HeadLine>, (Vec<HeadLine>, Ending)> {
        let specs = std::mem::take(&mut job.secrets);
        if specs.is_empty() {
            return Ok(Vec::new());
        }
        let given = runner.environment.iter().map(|(key, value)| Variable::made(key.clone(), value.clone()));
        let variables = Variables::new(given.chain(job.variables.iter().cloned()).collect(), "");
        let settings = Settings::read(runner, &variables);
        let mut lines = vec![HeadLine::plain("Resolving secrets")];
        for (name, spec) in &specs {
            lines.extend(announced(name, spec, &variables));
        }
        let all: Vec<BoxFuture<'_, _>> =
            specs.iter().map(|(name, spec)| self.one(name, spec, &variables, settings).boxed()).collect();
        let fetching = stream::iter(all).buffered(AT_ONCE).collect::<Vec<_>>();
        let Ok(fetched) = timeout(TIMEOUT, fetching).await else {
            let message = format!("the secrets of the job were not there within {} s", TIMEOUT.as_secs());
            return Err((lines, dependency(message)));
        };
        for result in fetched {
            match result {
                Ok(variable) => job.variables.extend(variable),
                Err(ending) => return Err((lines, ending)),
            }
        }
        Ok(lines)
    }

    async fn one(
        &self,
        name: &str,
        spec: &SecretSpec,
        variables: &Variables,
        settings: Settings,
    ) -> Result<Option<Variable>, Ending> {
        let Some(store) = gantry_secrets::resolve(spec, &|text| variables.expand(text)) else { return Ok(None) };
        let mut attempt = 1;
        let value = loop {
            match store.fetch(&self.world).await {
                Ok(value) => break value,
                Err(error) if error.is_missing() && !settings.fails_if_missing => break Secret::default(),
                Err(error) if attempt >= settings.attempts || error.is_missing() => return Err(ending(name, &error)),
                Err(error) => {
                    tracing::debug!(secret = name, attempt, "a secret is asked for again: {}", chain(&error));
                }
            }
            attempt += 1;
            tokio::time::sleep(PAUSE).await;
        };
        let variable = Variable { key: name.to_owned(), value, masked: true, raw: true, ..Variable::default() };
        Ok(Some(if spec.file.unwrap_or(true) { variable.into_file() } else { variable }))
    }
}

#[derive(Clone, Copy)]
struct Settings {
    fails_if_missing: bool,
    attempts: u32,
}

impl Settings {
    fn read(runner: &RunnerSettings, variables: &Variables) -> Self {
        let of_runner = runner.feature_flags.get(FAILS_IF_MISSING).copied();
        let attempts = variables.get(ATTEMPTS).and_then(|text| text.trim().parse().ok());
        Self {
            fails_if_missing: feature_flags::is_on(FAILS_IF_MISSING, of_runner, variables.get(FAILS_IF_MISSING)),
            attempts: attempts.filter(|attempts| (1..=MOST_ATTEMPTS).contains(attempts)).unwrap_or(1),
        }
    }
}

/// The provider that a secret is fetched from, if it is known.
pub fn provider(spec: &SecretSpec) -> Option<&'static str> {
    gantry_secrets::resolve(spec, &str::to_owned).map(|store| store.provider())
}

/// What the log says before a secret is fetched, in the words of the reference.
fn announced(name: &str, spec: &SecretSpec, variables: &Variables) -> Vec<HeadLine> {
    let first = HeadLine::plain(format!("Resolving secret \"{name}\"..."));
    let second = match gantry_secrets::resolve(spec, &|text| variables.expand(text)) {
        Some(store) => HeadLine::plain(format!("Using \"{}\" secret resolver...", store.provider())),
        None => HeadLine::warning(format!("no known store is named for secret \"{name}\", which is not set")),
    };
    vec![first, second]
}

fn ending(name: &str, error: &SecretError) -> Ending {
    let message = format!("resolving secret {name:?}: {}", chain(error));
    match error.kind() {
        Kind::Configuration => Ending::Configuration { message },
        Kind::Dependency => dependency(message),
    }
}

fn dependency(message: String) -> Ending {
    Ending::Foreign { reason: FailureReason::RunnerExternalDependencyFailure, exit_code: None, message }
}

/// This process and its network.
fn world(directories: Vec<PathBuf>) -> World {
    World {
        connect: Arc::new(move |url| {
            let files = TlsFiles { directories: directories.clone(), ..TlsFiles::default() };
            Ok(Arc::new(HttpTransport::new(url, Options { files, ..Options::default() })?) as Arc<dyn Transport>)
        }),
        variable: Arc::new(|name| std::env::var(name).ok()),
        now: Arc::new(Timestamp::now),
        google: Google::default(),
    }
}

#[cfg(test)]
mod tests {
    use gantry_http::{Body, ByteStream, Timeouts, TransportError, TransportFault};
    use serde_json::json;
    use tokio::time::{Instant, sleep};

    use super::*;

    fn runner(more: &str) -> RunnerSettings {
        let text = format!(
            "[[runners]]\nurl = \"http://gitlab.test\"\ntoken = \"t\"\nexecutor = \"kubernetes\"\nenvironment = [\"VAULT=http://127.0.0.1:1\"]\n{more}"
        );
        gantry_config::load(&text, &|_| None).unwrap().settings.runners.remove(0)
    }

    fn job(secret: &serde_json::Value) -> JobSpec {
        let job = json!({"id": 1, "token": "t", "secrets": {"PASSWORD": secret},
            "variables": [{"key": "ID_TOKEN", "value": "canary-jwt", "masked": true}]});
        serde_json::from_value(job).unwrap()
    }

    fn vault() -> serde_json::Value {
        json!({"vault": {"server": {"url": "$VAULT", "auth": {"name": "jwt", "path": "jwt", "data": {"jwt": "$ID_TOKEN"}}},
            "engine": {"name": "kv-v2", "path": "kv"}, "path": "x", "field": "y"}})
    }

    #[tokio::test]
    async fn a_store_that_is_away_ends_the_job_with_one_sentence() {
        let mut job = job(&vault());
        let (lines, ending) = Resolver::new(Vec::new()).resolve(&mut job, &runner("")).await.unwrap_err();
        let lines: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(
            lines,
            ["Resolving secrets", "Resolving secret \"PASSWORD\"...", "Using \"vault\" secret resolver..."]
        );
        let verdict = ending.verdict();
        assert_eq!(verdict.reason, Some(FailureReason::RunnerExternalDependencyFailure));
        assert!(
            verdict.message.starts_with("resolving secret \"PASSWORD\": Vault at 127.0.0.1 cannot be reached"),
            "{}",
            verdict.message
        );
        assert!(!verdict.message.contains("canary"), "{}", verdict.message);
    }

    /// A store that says nothing until then, and gives every secret after that.
    struct Silent(Instant);

    impl Transport for Silent {
        fn send(
            &self,
            _: http::Request<Body>,
            timeouts: Timeouts,
        ) -> BoxFuture<'_, Result<http::Response<ByteStream>, TransportError>> {
            async move {
                if Instant::now() < self.0 {
                    sleep(timeouts.head).await;
                    return Err(TransportError::new(TransportFault::Timeout, "silence"));
                }
                let body = json!({"auth": {"client_token": "t"}, "data": {"data": {"y": "found"}}}).to_string();
                Ok(http::Response::new(Box::pin(stream::iter([Ok(body.into())])) as ByteStream))
            }
            .boxed()
        }
    }

    /// What a job that begins so long after the start of a silence of half an hour ends with, and
    /// how long it takes to find out.
    async fn in_silence(after: Duration, attempts: &str) -> (Result<Secret, Ending>, Duration) {
        let half_an_hour = Duration::from_mins(30);
        let back = Instant::now() + half_an_hour.saturating_sub(after);
        let world = World { connect: Arc::new(move |_| Ok(Arc::new(Silent(back)))), ..world(Vec::new()) };
        let mut job = job(&vault());
        job.variables.push(Variable { key: ATTEMPTS.to_owned(), value: attempts.into(), ..Variable::default() });
        let begun = Instant::now();
        let result = Resolver { world }.resolve(&mut job, &runner("")).await;
        let value = job.variables.iter().find(|variable| variable.key == "PASSWORD").map(|found| found.value.clone());
        (result.map(|_| value.unwrap_or_default()).map_err(|(_, ending)| ending), begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_silent_for_half_an_hour_costs_each_job_a_minute_at_most() {
        for (after, attempts) in [(0, "1"), (0, "10"), (28, "10")] {
            let (result, took) = in_silence(Duration::from_mins(after), attempts).await;
            let Err(Ending::Foreign { reason, message, .. }) = result else { panic!("{result:?}") };
            assert_eq!(reason, FailureReason::RunnerExternalDependencyFailure);
            assert!(!message.contains("canary") && took <= TIMEOUT, "{message} {took:?}");
        }
        // The second try comes when it is back, or the first one.
        for (after, attempts) in [(30 * 60 - 10, "3"), (30 * 60, "1"), (45 * 60, "1")] {
            let (result, took) = in_silence(Duration::from_secs(after), attempts).await;
            assert_eq!(result.expect("a secret").expose(), "found", "{after}");
            assert!(took <= TIMEOUT, "{took:?}");
        }
    }

    #[tokio::test]
    async fn what_no_store_is_known_for_is_not_set() {
        let mut job = job(&json!({"akeyless": {"name": "x"}}));
        let lines = Resolver::new(Vec::new()).resolve(&mut job, &runner("")).await.unwrap();
        assert!(lines[2].text.contains("no known store is named for secret \"PASSWORD\""));
        assert!(job.variables.iter().all(|variable| variable.key != "PASSWORD") && job.secrets.is_empty());
    }

    #[test]
    fn switches_of_runner_and_job() {
        let variable =
            |key: &str, value: &str| Variable { key: key.into(), value: value.into(), ..Variable::default() };
        let read = |more: &str, list: Vec<Variable>| Settings::read(&runner(more), &Variables::new(list, ""));
        let usual = read("", Vec::new());
        assert_eq!((usual.fails_if_missing, usual.attempts), (true, 1));
        let asked = vec![variable(FAILS_IF_MISSING, "false"), variable(ATTEMPTS, "3")];
        let of_job = read("", asked.clone());
        assert_eq!((of_job.fails_if_missing, of_job.attempts), (false, 3));
        let overruled = read(&format!("[runners.feature_flags]\n{FAILS_IF_MISSING} = true\n"), asked);
        assert!(overruled.fails_if_missing);
        assert_eq!(read("", vec![variable(ATTEMPTS, "11")]).attempts, 1);
    }
}
