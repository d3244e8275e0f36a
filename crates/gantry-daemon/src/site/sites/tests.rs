//! Which sites there are, and who waits for whom.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_gitlab::{Client, ClientError, ClientOptions};
use gantry_kube::{Cluster, Driver};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::*;
use crate::outside::stub;
use crate::server::BindError;
use crate::site::shared::KEPT;

/// Clusters that nobody reaches. To connect takes a permit.
struct Clusters {
    permits: Arc<Semaphore>,
    connects: AtomicUsize,
}

impl Clusters {
    fn new(permits: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(permits)), connects: AtomicUsize::new(0) }
    }
}

impl Outside for Clusters {
    fn gitlab(&self, options: ClientOptions) -> Result<Client, ClientError> {
        Client::new(options)
    }

    fn cluster(
        &self,
        _: Access,
        namespace: String,
        selector: String,
    ) -> BoxFuture<'static, Result<(Cluster, Driver), ConnectError>> {
        self.connects.fetch_add(1, Ordering::Relaxed);
        let permits = Arc::clone(&self.permits);
        async move {
            permits.acquire().await.expect("it is open").forget();
            stub::nowhere(namespace, selector).await
        }
        .boxed()
    }

    fn listen(&self, _: Option<String>) -> BoxFuture<'static, Result<Option<TcpListener>, BindError>> {
        stub::no_listener()
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_who_connects_but_for_the_same_site() {
    let (sites, clusters) = (Sites::new(), Clusters::new(0));
    let get = |namespace| sites.get(&clusters, Access::InCluster, namespace);
    let (first, second, other) = tokio::join!(get("a"), get("a"), async {
        assert_eq!(clusters.connects.load(Ordering::Relaxed), 1);
        sites.forget_unused(Instant::now());
        clusters.permits.add_permits(2);
        get("b").await
    });
    let (first, second, other) = (first.unwrap(), second.unwrap(), other.unwrap());
    assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, &other));
    assert_eq!(clusters.connects.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_jobs_have_chosen_is_forgotten_when_it_was_of_no_use_for_long() {
    let (sites, clusters) = (Sites::new(), Clusters::new(2));
    for (namespace, is_chosen) in [("own", false), ("chosen", true)] {
        let site = sites.get(&clusters, Access::InCluster, namespace).await.unwrap();
        if is_chosen {
            site.keep();
        }
    }
    let left = |at| {
        sites.forget_unused(at);
        sites.all().iter().map(|site| site.cluster().namespace().to_owned()).collect::<Vec<_>>()
    };
    let (now, second) = (Instant::now(), Duration::from_secs(1));
    assert_eq!(left(now), ["chosen"]);
    assert_eq!(left(now + KEPT - second), ["chosen"]);
    sites.all()[0].is_of_use();
    let held = sites.all();
    assert_eq!(left(now + 2 * KEPT), ["chosen"], "somebody has it");
    drop(held);
    assert_eq!(left(now + 2 * KEPT), [""; 0]);
}
