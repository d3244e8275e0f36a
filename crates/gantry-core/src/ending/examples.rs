//! An example of every ending, for the reference page and for tests.

use super::{Ending, StartSetting};
use crate::outcome::FailureReason;

/// At least one of each kind, more where they differ in what they lead to.
pub fn examples() -> Vec<Ending> {
    let text = || "what happened".to_owned();
    vec![
        Ending::Succeeded,
        Ending::ScriptFailed { exit_code: 3 },
        Ending::ScriptOutOfMemory { exit_code: 137, limit: Some("2Gi".into()) },
        Ending::StageFailed { stage: "get_sources".into(), message: text(), exit_code: 128 },
        Ending::TimedOut { seconds: 3600 },
        Ending::SourcesTimedOut { seconds: 300 },
        Ending::ScriptTimedOut { seconds: 90 },
        Ending::AfterScriptTimedOut { seconds: 300 },
        Ending::Canceled,
        Ending::Interrupted { signal: "SIGTERM".into() },
        Ending::InvalidJob { message: text() },
        Ending::Configuration { message: text() },
        Ending::ImagePull { container: "build".into(), image: "nope:1".into(), message: "manifest unknown".into() },
        Ending::ContainerConfig { container: "build".into(), message: text() },
        Ending::PodRefused { message: text() },
        Ending::ClusterUnreachable { message: text() },
        Ending::PodStartTimeout {
            seconds: 180,
            setting: StartSetting::PollTimeout,
            detail: "0/3 nodes are available".into(),
        },
        Ending::PodStartTimeout {
            seconds: 60,
            setting: StartSetting::PrepareTimeout,
            detail: "0/3 nodes are available".into(),
        },
        Ending::ServiceNotReady { service: "db".into(), message: text() },
        Ending::PodDeleted { pod: "runner-x".into() },
        Ending::PodDisrupted { pod: "runner-x".into(), message: "Evicted: disk pressure".into() },
        Ending::ContainerOutOfMemory { container: "helper".into(), limit: Some("256Mi".into()) },
        Ending::ContainerOutOfMemory { container: "build".into(), limit: None },
        Ending::ContainerDied { container: "build".into(), exit_code: 1, reason: "Error".into(), entrypoint: None },
        Ending::HelperUnusable { message: text() },
        Ending::ShimSilent { message: text() },
        Ending::NeverBegun { message: text() },
        Ending::Runner { message: text() },
        Ending::Foreign { reason: FailureReason::JobExecutionTimeout, exit_code: None, message: text() },
    ]
}
