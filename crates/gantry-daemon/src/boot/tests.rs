//! How often a trial pod is tried, and a daemon on a paused clock whose API server nobody reaches.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{LAST_ANSWER, longer};
use crate::outside::stub::{self, Alone, Silent};
use crate::{App, Ended, Signal, signal_channel};

#[test]
fn pauses_grow_up_to_a_limit() {
    let [one, four, ten] = [1, 4, 10].map(Duration::from_secs);
    assert_eq!(longer(one, ten), 2 * one);
    assert_eq!(longer(2 * four, ten), ten);
    assert_eq!(longer(ten, ten), ten);
    assert_eq!(longer(ten, four), ten, "a first pause beyond the limit stays as it is");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_does_not_go_on_trying_to_make_a_trial_pod() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.toml");
    let entry = "[[runners]]\nurl = \"http://gitlab.test\"\ntoken = \"glrt-a\"\nexecutor = \"kubernetes\"\n\
                 [runners.experimental.boot_verify]\nenabled = true\n[runners.kubernetes]\nimage = \"alpine\"\n";
    std::fs::write(&config, entry).unwrap();
    let app = App::build(stub::options(config, Arc::new(Alone(Arc::new(Silent))))).await.unwrap();
    let (signals, receiver) = signal_channel();
    let begun = Instant::now();
    let stopping = async {
        sleep(Duration::from_secs(5)).await;
        signals.send(Signal::Stop("terminated")).await.unwrap();
    };
    let (ended, ()) = tokio::join!(app.run(receiver), stopping);
    assert_eq!(ended, Ended::Clean);
    assert!(begun.elapsed() < Duration::from_secs(6) + LAST_ANSWER, "{:?}", begun.elapsed());
}
