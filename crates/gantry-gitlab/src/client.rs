//! The calls. Each builds a request (`request.rs`), sends it through the retry layer (`retry.rs`) and reads the answer (`response.rs`).

mod artifacts;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_core::Secret;

pub use self::artifacts::{Download, UploadBody, UploadTimeouts};
use crate::answer::{CallError, PatchAnswer, Poll, Registered, UpdateAnswer, VerifyOutcome};
use crate::info::RunnerInfo;
use crate::observe::ObserveRequests;
use crate::request::{JobCredentials, JobRequest, JobUpdate, Registration};
use crate::transport::Transport;

/// Where and how to reach a GitLab instance.
#[derive(Clone)]
pub struct ClientOptions {
    /// As configured: with or without trailing slashes and `/ci`.
    pub url: String,
    /// Certificates to trust beside the system's and the bundled ones, as PEM text. Text without a certificate is ignored with a warning.
    pub ca_pem: Option<String>,
    /// Client certificate chain, PEM. Used only together with `client_key_pem`.
    pub client_cert_pem: Option<String>,
    /// Private key of the client certificate, PEM.
    pub client_key_pem: Option<Secret>,
    /// Proxy for the requests.
    pub proxy: ProxySettings,
    /// Connections are not kept longer than this (global `connection_max_age`); zero means for ever.
    pub connection_max_age: Duration,
    /// Told about every finished call.
    pub on_request: Option<ObserveRequests>,
}

impl ClientOptions {
    /// The usual options for `url`: no own CA, proxy from the environment, connections kept for 15 minutes.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ca_pem: None,
            client_cert_pem: None,
            client_key_pem: None,
            proxy: ProxySettings::Environment,
            connection_max_age: crate::limits::CONNECTION_MAX_AGE,
            on_request: None,
        }
    }
}

/// Which proxy to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ProxySettings {
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` of this process. A GitLab on a loopback address is reached directly.
    #[default]
    Environment,
    /// Given values, for an agent whose own environment is not the manager's.
    Given {
        /// Proxy for `http` URLs.
        http: Option<Secret>,
        /// Proxy for `https` URLs.
        https: Option<Secret>,
        /// Hosts to reach directly, as in `NO_PROXY`.
        no_proxy: String,
    },
    /// None at all.
    Direct,
}

/// Why no client can be made. In the reference this is the class −100: it counts as unhealthy.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not a URL.
    #[error("{url:?} is not a URL that a GitLab instance can have; write https://<host> or http://<host>")]
    Url {
        /// As configured, without user info.
        url: String,
    },
    /// Another scheme than http and https.
    #[error("the GitLab URL has the scheme {scheme:?}; only http and https are possible")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {what}")]
    Tls {
        /// What is wrong.
        what: String,
    },
    /// The HTTP library refuses its settings.
    #[error("no HTTP client can be made")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A GitLab instance, seen by one runner. Cheap to clone; clones share one pool of connections.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    transport: Arc<dyn Transport>,
    on_request: Option<ObserveRequests>,
}

impl Client {
    /// A client that speaks HTTP over the network. Makes no connection yet; reads the system's certificates.
    pub fn new(_options: ClientOptions) -> Result<Self, ClientError> {
        todo!()
    }

    /// A client over a transport of the caller's: simulation and tests.
    pub fn with_transport(_options: &ClientOptions, _transport: Arc<dyn Transport>) -> Result<Self, ClientError> {
        todo!()
    }

    /// Registers a runner with a registration token (`POST runners`).
    pub async fn register(&self, _token: &Secret, _attributes: &Registration) -> Result<Registered, CallError> {
        todo!()
    }

    /// Asks whether `token` is good, and makes the manager known to GitLab with everything it can do (`POST runners/verify`).
    pub async fn verify(&self, _token: &Secret, _system_id: &str, _info: &RunnerInfo) -> VerifyOutcome {
        todo!()
    }

    /// Removes a runner (`DELETE runners`): for tokens that do not start with `glrt-`.
    pub async fn unregister_runner(&self, _token: &Secret) -> Result<(), CallError> {
        todo!()
    }

    /// Removes this manager of a runner (`DELETE runners/managers`): for tokens that start with `glrt-`.
    pub async fn unregister_manager(&self, _token: &Secret, _system_id: &str) -> Result<(), CallError> {
        todo!()
    }

    /// Asks for a new token with the current one, which stops working at once.
    pub async fn reset_token(&self, _token: &Secret) -> Result<Registered, CallError> {
        todo!()
    }

    /// Asks for a new token of runner `id` with a personal access token.
    pub async fn reset_token_with_pat(&self, _id: i64, _pat: &Secret) -> Result<Registered, CallError> {
        todo!()
    }

    /// Asks for a job. May take as long as GitLab holds the request ([`crate::limits::REQUEST_JOB_TIMEOUT`]); drop the future to stop.
    pub async fn request_job(&self, _request: JobRequest<'_>) -> Poll {
        todo!()
    }

    /// Reports a state of a job (`PUT jobs/<id>`).
    pub async fn update_job(&self, _job: &JobCredentials, _update: &JobUpdate, _info: &RunnerInfo) -> UpdateAnswer {
        todo!()
    }

    /// Appends `bytes` to the trace at `offset` (`PATCH jobs/<id>/trace`). `bytes` must not be empty.
    pub async fn patch_trace(
        &self,
        _job: &JobCredentials,
        _offset: u64,
        _bytes: Bytes,
        _debug_trace: bool,
    ) -> PatchAnswer {
        todo!()
    }
}
