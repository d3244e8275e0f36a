//! Connections that are used again, as every HTTP client does: opening one for each request would
//! cost more than the requests.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;

use crate::tasks;

/// Idle connections to one server.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Pool {
    /// One request with its whole answer, over an idle connection or one that `connect` opens.
    pub(crate) async fn exchange<C>(
        &self,
        request: Request<Full<Bytes>>,
        connect: impl FnOnce() -> C,
    ) -> anyhow::Result<Response<Bytes>>
    where
        C: Future<Output = std::io::Result<DuplexStream>>,
    {
        let mut sender = if let Some(sender) = self.take() {
            sender
        } else {
            let (sender, connection) = handshake(TokioIo::new(connect().await?)).await?;
            tasks::spawn(connection);
            sender
        };
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        Ok(Response::from_parts(parts, body))
    }

    fn take(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(sender) = idle.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }
}
