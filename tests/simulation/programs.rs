//! Jobs as data, made from the seed: what each stage prints and when, how long it takes, how it
//! ends, and what the job must therefore come to if nothing gets in its way.

use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt as _};
use serde_json::{Value, json};

/// Begins every secret, so that one search finds them all.
pub(crate) const SECRET: &str = "s3cr3t-";

/// Images with this in their name do not exist.
pub(crate) const MISSING: &str = "missing";

/// Images with this in their name take [`SLOW_PULL`].
pub(crate) const SLOW: &str = "slow";
pub(crate) const SLOW_PULL: Duration = Duration::from_secs(40);

/// One job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) id: u64,
    /// When it is put into the queue.
    pub(crate) at: Duration,
    pub(crate) image: &'static str,
    /// Image of its service, if it has one.
    pub(crate) service: Option<&'static str>,
    pub(crate) timeout: Duration,
    /// Somebody reads the log.
    pub(crate) watched: bool,
    /// A masked variable of it.
    pub(crate) secret: String,
    /// The stages in the helper container.
    pub(crate) tool: Tool,
    /// The user's scripts in order.
    pub(crate) scripts: Vec<Script>,
    pub(crate) after: Option<Script>,
}

/// How the stages in the helper container behave.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    /// Of each try.
    pub(crate) takes: Duration,
    /// How many tries of fetching the sources fail.
    pub(crate) failures: u32,
    /// How many are made.
    pub(crate) attempts: u32,
}

/// A script of the user.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Name of its stage.
    pub(crate) stage: &'static str,
    /// What it prints, each after a pause.
    pub(crate) prints: Vec<(Duration, Bytes)>,
    /// The lines that must be in the log, masked.
    pub(crate) lines: Vec<String>,
    pub(crate) end: End,
    /// How long it goes on after TERM; nothing if it does not care.
    pub(crate) dies_after: Option<Duration>,
}

/// How a script ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With this code.
    Code(i32),
    /// Its memory was not enough.
    OutOfMemory,
    /// Not by itself.
    Never,
}

impl End {
    /// The exit code, if it ends by itself.
    pub(crate) fn code(self) -> Option<i32> {
        match self {
            Self::Code(code) => Some(code),
            Self::OutOfMemory => Some(137),
            Self::Never => None,
        }
    }
}

/// What a job comes to if nothing gets in its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    /// With this exit code.
    ScriptFailure(i32),
    TimedOut,
    /// The pod cannot start.
    NoPod,
}

/// What a script of ours does is told by a number in it.
const MARK: &str = "simulate ";

/// The job whose script this is.
pub(crate) fn number(script: &str) -> Option<u64> {
    script.lines().find_map(|line| line.strip_prefix(MARK)?.parse().ok())
}

/// The job that has this name, or had it before it was tried again.
pub(crate) fn named(name: &str) -> Option<u64> {
    name.strip_prefix("job-")?.parse().ok()
}

impl Job {
    /// A job from chance.
    pub(crate) fn draw(id: u64, rng: &mut SmallRng) -> Self {
        let image = match rng.random_range(0..20) {
            0 => "registry.invalid/missing:1",
            1..=3 => "registry.invalid/slow:1",
            _ => "alpine:3",
        };
        let service = match rng.random_range(0..20) {
            0 => Some("registry.invalid/missing-service:1"),
            1 => Some("registry.invalid/slow-service:1"),
            2..=4 => Some("redis:7"),
            _ => None,
        };
        let secret = format!("{SECRET}{id}-{:016x}", rng.next_u64());
        let tool = Tool {
            takes: millis(rng, 5, 2_000),
            failures: if rng.random_ratio(1, 10) { rng.random_range(1..3) } else { 0 },
            attempts: if rng.random_ratio(1, 2) { 2 } else { 1 },
        };
        let mut scripts = vec![Script::draw(id, "step_script", &secret, rng)];
        if rng.random_ratio(1, 5) {
            scripts.push(Script::draw(id, "step_release", &secret, rng));
        }
        let mut after = rng.random_ratio(1, 4).then(|| Script::draw(id, "after_script", &secret, rng));
        if let Some(after) = &mut after
            && after.end == End::Never
        {
            after.end = End::Code(0);
        }
        let endless = scripts.iter().any(|script| script.end == End::Never);
        let timeout = Duration::from_secs(if endless { rng.random_range(60..400) } else { 3600 });
        let at = Duration::from_millis(rng.random_range(0..120_000));
        Self { id, at, image, service, timeout, watched: rng.random_ratio(1, 2), secret, tool, scripts, after }
    }

    /// Whether an image of it takes long to come.
    pub(crate) fn is_slow(&self) -> bool {
        [Some(self.image), self.service].into_iter().flatten().any(|image| image.contains(SLOW))
    }

