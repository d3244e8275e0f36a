//! Which crate may know which: `cargo metadata` against the table below. docs/ARCHITECTURE.md says
//! why.

use std::collections::BTreeMap;
use std::process::Command;

use serde::Deserialize;

use crate::assert_none;
use crate::project::{root, rust_files};

/// Every package and the packages of the workspace that it may depend on, from the bottom up. None
/// may depend on one further down.
const LAYERS: [(&str, &[&str]); 17] = [
    ("gantry-core", &[]),
    ("gantry-wire", &["gantry-core"]),
    ("gantry-config", &["gantry-core"]),
    ("gantry-trace", &["gantry-core"]),
    // `gantry-trace` for the list of token prefixes only: which values are masked is decided with
    // everything else.
    ("gantry-plan", &["gantry-core", "gantry-wire", "gantry-config", "gantry-trace"]),
    ("gantry-http", &["gantry-core"]),
    ("gantry-gitlab", &["gantry-core", "gantry-http"]),
    ("gantry-storage", &["gantry-core", "gantry-http"]),
    // Not `gantry-plan`: it carries out pods, whoever planned them. `gantry-http` for the roots to
    // trust and for files that change.
    ("gantry-kube", &["gantry-core", "gantry-wire", "gantry-http"]),
    ("gantry-relay", &["gantry-core", "gantry-gitlab"]),
    ("gantry-secrets", &["gantry-core", "gantry-http"]),
    // `gantry-storage` for what the answers of a store mean: it signs nothing.
    (
        "gantry-helper",
        &[
            "gantry-core",
            "gantry-wire",
            "gantry-trace",
            "gantry-http",
            "gantry-gitlab",
            "gantry-storage",
            "gantry-relay",
        ],
    ),
    // `gantry-trace` for the head of a log, and for the last lines of a job whose pod is dead.
    // `gantry-http` to notice that the configuration file has changed.
    (
        "gantry-daemon",
        &[
            "gantry-core",
            "gantry-wire",
            "gantry-config",
            "gantry-trace",
            "gantry-plan",
            "gantry-http",
            "gantry-gitlab",
            "gantry-storage",
            "gantry-kube",
            "gantry-relay",
            "gantry-secrets",
        ],
    ),
    ("gantry-sim-gitlab", &[]),
    ("gantry-sim-kube", &[]),
    (
        "gantry",
        &[
            "gantry-core",
            "gantry-config",
            "gantry-plan",
            // For the admin API of the simulated GitLab, which is no part of the runner protocol.
            "gantry-http",
            "gantry-gitlab",
            // For what `doctor` asks of a cluster.
            "gantry-kube",
            "gantry-daemon",
            "gantry-helper",
            "gantry-sim-gitlab",
            "gantry-sim-kube",
        ],
    ),
    (
        "gantry-tests",
        &[
            "gantry-core",
            "gantry-wire",
            "gantry-config",
            "gantry-trace",
            "gantry-plan",
            "gantry-gitlab",
            "gantry-kube",
            "gantry-relay",
            "gantry-helper",
            "gantry-daemon",
            "gantry-sim-gitlab",
            "gantry-sim-kube",
        ],
    ),
];

/// What tests of any crate may talk to. The simulators themselves share nothing with what they
/// test, not even in their own tests.
const SIMULATORS: [&str; 2] = ["gantry-sim-gitlab", "gantry-sim-kube"];

/// Crates from outside that only these may use outside of tests: one door to each part of the
/// world.
const DOORS: [(&str, &[&str]); 7] = [
    ("kube", &["gantry-kube", "gantry-tests"]),
    ("k8s-openapi", &["gantry-plan", "gantry-kube", "gantry-tests"]),
    ("reqwest", &["gantry-http", "gantry-tests"]),
    // Which authorities are trusted is decided once.
    ("rustls-native-certs", &["gantry-http"]),
    ("webpki-root-certs", &["gantry-http"]),
    ("axum", &["gantry-daemon", "gantry-sim-gitlab", "gantry-sim-kube", "gantry-tests"]),
    // Libraries name their errors.
    ("anyhow", &["gantry", "gantry-tests"]),
];

