//! The coordinator protocol: what a runner says to a GitLab instance and hears from it, as GitLab Runner 19.4 speaks it.
//!
//! `request.rs` builds requests and `response.rs` reads answers, both without IO; `http_transport.rs` sends; `retry.rs` decides what is sent
//! again. Nothing here decides about a job: an answer is reported as it came, and `gantry-relay` or the daemon draws the conclusions.
//! Start reading at [`Client`].

mod answer;
mod certificates;
mod client;
mod explain;
mod http_transport;
mod info;
pub mod limits;
mod observe;
mod payload;
mod redirect;
mod request;
mod response;
mod retry;
mod roots;
pub mod system_id;
mod tls;
mod transport;

pub use answer::{
    CallError, DownloadError, JobAnswer, PatchAnswer, PatchOutcome, Poll, ReceivedJob, Registered, RemoteStatus, Says,
    UpdateAnswer, UpdateOutcome, UploadAnswer, VerifyOutcome,
};
pub use certificates::TlsFiles;
pub use client::{Client, ClientError, ClientOptions, Download, ProxySettings, UploadBody, UploadTimeouts};
pub use info::{Features, PROTOCOL_VERSION, RunnerInfo, architecture, platform};
pub use observe::{Endpoint, ObserveRequests, RequestObservation};
pub use request::{JobCredentials, JobRequest, JobUpdate, Output, Registration, UploadQuery};
pub use transport::{Body, ByteStream, Timeouts, Transport, TransportError, TransportFault};
