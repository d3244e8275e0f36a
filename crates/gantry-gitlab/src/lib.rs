//! The coordinator protocol: what a runner says to a GitLab instance and hears from it, as GitLab
//! Runner 19.4 speaks it.
//!
//! `request.rs` builds requests and `response.rs` reads answers, both without IO; `gantry-http`
//! sends them. Nothing here decides about a job: an answer is reported as it came, and
//! `gantry-relay` or the daemon draws the conclusions. Start reading at [`Client`].

mod answer;
mod client;
mod client_error;
mod info;
pub mod limits;
mod observe;
mod payload;
mod request;
mod response;
pub mod system_id;

pub use answer::{
    CallError, DownloadError, JobAnswer, JobHeaders, PatchAnswer, PatchOutcome, Poll, Reached, ReceivedJob, Registered,
    RemoteStatus, UpdateAnswer, UpdateOutcome, UploadAnswer, VerifyOutcome,
};
pub use client::{Client, ClientOptions, Download, OnRetry, Part, UploadBody, UploadTimeouts};
pub use client_error::ClientError;
// What the options and the calls of a client are made of.
pub use gantry_http::{
    Body, ByteStream, ProxySettings, SetupError, Timeouts, TlsFiles, Transport, TransportError, TransportFault,
};
pub use info::{Features, PROTOCOL_VERSION, RunnerInfo, architecture, platform};
pub use observe::{Endpoint, ObserveRequests, RequestObservation};
pub use payload::read_job;
pub use request::{JobCredentials, JobRequest, JobUpdate, Output, Registration, SessionOffer, UploadQuery};
