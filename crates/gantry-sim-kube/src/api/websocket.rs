//! The handshake of a WebSocket (RFC 6455), from the server's side. What the messages mean is the
//! business of `remote`.

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderValue, Request, header, request::Parts};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::server, protocol::Role, protocol::WebSocketConfig},
};

/// A connection that has become a WebSocket.
pub(super) type WebSocket = WebSocketStream<TokioIo<Upgraded>>;

/// A request that asks for a WebSocket.
pub(super) struct Upgrade {
    answer: Response,
    offered: Vec<String>,
    connection: OnUpgrade,
}

impl Upgrade {
    /// `None` if the request asks for something else, or not in the way that the protocol wants.
    pub(super) fn asked(parts: &mut Parts) -> Option<Self> {
        let connection = parts.extensions.remove::<OnUpgrade>()?;
        let request = Request::from_parts(parts.clone(), ());
        let answer = server::create_response_with_body(&request, Body::empty).ok()?;
        Some(Self { answer, offered: offered(&parts.headers), connection })
    }

    /// The first of `known` sub-protocols that the client offers. The answer names it.
    pub(super) fn agree<'k>(&mut self, mut known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
        let chosen = known.find(|name| self.offered.iter().any(|offer| offer == name))?;
        let value = HeaderValue::from_str(chosen).ok()?;
        self.answer.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        Some(chosen)
    }

    /// The answer to the request, and the WebSocket once that has been sent.
    pub(super) fn accept(
        self,
        config: WebSocketConfig,
    ) -> (Response, impl Future<Output = hyper::Result<WebSocket>> + Send + 'static) {
        let connection = self.connection;
        let opening = async move {
            let stream = TokioIo::new(connection.await?);
            Ok(WebSocket::from_raw_socket(stream, Role::Server, Some(config)).await)
        };
        (self.answer, opening)
    }
}

/// The sub-protocols that a client offers, in one header or several.
pub(super) fn offered(headers: &HeaderMap) -> Vec<String> {
    let lists = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(|name| name.trim().to_owned()).collect()
}
