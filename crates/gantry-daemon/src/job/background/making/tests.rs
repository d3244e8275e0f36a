//! What is made of a job that nobody needs any more, with an API server that answers as a test
//! wants.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, StatusCode};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::super::tests::{BOUND, cluster, done, leftovers};
use super::*;

/// Makes a job's pod and Secret. The job is canceled when the Secret is asked for the `nth` time,
/// and before the API server answers like this. All that it was asked then, and how much is left to
/// be removed later.
async fn asked(nth: usize, answer: fn() -> BoxFuture<'static, Response>) -> (Vec<String>, usize) {
    let unwanted = CancellationToken::new();
    let requests: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let (left, stop) = (TaskTracker::new(), watch::Sender::new(None));
    let cluster = cluster({
        let (unwanted, requests) = (unwanted.clone(), Arc::clone(&requests));
        move |method, path| {
            let is_new_secret = method == Method::POST && path.ends_with("/secrets");
            let mut requests = requests.lock().expect("nobody panics");
            requests.push(format!("{method} {path}"));
            if is_new_secret && requests.len() == nth {
                unwanted.cancel();
            }
            if is_new_secret { answer() } else { async { done("Secret") }.boxed() }
        }
    })
    .await;
    let (inbox, _messages) = mpsc::channel(8);
    let deadline = Instant::now() + 10 * BOUND;
    let secret = PullSecret {
        name: "job".to_owned(),
        labels: BTreeMap::new(),
        registries: Vec::new(),
        config: "{}".into(),
        follows_pod: false,
    };
    let order = Order { pod: Pod::default(), secret: Some(secret), making: Making::default() };
    let maker = Maker { cluster, leftovers: leftovers(&left, &stop), inbox, deadline, unwanted };
    let made = timeout(BOUND, Box::pin(maker.make(order))).await.expect("it is given up at once");
    assert!(matches!(made, Message::Event(Event::PodNotCreated(_))));
    let requests = requests.lock().expect("nobody panics");
    (requests.clone(), left.len())
}

const POST: &str = "POST /api/v1/namespaces/ci/secrets";
const DELETE: &str = "DELETE /api/v1/namespaces/ci/secrets/job";

#[tokio::test]
async fn a_canceled_job_does_not_go_on_asking_for_its_secret() {
    let (asked, _) = asked(2, || async { StatusCode::SERVICE_UNAVAILABLE.into_response() }.boxed()).await;
    assert_eq!(asked, [POST, POST, DELETE]);
}

#[tokio::test]
async fn a_canceled_job_that_has_its_secret_asks_for_no_pod() {
    let (asked, _) = asked(1, || async { done("Secret") }.boxed()).await;
    assert_eq!(asked, [POST, DELETE]);
}

#[tokio::test]
async fn a_secret_that_may_come_yet_is_removed_then_too() {
    let (asked, left) = asked(1, || futures::future::pending().boxed()).await;
    assert_eq!((asked, left), (vec![POST.to_owned(), DELETE.to_owned()], 1));
}
