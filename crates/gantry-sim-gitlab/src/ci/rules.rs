//! `rules:` of jobs, of the workflow and of includes: read once, evaluated for each instance of a
//! job.

use super::clause::{Changes, Exists};
use super::durations;
use super::expr::Expr;
use super::field::Field;
use super::model::{AllowFailure, AutoCancel, CiVariable, Repository};
use super::needs::{self, Needs};
use super::node::Value;
use super::problem::{At, Report};
use super::variables::{self, Lookup};

/// Which keys and `when` values a list of rules may use.
#[derive(Clone, Copy)]
pub(super) struct Dialect {
    keys: &'static [&'static str],
    when: &'static [&'static str],
}

/// Rules of a job.
pub(super) const JOB: Dialect = Dialect {
    keys: &["if", "changes", "exists", "when", "start_in", "allow_failure", "variables", "needs", "interruptible"],
    when: &["on_success", "on_failure", "always", "never", "manual", "delayed"],
};

/// Rules of `workflow`.
pub(super) const WORKFLOW: Dialect =
    Dialect { keys: &["if", "changes", "exists", "when", "variables", "auto_cancel"], when: &["always", "never"] };

/// Rules of `include`.
pub(super) const INCLUDE: Dialect = Dialect { keys: &["if", "changes", "exists", "when"], when: &["always", "never"] };

/// How deep lists of rules may be nested (by references); GitLab's limit.
const MAX_NESTING: usize = 10;

/// One rule.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule {
    /// Where it stands.
    at: Option<At>,
    /// `None`: no condition.
    condition: Option<Expr>,
    changes: Option<Changes>,
    exists: Option<Exists>,
    pub(super) when: Option<String>,
    pub(super) start_in_seconds: Option<u64>,
    pub(super) allow_failure: Option<AllowFailure>,
    pub(super) variables: Vec<CiVariable>,
    pub(super) needs: Option<Needs>,
    pub(super) interruptible: Option<bool>,
    pub(super) auto_cancel: Option<CancelWhen>,
}

/// `auto_cancel`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CancelWhen {
    pub(super) on_new_commit: AutoCancel,
    /// Whether one failure cancels all other jobs.
    pub(super) on_job_failure: bool,
}

/// What a list of rules decides.
pub(super) enum Outcome<'r> {
    /// The first rule that holds; its `when` is not `never`.
    Matched(&'r Rule),
    /// None holds, or the first that does says `never`: where that stands.
    Excluded(Option<&'r At>),
    /// A rule that would have to be decided cannot be: where, and why.
    Unknown(&'r At, &'static str),
}

/// Reads a list of rules.
pub(super) fn parse(field: &Field<'_>, dialect: Dialect, report: &mut Report) -> Vec<Rule> {
    let mut rules = Vec::new();
    match field.list() {
        Some([]) => field.problem(report, "config can't be blank"),
        Some(_) => collect(field, dialect, 0, &mut rules, report),
        None => field.expected(report, "an array of rules"),
    }
    rules
}

/// The first rule whose conditions all hold.
pub(super) fn evaluate<'r>(
    rules: &'r [Rule],
    lookup: &Lookup,
    repository: &dyn Repository,
    report: &mut Report,
) -> Outcome<'r> {
    for rule in rules {
        let condition_holds = rule.condition.as_ref().is_none_or(|condition| condition.holds(lookup));
        if !condition_holds || !rule.changes.as_ref().is_none_or(|changes| changes.hold(lookup, repository, report)) {
            continue;
        }
        match rule.exists.as_ref().map(|exists| exists.holds(lookup, repository, report)) {
            Some(Ok(false)) => continue,
            Some(Err((at, why))) => return Outcome::Unknown(at, why),
            Some(Ok(true)) | None => {}
        }
        return if rule.when.as_deref() == Some("never") {
            Outcome::Excluded(rule.at.as_ref())
        } else {
            Outcome::Matched(rule)
        };
    }
    Outcome::Excluded(None)
}

fn collect(field: &Field<'_>, dialect: Dialect, level: usize, rules: &mut Vec<Rule>, report: &mut Report) {
    for item in field.items() {
        match &item.node.value {
            Value::List(_) if level < MAX_NESTING => collect(&item, dialect, level + 1, rules, report),
            Value::List(_) => item.problem(report, &format!("config is nested deeper than {MAX_NESTING} levels")),
            _ => rules.extend(rule(&item.renamed(format!("{}:rule", field.path)), dialect, report)),
        }
    }
}

