//! Reads a body that is bounded in size and time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;

use crate::limits;
use crate::transport::{ByteStream, TransportError, TransportFault};

/// What there was of a body.
#[derive(Clone, Debug)]
pub struct Content {
    /// As much as came, after decompression.
    pub bytes: Bytes,
    /// Whether that is all of it.
    pub end: Result<(), ReadError>,
}

/// Why a body was not read to its end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// It is larger than it may be.
    #[error("its body is larger than {most} bytes")]
    TooLarge {
        /// How large it may be.
        most: usize,
    },
    /// It broke off, or did not end in time.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

/// Reads `body` up to `most` bytes, for as long as `limit`.
pub async fn read(mut body: ByteStream, most: usize, limit: Duration) -> Content {
    let mut bytes = BytesMut::new();
    let reading = async {
        while let Some(piece) = body.next().await {
            let piece = piece?;
            if bytes.len() + piece.len() > most {
                return Err(ReadError::TooLarge { most });
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(())
    };
    let end = match tokio::time::timeout(limit, reading).await {
        Ok(end) => end,
        Err(elapsed) => Err(TransportError::new(TransportFault::Timeout, elapsed).into()),
    };
    Content { bytes: bytes.freeze(), end }
}

/// Reads a body that nobody needs, for as long as `spare` at most: its connection can be used again
/// only once that is done.
pub(crate) async fn drain(body: ByteStream, spare: Duration) {
    let _ = read(body, limits::MAX_DRAINED, limits::DRAIN_TIMEOUT.min(spare)).await;
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn pieces(pieces: &'static [&'static str]) -> ByteStream {
        Box::pin(stream::iter(pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes())))))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_a_most_and_an_end() {
        let minute = Duration::from_secs(60);
        let whole = read(pieces(&["ab", "cd"]), 4, minute).await;
        assert!(whole.end.is_ok() && whole.bytes == "abcd");
        let large = read(pieces(&["ab", "cde"]), 4, minute).await;
        assert!(matches!(large.end, Err(ReadError::TooLarge { most: 4 })) && large.bytes == "ab");
        let endless = read(Box::pin(pieces(&["ab"]).chain(stream::pending())), 4, minute).await;
        let Err(ReadError::Transport(error)) = endless.end else { panic!("{:?}", endless.end) };
        assert!(error.fault() == TransportFault::Timeout && endless.bytes == "ab");
        let broken = Box::pin(stream::iter([Err(TransportError::new(TransportFault::Broken, "cut"))]));
        assert!(matches!(read(broken, 4, minute).await.end, Err(ReadError::Transport(_))));
    }
}
