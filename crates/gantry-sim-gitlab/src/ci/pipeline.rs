//! From the complete configuration to the jobs of one pipeline.

use super::extends::Extended;
use super::field::Field;
use super::graph::{self, Planned};
use super::image;
use super::job::{self, Context, Draft, Presence};
use super::model::{AllowFailure, CiInput, CiJob, CiLeftOut, CiNode, CiPipeline, Repository};
use super::node::{Entry, Map, Node, Value};
use super::parallel::Instance;
use super::problem::{At, Report};
use super::rules::{self, CancelWhen, Outcome, Rule};
use super::script;
use super::settings;
use super::variables::{self, Lookup, Set, expand};

/// The stages of a file that names none; `.pre` and `.post` always exist.
const DEFAULT_STAGES: [&str; 3] = ["build", "test", "deploy"];

/// Keywords of the top level; every other key is a job or, with a leading dot, hidden.
const KEYS: &[&str] = &[
    "after_script",
    "before_script",
    "cache",
    "default",
    "image",
    "include",
    "services",
    "stages",
    "variables",
    "workflow",
];

/// Keywords that are younger than the names of jobs: what has the content of a job is one to this
/// day, as GitLab reserves neither name.
const ALSO_JOBS: [&str; 2] = ["default", "workflow"];

/// What makes such a mapping a job.
const OF_JOBS: [&str; 3] = ["script", "run", "trigger"];

/// The longest name of a job, in bytes; GitLab's limit.
const MAX_NAME: usize = 255;

/// How many values all jobs together may have. Defaults, global variables and parallel instances
/// repeat values in each job, so a small file can ask for a pipeline of any size; real ones stay a
/// hundred times below.
const MAX_PIPELINE_VALUES: usize = 2_000_000;

/// What all jobs share.
struct Shared {
    stages: Vec<String>,
    defaults: Map,
    globals: Set,
    lookup: Lookup,
    has_workflow_rules: bool,
}

/// Builds the pipeline; `None` if a problem left nothing to build.
pub(super) fn build(input: &CiInput<'_>, config: &Extended, root_at: &At, report: &mut Report) -> Option<CiPipeline> {
    let root_node = Node::map(root_at.clone(), config.root.clone());
    let root = Field::new(&root_node, "");
    let mut stages = stages(&root, report);
    warn_of_lacks(config, report);
    let defaults = defaults(&root, input, report);
    let mut globals = Set::new();
    if let Some(field) = root.get("variables") {
        variables::merge(&mut globals, &variables::read(&field.renamed("variables"), variables::GLOBAL_DATA, report));
    }
    let lookup = Lookup::new(input.variables);
    let workflow = workflow(&root, input, &lookup, &mut globals, report);
    if report.may_be_included().is_some() {
        add_stages(&mut stages, config, report);
    }
    let shared = Shared { stages, defaults, globals, lookup, has_workflow_rules: workflow.has_rules };
    let (drafts, budget) = drafts(input, config, &shared, report)?;
    if drafts.is_empty() && !report.failed() {
        report.problem(root_at, "jobs", "config should contain at least one visible job");
    }
    if let Some(at) = workflow.filtered {
        report.problem(&at, "", "pipeline filtered out by workflow rules");
        return None;
    }
    let (planned, left_out) = plan(&drafts, &shared, budget, input.repository, report)?;
    let jobs = graph::connect(&drafts, planned, &shared.stages, report)?;
    check_jobs(&jobs, &left_out, root_at, report);
    let Workflow { name, auto_cancel, .. } = workflow;
    Some(CiPipeline {
        name: name
            .map(|name| variables::expand_all(&name, &shared.lookup.with(&shared.globals)).trim().to_owned())
            .filter(|name| !name.is_empty()),
        auto_cancel: auto_cancel.on_new_commit,
        cancel_on_failure: auto_cancel.on_job_failure,
        stages: shared.stages,
        jobs,
        left_out,
        warnings: Vec::new(),
    })
}

