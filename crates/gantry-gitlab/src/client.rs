//! The calls. Each builds a request (`request.rs`), sends it through `gantry-http` and reads the
//! answer (`response.rs`).

mod artifacts;
mod exchange;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_core::error_chain::chain;
use gantry_core::{ClientIdentity, Secret};
use gantry_http::retry::Idempotency;
use gantry_http::{HttpTransport, Options, ProxySettings, Timeouts, TlsFiles, Transport, has_certificate};
use http::StatusCode;
use tokio::time::Instant;

pub use self::artifacts::{Download, OnRetry, Part, UploadBody, UploadTimeouts};
use self::exchange::{Call, Decode};
use crate::answer::{CallError, JobAnswer, PatchAnswer, Poll, Reached, Registered, UpdateAnswer, VerifyOutcome};
use crate::client_error::ClientError;
use crate::info::RunnerInfo;
use crate::limits;
use crate::observe::{Endpoint, ObserveRequests};
use crate::request::{Draft, Instance, JobCredentials, JobRequest, JobUpdate, Registration};
use crate::response;

/// Where and how to reach a GitLab instance.
#[derive(Clone)]
pub struct ClientOptions {
    /// As configured: with or without trailing slashes and `/ci`.
    pub url: String,
    /// Certificates to trust beside the system's and the bundled ones, as PEM text, for who has no
    /// files. Text without a certificate is ignored with a warning.
    pub ca_pem: Option<String>,
    /// The client's certificate and key, for who has no files.
    pub identity: Option<ClientIdentity>,
    /// Files with certificates and keys; a change is noticed and used with the next request.
    pub files: TlsFiles,
    /// Proxy for the requests.
    pub proxy: ProxySettings,
    /// Connections are not kept longer than this (global `connection_max_age`); zero means for
    /// ever.
    pub connection_max_age: Duration,
    /// Told about every finished call.
    pub on_request: Option<ObserveRequests>,
}

impl ClientOptions {
    /// The usual options for `url`: no own CA, proxy from the environment, connections kept for 15
    /// minutes.
    pub fn new(url: impl Into<String>) -> Self {
        let Options { ca_pem, identity, files, proxy, connection_max_age } = Options::default();
        Self { url: url.into(), ca_pem, identity, files, proxy, connection_max_age, on_request: None }
    }
}

