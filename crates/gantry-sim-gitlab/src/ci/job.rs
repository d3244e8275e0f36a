//! One job as written, before rules decide whether it exists and before names in `needs` are looked
//! up.

use super::environment;
use super::extras::{self, Extras};
use super::field::Field;
use super::model::{AllowFailure, CiArtifact, CiEnvironment, CiTrigger, CiVariable, Repository, When};
use super::needs::{self, Needs};
use super::node::{Map, Node, Value};
use super::only::{self, Policy};
use super::parallel::{self, Instance};
use super::problem::{At, Report};
use super::rules::{self, Rule};
use super::script;
use super::settings::{self, Settings};
use super::trigger::{self, Triggered};
use super::variables;

/// The stage of a job that names none.
const DEFAULT_STAGE: &str = "test";

/// Keywords that take part in creating the job.
pub(super) const KEYS: &[&str] = &[
    "after_script",
    "allow_failure",
    "artifacts",
    "before_script",
    "cache",
    "coverage",
    "dependencies",
    "environment",
    "except",
    "hooks",
    "image",
    "inherit",
    "inputs",
    "interruptible",
    "manual_confirmation",
    "needs",
    "only",
    "pages",
    "parallel",
    "publish",
    "release",
    "resource_group",
    "retry",
    "rules",
    "script",
    "services",
    "stage",
    "start_in",
    "tags",
    "timeout",
    "trigger",
    "variables",
    "when",
];

/// Keywords of things that only GitLab's other parts act on.
const IGNORED: &[&str] = &["dast_configuration"];

/// Keywords without which the job would be another one, and why they cannot be had: such a job is
/// not run here.
const REFUSED: &[(&str, &str)] = &[
    ("run", "is not supported here; use `script`"),
    ("secrets", "is not supported here: there is no secret store"),
    ("id_tokens", "is not supported here: there is nobody to issue the tokens"),
    ("identity", "is not supported here: there is nobody to issue the tokens"),
];

/// Keywords that a job without a script of its own cannot have: one with `trigger`, and one that
/// mirrors a pipeline.
const OF_SCRIPTS: &[&str] = &[
    "after_script",
    "artifacts",
    "before_script",
    "cache",
    "coverage",
    "dependencies",
    "hooks",
    "id_tokens",
    "identity",
    "image",
    "pages",
    "publish",
    "release",
    "retry",
    "secrets",
    "services",
    "tags",
    "timeout",
];

/// The only keyword of `default` that such a job inherits.
const DEFAULT_OF_ALL: &str = "interruptible";

const WHEN: &[&str] = &["on_success", "on_failure", "always", "manual", "delayed"];

/// A job as written.
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) at: At,
    pub(super) stage: String,
    pub(super) settings: Settings,
    pub(super) script: Vec<String>,
    /// The global variables the job inherits; `None` means all.
    pub(super) inherited_variables: Option<Vec<String>>,
    pub(super) variables: Vec<CiVariable>,
    pub(super) instances: Vec<Instance>,
    pub(super) presence: Presence,
    pub(super) when: String,
    pub(super) start_in_seconds: Option<u64>,
    pub(super) allow_failure: AllowFailure,
    pub(super) environment: Option<CiEnvironment>,
    pub(super) trigger: Option<CiTrigger>,
    pub(super) extras: Extras,
    /// Where `rules` stand.
    rules: Option<At>,
    pub(super) needs: Option<Needs>,
    pub(super) dependencies: Option<Vec<Depended>>,
    /// Whether a part of it may be in a missing include, its stage for one.
    pub(super) is_lacking: bool,
    /// Why the job is not run here if it exists.
    pub(super) not_here: Option<String>,
}

impl Draft {
    /// Where the rules of the job stand.
    pub(super) fn rules_at(&self) -> &At {
        self.rules.as_ref().unwrap_or(&self.at)
    }
}

/// One entry of `dependencies`.
pub(super) struct Depended {
    pub(super) job: String,
    pub(super) at: At,
}