fn stages(root: &Field<'_>, report: &mut Report) -> Vec<String> {
    let named = root.get("stages").map(|field| {
        let field = field.renamed("stages");
        if field.list().is_some_and(<[_]>::is_empty) {
            field.problem(report, "config can't be blank");
        }
        script::read(&field, report)
    });
    let names = named.filter(|names| !names.is_empty()).unwrap_or_else(|| DEFAULT_STAGES.map(str::to_owned).to_vec());
    let mut all = vec![".pre".to_owned()];
    let mut seen: std::collections::HashSet<String> = [".pre".to_owned(), ".post".to_owned()].into();
    all.extend(names.into_iter().filter(|name| seen.insert(name.clone())));
    all.push(".post".to_owned());
    all
}

/// What the whole pipeline lacks; jobs say it themselves.
fn warn_of_lacks(config: &Extended, report: &mut Report) {
    for (name, entry) in config.root.iter().filter(|(name, entry)| is_keyword(name, &entry.value)) {
        if let Some(text) = config.lacking.get(name) {
            report.warning(&entry.at, name, &format!("is read without a part: {text}"));
        }
    }
}

/// Where an include is missing, the stages that jobs name may be its; they come behind those that
/// are known.
fn add_stages(stages: &mut Vec<String>, config: &Extended, report: &mut Report) {
    let Some(whence) = report.may_be_included() else { return };
    for (name, entry) in &config.root {
        let stage = Field::new(&entry.value, name.as_str()).get("stage");
        let Some(stage) = stage.filter(|_| !is_keyword(name, &entry.value) && !name.starts_with('.')) else { continue };
        let Some(text) = stage.as_text().filter(|text| !stages.iter().any(|stage| stage == text)) else { continue };
        report.warning(&stage.node.at, "", &format!("the stage {text} is not defined here: {whence}"));
        stages.insert(stages.len().saturating_sub(1), text.to_owned());
    }
}

/// Refuses what `default` cannot have. Most of it is meant well: a script for all jobs.
fn check_defaults(entries: &Map, default: &Field<'_>, report: &mut Report) {
    for (key, entry) in entries.iter().filter(|(key, _)| !settings::KEYS.contains(&key.as_str())) {
        let hint = if job::KEYS.contains(&key.as_str()) {
            format!("; jobs have `{key}` each for itself, or by `extends`")
        } else {
            report.hint(key, settings::KEYS.iter().copied())
        };
        report.problem(&entry.at, &default.path, &format!("config contains unknown keys: {key}{hint}"));
    }
}

/// The entries of `default` and of the older keywords at the top level, checked.
fn defaults(root: &Field<'_>, input: &CiInput<'_>, report: &mut Report) -> Map {
    let mut map = Map::new();
    if let Some(default) = keyword(root, "default") {
        let default = default.renamed("default");
        if let Some(entries) = default.map(report) {
            check_defaults(entries, &default, report);
            map.clone_from(entries);
        }
    }
    for key in settings::TOP_LEVEL {
        let Some(entry) = root.node.as_map().and_then(|map| map.get(*key)) else { continue };
        if map.contains_key(*key) {
            report.problem(&entry.at, key, "is defined in top-level and `default:` entry");
        } else {
            map.insert((*key).to_owned(), entry.clone());
        }
    }
    map.retain(|key, entry| settings::KEYS.contains(&key.as_str()) && !matches!(entry.value.value, Value::Null));
    let node = Node::map(root.node.at.clone(), map.clone());
    settings::read(&Field::new(&node, "default"), input.repository, report);
    map
}

/// What `workflow` says.
#[derive(Default)]
struct Workflow {
    name: Option<String>,
    has_rules: bool,
    auto_cancel: CancelWhen,
    /// The place of the rules that leave the pipeline out.
    filtered: Option<At>,
}

