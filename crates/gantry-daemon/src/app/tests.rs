//! A daemon one of whose clusters cannot be connected to, because a plugin says nothing.

use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::outside::stub::{self, Alone, HANGS, Silent};

fn entry(token: &str, namespace: &str) -> String {
    format!(
        "[[runners]]\nurl = \"http://gitlab.test\"\ntoken = \"{token}\"\nexecutor = \"kubernetes\"\n\
         [runners.kubernetes]\nnamespace = \"{namespace}\"\n"
    )
}

#[tokio::test(start_paused = true)]
async fn signals_are_heard_while_a_cluster_is_connected_to() {
    for signal in [Signal::Drain, Signal::Stop("terminated")] {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.toml");
        std::fs::write(&config, entry("glrt-a", HANGS)).unwrap();
        let app = App::build(stub::options(config, Arc::new(Alone(Arc::new(Silent))))).await.unwrap();
        let (signals, receiver) = signal_channel();
        signals.send(Signal::Reload).await.unwrap();
        signals.send(signal).await.unwrap();
        let ended = timeout(Duration::from_secs(1), app.run(receiver)).await;
        assert_eq!(ended, Ok(Ended::Clean), "{signal:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_hangs_keeps_nobody_from_another_one() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.toml");
    std::fs::write(&config, [entry("glrt-a", HANGS), entry("glrt-b", "ci")].concat()).unwrap();
    let app = App::build(stub::options(config, Arc::new(Alone(Arc::new(Silent))))).await.unwrap();
    let health = app.shared.health.clone();
    let (_signals, receiver) = signal_channel();
    let running = timeout(Duration::from_secs(10), app.run(receiver));
    assert!(running.await.is_err(), "nobody has told it to end");
    assert!(health.unanswered_for() > Duration::from_secs(5), "GitLab is not asked for the second one");
}