/// What decides whether the job exists.
pub(super) enum Presence {
    Rules(Vec<Rule>),
    Policies { only: Option<Box<Policy>>, except: Option<Box<Policy>> },
}

/// What a job shares with its pipeline.
pub(super) struct Context<'c> {
    pub(super) stages: &'c [String],
    /// The entries of `default`.
    pub(super) defaults: &'c Map,
    /// Whether `workflow:rules` exist: then jobs have no default `only`.
    pub(super) has_workflow_rules: bool,
    pub(super) repository: &'c dyn Repository,
    /// Whether the job's templates are missing, so that absent keywords are no news.
    pub(super) incomplete: bool,
    /// What the job lacks that a missing include may have.
    pub(super) lacking: Option<&'c str>,
}

/// Reads a job; the value is a mapping.
pub(super) fn read(name: &str, at: &At, node: &Node, context: &Context<'_>, report: &mut Report) -> Draft {
    let path = format!("jobs:{name}");
    let own = Field::new(node, path.clone());
    check_keys(&own, report);
    check_kind(&own, report);
    let merged = with_defaults(&own, context.defaults, report);
    let field = Field::new(&merged, path.clone());
    let has_rules = field.get("rules").is_some();
    let lacking = lacking(&field, context, report).map(|text| format!("{text} ({at})"));
    let script = read_script(&field, at, context.incomplete || lacking.is_some(), report);
    let when = field.get("when").and_then(|when| when.one_of(report, WHEN)).unwrap_or_else(|| "on_success".to_owned());
    let refused = REFUSED.iter().filter_map(|(key, why)| refusal(&field, key, why));
    let mut refused: Vec<String> = refused.chain(lacking.clone()).collect();
    let trigger = match field.get("trigger").and_then(|trigger| trigger::read(&trigger, report)) {
        Some(Triggered::Child(trigger)) => Some(trigger),
        Some(Triggered::NotHere(why)) => {
            refused.extend(refusal(&field, "trigger", &why));
            None
        }
        None => None,
    };
    let extras = extras::read(name, &field, report);
    let mut settings = settings::read(&field, context.repository, report);
    publish(&mut settings.artifacts, extras.published.as_deref());
    let allow_default = if when == "manual" { AllowFailure::Yes } else { AllowFailure::No };
    Draft {
        name: name.to_owned(),
        at: at.clone(),
        stage: match stage_of_lack(&field, context.stages).filter(|_| lacking.is_some()) {
            Some(stage) => stage,
            None => stage(&field, at, context.stages, report),
        },
        is_lacking: lacking.is_some(),
        settings,
        script,
        inherited_variables: inherited(&field, "variables", None, report),
        variables: field
            .get("variables")
            .map(|list| variables::read(&list, variables::JOB_DATA, report))
            .unwrap_or_default(),
        instances: parallel::read(field.get("parallel").as_ref(), report),
        presence: presence(&field, context.has_workflow_rules, report),
        start_in_seconds: start_in(&field, &when, has_rules, report),
        when,
        allow_failure: field
            .get("allow_failure")
            .and_then(|allow| rules::allow_failure(&allow, report))
            .unwrap_or(allow_default),
        environment: field.get("environment").and_then(|environment| environment::read(&environment, report)),
        trigger,
        extras,
        rules: field.get("rules").map(|rules| rules.node.at.clone()),
        needs: field.get("needs").map(|list| needs::read(&list, report)),
        dependencies: field.get("dependencies").map(|list| dependencies(&list, report)),
        not_here: (!refused.is_empty()).then(|| refused.join("; ")),
    }
}

/// What Pages would publish is part of the archive.
fn publish(artifacts: &mut Vec<CiArtifact>, directory: Option<&str>) {
    let Some(directory) = directory else { return };
    match artifacts.iter_mut().find(|artifact| artifact.artifact_type == "archive") {
        Some(archive) if archive.paths.iter().any(|path| path == directory) => {}
        Some(archive) => archive.paths.push(directory.to_owned()),
        None => artifacts.push(CiArtifact::archive(vec![directory.to_owned()])),
    }
}

