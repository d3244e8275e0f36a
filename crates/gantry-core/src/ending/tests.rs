use super::*;

fn every_ending() -> Vec<Ending> {
    let text = || "what happened".to_owned();
    vec![
        Ending::Succeeded,
        Ending::ScriptFailed { exit_code: 3 },
        Ending::ScriptOutOfMemory { exit_code: 137, limit: Some("2Gi".into()) },
        Ending::StageFailed { stage: "get_sources".into(), message: text(), exit_code: 128 },
        Ending::TimedOut { seconds: 3600 },
        Ending::ScriptTimedOut { seconds: 90 },
        Ending::Canceled,
        Ending::Interrupted { signal: "SIGTERM".into() },
        Ending::InvalidJob { message: text() },
        Ending::Configuration { message: text() },
        Ending::ImagePull { container: "build".into(), image: "nope:1".into(), message: "manifest unknown".into() },
        Ending::ContainerConfig { container: "build".into(), message: text() },
        Ending::PodRefused { message: text() },
        Ending::ClusterUnreachable { message: text() },
        Ending::PodStartTimeout { seconds: 180, detail: "0/3 nodes are available".into() },
        Ending::PodDeleted { pod: "runner-x".into() },
        Ending::PodDisrupted { pod: "runner-x".into(), message: "Evicted: disk pressure".into() },
        Ending::ContainerOutOfMemory { container: "helper".into(), limit: Some("256Mi".into()) },
        Ending::ContainerOutOfMemory { container: "build".into(), limit: None },
        Ending::ContainerDied { container: "build".into(), exit_code: 1, reason: "Error".into() },
        Ending::HelperUnusable { message: text() },
        Ending::ShimSilent { message: text() },
        Ending::Runner { message: text() },
    ]
}

/// The table of failures as people and GitLab see it.
#[test]
fn table_of_endings() {
    let rows: Vec<String> = every_ending()
        .iter()
        .map(|ending| {
            let verdict = ending.verdict();
            format!(
                "{} | {} | {} | {} | {}",
                verdict.state().as_str(),
                verdict.reason.map_or("-", FailureReason::as_str),
                verdict.exit_code.map_or("-".to_owned(), |code| code.to_string()),
                if ending.is_retryable() { "retryable" } else { "final" },
                verdict.message
            )
        })
        .collect();
    insta::assert_snapshot!(rows.join("\n"));
}

#[test]
fn pulls_are_sorted_by_the_words_of_the_kubelet() {
    for (message, reason) in [
        ("dial tcp: lookup x: no such host", FailureReason::RunnerExternalDependencyFailure),
        ("manifest unknown", FailureReason::RunnerConfigurationError),
        ("pull access denied for x", FailureReason::RunnerConfigurationError),
        ("disk full", FailureReason::ImagePullFailure),
    ] {
        assert_eq!(classify_pull(message), reason, "{message}");
    }
}

#[test]
fn survives_the_wire() {
    for ending in every_ending() {
        let text = serde_json::to_string(&ending).unwrap();
        assert_eq!(serde_json::from_str::<Ending>(&text).unwrap(), ending);
    }
}