fn workflow(
    root: &Field<'_>,
    input: &CiInput<'_>,
    lookup: &Lookup,
    globals: &mut Set,
    report: &mut Report,
) -> Workflow {
    let mut workflow = Workflow::default();
    let Some(field) = keyword(root, "workflow") else { return workflow };
    let field = field.renamed("workflow");
    if field.map_of(report, &["name", "rules", "auto_cancel"]).is_none() {
        return workflow;
    }
    if let Some(settings) = field.get("auto_cancel") {
        workflow.auto_cancel = rules::auto_cancel(&settings, report);
    }
    workflow.name = field.get("name").and_then(|name| name.text(report));
    let Some(list) = field.get("rules") else { return workflow };
    workflow.has_rules = true;
    let rules = rules::parse(&list, rules::WORKFLOW, report);
    match rules::evaluate(&rules, &lookup.with(globals), input.repository, report) {
        Outcome::Matched(rule) => {
            variables::merge(globals, &rule.variables);
            workflow.auto_cancel = rule.auto_cancel.unwrap_or(workflow.auto_cancel);
        }
        Outcome::Excluded(at) => workflow.filtered = Some(at.unwrap_or(&list.node.at).clone()),
        Outcome::Unknown(at, why) => report.problem(at, "workflow:rules", why),
    }
    workflow
}

/// Reads every visible job; also returns how many more values the pipeline may have.
fn drafts(input: &CiInput<'_>, config: &Extended, shared: &Shared, report: &mut Report) -> Option<(Vec<Draft>, usize)> {
    let mut budget = MAX_PIPELINE_VALUES;
    let inherited = shared.globals.len() + shared.defaults.values().map(|entry| entry.value.weight).sum::<usize>();
    let mut drafts = Vec::new();
    for (name, entry) in &config.root {
        if is_keyword(name, &entry.value) {
            continue;
        }
        // A header stands in a document of its own; in the same one it is a job like any other, if
        // it is one.
        if name == "spec" && entry.value.as_map().is_some_and(|map| map.contains_key("inputs")) {
            report.problem(&entry.at, "spec", "with inputs is a header: put `---` between it and the jobs");
            continue;
        }
        if name.starts_with('.') || !is_job(name, entry, report) {
            continue;
        }
        let context = Context {
            stages: &shared.stages,
            defaults: &shared.defaults,
            has_workflow_rules: shared.has_workflow_rules,
            repository: input.repository,
            incomplete: config.incomplete.contains(name),
            lacking: config.lacking.get(name).map(String::as_str),
        };
        let size = entry.value.weight.saturating_add(inherited);
        // One share pays for reading, one for each instance.
        budget = spend(budget, size, &entry.at, report)?;
        let draft = job::read(name, &entry.at, &entry.value, &context, report);
        budget = spend(budget, size.saturating_mul(draft.instances.len()), &entry.at, report)?;
        drafts.push(draft);
    }
    Some((drafts, budget))
}

/// Takes `cost` from `budget`; `None` if the pipeline is too large, which is then reported.
pub(super) fn spend(budget: usize, cost: usize, at: &At, report: &mut Report) -> Option<usize> {
    let left = budget.checked_sub(cost);
    if left.is_none() {
        report.problem(
            at,
            "",
            &format!("the pipeline is too large: more than {MAX_PIPELINE_VALUES} values up to this job"),
        );
    }
    left
}

/// Whether a key of the top level is no job.
fn is_keyword(name: &str, value: &Node) -> bool {
    let is_job = || value.as_map().is_some_and(|map| OF_JOBS.iter().any(|key| map.contains_key(*key)));
    KEYS.contains(&name) && !(ALSO_JOBS.contains(&name) && is_job())
}

/// A keyword of the top level, if it is there and no job.
fn keyword<'n>(root: &Field<'n>, name: &str) -> Option<Field<'n>> {
    root.get(name).filter(|field| is_keyword(name, field.node))
}

fn is_job(name: &str, entry: &Entry, report: &mut Report) -> bool {
    if name.is_empty() || name.len() > MAX_NAME {
        report.problem(&entry.at, "", &format!("a job's name should have 1 to {MAX_NAME} characters"));
        return false;
    }
    match entry.value.value {
        Value::Map(_) => true,
        Value::Broken => false,
        _ => {
            let known = KEYS.iter().copied();
            let hint = report.hint(name, known);
            let text = format!("config should be a hash, but this is {}{hint}", entry.value.kind());
            report.problem(&entry.at, &format!("jobs:{name}"), &text);
            false
        }
    }
}