/// What the job has not because an include is missing.
fn lacking(field: &Field<'_>, context: &Context<'_>, report: &Report) -> Option<String> {
    let no_script = || {
        let has_script = ["script", "run"].iter().any(|key| field.has(key));
        let whence = report.may_be_included().filter(|_| !has_script && bridge(field).is_none())?;
        Some(format!("it has no script here: {whence}"))
    };
    context.lacking.map(str::to_owned).or_else(no_script)
}

fn refusal(field: &Field<'_>, key: &str, why: &str) -> Option<String> {
    let at = field.get(key).and(field.node.as_map()?.get(key)).map(|entry| &entry.at)?;
    Some(format!("`{key}` {why} ({at})"))
}

/// What a text in `when` means; the text has been checked.
pub(super) fn when(text: &str) -> When {
    match text {
        "on_failure" => When::OnFailure,
        "always" => When::Always,
        "manual" => When::Manual,
        "delayed" => When::Delayed,
        _ => When::OnSuccess,
    }
}

fn check_keys(field: &Field<'_>, report: &mut Report) {
    let Some(map) = field.node.as_map() else { return };
    let refused = || REFUSED.iter().map(|(key, _)| *key);
    let known = || KEYS.iter().chain(IGNORED).copied().chain(refused()).chain(["extends"]);
    for (key, entry) in map.iter() {
        let path = format!("{}:{key}", field.path);
        if IGNORED.contains(&key.as_str()) {
            report.warning(&entry.at, &path, "is ignored here");
        } else if !known().any(|name| name == key) {
            let hint = report.hint(key, known());
            report.problem(&entry.at, &field.path, &format!("config contains unknown keys: {key}{hint}"));
        }
    }
}

