//! How much of an answer is read. An API server, or a proxy in front of it, may send without end,
//! and the client library collects whatever comes. Each kind of answer has its limit here, below
//! the library, and what exceeds it is an error of its own.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Frame;
use kube::client::Body;
use tower::BoxError;

use crate::limits;

/// An answer that was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} from the API server is longer than {} MiB and was not read further; is it the API server that answers, or a proxy?",
    .limit >> 20
)]
pub(crate) struct TooLong {
    what: &'static str,
    limit: usize,
}

/// What an answer is bounded by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    what: &'static str,
    limit: usize,
    /// The limit is that of each line: a watch has no end.
    by_line: bool,
}

impl Bound {
    fn of<B>(request: &Request<B>) -> Self {
        let asks = |wanted: &str| {
            let pairs = request.uri().query().unwrap_or_default().split('&');
            pairs.map(|pair| pair.split('=').next().unwrap_or_default()).any(|key| key == wanted)
        };
        if asks("watch") {
            Self { what: "an event of the watch", limit: limits::OBJECT, by_line: true }
        } else if asks("follow") {
            Self { what: "a line of the log", limit: limits::OBJECT, by_line: true }
        } else if asks("limit") {
            Self { what: "a page of the list", limit: limits::PAGE, by_line: false }
        } else {
            Self { what: "an answer", limit: limits::OBJECT, by_line: false }
        }
    }

    /// Counts `bytes`, which follow `count`; the error is that the limit is exceeded.
    fn count(self, count: &mut usize, bytes: &[u8]) -> Result<(), TooLong> {
        let mut ends = bytes.iter().enumerate().filter(|(_, byte)| self.by_line && **byte == b'\n').map(|(at, _)| at);
        let first = ends.next();
        let longest = count.saturating_add(first.unwrap_or(bytes.len()));
        let last = ends.next_back().or(first);
        *count = last.map_or(longest, |last| bytes.len() - last - 1);
        // Lines between two ends are no longer than the piece, which the connection's buffer
        // bounds.
        let Self { what, limit, .. } = self;
        if longest.max(*count) > limit { Err(TooLong { what, limit }) } else { Ok(()) }
    }
}

/// Sends `request` by `client`; the answer's body ends with [`TooLong`] where it exceeds its limit.
pub(crate) async fn bounded(client: kube::Client, request: Request<Body>) -> Result<Response<Counted>, BoxError> {
    let bound = Bound::of(&request);
    let answer = client.send(request).await?;
    Ok(answer.map(|body| Counted { body, bound, count: 0 }))
}

/// A body whose bytes are counted.
pub(crate) struct Counted {
    body: Body,
    bound: Bound,
    /// Bytes so far: of all, or of the line.
    count: usize,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(frame) = ready!(Pin::new(&mut this.body).poll_frame(context)?) else { return Poll::Ready(None) };
        let counting = this.bound.count(&mut this.count, frame.data_ref().map(Bytes::as_ref).unwrap_or_default());
        Poll::Ready(Some(counting.map(|()| frame).map_err(BoxError::from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(method: &str, uri: &str) -> Bound {
        Bound::of(&Request::builder().method(method).uri(uri).body(()).unwrap())
    }

    #[test]
    fn each_kind_of_answer_has_its_limit() {
        let watch = bound("GET", "/api/v1/namespaces/ci/pods?&watch=true&labelSelector=a&timeoutSeconds=290");
        assert_eq!((watch.limit, watch.by_line), (limits::OBJECT, true));
        assert_eq!(bound("GET", "/api/v1/namespaces/ci/pods?&limit=500").limit, limits::PAGE);
        for plain in ["/api/v1/namespaces/ci/pods/watch", "/api/v1/namespaces/ci/pods?labelSelector=watch%3Dlimit"] {
            assert_eq!(bound("GET", plain), bound("POST", "/api/v1/namespaces/ci/pods"), "{plain}");
        }
    }

    #[test]
    fn lines_are_counted_however_they_are_cut() {
        let bound = Bound { what: "a line", limit: 4, by_line: true };
        let read = |pieces: &[&[u8]]| {
            let mut count = 0;
            pieces.iter().all(|piece| bound.count(&mut count, piece).is_ok())
        };
        assert!(read(&[b"1234\n1234\n", b"12", b"34\n", b"\n", b"1234"]));
        assert!(!read(&[b"12345"]) && !read(&[b"\n12345"]) && !read(&[b"\n12", b"345"]) && !read(&[b"12", b"345\n\n"]));
        let whole = Bound { by_line: false, ..bound };
        assert!(whole.count(&mut 0, b"1\n3\n").is_ok() && whole.count(&mut 0, b"1\n3\n5").is_err());
    }
}
