//! What is made of a job that nobody needs any more, with an API server that answers as a test
//! wants.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use http::{Method, StatusCode};
use tokio::time::timeout;

use super::super::tests::{BOUND, cluster, done, leftovers};
use super::*;

/// Makes a job's pod and Secret. The job is canceled when the Secret is asked for the `nth` time,
/// and before the API server answers like this. All that it was asked then.
async fn asked(nth: usize, answer: fn() -> Response) -> Vec<(Method, String)> {
    let unwanted = CancellationToken::new();
    let requests: Arc<std::sync::Mutex<Vec<(Method, String)>>> = Arc::default();
    let cluster = cluster({
        let (unwanted, requests) = (unwanted.clone(), Arc::clone(&requests));
        move |method, path| {
            let is_new_secret = method == Method::POST && path.ends_with("/secrets");
            let mut requests = requests.lock().expect("nobody panics");
            requests.push((method, path));
            if is_new_secret && requests.len() == nth {
                unwanted.cancel();
            }
            async move { if is_new_secret { answer() } else { done("Secret") } }.boxed()
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
    let maker = Maker { cluster, leftovers: leftovers(), inbox, deadline, unwanted };
    let made = timeout(BOUND, Box::pin(maker.make(order))).await.expect("it is given up at once");
    assert!(matches!(made, Message::Event(Event::PodNotCreated(_))));
    let requests = requests.lock().expect("nobody panics");
    requests.clone()
}

const SECRETS: &str = "/api/v1/namespaces/ci/secrets";

#[tokio::test]
async fn a_canceled_job_does_not_go_on_asking_for_its_secret() {
    let asked = asked(2, || StatusCode::SERVICE_UNAVAILABLE.into_response()).await;
    let secret = format!("{SECRETS}/job");
    let paths: Vec<_> = asked.iter().map(|(method, path)| (method.as_str(), path.as_str())).collect();
    assert_eq!(paths, [("POST", SECRETS), ("POST", SECRETS), ("DELETE", &secret)]);
}

#[tokio::test]
async fn a_canceled_job_that_has_its_secret_asks_for_no_pod() {
    let asked = asked(1, || done("Secret")).await;
    let secret = format!("{SECRETS}/job");
    let paths: Vec<_> = asked.iter().map(|(method, path)| (method.as_str(), path.as_str())).collect();
    assert_eq!(paths, [("POST", SECRETS), ("DELETE", &secret)]);
}