/// What makes a job one without a script of its own, as GitLab tells them apart.
fn bridge(field: &Field<'_>) -> Option<&'static str> {
    if field.has("trigger") {
        return Some("trigger");
    }
    let has_script = ["script", "run"].iter().any(|key| field.has(key));
    let mirrors = !has_script && field.get("needs").is_some_and(|list| needs::mirrors(&list));
    mirrors.then_some("needs:pipeline")
}

/// Refuses what a job of its kind cannot have.
fn check_kind(field: &Field<'_>, report: &mut Report) {
    let (Some(bridge), Some(map)) = (bridge(field), field.node.as_map()) else { return };
    for key in ["script", "run"] {
        if let Some(entry) = map.get(key) {
            let text = format!("config: these keys cannot be used together: {key}, {bridge}");
            report.problem(&entry.at, &field.path, &text);
        }
    }
    for (key, entry) in map.iter().filter(|(key, _)| OF_SCRIPTS.contains(&key.as_str())) {
        let text = format!(
            "config contains unknown keys: {key}; a job with `{bridge}` runs nothing itself: leave it out, or put it into the jobs of that \
             pipeline"
        );
        report.problem(&entry.at, &field.path, &text);
    }
}

/// The job with the entries of `default` that it inherits and does not have itself.
fn with_defaults(field: &Field<'_>, defaults: &Map, report: &mut Report) -> Node {
    let wanted = inherited(field, "default", Some(settings::KEYS), report);
    let mut map = field.node.as_map().map(|map| Map::clone(map)).unwrap_or_default();
    let is_bridge = bridge(field).is_some();
    for (key, entry) in defaults {
        let inherits = wanted.as_ref().is_none_or(|names| names.contains(key));
        let inherits = inherits && (!is_bridge || key == DEFAULT_OF_ALL);
        // As in GitLab, a null is no setting: `image: null` inherits too, `before_script: []` does
        // not.
        let has_own = map.get(key).is_some_and(|own| !matches!(own.value.value, Value::Null));
        if inherits && !has_own {
            map.insert(key.clone(), entry.clone());
        }
    }
    Node::map(field.node.at.clone(), map)
}

/// `inherit:<what>`: the names that are inherited; `None` means all.
fn inherited(field: &Field<'_>, what: &str, known: Option<&[&str]>, report: &mut Report) -> Option<Vec<String>> {
    let inherit = field.get("inherit")?;
    inherit.map_of(report, &["default", "variables"])?;
    let value = inherit.get(what)?;
    if value.list().is_none() {
        return match value.flag(report) {
            Some(false) => Some(Vec::new()),
            _ => None,
        };
    }
    let names = value.texts(report)?;
    for name in names.iter().filter(|name| known.is_some_and(|known| !known.contains(&name.as_str()))) {
        let hint = report.hint(name, known.unwrap_or_default().iter().copied());
        value.problem(report, &format!("config contains unknown values: {name}{hint}"));
    }
    Some(names)
}

fn read_script(field: &Field<'_>, at: &At, incomplete: bool, report: &mut Report) -> Vec<String> {
    if let Some(lines) = field.get("script") {
        let read = script::read(&lines, report);
        if lines.list().is_some_and(<[_]>::is_empty) || lines.as_text().is_some_and(|text| text.trim().is_empty()) {
            lines.problem(report, "can't be blank");
        }
        return read;
    }
    let entry = field.node.as_map().and_then(|map| map.get("script"));
    let broken = entry.is_some_and(|entry| matches!(entry.value.value, Value::Broken));
    if !incomplete && !broken && !field.has("run") && bridge(field).is_none() {
        report.problem(at, &field.path, "config should implement a script: keyword");
    }
    Vec::new()
}

/// The stage of a job that names none and may get one from a missing include: the last, so that
/// everything it may need is before it.
fn stage_of_lack(field: &Field<'_>, stages: &[String]) -> Option<String> {
    let last = stages.iter().rev().nth(1)?;
    field.get("stage").is_none().then(|| last.clone())
}

fn stage(field: &Field<'_>, at: &At, stages: &[String], report: &mut Report) -> String {
    let (stage, at) = match field.get("stage") {
        Some(stage) => (stage.text(report), stage.node.at.clone()),
        None => (Some(DEFAULT_STAGE.to_owned()), at.clone()),
    };
    let Some(stage) = stage else { return DEFAULT_STAGE.to_owned() };
    if !stages.contains(&stage) {
        let hint = report.hint(&stage, stages.iter().map(String::as_str));
        let text =
            format!("job: chosen stage {stage} does not exist; available stages are {}{hint}", stages.join(", "));
        report.problem(&at, &field.path, &text);
    }
    stage
}

fn presence(field: &Field<'_>, has_workflow_rules: bool, report: &mut Report) -> Presence {
    let only = field.get("only").map(|only| Box::new(Policy::read(&only, report)));
    let except = field.get("except").map(|except| Box::new(Policy::read(&except, report)));
    let Some(list) = field.get("rules") else {
        let by_default = !has_workflow_rules;
        return Presence::Policies {
            only: only.or_else(|| by_default.then(|| Box::new(only::default_only()))),
            except,
        };
    };
    for key in ["only", "except"] {
        if let Some(used) = field.get(key) {
            used.renamed(&field.path).problem(report, &format!("config key may not be used with `rules`: {key}"));
        }
    }
    Presence::Rules(rules::parse(&list, rules::JOB, report))
}

fn start_in(field: &Field<'_>, when: &str, has_rules: bool, report: &mut Report) -> Option<u64> {
    let Some(start) = field.get("start_in") else {
        if when == "delayed" && !has_rules && !field.has("start_in") {
            let at = field.get("when").map_or_else(|| field.node.at.clone(), |when| when.node.at.clone());
            report.problem(&at, &field.path, "start in should be a duration, because `when` is `delayed`");
        }
        return None;
    };
    if has_rules {
        start.renamed(&field.path).problem(report, "config key may not be used with `rules`: start_in");
    } else if when != "delayed" {
        start.problem(report, "must be blank, because `when` is not `delayed`");
    }
    rules::start_in(&start, report)
}

fn dependencies(field: &Field<'_>, report: &mut Report) -> Vec<Depended> {
    field.texts(report);
    let depended = |item: Field<'_>| Some(Depended { job: item.as_text()?.to_owned(), at: item.node.at.clone() });
    field.items().filter_map(depended).collect()
}