    /// The script of a stage.
    pub(crate) fn script(&self, stage: &str) -> Option<&Script> {
        self.scripts.iter().chain(&self.after).find(|script| script.stage == stage)
    }

    /// What it comes to.
    pub(crate) fn outcome(&self) -> Outcome {
        if self.image.contains(MISSING) || self.lacks_service() { Outcome::NoPod } else { self.work() }
    }

    /// Whether there is no image for its service.
    pub(crate) fn lacks_service(&self) -> bool {
        self.service.is_some_and(|image| image.contains(MISSING))
    }

    /// What its stages come to, given a build container.
    pub(crate) fn work(&self) -> Outcome {
        if self.tool.failures >= self.tool.attempts {
            return Outcome::ScriptFailure(128);
        }
        let failed = self.scripts.iter().find_map(|script| match script.end {
            End::Code(0) => None,
            End::Code(code) => Some(Outcome::ScriptFailure(code)),
            End::OutOfMemory => Some(Outcome::ScriptFailure(137)),
            End::Never => Some(Outcome::TimedOut),
        });
        failed.unwrap_or(Outcome::Success)
    }

    /// As the simulated GitLab is told of it.
    pub(crate) fn payload(&self) -> Value {
        let step = |name: &str, when: &str| {
            json!({"name": name, "script": [format!("{MARK}{}", self.id)], "timeout": self.timeout.as_secs(),
                "when": when, "allow_failure": false})
        };
        let mut steps = vec![step("script", "on_success")];
        steps.extend(self.scripts.iter().skip(1).map(|_| step("release", "on_success")));
        steps.extend(self.after.iter().map(|_| {
            json!({"name": "after_script", "script": [format!("{MARK}{}", self.id)], "timeout": self.timeout.as_secs(),
                "when": "always", "allow_failure": true})
        }));
        json!({
            "id": self.id,
            "name": format!("job-{}", self.id),
            "image": {"name": self.image},
            "services": self.service.iter().map(|image| json!({"name": image})).collect::<Vec<_>>(),
            "steps": steps,
            "watched": self.watched,
            "runner_info": {"timeout": self.timeout.as_secs()},
            "git_info": {"repo_url": "http://gitlab.invalid/group/project.git", "ref": "main", "ref_type": "branch",
                "sha": "0123456789012345678901234567890123456789", "before_sha": "", "depth": 20,
                "refspecs": ["+refs/heads/main:refs/remotes/origin/main"]},
            "extra_variables": [
                {"key": "PASSWORD", "value": self.secret, "masked": true, "public": false, "raw": true},
                {"key": "GET_SOURCES_ATTEMPTS", "value": self.tool.attempts.to_string(), "public": true},
            ],
        })
    }
}

impl Script {
    fn draw(id: u64, stage: &'static str, secret: &str, rng: &mut SmallRng) -> Self {
        let count = rng.random_range(0..12);
        let mut text = String::new();
        let mut lines = Vec::new();
        for number in 0..count {
            let filler = "x".repeat(rng.random_range(0..80));
            let says = |value: &str| format!("{} {filler} {value}", mark(id, stage, number));
            if rng.random_ratio(1, 4) {
                text.push_str(&says(secret));
                lines.push(says("[MASKED]"));
            } else {
                text.push_str(&says("plain"));
                lines.push(says("plain"));
            }
            text.push('\n');
        }
        let end = match rng.random_range(0..20) {
            0..=2 => End::Code(rng.random_range(1..=255)),
            3 => End::OutOfMemory,
            4 => End::Never,
            _ => End::Code(0),
        };
        let slow = rng.random_ratio(1, 12);
        let dies_after = rng.random_ratio(2, 3).then(|| millis(rng, 0, 3_000));
        Self { stage, prints: cut(text.into(), slow, rng), lines, end, dies_after }
    }
}

/// What begins a line of a script.
pub(crate) fn mark(id: u64, stage: &str, number: u32) -> String {
    format!("@{id}:{stage}:{number}:")
}

/// Cuts what is printed anywhere, in the middle of lines and of secrets too, and puts pauses
/// between.
fn cut(mut text: Bytes, slow: bool, rng: &mut SmallRng) -> Vec<(Duration, Bytes)> {
    let mut prints = Vec::new();
    while !text.is_empty() {
        let piece = text.split_to(rng.random_range(1..=200).min(text.len()));
        let longest = if slow { 90_000 } else { 1_500 };
        let pause = if rng.random_ratio(1, 2) { Duration::ZERO } else { millis(rng, 0, longest) };
        prints.push((pause, piece));
    }
    prints.push((millis(rng, 0, 3_000), Bytes::new()));
    prints
}

fn millis(rng: &mut SmallRng, least: u64, most: u64) -> Duration {
    Duration::from_millis(rng.random_range(least..most))
}
