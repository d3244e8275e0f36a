//! How often a trial pod is tried, and a daemon on a paused clock whose API server nobody reaches.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use gantry_gitlab::{Client, ClientError, ClientOptions};
use gantry_kube::{Access, Cluster, ConnectError, Driver};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use super::{LAST_ANSWER, longer};
use crate::outside::stub;
use crate::server::BindError;
use crate::{App, Ended, Outside, Signal, signal_channel};

#[test]
fn pauses_grow_up_to_a_limit() {
    let [one, four, ten] = [1, 4, 10].map(Duration::from_secs);
    assert_eq!(longer(one, ten), 2 * one);
    assert_eq!(longer(2 * four, ten), ten);
    assert_eq!(longer(ten, ten), ten);
    assert_eq!(longer(ten, four), ten, "a first pause beyond the limit stays as it is");
}

struct Nowhere;

impl Outside for Nowhere {
    fn gitlab(&self, options: ClientOptions) -> Result<Client, ClientError> {
        Client::new(options)
    }

    fn cluster(
        &self,
        _: Access,
        namespace: String,
        selector: String,
    ) -> BoxFuture<'static, Result<(Cluster, Driver), ConnectError>> {
        stub::nowhere(namespace, selector)
    }

    fn listen(&self, _: Option<String>) -> BoxFuture<'static, Result<Option<TcpListener>, BindError>> {
        stub::no_listener()
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_does_not_go_on_trying_to_make_a_trial_pod() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.toml");
    let entry = "[[runners]]\nurl = \"http://gitlab.test\"\ntoken = \"glrt-a\"\nexecutor = \"kubernetes\"\n\
                 [runners.experimental.boot_verify]\nenabled = true\n[runners.kubernetes]\nimage = \"alpine\"\n";
    std::fs::write(&config, entry).unwrap();
    let app = App::build(stub::options(config, Arc::new(Nowhere))).await.unwrap();
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
