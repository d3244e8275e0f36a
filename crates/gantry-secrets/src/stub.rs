//! Stores for tests: answers by method and address, and what was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, stream};
use gantry_core::Secret;
use gantry_core::job::SecretSpec;
use gantry_core::variables::expand;
use gantry_http::{Body, ByteStream, Timeouts, Transport, TransportError};
use http::{Request, Response};
use serde_json::Value;

use crate::{Google, SecretError, World};

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    headers: http::HeaderMap,
    pub(crate) body: String,
}

impl ReceivedRequest {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A network with a few servers, and variables of a job.
#[derive(Clone)]
pub(crate) struct Stub {
    answers: BTreeMap<String, (u16, String)>,
    asked: Arc<Mutex<Vec<ReceivedRequest>>>,
    of_job: BTreeMap<String, String>,
    of_process: BTreeMap<String, String>,
}

fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl Stub {
    pub(crate) fn new(variables: &[(&str, &str)]) -> Self {
        let asked = Arc::default();
        Self { answers: BTreeMap::new(), asked, of_job: owned(variables), of_process: BTreeMap::new() }
    }

    /// With variables of the process.
    pub(crate) fn variables(self, variables: &[(&str, &str)]) -> Self {
        Self { of_process: owned(variables), ..self }
    }

    /// With an answer to `METHOD URL`.
    pub(crate) fn answers(mut self, question: &str, status: u16, body: &str) -> Self {
        self.answers.insert(question.to_owned(), (status, body.to_owned()));
        self
    }

    pub(crate) fn request(&self, number: usize) -> ReceivedRequest {
        self.asked.lock().unwrap()[number].clone()
    }

    pub(crate) fn world(&self) -> World {
        let (network, variables) = (self.clone(), self.of_process.clone());
        World {
            connect: Arc::new(move |_| Ok(Arc::new(network.clone()))),
            variable: Arc::new(move |name| variables.get(name).cloned()),
            now: Arc::new(|| "2013-05-24T00:00:00Z".parse().unwrap()),
            google: Google::default(),
        }
    }
}

impl Transport for Stub {
    fn send(&self, request: Request<Body>, _: Timeouts) -> BoxFuture<'_, Result<Response<ByteStream>, TransportError>> {
        let (head, body) = request.into_parts();
        let Body::Bytes(body) = body else { panic!("a body of known length") };
        let question = format!("{} {}", head.method, head.uri);
        let body = String::from_utf8(body.to_vec()).unwrap();
        self.asked.lock().unwrap().push(ReceivedRequest { headers: head.headers, body });
        let (status, body) =
            self.answers.get(&question).cloned().unwrap_or_else(|| panic!("nobody answers {question}"));
        let body: ByteStream = Box::pin(stream::iter([Ok(Bytes::from(body))]));
        async move { Ok(Response::builder().status(status).body(body).unwrap()) }.boxed()
    }
}

/// A secret of a payload.
pub(crate) fn spec(payload: &Value) -> SecretSpec {
    serde_json::from_value(payload.clone()).unwrap()
}

/// Fetches a secret of a payload.
pub(crate) async fn fetch(stub: &Stub, payload: &Value) -> Result<Secret, SecretError> {
    let variables = stub.of_job.clone();
    let expand = |text: &str| expand(text, |name| variables.get(name).cloned());
    crate::resolve(&spec(payload), &expand).expect("a provider").fetch(&stub.world()).await
}
