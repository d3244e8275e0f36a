//! What operators get beside the program: the dashboard and the alerts use metrics that there are,
//! and can be read by what they are for.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;

use serde_json::Value;

use crate::assert_none;
use crate::project::root;

const DASHBOARD: &str = "config/grafana/gantry.json";
const RULES: &str = "config/prometheus/gantry.rules.yaml";

/// Made by the library that shows the process, and by Prometheus.
const OF_OTHERS: [&str; 2] = ["process_resident_memory_bytes", "process_cpu_seconds_total"];

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect("a file of the project")
}

/// The names of metrics in a text; those of a histogram's series are the histogram's.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c));
    let ours =
        words.filter(|word| ["gitlab_runner_", "gantry_", "process_"].iter().any(|start| word.starts_with(start)));
    ours.map(|word| word.strip_suffix("_bucket").unwrap_or(word).to_owned()).collect()
}

/// The expressions of the dashboard, with its variables replaced.
fn expressions() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets
        .map(|target| {
            target["expr"].as_str().expect("an expression").replace("$instance", ".*").replace("$runner", ".*")
        })
        .collect()
}

#[test]
fn dashboard_and_alerts_use_metrics_that_there_are() {
    let code = read("crates/gantry-daemon/src/metrics.rs");
    let alerts = read(RULES);
    let exprs = alerts.lines().filter(|line| !line.contains("summary:") && !line.contains("description:"));
    let used = metrics(&(exprs.collect::<Vec<_>>().join("\n") + &expressions().join("\n")));
    assert!(used.len() > 15, "{used:?}");
    let unknown: Vec<String> = used
        .into_iter()
        .filter(|name| !code.contains(&format!("\"{name}\"")) && !OF_OTHERS.contains(&name.as_str()))
        .collect();
    assert_none("metrics in config/ that nothing makes", &unknown);
}

/// Where promtool is installed, as on the machine that runs CI.
#[test]
fn prometheus_can_read_dashboard_and_alerts() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut text = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (number, expr) in expressions().iter().enumerate() {
        let _ = writeln!(
            text,
            "      - record: panel:{number}\n        expr: {}",
            serde_json::to_string(expr).expect("a text")
        );
    }
    let panels = dir.path().join("panels.yaml");
    std::fs::write(&panels, text).expect("written");
    for file in [root().join(RULES), panels] {
        let checked = Command::new("promtool").args(["check", "rules"]).arg(&file).output();
        let Ok(output) = checked else {
            eprintln!("promtool is not installed: {RULES} was not checked by it");
            return;
        };
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success(), "{}: {said}", file.display());
    }
}

/// A link, which some ways to copy files make a text of.
#[test]
fn the_chart_has_the_alert_rules() {
    let chart =
        std::fs::read_to_string(root().join("config/helm/gantry/gantry.rules.yaml")).expect("the chart's rules");
    assert_eq!(chart, read(RULES), "config/helm/gantry/gantry.rules.yaml is not {RULES}");
}

/// Where helm is installed: the chart has no mistake, and what it makes is whole.
#[test]
fn the_chart_can_be_installed() {
    let chart = root().join("config/helm/gantry");
    let set = ["--set", "gitlabUrl=https://gitlab.example.com", "--set", "runnerToken=glrt-canary"];
    let program = gantry_tests::programs::built("helm").unwrap_or_else(|| "helm".into());
    let helm = |args: &[&str]| Command::new(&program).args(args).arg(&chart).args(set).output();
    let Ok(linted) = helm(&["lint", "--strict"]) else {
        eprintln!("helm is not installed: config/helm was not checked by it");
        return;
    };
    let said = String::from_utf8_lossy(&linted.stdout).into_owned();
    assert!(linted.status.success(), "{said}");
    let switches = [
        "metrics.alerts=true",
        "metrics.podMonitor=true",
        "sessionServer.enabled=true",
        "gantry=fleet_concurrent = 40",
        "imagePullSecrets[0]=registry",
    ];
    let more: Vec<&str> = ["template", "run"].into_iter().chain(switches.iter().flat_map(|on| ["--set", on])).collect();
    let made = helm(&more).expect("helm can be started");
    let text = String::from_utf8_lossy(&made.stdout).into_owned();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for words in [
        "kind: Deployment",
        "kind: Role\n",
        "verbs: [create, get, list, watch, delete, patch]",
        "alert: GantryNotPolling",
        "advertise_address = \"$POD_IP:8093\"",
        "      on_terminate = \"hand-over\"\n      fleet_concurrent = 40\n",
        "      imagePullSecrets:\n        - name: \"registry\"\n      ",
        "jobLabel: app.kubernetes.io/name",
    ] {
        assert!(text.contains(words), "{words:?} is not in:\n{text}");
    }
    assert_eq!(text.matches("glrt-canary").count(), 1, "the token is in the Secret only");
}