/// A GitLab instance, seen by one runner. Cheap to clone; clones share one pool of connections.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    instance: Instance,
    transport: Arc<dyn Transport>,
    /// The configured CA, word for word, if it is one. The transport knows that of files.
    ca_pem: Option<String>,
    on_request: Option<ObserveRequests>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.shared.instance.base().as_str()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client that speaks HTTP over the network. Makes no connection yet; reads the system's
    /// certificates and the files of `options`.
    pub fn new(options: ClientOptions) -> Result<Self, ClientError> {
        let instance = Instance::new(&options.url)?;
        let connections = Options {
            ca_pem: options.ca_pem.clone(),
            files: options.files.clone(),
            identity: options.identity.clone(),
            proxy: options.proxy.clone(),
            connection_max_age: options.connection_max_age,
        };
        let transport = HttpTransport::new(instance.base(), connections)?;
        Ok(Self::over(options, instance, Arc::new(transport)))
    }

    /// A client over a transport of the caller's, for simulation and tests. Of `options` only URL,
    /// CA text and observer count.
    pub fn with_transport(options: ClientOptions, transport: Arc<dyn Transport>) -> Result<Self, ClientError> {
        let instance = Instance::new(&options.url)?;
        Ok(Self::over(options, instance, transport))
    }

    fn over(options: ClientOptions, instance: Instance, transport: Arc<dyn Transport>) -> Self {
        let ca_pem = options.ca_pem.filter(|pem| has_certificate(pem));
        Self { shared: Arc::new(Shared { instance, transport, ca_pem, on_request: options.on_request }) }
    }

    /// The configured CA as it is now, word for word: of a file, else as it was given.
    pub fn ca_pem(&self) -> Option<String> {
        self.shared.transport.configured_ca_pem().or_else(|| self.shared.ca_pem.clone())
    }

    /// The client's certificate and key as they are now, if both are configured.
    pub fn identity(&self) -> Option<ClientIdentity> {
        self.shared.transport.client_identity()
    }

    /// Whether GitLab answers at all, whatever it says: asks for its version without a token, which
    /// costs it nothing. Tried once.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn reach(&self) -> Result<Reached, CallError> {
        let request = self.shared.instance.version().with_id(&request_id())?;
        let timeouts = Timeouts { head: limits::REACH_TIMEOUT, idle: limits::REACH_TIMEOUT };
        let start = Instant::now();
        let answer = self.open(request, timeouts, (Idempotency::NotIdempotent, None)).await.answer?;
        let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok()).map(str::to_owned);
        let transport = &self.shared.transport;
        Ok(Reached {
            status: answer.status().as_u16(),
            is_page: response::is_page(answer.headers()),
            date,
            took: start.elapsed(),
            certificate_is_good_for: transport.certificate_is_good_for(limits::CERTIFICATE_LOOKAHEAD),
        })
    }

    /// Registers a runner with a registration token (`POST runners`).
    pub async fn register(&self, token: &Secret, attributes: &Registration) -> Result<Registered, CallError> {
        let draft = self.shared.instance.register(token, attributes);
        self.runner_call(draft, StatusCode::CREATED).await
    }

    /// Asks whether `token` is good, and makes the manager known to GitLab with everything it can
    /// do (`POST runners/verify`).
    ///
    /// Servers that answer in plain text are asked a second time, without looking at the body, as
    /// the reference does. A page for browsers, with which a proxy may answer whatever it is asked,
    /// proves nothing, though the reference takes it for a yes.
    pub async fn verify(&self, token: &Secret, system_id: &str, info: &RunnerInfo) -> VerifyOutcome {
        let draft = || self.shared.instance.verify(token, system_id, info);
        match self.runner_call(draft(), StatusCode::OK).await {
            Err(CallError::Malformed { .. }) => {}
            first => return verified(first),
        }
        let call = runner(draft(), Decode::Nothing);
        let second = response::done(self.exchange(call).await.answer, StatusCode::OK);
        verified(second.map(|()| Registered { id: 0, token: Secret::default(), token_expires_at: None }))
    }

    /// Removes a runner (`DELETE runners`): for tokens that do not start with `glrt-`.
    pub async fn unregister_runner(&self, token: &Secret) -> Result<(), CallError> {
        let call = runner(self.shared.instance.unregister_runner(token), Decode::Nothing);
        response::done(self.exchange(call).await.answer, StatusCode::NO_CONTENT)
    }

    /// Removes this manager of a runner (`DELETE runners/managers`): for tokens that start with
    /// `glrt-`.
    pub async fn unregister_manager(&self, token: &Secret, system_id: &str) -> Result<(), CallError> {
        let draft = self.shared.instance.unregister_manager(token, system_id);
        let call = runner(draft, Decode::Nothing);
        response::done(self.exchange(call).await.answer, StatusCode::NO_CONTENT)
    }

    /// Asks for a new token with the current one, which stops working at once: store the answer
    /// before use.
    pub async fn reset_token(&self, token: &Secret) -> Result<Registered, CallError> {
        self.reset(self.shared.instance.reset_token(token)).await
    }

    /// Asks for a new token of runner `id` with a personal access token.
    pub async fn reset_token_with_pat(&self, id: i64, pat: &Secret) -> Result<Registered, CallError> {
        self.reset(self.shared.instance.reset_token_with_pat(id, pat)).await
    }

    async fn reset(&self, draft: Draft) -> Result<Registered, CallError> {
        let call = Call { endpoint: Endpoint::ResetToken, ..runner(draft, Decode::On(StatusCode::CREATED)) };
        response::registered(self.exchange(call).await.answer, StatusCode::CREATED)
    }

    async fn runner_call(&self, draft: Draft, success: StatusCode) -> Result<Registered, CallError> {
        let call = runner(draft, Decode::On(success));
        response::registered(self.exchange(call).await.answer, success)
    }

    /// Asks for a job. May take as long as GitLab holds the request
    /// ([`crate::limits::REQUEST_JOB_TIMEOUT`]); drop the future to stop.
    pub async fn request_job(&self, request: JobRequest<'_>) -> Poll {
        let call = Call {
            endpoint: Endpoint::RequestJob,
            request: self.shared.instance.request_job(&request).with_id(&request_id()),
            timeout: limits::REQUEST_JOB_TIMEOUT,
            in_all: false,
            idempotency: Idempotency::NotIdempotent,
            decode: Decode::Job,
        };
        let exchanged = self.exchange(call).await;
        let last_update = exchanged.answer.as_ref().ok().and_then(|answer| response::last_update(answer.headers()));
        let mut answer = response::job(exchanged.answer);
        if let JobAnswer::Job(job) = &mut answer {
            let chain = || self.shared.transport.verified_chain_pem();
            job.tls_ca_chain_pem = self.ca_pem().or_else(chain);
        }
        Poll { answer, pushed_back: exchanged.pushed_back, last_update }
    }

    /// Reports a state of a job (`PUT jobs/<id>`). The answer may take `time`, with all tries and
    /// the waits between them.
    pub async fn update_job(
        &self,
        job: &JobCredentials,
        update: &JobUpdate,
        info: &RunnerInfo,
        time: Duration,
    ) -> UpdateAnswer {
        let call = Call {
            endpoint: Endpoint::UpdateJob,
            request: self.shared.instance.update_job(job, update, info).with_id(&request_id()),
            timeout: time,
            in_all: true,
            // The same state twice is the same state.
            idempotency: Idempotency::Idempotent,
            decode: Decode::Nothing,
        };
        let exchanged = self.exchange(call).await;
        let mut answer = response::update(exchanged.answer);
        answer.headers.asked_wait = exchanged.asked_wait;
        answer
    }

    /// Appends `bytes` to the trace at `offset` (`PATCH jobs/<id>/trace`). `bytes` must not be
    /// empty. The answer may take `time`, with all tries and the waits between them;
    /// [`limits::patch_trace_timeout`] adds what the bytes take.
    pub async fn patch_trace(
        &self,
        job: &JobCredentials,
        (offset, bytes): (u64, Bytes),
        debug_trace: bool,
        time: Duration,
    ) -> PatchAnswer {
        let call = Call {
            endpoint: Endpoint::PatchTrace,
            request: self.shared.instance.patch_trace(job, offset, bytes, debug_trace).with_id(&request_id()),
            timeout: time,
            in_all: true,
            // Bytes that GitLab has already are refused by their offset (416).
            idempotency: Idempotency::Idempotent,
            decode: Decode::Nothing,
        };
        let exchanged = self.exchange(call).await;
        let mut answer = response::patch(exchanged.answer);
        answer.headers.asked_wait = exchanged.asked_wait;
        answer
    }
}