fn rule(field: &Field<'_>, dialect: Dialect, report: &mut Report) -> Option<Rule> {
    let map = field.map_of(report, dialect.keys)?;
    if map.is_empty() {
        field.problem(report, "config can't be blank");
    }
    let when = field.get("when").and_then(|when| when.one_of(report, dialect.when));
    let start_in_seconds = field.get("start_in").and_then(|field| start_in(&field, report));
    match (when.as_deref(), field.get("start_in")) {
        (Some("delayed"), None) if !field.has("start_in") => {
            field.problem(report, "start in should be a duration, because `when` is `delayed`");
        }
        (when, Some(start)) if when != Some("delayed") => {
            start.problem(report, "must be blank, because `when` is not `delayed`");
        }
        _ => {}
    }
    Some(Rule {
        at: Some(field.node.at.clone()),
        condition: field.get("if").and_then(|condition| expression(&condition, report)),
        changes: field.get("changes").and_then(|changes| Changes::read(&changes, report)),
        exists: field.get("exists").and_then(|exists| Exists::read(&exists, report)),
        when,
        start_in_seconds,
        allow_failure: field.get("allow_failure").and_then(|allow| allow_failure(&allow, report)),
        variables: field
            .get("variables")
            .map(|list| variables::read(&list, variables::JOB_DATA, report))
            .unwrap_or_default(),
        needs: field.get("needs").map(|list| needs::read(&list, report)),
        interruptible: field.get("interruptible").and_then(|flag| flag.flag(report)),
        auto_cancel: field.get("auto_cancel").map(|settings| auto_cancel(&settings, report)),
    })
}

/// Reads `auto_cancel`.
pub(super) fn auto_cancel(field: &Field<'_>, report: &mut Report) -> CancelWhen {
    if field.map_of(report, &["on_new_commit", "on_job_failure"]).is_none() {
        return CancelWhen::default();
    }
    let failure = field.get("on_job_failure").and_then(|wanted| wanted.one_of(report, &["all", "none"]));
    let wanted = field.get("on_new_commit");
    let on_new_commit =
        match wanted.and_then(|wanted| wanted.one_of(report, &["conservative", "interruptible", "none"])).as_deref() {
            Some("interruptible") => AutoCancel::Interruptible,
            Some("none") => AutoCancel::Never,
            _ => AutoCancel::Conservative,
        };
    CancelWhen { on_new_commit, on_job_failure: failure.as_deref() == Some("all") }
}

/// Reads one condition.
pub(super) fn expression(field: &Field<'_>, report: &mut Report) -> Option<Expr> {
    let text = field.text(report)?;
    match Expr::parse(&text, &report.patterns) {
        Ok(expr) => {
            if let Some(text) = expr.no_pattern(&report.patterns) {
                let text = format!("`{text}` is no /pattern/, so GitLab asks whether it contains the left side");
                field.warning(report, &text);
            }
            Some(expr)
        }
        Err(error) => {
            field.problem(report, &format!("invalid expression syntax: {error}"));
            None
        }
    }
}

/// The longest `start_in`, in seconds: one week, as in GitLab.
const MAX_START_IN: u64 = 7 * 86_400;

/// Reads `start_in`.
pub(super) fn start_in(field: &Field<'_>, report: &mut Report) -> Option<u64> {
    duration(field, MAX_START_IN, "1 week", report)
}

/// Reads a duration above zero and up to `limit` seconds.
pub(super) fn duration(field: &Field<'_>, limit: u64, shown: &str, report: &mut Report) -> Option<u64> {
    let Some(text) = field.as_text() else {
        field.expected(report, "a duration in text, such as `1h 30m`");
        return None;
    };
    match durations::parse(text) {
        Some(seconds @ 1..) if seconds <= limit => return Some(seconds),
        Some(0) => field.problem(report, "config should be a duration above zero"),
        Some(_) => field.problem(report, &format!("config should not exceed the limit of {shown}")),
        None => field.problem(report, &format!("config should be a duration, such as `1h 30m`; `{text}` is not one")),
    }
    None
}

/// Reads `allow_failure`.
pub(super) fn allow_failure(field: &Field<'_>, report: &mut Report) -> Option<AllowFailure> {
    match &field.node.value {
        Value::Bool(true, _) => Some(AllowFailure::Yes),
        Value::Bool(false, _) => Some(AllowFailure::No),
        Value::Map(_) => {
            field.map_of(report, &["exit_codes"]);
            let Some(codes) = field.get("exit_codes") else {
                field.problem(report, "config should have `exit_codes`");
                return None;
            };
            exit_codes(&codes, report).map(AllowFailure::ExitCodes)
        }
        _ => {
            field.expected(report, "a hash or a boolean value");
            None
        }
    }
}

/// Reads an exit code or a list of them.
pub(super) fn exit_codes(field: &Field<'_>, report: &mut Report) -> Option<Vec<i32>> {
    let single = std::slice::from_ref(field.node);
    let nodes = field.list().unwrap_or(single);
    let mut codes = Vec::new();
    for node in nodes {
        let code = Field::new(node, field.path.clone()).integer(report, 0, 255)?;
        codes.extend(i32::try_from(code).ok());
    }
    Some(codes)
}
