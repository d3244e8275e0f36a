//! How a pod is removed, with an API server that answers as a test wants.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_kube::{Access, Cluster, PodRef, RemoteAccess};
use http::{Method, StatusCode};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Background, Message};
use crate::job::events::Event;
use crate::job_end::StopJobs;
use crate::leftovers::LeftoverRemover;
use crate::{redaction, tasks};

/// Far more than it takes.
pub(super) const BOUND: Duration = Duration::from_secs(20);

/// A namespace of an API server that answers like this to what it is asked, by method and path.
pub(super) async fn cluster(
    answer: impl Fn(Method, String) -> BoxFuture<'static, Response> + Clone + Send + Sync + 'static,
) -> Cluster {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let host = format!("http://{}", listener.local_addr().expect("an address"));
    let routes = Router::new()
        .fallback(move |request: Request| answer(request.method().clone(), request.uri().path().to_owned()));
    tasks::spawn(async move { axum::serve(listener, routes).await });
    let access = Access::Remote(RemoteAccess { host, ..RemoteAccess::default() });
    Cluster::connect(access, "ci".to_owned(), String::new()).await.expect("a client").0
}

/// What an API server says of something that it has made.
pub(super) fn done(kind: &str) -> Response {
    let object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "job", "uid": "1"}});
    axum::Json(object).into_response()
}

/// What an API server says of what it has removed.
fn removed() -> Response {
    axum::Json(json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success"})).into_response()
}

/// Whoever takes over what cannot be removed, as tasks of this tracker until it is told to stop.
pub(super) fn leftovers(tracker: &TaskTracker, stop: &watch::Sender<Option<StopJobs>>) -> LeftoverRemover {
    LeftoverRemover::new(tracker.clone(), stop.subscribe(), redaction::guard(None, []))
}

/// The Secret cannot be removed before the pod is.
#[tokio::test]
async fn a_pod_does_not_wait_for_the_removal_of_its_secret() {
    let pod_is_removed = Arc::new(Notify::new());
    let cluster = cluster(move |_, path| {
        let pod_is_removed = Arc::clone(&pod_is_removed);
        async move {
            match path.as_str() {
                "/api/v1/namespaces/ci/pods/job" => pod_is_removed.notify_one(),
                "/api/v1/namespaces/ci/secrets/job" => pod_is_removed.notified().await,
                _ => return StatusCode::NOT_FOUND.into_response(),
            }
            removed()
        }
        .boxed()
    })
    .await;
    let (inbox, mut messages) = mpsc::channel(1);
    let pod = PodRef { name: "job".to_owned(), uid: "1".to_owned() };
    let stop = watch::Sender::new(None);
    let background = Background::new(inbox, CancellationToken::new());
    background.delete_pod(
        (cluster, leftovers(&TaskTracker::new(), &stop)),
        (pod, Some("job".to_owned())),
        (None, None),
    );
    let said = timeout(BOUND, messages.recv()).await.expect("both are removed");
    assert!(matches!(said.as_deref(), Some(Message::Event(Event::PodDeleted))));
}
