//! Settings that a job makes by variables (`GIT_STRATEGY`, `RUNNER_SCRIPT_TIMEOUT`, feature flags,
//! …), read with the defaults and warnings of GitLab Runner 19.4 (`common/build_settings.go`).

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_core::feature_flags::{FLAGS, parse_bool};
use gantry_core::variables::Variables;
use gantry_core::{go_duration, limits};
use gantry_wire::plan::{GitStrategy, SubmoduleStrategy};

/// The settings of one job. Whatever is wrong with them is a warning in the job log, with the
/// default in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobSettings {
    pub(crate) git_strategy: GitStrategy,
    pub(crate) git_checkout: bool,
    pub(crate) clean_flags: Option<Vec<String>>,
    pub(crate) fetch_flags: Vec<String>,
    pub(crate) clone_flags: Vec<String>,
    pub(crate) lfs: bool,
    pub(crate) submodule_strategy: Result<SubmoduleStrategy, String>,
    pub(crate) submodule_paths: Result<Vec<String>, String>,
    pub(crate) submodule_depth: Option<u32>,
    pub(crate) submodule_update_flags: Vec<String>,
    pub(crate) submodule_force_https: bool,
    pub(crate) debug_trace: bool,
    pub(crate) debug_services: bool,
    pub(crate) provenance: bool,
    pub(crate) get_sources_attempts: u32,
    pub(crate) artifact_download_attempts: u32,
    pub(crate) restore_cache_attempts: u32,
    pub(crate) cache_request_timeout: Duration,
    pub(crate) script_timeout: Option<Duration>,
    pub(crate) after_script_timeout: Duration,
    pub(crate) after_script_ignore_errors: bool,
    pub(crate) warnings: Vec<String>,
}

impl JobSettings {
    /// Whether GitLab is told that the log may hold secrets.
    pub(crate) fn is_debugged(&self) -> bool {
        self.debug_trace || self.debug_services
    }
}

/// Reads the settings; `timeout` is the job's own.
pub(crate) fn read(variables: &Variables, allow_git_fetch: bool, timeout: Duration) -> JobSettings {
    let mut reader = Reader { variables, warnings: Vec::new() };
    let git_strategy = reader.git_strategy(allow_git_fetch);
    let has_git = matches!(git_strategy, GitStrategy::Clone | GitStrategy::Fetch);
    let submodule_strategy = if has_git { reader.submodule_strategy() } else { Ok(SubmoduleStrategy::None) };
    let has_submodules = submodule_strategy != Ok(SubmoduleStrategy::None);
    JobSettings {
        git_strategy,
        git_checkout: reader.bool("GIT_CHECKOUT", true) && has_git,
        clean_flags: reader.flags("GIT_CLEAN_FLAGS", &["-ffdx"]),
        fetch_flags: reader.flags("GIT_FETCH_EXTRA_FLAGS", &["--prune", "--quiet"]).unwrap_or_default(),
        clone_flags: reader.words("GIT_CLONE_EXTRA_FLAGS"),
        lfs: !reader.bool("GIT_LFS_SKIP_SMUDGE", false),
        submodule_strategy,
        submodule_paths: if has_submodules { reader.submodule_paths() } else { Ok(Vec::new()) },
        submodule_depth: reader.depth("GIT_SUBMODULE_DEPTH"),
        submodule_update_flags: reader.words("GIT_SUBMODULE_UPDATE_FLAGS"),
        submodule_force_https: reader.bool("GIT_SUBMODULE_FORCE_HTTPS", false),
        debug_trace: reader.bool("CI_DEBUG_TRACE", false),
        debug_services: reader.bool("CI_DEBUG_SERVICES", false),
        provenance: reader.provenance(),
        get_sources_attempts: reader.attempts("GET_SOURCES_ATTEMPTS"),
        artifact_download_attempts: reader.attempts("ARTIFACT_DOWNLOAD_ATTEMPTS"),
        restore_cache_attempts: reader.attempts("RESTORE_CACHE_ATTEMPTS"),
        cache_request_timeout: reader.minutes("CACHE_REQUEST_TIMEOUT", 10),
        script_timeout: reader.timeout("RUNNER_SCRIPT_TIMEOUT", timeout),
        after_script_timeout: reader
            .timeout("RUNNER_AFTER_SCRIPT_TIMEOUT", timeout)
            .unwrap_or(limits::AFTER_SCRIPT_TIMEOUT.min(timeout)),
        after_script_ignore_errors: reader.bool("AFTER_SCRIPT_IGNORE_ERRORS", true),
        warnings: reader.warnings,
    }
}

struct Reader<'a> {
    variables: &'a Variables,
    warnings: Vec<String>,
}

