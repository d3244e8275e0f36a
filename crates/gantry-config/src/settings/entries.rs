//! The `[[runners]]` entries, each for itself: what is wrong with one says nothing about the
//! others.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use gantry_core::feature_flags::parse_bool;
use gantry_core::go_duration;

use super::{ON_TERMINATE, OnTerminate, RunnerSettings, SHUTDOWN, concurrent, labels};
use crate::declare::{Declared, Kind, Table as _, Walk};
use crate::key::Form;
use crate::problem::{Severity, UnusableRunner};
use crate::section::Section;
use crate::words;

/// Declares the list of entries.
pub(super) fn entries(key: &'static str) -> Declared<impl Kind<Value = Vec<RunnerSettings>>> {
    Declared::new(key, Entries)
}

struct Entries;

impl Kind for Entries {
    type Value = Vec<RunnerSettings>;

    fn read(&self, root: &Section<'_>, key: &'static str) -> Vec<RunnerSettings> {
        let aborts = words::optional(&root.table("gantry"), "on_terminate", ON_TERMINATE) == Some(OnTerminate::Abort);
        let context = Context {
            labels: labels::read(root, "labels"),
            concurrent: concurrent(root, "concurrent"),
            aborts_within: aborts.then(|| root.seconds("shutdown_timeout").unwrap_or(SHUTDOWN)),
        };
        let mut usable = Vec::new();
        let mut seen = BTreeMap::new();
        let mut verified = BTreeMap::new();
        let mut pausing = BTreeMap::new();
        for (index, section) in root.tables(key).iter().enumerate() {
            let mark = section.report.mark();
            let mut settings = RunnerSettings::read(section);
            context.complete(section, &mut settings);
            let errors = section.report.take_errors(mark);
            if !errors.is_empty() {
                section.report.is_unusable(UnusableRunner { index, name: settings.name, errors });
                continue;
            }
            let identity = (settings.url.clone(), settings.token.expose().to_owned(), settings.name.clone());
            if let Some(first) = seen.insert(identity, index) {
                let message = format!(
                    "has the url, token and name of runners[{first}]: both ask for jobs, and only one of them may be meant"
                );
                section.report.add(Severity::Warning, section.place(), &format!("runners[{index}]"), message);
            } else if settings.boot_verify.enabled
                && let Some(first) = verified.get(&settings.name)
            {
                let message = format!(
                    "has the name of runners[{first}]: boot_verify takes the two for one, and lets both begin when a trial pod of either has started; give it another name"
                );
                section.report.add(Severity::Warning, section.place(), &format!("runners[{index}]"), message);
            }
            if settings.boot_verify.enabled {
                verified.entry(settings.name.clone()).or_insert(index);
            }
            // What keeps pause pods is named by these, and there can be one of a name.
            let kubernetes = &settings.kubernetes;
            let of_pause = (settings.token.expose().to_owned(), kubernetes.host.clone(), kubernetes.namespace.clone());
            if !kubernetes.autoscaler.policies.is_empty()
                && let Some(first) = pausing.insert(of_pause, index)
            {
                let message = format!(
                    "has the token and namespace of runners[{first}], and so the same pause pods: only one of the two autoscaler sections counts; leave one out, or give the entry another namespace"
                );
                section.report.add(Severity::Warning, section.place(), &format!("runners[{index}]"), message);
            }
            usable.push(settings);
        }
        usable
    }

    fn form(&self) -> Option<Form> {
        Some(Form::Tables)
    }

    fn describe_below(&self, walk: &mut Walk) {
        walk.begin_flags();
        RunnerSettings::describe(walk);
    }
}

/// The flag without which pods are not patched (GitLab Runner 19.4).
const PATCHES: &str = "FF_USE_ADVANCED_POD_SPEC_CONFIGURATION";

/// What an entry is read against.
struct Context {
    labels: BTreeMap<String, String>,
    concurrent: NonZeroU32,
    /// How long jobs may take to end after SIGTERM, where that ends them.
    aborts_within: Option<Duration>,
}

impl Context {
    /// What an entry alone does not say.
    fn complete(&self, section: &Section<'_>, settings: &mut RunnerSettings) {
        labels::merge(section, &mut settings.labels, &self.labels);
        if settings.request_concurrency > self.concurrent {
            let message = format!(
                "{} is more than concurrent ({}), which limits it: raise concurrent",
                settings.request_concurrency, self.concurrent
            );
            section.problem(Severity::Warning, "request_concurrency", message);
        }
        let grace = settings.script_termination_grace_period;
        if let Some(most) = self.aborts_within.filter(|most| grace > *most) {
            let message = format!(
                "{} is longer than shutdown_timeout ({} s): with on_terminate = \"abort\" the process ends before a script that ignores SIGTERM; make it shorter, or shutdown_timeout longer",
                go_duration::format(grace),
                most.as_secs()
            );
            section.table("gantry").problem(Severity::Warning, "script_termination_grace_period", message);
        }
        let kubernetes = section.table("kubernetes");
        super::kubernetes::check(&kubernetes, &settings.kubernetes);
        super::volumes::check_builds(&kubernetes.table("volumes"), &settings.kubernetes.volumes, &settings.builds_dir);
        super::idle::check(section, settings);
        let of_environment = || {
            let (_, value) = settings.environment.iter().rfind(|(name, _)| name == PATCHES)?;
            parse_bool(value)
        };
        let patches = settings.feature_flags.get(PATCHES).copied().or_else(of_environment);
        if !settings.kubernetes.pod_spec.is_empty() && patches != Some(true) {
            let unless = if patches == Some(false) { "" } else { ", except for jobs that set it" };
            let message = format!("has no effect{unless}: set {PATCHES} = true in [runners.feature_flags]");
            kubernetes.problem(Severity::Warning, "pod_spec", message);
        }
    }
}
