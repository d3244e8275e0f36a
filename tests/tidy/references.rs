//! Pages that are made from what the code declares: keys, feature flags, variables of jobs, metrics
//! and endings. A page that says something else is out of date; with `GANTRY_BLESS=1` in its
//! environment the test writes it anew.

use std::fmt::Write as _;
use std::fs;

use gantry_config::{Key, keys};
use gantry_core::effect::Effect;
use gantry_core::ending;
use gantry_core::feature_flags::FLAGS;
use gantry_core::job_variables::JOB_VARIABLES;

use crate::assert_none;
use crate::project::root;

/// Set to anything, it has the pages written.
const BLESS: &str = "GANTRY_BLESS";

#[test]
fn pages_say_what_the_code_declares() {
    let pages = [
        ("config.md", config()),
        ("feature-flags.md", feature_flags()),
        ("job-variables.md", job_variables()),
        ("metrics.md", metrics()),
        ("endings.md", endings()),
    ];
    let directory = root().join("docs/reference");
    let mut problems = Vec::new();
    for (name, text) in pages {
        let path = directory.join(name);
        if fs::read_to_string(&path).is_ok_and(|current| current == text) {
            continue;
        }
        if std::env::var_os(BLESS).is_some() {
            fs::create_dir_all(&directory).expect("the directory of the pages");
            fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        } else {
            problems.push(format!(
                "docs/reference/{name} is out of date: {BLESS}=1 cargo test -p gantry-tests --test tidy references"
            ));
        }
    }
    assert_none("pages that are made from the code", &problems);
}

/// What stands above a page that nobody should edit.
fn begin(title: &str, words: &str) -> String {
    let note = "<!-- Made from the code by tests/tidy/references.rs: change it there. -->";
    format!("{note}\n\n# {title}\n\n{words}\n")
}

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{}`", cell(text)) }
}

/// Behind what a thing is for: that it does nothing.
fn remark(effect: Effect) -> String {
    let Some(instead) = effect.instead() else { return String::new() };
    let what = match effect {
        Effect::AlwaysOn(_) => "Always on",
        Effect::Acts | Effect::Never(_) | Effect::OtherExecutor => "No effect",
    };
    format!(" **{what}:** {}.", cell(instead))
}

fn config() -> String {
    let words = "Every key of `config.toml`, table by table. Names and defaults are those of GitLab Runner 19.4; tables called `gantry` are \
                 this runner's own, and GitLab Runner ignores them. A key that does nothing, and one that is unknown, is a warning with its \
                 line when the file is read; a value that cannot work makes its `[[runners]]` entry unusable, and no other.\n\n\
                 `gantry config keys` prints the same, `gantry config schema` a JSON Schema for editors. Flags are those of `gantry \
                 register`, which also reads the variable.\n\n\
                 A *duration* is a text such as `\"1h30m\"`, or a number of nanoseconds; a *quantity* one such as `\"500m\"` or \
                 `\"1.5Gi\"`; a *regular expression* is not anchored.";
    let mut page = begin("Keys of config.toml", words);
    let mut tables: Vec<&str> = Vec::new();
    for key in keys() {
        if !tables.contains(&key.table()) {
            tables.push(key.table());
        }
    }
    for table in tables {
        let name = table.replace("[]", "");
        let heading = match table {
            "" => "At the top of the file".to_owned(),
            list if list.ends_with("[]") => format!("`[[{name}]]`"),
            _ => format!("`[{name}]`"),
        };
        let _ = write!(page, "\n## {heading}\n\n| key | value | default | |\n|---|---|---|---|\n");
        for key in keys().iter().filter(|key| key.table() == table) {
            page += &row_of_key(key);
        }
    }
    page
}

fn row_of_key(key: &Key) -> String {
    let flag = key.flag.as_ref().map(|flag| {
        let variable = flag.variable.as_ref().map(|name| format!(", `{name}`")).unwrap_or_default();
        format!(" Flag `--{}`{variable}.", flag.long)
    });
    format!(
        "| `{}` | {} | {} | {}{}{} |\n",
        key.name(),
        cell(&key.form.words()),
        code(&key.default),
        cell(&key.about),
        remark(key.effect),
        flag.unwrap_or_default()
    )
}

fn feature_flags() -> String {
    let words = "The feature flags of GitLab Runner 19.4. Operators set them in `[runners.feature_flags]`, jobs as variables of the same \
                 name; the operator's word counts. All of them are variables of every job, whether they act here or not. Setting one that \
                 does nothing is a warning: with its line in the config, in the job log for jobs.";
    let mut page = begin("Feature flags", words);
    page += "\n| flag | default | |\n|---|---|---|\n";
    for flag in FLAGS {
        let _ = writeln!(page, "| `{}` | {} | {}.{} |", flag.name, flag.default, cell(flag.about), remark(flag.effect));
    }
    page
}

fn job_variables() -> String {
    let words = "Variables by which a job sets up its runner; feature flags are on [their own page](feature-flags.md). What does nothing is \
                 a line of the job log. Those that begin with `KUBERNETES_` act only as far as the runner's config allows \
                 (`…_overwrite_allowed` and `…_overwrite_max_allowed` in `[runners.kubernetes]`).";
    let mut page = begin("Variables of jobs", words);
    page += "\n| variable | |\n|---|---|\n";
    for variable in JOB_VARIABLES {
        let _ = writeln!(page, "| `{}` | {}.{} |", variable.name, cell(variable.about), remark(variable.effect));
    }
    page
}

fn metrics() -> String {
    let words = "What `/metrics` shows. Names and labels are those of GitLab Runner 19.4 where it has them; `gantry_` are this runner's own. \
                 `process_` are the usual ones of a process.";
    let mut page = begin("Metrics", words);
    page += "\n| metric | type | labels | |\n|---|---|---|---|\n";
    for metric in gantry_daemon::metrics_reference() {
        let labels: Vec<String> = metric.labels.iter().map(|label| code(label)).collect();
        let _ =
            writeln!(page, "| `{}` | {} | {} | {} |", metric.name, metric.kind, labels.join(", "), cell(&metric.help));
    }
    page
}

fn endings() -> String {
    let words = "Every way in which a job can end: what GitLab is told, and what the last line of the job log says, with examples for the \
                 parts that differ. *Retryable* jobs may well succeed elsewhere or later; that is for the log of the runner.";
    let mut page = begin("How jobs end", words);
    page += "\n| ending | failure reason | exit code | retryable | last line |\n|---|---|---|---|---|\n";
    for ending in ending::examples() {
        let verdict = ending.verdict();
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} |",
            serde_json::to_value(&ending).expect("JSON")["kind"].as_str().unwrap_or_default(),
            verdict.reason.map(|reason| code(reason.as_str())).unwrap_or_default(),
            verdict.exit_code.map(|code| code.to_string()).unwrap_or_default(),
            if ending.is_retryable() { "yes" } else { "" },
            cell(&verdict.message)
        );
    }
    page
}
