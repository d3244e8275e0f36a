//! The admin API of a simulated GitLab that runs in this process.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use gantry_http::{Body, HttpTransport, Options, ProxySettings, Timeouts, Transport as _};
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response};
use serde_json::Value;
use url::Url;

/// Time for an answer. It is made in this process, from memory and from a repository on this
/// machine; even a busy one needs seconds.
const ANSWER: Duration = Duration::from_secs(120);

/// Largest answer that is read: the simulated GitLab takes logs of up to 100 MiB, and a pipeline of
/// thousands of jobs is smaller.
const LARGEST_ANSWER: usize = 128 << 20;

/// A client of it.
pub(super) struct SimApi {
    transport: HttpTransport,
    url: String,
}

impl SimApi {
    /// A client of the admin API at `url`. Makes no connection yet.
    pub(super) fn new(url: &str) -> anyhow::Result<Self> {
        let base = Url::parse(url).context("the simulated GitLab has no usable address")?;
        let options =
            Options { proxy: ProxySettings::Direct, connection_max_age: Duration::ZERO, ..Options::default() };
        Ok(Self { transport: HttpTransport::new(&base, options)?, url: url.to_owned() })
    }

    /// Another client of the same.
    pub(super) fn again(&self) -> anyhow::Result<Self> {
        Self::new(&self.url)
    }

    /// The body of an answer that must not be an error.
    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Bytes> {
        let answer = self.call(method, path, body).await?;
        let status = answer.status();
        anyhow::ensure!(
            !status.is_client_error() && !status.is_server_error(),
            "the simulated GitLab answers {status} to {path}"
        );
        Ok(answer.into_body())
    }

    /// An answer, whatever it is.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Response<Bytes>> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(Body::Bytes(body.into()))?;
        let timeouts = Timeouts { head: ANSWER, idle: ANSWER };
        let sent = self.transport.send(request, timeouts).await;
        let (head, body) = sent.context("the simulated GitLab does not answer")?.into_parts();
        let content = gantry_http::read(body, LARGEST_ANSWER, ANSWER).await;
        content.end.context("the simulated GitLab's answer cannot be read")?;
        Ok(Response::from_parts(head, content.bytes))
    }
}
