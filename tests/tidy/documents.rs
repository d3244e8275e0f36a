//! What README and docs/ promise is there: commands, files, links, and a place on the map for every
//! crate.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use gantry_core::feature_flags::FLAGS;
use gantry_core::job_variables::JOB_VARIABLES;

use crate::assert_none;
use crate::project::{File, files, read, root, rust_files};

/// What a newcomer types. The script of CI does both.
const COMMANDS: [&str; 2] = ["cargo run -p gantry -- dev", "cargo test"];

/// The script of CI.
const SCRIPT: &str = ".ci/run";

/// The feature flags, and which of them do something.
const FLAGS_FILE: &str = "crates/gantry-core/src/feature_flags.rs";

/// The page with the map.
const ARCHITECTURE: &str = "docs/ARCHITECTURE.md";

/// Pages that people read.
fn pages() -> Vec<File> {
    let is_page = |file: &File| file.is_a("md") && (file.path.starts_with("docs/") || !file.path.contains('/'));
    files().into_iter().filter(is_page).collect()
}

#[test]
fn the_two_commands_are_in_the_readme() {
    let readme = read("README.md");
    let lines: Vec<&str> = readme.lines().map(|line| line.trim().trim_start_matches("$ ")).collect();
    let problems: Vec<String> = COMMANDS
        .iter()
        .filter(|command| !lines.contains(command))
        .map(|command| format!("README.md has no line {command:?}"))
        .collect();
    assert_none("what a newcomer types stays the same", &problems);
}

#[test]
fn the_script_of_ci_is_sound() {
    let mode = fs::metadata(root().join(SCRIPT)).expect(SCRIPT).permissions().mode();
    assert!(mode & 0o111 != 0, "{SCRIPT} is not executable");
    let status = Command::new("bash").arg("-n").arg(root().join(SCRIPT)).status().expect("bash can be started");
    assert!(status.success(), "bash does not understand {SCRIPT}");
    let script = read(SCRIPT);
    let problems: Vec<String> = COMMANDS
        .iter()
        .filter(|command| !script.contains(**command))
        .map(|command| format!("{SCRIPT} does not run {command:?}"))
        .collect();
    assert_none("CI does what the README says", &problems);
}

#[test]
fn every_crate_is_on_the_map() {
    let page = read(ARCHITECTURE);
    let mut problems = Vec::new();
    for entry in fs::read_dir(root().join("crates")).expect("crates") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        if !page.contains(&format!("`crates/{name}`")) {
            problems.push(format!("{ARCHITECTURE} does not describe `crates/{name}`"));
        }
    }
    assert_none("the map of the code", &problems);
}

#[test]
fn files_that_pages_name_exist() {
    let mut problems = Vec::new();
    for page in pages() {
        let dir = page.path.rsplit_once('/').map_or("", |(dir, _)| dir);
        let links = targets(&page.text).into_iter().map(|target| root().join(dir).join(target));
        let named = paths(&page.text).into_iter().map(|path| root().join(path));
        for path in links.chain(named).filter(|path| !path.exists()) {
            let shown = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
            problems.push(format!("{}: there is no {shown}", page.path));
        }
    }
    assert_none("files that pages name", &problems);
}

/// Operators are told of flags that do nothing. Whoever makes one act, or no longer, finds the list
/// here.
#[test]
fn feature_flags_act_as_listed() {
    let is_ours = |file: &File| file.path.starts_with("crates/") && !file.path.starts_with("crates/gantry-sim-");
    let files: Vec<File> =
        rust_files().into_iter().filter(is_ours).filter(|file| !file.path.ends_with(FLAGS_FILE)).collect();
    let problems: Vec<String> = FLAGS
        .iter()
        .filter_map(|flag| {
            let literal = format!("\"{}\"", flag.name);
            let user = files.iter().find(|file| file.production().iter().any(|line| line.contains(&literal)));
            match (user, flag.effect.acts()) {
                (Some(file), false) => Some(format!("{} uses {literal}: it acts, say so in {FLAGS_FILE}", file.path)),
                (None, true) => Some(format!("nobody uses {literal}: it does not act, say so in {FLAGS_FILE}")),
                _ => None,
            }
        })
        .collect();
    assert_none("feature flags that act", &problems);
}

/// The same for the variables by which jobs set up their runner.
#[test]
fn job_variables_act_as_listed() {
    const OWN: [&str; 2] = ["crates/gantry-core/src/job_variables.rs", "crates/gantry-plan/src/no_effect.rs"];
    let is_ours = |file: &File| file.path.starts_with("crates/") && !file.path.starts_with("crates/gantry-sim-");
    let files: Vec<File> =
        rust_files().into_iter().filter(is_ours).filter(|file| !OWN.contains(&file.path.as_str())).collect();
    // Those of quantities are made of the names of their keys.
    let is_made = |name: &str| {
        let key = name.trim_start_matches("KUBERNETES_").to_ascii_lowercase() + "_overwrite_max_allowed";
        gantry_config::keys().iter().any(|known| known.name() == key)
    };
    let problems: Vec<String> = JOB_VARIABLES
        .iter()
        .filter(|variable| !is_made(variable.name))
        .filter_map(|variable| {
            let literal = format!("\"{}\"", variable.name.trim_end_matches('*'));
            let user = files.iter().find(|file| file.production().iter().any(|line| line.contains(&literal)));
            match (user, variable.effect.acts()) {
                (Some(file), false) => Some(format!("{} uses {literal}: it acts, say so in {}", file.path, OWN[0])),
                (None, true) => Some(format!("nobody uses {literal}: it does not act, say so in {}", OWN[0])),
                _ => None,
            }
        })
        .collect();
    assert_none("variables of jobs that act", &problems);
}

/// Where the links of a page lead, if to files.
fn targets(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let targets = targets.map(|target| target.split('#').next().unwrap_or_default());
    targets.filter(|target| !target.is_empty() && !target.contains("://")).collect()
}

/// Paths of the project between backticks: those that begin with one of its directories.
fn paths(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_path = |quoted: &&str| {
        let begins = ["crates/", "tests/", "docs/", "config/", ".ci/"].iter().any(|dir| quoted.starts_with(dir));
        begins && !quoted.contains([' ', '*', '<', '{', '\n'])
    };
    quoted.filter(is_path).collect()
}

#[test]
fn links_and_paths_are_found() {
    let text = "See [a](b/c.md#d), [e](https://f), `crates/x/y.rs`, `other` and `docs/*.md`.";
    assert_eq!(targets(text), ["b/c.md"]);
    assert_eq!(paths(text), ["crates/x/y.rs"]);
}