/// Decides for every instance of every job whether it exists.
fn plan(
    drafts: &[Draft],
    shared: &Shared,
    mut budget: usize,
    repository: &dyn Repository,
    report: &mut Report,
) -> Option<(Vec<Planned>, Vec<CiLeftOut>)> {
    let (mut planned, mut left_out) = (Vec::new(), Vec::new());
    for (index, draft) in drafts.iter().enumerate() {
        for instance in &draft.instances {
            let mut variables = Set::new();
            let inherits = |name: &String| draft.inherited_variables.as_ref().is_none_or(|names| names.contains(name));
            variables::merge(&mut variables, shared.globals.values().filter(|variable| inherits(&variable.key)));
            variables::merge(&mut variables, &draft.variables);
            variables::merge(&mut variables, &instance.variables);
            let lookup = job_lookup(draft, instance, &shared.lookup, &variables);
            let (rule, undecided) = match presence(draft, &lookup, repository, report) {
                Present::Yes(rule) => (rule, None),
                Present::Undecided(why) => (None, Some(why)),
                Present::No(why) => {
                    let name = format!("{}{}", draft.name, instance.suffix);
                    left_out.push(CiLeftOut { name, stage: draft.stage.clone(), why });
                    continue;
                }
            };
            if let Some(rule) = rule {
                variables::merge(&mut variables, &rule.variables);
            }
            let lookup = job_lookup(draft, instance, &shared.lookup, &variables);
            let needs = rule.and_then(|rule| rule.needs.as_ref()).or(draft.needs.as_ref());
            let foreign = needs.and_then(|needs| needs.foreign.as_ref()).map(|(at, why)| format!("{why} ({at})"));
            let upstream = needs.map(|needs| needs.upstream.clone()).unwrap_or_default();
            let needs = needs.filter(|needs| !needs.is_only_upstream()).map(|needs| needs.jobs.clone());
            let cost = needs.as_ref().map_or(0, Vec::len);
            budget = spend(budget, cost, &draft.at, report)?;
            let mut job = instantiate(draft, instance, variables, rule, &lookup);
            job.not_here = draft.not_here.clone().or(undecided).or(foreign);
            job.upstream = upstream;
            image::check(&job, &draft.at, &lookup, report);
            if let Some(names) = variables::circle(&job.variables) {
                let text = format!("circular variable reference detected: {names:?}");
                report.problem(&draft.at, &format!("jobs:{}", job.name), &text);
            }
            planned.push(Planned { draft: index, job, needs, matrix: instance.variables.clone() });
        }
    }
    Some((planned, left_out))
}

/// What the rules and tags of a job can see.
fn job_lookup(draft: &Draft, instance: &Instance, pipeline: &Lookup, variables: &Set) -> Lookup {
    let mut lookup = pipeline.with(variables);
    lookup.add("CI_JOB_NAME", &format!("{}{}", draft.name, instance.suffix));
    lookup.add("CI_JOB_GROUP_NAME", &draft.name);
    lookup.add("CI_JOB_STAGE", &draft.stage);
    if let Some(CiNode { index, total }) = instance.node {
        lookup.add("CI_NODE_INDEX", &index.to_string());
        lookup.add("CI_NODE_TOTAL", &total.to_string());
    }
    if let Some(environment) = &draft.environment {
        lookup.add("CI_ENVIRONMENT_NAME", &variables::expand_all(&environment.name, &lookup));
        lookup.add("CI_ENVIRONMENT_ACTION", &environment.action);
    }
    lookup
}

/// Whether an instance exists.
enum Present<'d> {
    /// With the rule that says so.
    Yes(Option<&'d Rule>),
    /// With the reason.
    No(String),
    /// A rule cannot be decided here: why.
    Undecided(String),
}

