//! The port through which requests leave: one implementation speaks HTTP over the network, tests
//! and the simulation put their own in its place. What passes here is plain `http` types.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::Stream;
use gantry_core::ClientIdentity;

/// Bytes as they come.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, TransportError>> + Send>>;

/// Body of a request.
pub enum Body {
    /// Known beforehand; its length is sent.
    Bytes(Bytes),
    /// Made while it is sent, with chunked encoding.
    Stream(ByteStream),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Never the content: it may hold tokens or a user's log.
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Stream(_) => f.write_str("a stream"),
        }
    }
}

/// How long one try may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the head of the answer is there, the request's body included.
    pub head: Duration,
    /// Between two pieces of the answer's body.
    pub idle: Duration,
}

/// Sends one request and returns its answer, without redirects, retries or an opinion about the
/// status.
pub trait Transport: Send + Sync {
    /// Sends `request`. Dropping the future abandons it.
    fn send(
        &self,
        request: http::Request<Body>,
        timeouts: Timeouts,
    ) -> BoxFuture<'_, Result<http::Response<ByteStream>, TransportError>>;

    /// PEM of the certificates that proved the server's identity on the latest connection, root
    /// included; nothing for plain HTTP.
    fn verified_chain_pem(&self) -> Option<String> {
        None
    }

    /// Whether the certificates of the latest connection will still prove the server's identity
    /// after that time; nothing for plain HTTP.
    fn certificate_is_good_for(&self, time: Duration) -> Option<bool> {
        let _ = time;
        None
    }

    /// The configured CA file as it is now, word for word; nothing if there is none, or it holds no
    /// certificate.
    fn configured_ca_pem(&self) -> Option<String> {
        None
    }

    /// The client's certificate and key as they are now; nothing if one of them is missing.
    fn client_identity(&self) -> Option<ClientIdentity> {
        None
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportFault {
    /// No connection: name resolution, refused, unreachable, or TLS.
    Connect,
    /// Nothing came in time.
    Timeout,
    /// The connection broke, or what came is not HTTP.
    Broken,
    /// The request cannot be made, or goes round in redirects. Sending it again would not help.
    Request,
}

/// A request without an answer. Carries no header, body, user info or query of the request.
#[derive(Clone, Debug)]
pub struct TransportError {
    fault: TransportFault,
    source: Arc<dyn std::error::Error + Send + Sync>,
}

impl TransportError {
    /// Wraps the cause.
    pub fn new(fault: TransportFault, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { fault, source: Arc::from(source.into()) }
    }

    /// What kind it is.
    pub fn fault(&self) -> TransportFault {
        self.fault
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.fault {
            TransportFault::Connect => "cannot connect",
            TransportFault::Timeout => "no answer in time",
            TransportFault::Broken => "the connection broke",
            TransportFault::Request => "the request cannot be sent",
        })
    }
}

impl std::error::Error for TransportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.source.as_ref())
    }
}
