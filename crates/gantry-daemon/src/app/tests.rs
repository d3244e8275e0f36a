//! A daemon whose cluster cannot be connected to, because a plugin says nothing.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_gitlab::{Client, ClientError, ClientOptions};
use gantry_kube::{Access, Cluster, ConnectError, Driver};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::outside::stub;
use crate::server::BindError;

struct Hangs;

impl Outside for Hangs {
    fn gitlab(&self, options: ClientOptions) -> Result<Client, ClientError> {
        Client::new(options)
    }

    fn cluster(&self, _: Access, _: String, _: String) -> BoxFuture<'static, Result<(Cluster, Driver), ConnectError>> {
        std::future::pending().boxed()
    }

    fn listen(&self, _: Option<String>) -> BoxFuture<'static, Result<Option<TcpListener>, BindError>> {
        stub::no_listener()
    }
}

#[tokio::test(start_paused = true)]
async fn signals_are_heard_while_a_cluster_is_connected_to() {
    let entry = "[[runners]]\nurl = \"http://gitlab.test\"\ntoken = \"glrt-a\"\nexecutor = \"kubernetes\"\n";
    for signal in [Signal::Drain, Signal::Stop("terminated")] {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.toml");
        std::fs::write(&config, entry).unwrap();
        let app = App::build(stub::options(config, Arc::new(Hangs))).await.unwrap();
        let (signals, receiver) = signal_channel();
        signals.send(Signal::Reload).await.unwrap();
        signals.send(signal).await.unwrap();
        let ended = timeout(Duration::from_secs(1), app.run(receiver)).await;
        assert_eq!(ended, Ok(Ended::Clean), "{signal:?}");
    }
}