fn presence<'d>(draft: &'d Draft, lookup: &Lookup, repository: &dyn Repository, report: &mut Report) -> Present<'d> {
    match &draft.presence {
        Presence::Rules(rules) => match rules::evaluate(rules, lookup, repository, report) {
            Outcome::Matched(rule) => Present::Yes(Some(rule)),
            Outcome::Excluded(Some(at)) => Present::No(format!("the rule in {at} says `when: never`")),
            Outcome::Excluded(None) => Present::No(format!("none of its rules holds ({})", draft.rules_at())),
            Outcome::Unknown(at, why) => Present::Undecided(format!("{why} ({at})")),
        },
        Presence::Policies { only, except } => {
            let included = only.as_ref().is_none_or(|only| only.includes(lookup, repository, report));
            let excluded = except.as_ref().is_some_and(|except| except.excludes(lookup, repository, report));
            match (included, excluded) {
                (true, false) => Present::Yes(None),
                (false, _) => Present::No(format!("`only` does not hold ({})", draft.at)),
                (true, true) => Present::No(format!("`except` holds ({})", draft.at)),
            }
        }
    }
}

/// One instance of a job that exists; what depends on other jobs is still missing.
fn instantiate(draft: &Draft, instance: &Instance, variables: Set, rule: Option<&Rule>, lookup: &Lookup) -> CiJob {
    let settings = draft.settings.clone();
    let when = rule.and_then(|rule| rule.when.as_deref()).unwrap_or(&draft.when);
    CiJob {
        name: format!("{}{}", draft.name, instance.suffix),
        stage: draft.stage.clone(),
        image: settings.image,
        services: settings.services,
        variables: variables.into_values().collect(),
        before_script: settings.before_script,
        script: draft.script.clone(),
        after_script: settings.after_script,
        artifacts: settings.artifacts,
        cache: settings.cache,
        dependencies: None,
        needs: None,
        allow_failure: allow_failure(draft, rule),
        when: job::when(when),
        start_in_seconds: rule.and_then(|rule| rule.start_in_seconds).or(draft.start_in_seconds),
        tags: settings.tags.iter().map(|tag| expand(tag, lookup)).collect(),
        timeout_seconds: settings.timeout_seconds,
        retry: settings.retry,
        parallel: instance.node,
        interruptible: rule.and_then(|rule| rule.interruptible).unwrap_or(settings.interruptible),
        environment: draft.environment.clone(),
        trigger: draft.trigger.clone(),
        upstream: Vec::new(),
        resource_group: draft.extras.resource_group.as_ref().map(|group| variables::expand_all(group, lookup)),
        coverage: draft.extras.coverage.clone(),
        release: draft.extras.release.as_ref().map(|tag| variables::expand_all(tag, lookup)),
        manual_confirmation: draft.extras.manual_confirmation.clone(),
        pre_get_sources_script: settings.pre_get_sources_script,
        inputs: draft.extras.inputs.clone(),
        not_here: None,
        line: draft.at.line,
        file: draft.at.file.to_string(),
    }
}

fn allow_failure(draft: &Draft, rule: Option<&Rule>) -> AllowFailure {
    rule.and_then(|rule| rule.allow_failure.clone()).unwrap_or_else(|| draft.allow_failure.clone())
}

/// How many reasons a pipeline without jobs is refused with; the rest is counted.
const SHOWN_REASONS: usize = 5;

fn check_jobs(jobs: &[CiJob], left_out: &[CiLeftOut], root_at: &At, report: &mut Report) {
    if (jobs.is_empty() && left_out.is_empty()) || report.failed() {
        return;
    }
    if jobs.is_empty() {
        let reasons: Vec<String> =
            left_out.iter().take(SHOWN_REASONS).map(|job| format!("{}: {}", job.name, job.why)).collect();
        let more = left_out.len().saturating_sub(SHOWN_REASONS);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let text = "the pipeline would be empty: `rules` or `only`/`except` leave out every job";
        report.problem(root_at, "", &format!("{text} ({}{more})", reasons.join("; ")));
    } else if jobs.iter().all(|job| job.stage == ".pre" || job.stage == ".post") {
        report.problem(
            root_at,
            "",
            "the pipeline would only have jobs in `.pre` and `.post`; it needs one in another stage",
        );
    }
}