impl Reader<'_> {
    /// The value of a setting; an empty one counts as absent.
    fn text(&self, key: &str) -> Option<String> {
        self.variables.get(key).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// Paths of submodules; the word that leaves paths out needs one.
    fn submodule_paths(&self) -> Result<Vec<String>, String> {
        let paths = self.words("GIT_SUBMODULE_PATHS");
        if paths.iter().any(|path| path == ":(exclude)") {
            return Err("GIT_SUBMODULE_PATHS: \":(exclude)\" needs a path right behind it".to_owned());
        }
        Ok(paths)
    }

    fn words(&self, key: &str) -> Vec<String> {
        self.text(key).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    }

    /// Flags of a command; the word `none` turns them off.
    fn flags(&self, key: &str, default: &[&str]) -> Option<Vec<String>> {
        match self.text(key) {
            None => Some(default.iter().map(|&flag| flag.to_owned()).collect()),
            Some(text) if text == "none" => None,
            Some(text) => Some(text.split_whitespace().map(str::to_owned).collect()),
        }
    }

    fn bool(&mut self, key: &str, default: bool) -> bool {
        let Some(text) = self.text(key) else { return default };
        parse_bool(&text).unwrap_or_else(|| {
            self.warnings.push(format!("{key}: expected bool got {text:?}, using default value: {default}"));
            default
        })
    }

    /// Whether archives say where they come from. There is one form of that statement.
    fn provenance(&mut self) -> bool {
        let wanted = self.bool("RUNNER_GENERATE_ARTIFACTS_METADATA", false);
        let form = self.text("SLSA_PROVENANCE_SCHEMA_VERSION").filter(|form| wanted && form != "v1");
        if let Some(form) = form {
            self.warnings.push(format!("Unknown SLSA provenance version {form}, defaulting to v1"));
        }
        wanted
    }

    fn attempts(&mut self, key: &str) -> u32 {
        let Some(text) = self.text(key) else { return 1 };
        let Ok(number) = text.parse::<i64>() else {
            self.warnings.push(format!("{key}: expected int got {text:?}, using default value: 1"));
            return 1;
        };
        let clamped = number.clamp(1, 10);
        if clamped != number {
            self.warnings.push(format!("{key}: number of attempts out of the range [1, 10], clamping to: {clamped}"));
        }
        u32::try_from(clamped).unwrap_or(1)
    }

    /// How many commits are fetched; 0 for all of them.
    fn depth(&mut self, key: &str) -> Option<u32> {
        let text = self.text(key)?;
        let Ok(number) = text.parse::<i64>() else {
            self.warnings.push(format!("{key}: expected int got {text:?}, using the job's GIT_DEPTH"));
            return None;
        };
        Some(u32::try_from(number.max(0)).unwrap_or(u32::MAX))
    }

    fn minutes(&mut self, key: &str, default: u64) -> Duration {
        let text = self.text(key);
        let number = text.as_ref().map(|text| text.parse::<i64>());
        if let (Some(Err(_)), Some(text)) = (&number, &text) {
            self.warnings.push(format!("{key}: expected int got {text:?}, using default value: {default}"));
        }
        let minutes = number.and_then(Result::ok).and_then(|minutes| u64::try_from(minutes).ok());
        Duration::from_secs(minutes.filter(|minutes| *minutes > 0).unwrap_or(default).saturating_mul(60))
    }

    fn timeout(&mut self, key: &str, job_timeout: Duration) -> Option<Duration> {
        let text = self.text(key)?;
        match go_duration::parse(&text) {
            Ok(limit) if limit.is_zero() => None,
            Ok(limit) if limit > job_timeout => {
                self.warnings.push(format!("{key} timeout: {text} is longer than job timeout. Setting to job timeout"));
                None
            }
            Ok(limit) => Some(limit),
            Err(go_duration::ParseError::Negative) => {
                self.warnings.push(format!("Ignoring relative {key} timeout: {text}"));
                None
            }
            Err(_) => {
                self.warnings.push(format!("Ignoring malformed {key} timeout: {text}"));
                None
            }
        }
    }

    fn git_strategy(&mut self, allow_fetch: bool) -> GitStrategy {
        let (default, name) = if allow_fetch { (GitStrategy::Fetch, "fetch") } else { (GitStrategy::Clone, "clone") };
        match self.text("GIT_STRATEGY").as_deref() {
            None => default,
            Some("fetch") => GitStrategy::Fetch,
            Some("clone") => GitStrategy::Clone,
            Some("none") => GitStrategy::None,
            Some("empty") => GitStrategy::Empty,
            Some(other) => {
                self.warnings.push(format!(
                    "GIT_STRATEGY: expected either 'clone', 'fetch', 'none' or 'empty' got {other:?}, using default value '{name}'"
                ));
                default
            }
        }
    }

    fn submodule_strategy(&mut self) -> Result<SubmoduleStrategy, String> {
        match self.text("GIT_SUBMODULE_STRATEGY").as_deref() {
            None | Some("none") => Ok(SubmoduleStrategy::None),
            Some("normal") => Ok(SubmoduleStrategy::Normal),
            Some("recursive") => Ok(SubmoduleStrategy::Recursive),
            Some(other) => Err(format!("unknown GIT_SUBMODULE_STRATEGY {other:?}: use none, normal or recursive")),
        }
    }
}