/// A call about runners, which does not bear being made twice without knowing.
fn runner(draft: Draft, decode: Decode) -> Call {
    let timeout = limits::RUNNER_CALL_TIMEOUT;
    Call {
        endpoint: Endpoint::Runner,
        request: draft.with_id(&request_id()),
        timeout,
        in_all: false,
        idempotency: Idempotency::NotIdempotent,
        decode,
    }
}

fn verified(answer: Result<Registered, CallError>) -> VerifyOutcome {
    match answer {
        Ok(registered) => VerifyOutcome::Valid(registered),
        Err(CallError::Status { status: 403, message }) if response::refuses_token(&message) => {
            VerifyOutcome::Invalid { message }
        }
        Err(error) => VerifyOutcome::Unsure { message: chain(&error) },
    }
}

/// A new `X-Request-Id`: a version 4 UUID without dashes, as the reference makes them.
fn request_id() -> String {
    const VERSION_4: u128 = 0x4000 << 64;
    const VERSION_MASK: u128 = 0xf000 << 64;
    const VARIANT: u128 = 0b10 << 62;
    const VARIANT_MASK: u128 = 0b11 << 62;
    let bits = rand::random::<u128>() & !VERSION_MASK & !VARIANT_MASK | VERSION_4 | VARIANT;
    format!("{bits:032x}")
}

#[cfg(test)]
mod tests;