/// Crates that decide and never act.
const PURE: [&str; 5] = ["gantry-core", "gantry-wire", "gantry-config", "gantry-trace", "gantry-plan"];

/// What a crate that never acts has no use for.
const ACTING: [&str; 14] = [
    "axum",
    "futures",
    "http",
    "hyper",
    "hyper-util",
    "nix",
    "rand",
    "rustix",
    "rustls",
    "tempfile",
    "tokio",
    "tokio-util",
    "tracing",
    "walkdir",
];

/// What a crate that never acts does not call: files, environment, network, processes, threads,
/// clocks.
const ACTS: [&str; 9] = [
    "std::fs",
    "std::env::",
    "std::net",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "Zoned::now",
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// Absent for ordinary ones.
    kind: Option<String>,
}

impl Dependency {
    fn is_for_tests(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }
}

/// What the manifests say. Asks for no lock and no network.
fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo can be started");
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata: {problem}");
    let metadata: Metadata = serde_json::from_slice(&output.stdout).expect("cargo metadata speaks JSON");
    metadata.packages
}

fn layers() -> BTreeMap<&'static str, &'static [&'static str]> {
    LAYERS.into_iter().collect()
}

#[test]
fn crates_depend_downwards_only() {
    let layers = layers();
    let packages = packages();
    let mut problems = Vec::new();
    for package in &packages {
        let name = package.name.as_str();
        let Some(allowed) = layers.get(name) else {
            problems.push(format!("{name} is not in the table: decide what it may depend on"));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|dependency| layers.contains_key(dependency.name.as_str()))
        {
            let other = dependency.name.as_str();
            let is_simulator = |name: &str| SIMULATORS.contains(&name);
            let tests_against = dependency.is_for_tests() && is_simulator(other) && !is_simulator(name);
            if !allowed.contains(&other) && !tests_against {
                problems.push(format!("{name} must not depend on {other}"));
            }
        }
    }
    for name in layers.keys().filter(|name| packages.iter().all(|package| package.name != **name)) {
        problems.push(format!("{name} is in the table and not in the workspace"));
    }
    assert_none("the direction of dependencies (table in tests/tidy/layers.rs)", &problems);
}

#[test]
fn the_table_itself_has_no_circles() {
    let mut below: Vec<&str> = Vec::new();
    let mut problems = Vec::new();
    for (name, allowed) in LAYERS {
        problems.extend(
            allowed
                .iter()
                .filter(|other| !below.contains(other))
                .map(|other| format!("{name} → {other}, which is above")),
        );
        below.push(name);
    }
    assert_none("the table is written from the bottom up", &problems);
}

#[test]
fn each_part_of_the_world_has_one_door() {
    let mut problems = Vec::new();
    for package in packages() {
        for dependency in package.dependencies.iter().filter(|dependency| !dependency.is_for_tests()) {
            let door = DOORS.iter().find(|(door, _)| *door == dependency.name);
            if let Some((door, users)) = door.filter(|(_, users)| !users.contains(&package.name.as_str())) {
                problems.push(format!("{} must not use {door}: only {} may", package.name, users.join(", ")));
            }
            if PURE.contains(&package.name.as_str()) && ACTING.contains(&dependency.name.as_str()) {
                problems
                    .push(format!("{} decides and never acts, so it has no use for {}", package.name, dependency.name));
            }
        }
    }
    assert_none("crates from outside (tables in tests/tidy/layers.rs)", &problems);
}

#[test]
fn crates_that_decide_do_not_act() {
    let mut problems = Vec::new();
    for file in rust_files() {
        if !PURE.iter().any(|name| file.path.starts_with(&format!("crates/{name}/src/"))) {
            continue;
        }
        for (at, line) in file.production().iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            problems.extend(
                ACTS.iter()
                    .filter(|call| code.contains(**call))
                    .map(|call| format!("{}:{}: {call}", file.path, at + 1)),
            );
        }
    }
    assert_none("core, wire, config, trace and plan open nothing, start nothing and know no clock", &problems);
}
