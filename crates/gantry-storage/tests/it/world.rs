//! A network whose services are functions, and an environment that is a list.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt as _, stream};
use gantry_http::{Body, ByteStream, Timeouts, Transport, TransportError, TransportFault};
use gantry_storage::{Access, ObjectRequest, RoleEvent, Settings, Store, World};
use http::{Request, Response};
use jiff::Timestamp;
use url::Url;

/// The time of all tests.
pub(crate) fn now() -> Timestamp {
    "2026-11-28T12:00:00Z".parse().unwrap()
}

/// A request that a service got.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedRequest {
    pub(crate) method: String,
    pub(crate) url: Url,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl ReceivedRequest {
    /// The fields of a form.
    pub(crate) fn form(&self) -> BTreeMap<String, String> {
        Url::parse(&format!("http://x/?{}", self.body)).unwrap().query_pairs().into_owned().collect()
    }
}

/// Status, a header, body.
pub(crate) type StubAnswer = (u16, Option<(&'static str, &'static str)>, String);

type Service = dyn Fn(&ReceivedRequest) -> Option<StubAnswer> + Send + Sync;

/// The network.
#[derive(Clone)]
pub(crate) struct Net {
    service: Arc<Service>,
    asked: Arc<Mutex<Vec<ReceivedRequest>>>,
    /// What was said about roles.
    pub(crate) roles: Arc<Mutex<Vec<RoleEvent>>>,
}

impl Net {
    pub(crate) fn new(service: impl Fn(&ReceivedRequest) -> Option<StubAnswer> + Send + Sync + 'static) -> Self {
        Self { service: Arc::new(service), asked: Arc::default(), roles: Arc::default() }
    }

    /// A store in a process with these variables.
    pub(crate) fn store(&self, settings: Settings, variables: &[(&str, &str)]) -> Store {
        let variables: BTreeMap<String, String> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let net = self.clone();
        let world = World {
            variable: Arc::new(move |name| variables.get(name).cloned()),
            connect: Arc::new(move |_, _| Ok(Arc::new(net.clone()))),
            on_role: Some({
                let roles = Arc::clone(&self.roles);
                Arc::new(move |event| roles.lock().unwrap().push(event))
            }),
        };
        Store::new(settings, world)
    }

    pub(crate) fn asked(&self) -> Vec<ReceivedRequest> {
        self.asked.lock().unwrap().clone()
    }
}

impl Transport for Net {
    fn send(&self, request: Request<Body>, _: Timeouts) -> BoxFuture<'_, Result<Response<ByteStream>, TransportError>> {
        let (head, body) = request.into_parts();
        let Body::Bytes(body) = body else { panic!("a question is short") };
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.as_str().to_owned(), value.to_str().unwrap().to_owned())
        };
        let asked = ReceivedRequest {
            method: head.method.to_string(),
            url: Url::parse(&head.uri.to_string()).unwrap(),
            headers: head.headers.iter().map(header).collect(),
            body: String::from_utf8(body.to_vec()).unwrap(),
        };
        let told = (self.service)(&asked);
        self.asked.lock().unwrap().push(asked);
        async move {
            let Some((status, header, body)) = told else {
                return Err(TransportError::new(TransportFault::Request, "nobody is there"));
            };
            let mut answer = Response::builder().status(status);
            if let Some((name, value)) = header {
                answer = answer.header(name, value);
            }
            let body: ByteStream = Box::pin(stream::iter([Ok(body.into())]));
            Ok(answer.body(body).unwrap())
        }
        .boxed()
    }
}

pub(crate) fn request(access: Access) -> ObjectRequest {
    ObjectRequest {
        name: "project/7/key".into(),
        access,
        valid_for: Duration::from_secs(3600),
        key: "key".into(),
        most: None,
    }
}

/// The query of a signed URL.
pub(crate) fn pairs(url: &str) -> BTreeMap<String, String> {
    Url::parse(url).unwrap().query_pairs().into_owned().collect()
}
