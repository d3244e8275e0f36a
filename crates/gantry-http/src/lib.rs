//! The door to HTTP servers: what it takes to get an answer from one, whoever it is and whatever is
//! asked.
//!
//! [`HttpTransport`] speaks HTTP over the network: TLS with roots of every kind, client
//! certificates, files that change, proxies. Over it, or over a [`Transport`] of the caller's,
//! [`send`](fn@send) follows redirects and tries again; [`read`] takes a body that is bounded in
//! size and time. Decisions are pure and in files of their own: where a redirect leads
//! (`redirect.rs`), when a request is sent again (`retry.rs`), which words explain a failure
//! (`explain.rs`). Nothing here knows what an answer means. Hints name the settings of an entry in
//! `[[runners]]`, since those are what the operator can change.
//!
//! No other crate makes HTTP connections, but those that `kube` makes to an API server; their roots
//! come from here too ([`roots`]). Start reading at [`Transport`].

mod body;
mod certificates;
mod explain;
mod files;
mod http_transport;
pub mod limits;
mod options;
mod range;
pub mod redirect;
pub mod retry;
pub mod roots;
mod send;
mod setup_error;
mod tls;
mod transport;
mod verifier;

pub use body::{Content, ReadError, read};
pub use certificates::TlsFiles;
pub use files::{FileStamps, Stamp};
pub use http_transport::HttpTransport;
pub use options::{Options, ProxySettings};
pub use range::ContentRange;
pub use send::{Sent, send, send_until};
pub use setup_error::SetupError;
pub use tls::{has_certificate, is_own_authority};
pub use transport::{Body, ByteStream, Timeouts, Transport, TransportError, TransportFault};
pub use verifier::verifier;