/// Every known feature flag with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flags {
    values: Vec<(&'static str, bool)>,
    pub(crate) warnings: Vec<String>,
}

impl Flags {
    pub(crate) fn read(config: &BTreeMap<String, bool>, variables: &Variables) -> Self {
        let mut warnings = Vec::new();
        let values = FLAGS
            .iter()
            .map(|flag| {
                let of_runner = config.get(flag.name).copied();
                let of_job = variables.get(flag.name).filter(|text| !text.is_empty());
                if let (None, Some(text)) = (of_runner, of_job)
                    && parse_bool(text).is_none()
                {
                    warnings.push(format!("{}: could not parse feature flag, expected bool, got {text}", flag.name));
                }
                (flag.name, flag.value(of_runner, of_job))
            })
            .collect();
        Self { values, warnings }
    }

    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.values.iter().any(|(flag, value)| *flag == name && *value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.values.iter().copied()
    }

    /// Those that differ from their default, for the head of the job log.
    pub(crate) fn changed(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.iter().zip(FLAGS).filter(|((_, value), flag)| *value != flag.default).map(|(pair, _)| pair)
    }
}

#[cfg(test)]
mod tests {
    use gantry_core::variables::Variable;

    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        let list = pairs.iter().map(|(key, value)| Variable::made(*key, *value)).collect();
        Variables::new(list, "/tmp")
    }

    #[test]
    fn defaults() {
        let settings = read(&variables(&[("GIT_STRATEGY", "")]), true, Duration::from_secs(3600));
        assert_eq!(settings.git_strategy, GitStrategy::Fetch);
        assert_eq!(settings.clean_flags.as_deref(), Some(&["-ffdx".to_owned()][..]));
        assert_eq!(settings.after_script_timeout, Duration::from_secs(300));
        assert_eq!((settings.get_sources_attempts, settings.script_timeout), (1, None));
        assert!(settings.warnings.is_empty());
    }

    #[test]
    fn bad_values_are_warned_about() {
        let job = variables(&[
            ("GIT_STRATEGY", "copy"),
            ("GIT_CHECKOUT", "maybe"),
            ("GIT_SUBMODULE_DEPTH", "x"),
            ("GET_SOURCES_ATTEMPTS", "99"),
            ("ARTIFACT_DOWNLOAD_ATTEMPTS", "x"),
            ("RUNNER_SCRIPT_TIMEOUT", "soon"),
            ("RUNNER_AFTER_SCRIPT_TIMEOUT", "2h"),
        ]);
        let settings = read(&job, false, Duration::from_secs(3600));
        assert_eq!(settings.git_strategy, GitStrategy::Clone);
        assert_eq!(settings.get_sources_attempts, 10);
        insta::assert_snapshot!(settings.warnings.join("\n"));
    }

    #[test]
    fn depths_of_submodules() {
        for (text, depth) in
            [("", None), ("3", Some(3)), ("0", Some(0)), ("-1", Some(0)), ("9999999999", Some(u32::MAX))]
        {
            let settings = read(&variables(&[("GIT_SUBMODULE_DEPTH", text)]), true, Duration::from_secs(3600));
            assert_eq!((settings.submodule_depth, settings.warnings), (depth, Vec::new()), "{text}");
        }
    }

    #[test]
    fn paths_of_submodules_matter_where_submodules_do() {
        for (git, submodules, is_wrong) in [
            ("fetch", "normal", true),
            ("fetch", "none", false),
            ("fetch", "", false),
            ("none", "recursive", false),
            ("empty", "recursive", false),
        ] {
            let job = variables(&[
                ("GIT_STRATEGY", git),
                ("GIT_SUBMODULE_STRATEGY", submodules),
                ("GIT_SUBMODULE_PATHS", ":(exclude) a"),
            ]);
            let settings = read(&job, true, Duration::from_secs(3600));
            assert_eq!(settings.submodule_paths.is_err(), is_wrong, "{git} {submodules}");
        }
    }

    #[test]
    fn config_beats_job_beats_default() {
        let config = BTreeMap::from([("FF_TIMESTAMPS".to_owned(), false)]);
        let flags = Flags::read(
            &config,
            &variables(&[("FF_TIMESTAMPS", "true"), ("FF_SCRIPT_SECTIONS", "1"), ("FF_CONCRETE", "x")]),
        );
        assert!(!flags.is_on("FF_TIMESTAMPS") && flags.is_on("FF_SCRIPT_SECTIONS") && !flags.is_on("FF_CONCRETE"));
        assert_eq!(flags.changed().collect::<Vec<_>>(), [("FF_SCRIPT_SECTIONS", true), ("FF_TIMESTAMPS", false)]);
        assert_eq!(flags.warnings.len(), 1);
    }
}
