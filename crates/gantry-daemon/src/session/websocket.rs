//! The handshake of a WebSocket from the server's side (RFC 6455), and what GitLab's terminals put
//! into one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::answer::{Body, whole};

/// Longest message that a person's typing and pasting makes.
const MESSAGE: usize = 1 << 20;

/// A connection that has become a WebSocket.
pub(super) type WebSocket = WebSocketStream<TokioIo<Upgraded>>;

/// How a terminal's bytes are put into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As they are.
    Plain,
    /// As text.
    Base64,
}

/// In the order in which they are preferred.
const FORMS: [(&str, Form); 2] = [("terminal.gitlab.com", Form::Plain), ("base64.terminal.gitlab.com", Form::Base64)];

/// A request that asks for a terminal.
pub(super) struct Upgrade {
    answer: Response<Body>,
    connection: OnUpgrade,
    /// Nothing if none that is known was offered.
    pub(super) form: Option<Form>,
}

impl Upgrade {
    /// `None` if the request asks for something else, or not in the way that the protocol wants.
    pub(super) fn asked(request: &mut Request<Incoming>) -> Option<Self> {
        let offered = |name: &str| {
            let lists = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
            let mut words = lists.filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(','));
            words.any(|word| word.trim() == name)
        };
        let agreed = FORMS.into_iter().find(|(name, _)| offered(name));
        let head = {
            let mut head = Request::new(());
            head.method_mut().clone_from(request.method());
            head.uri_mut().clone_from(request.uri());
            *head.version_mut() = request.version();
            head.headers_mut().clone_from(request.headers());
            head
        };
        let mut answer = server::create_response_with_body(&head, || whole(Bytes::new())).ok()?;
        if let Some((name, _)) = agreed {
            answer.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
        }
        Some(Self { answer, connection: hyper::upgrade::on(request), form: agreed.map(|(_, form)| form) })
    }

    /// The answer, and the WebSocket once that has been sent.
    pub(super) fn accept(self) -> (Response<Body>, impl Future<Output = hyper::Result<WebSocket>> + Send + 'static) {
        let config = WebSocketConfig::default().max_message_size(Some(MESSAGE)).max_frame_size(Some(MESSAGE));
        let connection = self.connection;
        let opening = async move {
            let stream = TokioIo::new(connection.await?);
            Ok(WebSocket::from_raw_socket(stream, Role::Server, Some(config)).await)
        };
        (self.answer, opening)
    }
}

impl Form {
    /// Bytes of the terminal as a message.
    pub(super) fn message(self, bytes: &[u8]) -> Message {
        match self {
            Self::Plain => Message::Binary(Bytes::copy_from_slice(bytes)),
            Self::Base64 => Message::Text(STANDARD.encode(bytes).into()),
        }
    }

    /// Bytes for the terminal out of a message; nothing for one that has none.
    pub(super) fn bytes(self, message: Message) -> Option<Bytes> {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            _ => return None,
        };
        match self {
            Self::Plain => Some(bytes),
            Self::Base64 => STANDARD.decode(&bytes).ok().map(Bytes::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_there_and_back() {
        for form in [Form::Plain, Form::Base64] {
            assert_eq!(form.bytes(form.message(b"l\xff\0s")).unwrap(), &b"l\xff\0s"[..]);
            assert_eq!(form.bytes(Message::Ping(Bytes::new())), None);
        }
        assert_eq!(Form::Base64.message(b"ls"), Message::Text("bHM=".into()));
        assert_eq!(Form::Plain.bytes(Message::Text("ls".into())).unwrap(), "ls");
        assert_eq!(Form::Base64.bytes(Message::Text("!".into())), None);
    }
}
