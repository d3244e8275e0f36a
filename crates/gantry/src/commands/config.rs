//! `gantry config`: what can be configured, for people, programs and editors. Everything comes from
//! the keys' declarations.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use gantry_config::{Key, keys};
use gantry_core::Effect;
use serde_json::{Value, json};

use crate::commands::output;

/// What to show.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Every key of config.toml: how it is written, its default, what it is for, and whether it
    /// does anything
    Keys(KeysArgs),
    /// A JSON Schema of config.toml, with which editors complete and check it
    Schema,
}

/// Arguments of `gantry config keys`.
#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    /// As a JSON list
    #[arg(long)]
    json: bool,
    /// Only those with this in their path, such as "kubernetes.pod_"; it is an error if there are
    /// none
    #[arg(value_name = "TEXT")]
    part: Option<String>,
}

/// Shows it on standard output.
pub(crate) fn main(command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    let text = match command {
        ConfigCommand::Schema => format!("{:#}\n", gantry_config::schema::schema()),
        ConfigCommand::Keys(args) => {
            let part = args.part.as_deref().unwrap_or_default();
            let shown: Vec<&Key> = keys().iter().filter(|key| key.path.contains(part)).collect();
            if shown.is_empty() {
                bail!("no key has {part:?} in its path{}", hint(part));
            }
            if args.json { json_of(&shown) } else { table_of(&shown) }
        }
    };
    output(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The part of a path that was probably meant. What people write may be a whole path, as the file
/// or this list has it.
fn hint(part: &str) -> String {
    let names = || keys().iter().flat_map(|key| key.path.split('.')).map(|name| name.trim_end_matches("[]"));
    let wanted = part.trim_matches(['[', ']']);
    let meant = gantry_config::nearest(wanted, keys().iter().map(|key| key.path.as_str()))
        .or_else(|| wanted.rsplit('.').find_map(|name| gantry_config::nearest(name, names())));
    meant
        .map_or_else(|| "; without a text all keys are listed".to_owned(), |meant| format!("; did you mean {meant:?}?"))
}

fn json_of(keys: &[&Key]) -> String {
    let list: Vec<Value> = keys
        .iter()
        .map(|key| {
            json!({
                "path": key.path,
                "about": key.about,
                "value": key.form.words(),
                "default": Some(&key.default).filter(|default| !default.is_empty()),
                "effect": word(key.effect),
                "instead": key.effect.instead(),
                "flag": key.flag.as_ref().map(|flag| format!("--{}", flag.long)),
                "variable": key.flag.as_ref().and_then(|flag| flag.variable.as_ref()),
            })
        })
        .collect();
    format!("{:#}\n", Value::from(list))
}

fn word(effect: Effect) -> &'static str {
    match effect {
        Effect::Acts => "acts",
        Effect::Never(_) => "none",
        Effect::AlwaysOn(_) => "always on",
        Effect::OtherExecutor => "other executor",
    }
}

/// Table by table of the file, one line for each key.
fn table_of(keys: &[&Key]) -> String {
    let mut text = String::new();
    let mut tables: Vec<&str> = Vec::new();
    for key in keys {
        if !tables.contains(&key.table()) {
            tables.push(key.table());
        }
    }
    for table in tables {
        let rows: Vec<[String; 3]> = keys.iter().filter(|key| key.table() == table).map(|key| row(key)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (names, values) = (width(0), width(1).min(WIDEST_VALUE));
        let before = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{before}{}", heading(table));
        for [name, value, about] in rows {
            let _ = writeln!(text, "  {name:<names$}  {value:<values$}  {about}");
        }
    }
    text
}

/// Longer lists of words are not aligned.
const WIDEST_VALUE: usize = 32;

fn heading(table: &str) -> String {
    let path = table.replace("[]", "");
    match table {
        "" => "At the top of the file".to_owned(),
        table if table.ends_with("[]") => format!("[[{path}]]"),
        _ => format!("[{path}]"),
    }
}

fn row(key: &Key) -> [String; 3] {
    let default = Some(&key.default).filter(|default| !default.is_empty());
    let value = default.map_or_else(|| key.form.words(), |default| format!("{} ({default})", key.form.words()));
    let about = match key.effect.instead() {
        None => key.about.clone(),
        Some(instead) => format!("no effect: {instead} | {}", key.about),
    };
    [key.name().to_owned(), value, about]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(part: &str) -> Vec<&'static Key> {
        keys().iter().filter(|key| key.path.contains(part)).collect()
    }

    #[test]
    fn keys_for_people() {
        insta::assert_snapshot!(table_of(&some("runners[].artifact")), @r"
        [runners.artifact]
          upload_timeout           duration (1h0m0s)  Time for uploading artifacts.
          response_header_timeout  duration (10m0s)   Time in which GitLab must answer an upload of artifacts.
        ");
        assert_eq!(hint("kubernets"), "; did you mean \"kubernetes\"?");
        assert_eq!(hint("runners[].kubernetes.cpu_limt"), "; did you mean \"runners[].kubernetes.cpu_limit\"?");
        assert_eq!(hint("[runners.kubernetes.pol_timeout]"), "; did you mean \"runners[].kubernetes.poll_timeout\"?");
        assert_eq!(hint("colour of the page"), "; without a text all keys are listed");
        assert!(table_of(&some("")).contains("\n[[runners.kubernetes.volumes.pvc]]\n"));
    }

    #[test]
    fn keys_for_programs() {
        let list: Value = serde_json::from_str(&json_of(&some("poll_interval"))).unwrap();
        let expected = json!([{
            "path": "runners[].kubernetes.poll_interval", "about": "Seconds between two looks at a starting pod.",
            "value": "seconds", "default": "3", "effect": "none", "instead": "pods are watched",
            "flag": "--kubernetes-poll-interval", "variable": "KUBERNETES_POLL_INTERVAL",
        }]);
        assert_eq!(list, expected);
    }
}
