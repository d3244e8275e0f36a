//! `pods/log`: a container's log, whole or its end, followed or not.

use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use futures::stream;
use http::{StatusCode, header};
use serde_json::Value;

use super::{call::Call, exec::named_container, kubelet_link, request::Target, status::ApiError};
use crate::{
    cluster::Cluster,
    faults::Kubelet,
    kubelet::{LogLine, previous, read_lines},
    store::{
        Key,
        object::{self, items, text},
    },
};

/// How often a followed log is read.
const POLL: Duration = Duration::from_millis(100);

struct Follow {
    cluster: Arc<Cluster>,
    uid: String,
    container: String,
    path: PathBuf,
    offset: u64,
    stamps: bool,
    /// Bytes that may still be sent.
    room: u64,
    /// Whether the last line sent was only a piece.
    mid_line: bool,
    going: bool,
}

/// Sends a log.
pub(crate) async fn answer(call: &Call, target: &Target) -> Result<Response, ApiError> {
    let key = Key::new(target.kind, &target.namespace, &target.name);
    let pod = call.cluster.store.get(&key).ok_or_else(|| ApiError::not_found(target.kind, &target.name))?;
    let container = named_container(&pod, target, "a container name must be specified")?;
    let uid = object::uid(&pod).to_owned();
    kubelet_link::reach(&call.cluster).await?;
    let waiting = || {
        let state = state_reason(&pod, &container);
        let message = if state == "ContainerCreating" || state == "PodInitializing" {
            format!("container {container:?} in pod {:?} is waiting to start: {state}", target.name)
        } else {
            format!("container {container:?} in pod {:?} is waiting to start: {}", target.name, explain(&state))
        };
        ApiError::bad_request(message)
    };
    let handle = call.cluster.kubelet.pod(&uid).ok_or_else(waiting)?;
    let past = target.query.flag("previous");
    let missing = || {
        let message = format!("previous terminated container {container:?} in pod {:?} not found", target.name);
        if past { ApiError::bad_request(message) } else { waiting() }
    };
    let path = if past { previous(&handle.log_path(&container)) } else { handle.log_path(&container) };
    let (lines, offset) = read_lines(&path, 0).await.map_err(|_| missing())?;
    let mut follow = Follow {
        cluster: Arc::clone(&call.cluster),
        uid,
        container,
        path,
        offset,
        stamps: target.query.flag("timestamps"),
        room: target.query.number("limitBytes").unwrap_or(u64::MAX),
        mid_line: false,
        going: target.query.flag("follow") && !past,
    };
    let since = since(call, target);
    let lines = lines.into_iter().filter(|line| since.as_ref().is_none_or(|since| line.stamp >= *since)).collect();
    let first = follow.render(&tail(lines, target.query.number("tailLines")));
    let body = if follow.going {
        Body::from_stream(stream::unfold((Some(first), follow), |(first, mut follow)| async move {
            let bytes = match first {
                Some(first) => first,
                None => follow.next().await?,
            };
            Some((Ok::<Bytes, std::convert::Infallible>(bytes), (None, follow)))
        }))
    } else {
        Body::from(first)
    };
    Response::builder()
        .status(StatusCode::OK)
        .header(header::CONTENT_TYPE, "text/plain")
        .body(body)
        .map_err(ApiError::internal)
}

fn state_reason(pod: &Value, container: &str) -> String {
    ["initContainerStatuses", "containerStatuses"]
        .iter()
        .flat_map(|list| items(pod, &["status", list]))
        .find(|status| text(status, &["name"]) == container)
        .map(|status| text(status, &["state", "waiting", "reason"]).to_owned())
        .filter(|reason| !reason.is_empty())
        .unwrap_or_else(|| "ContainerCreating".to_owned())
}

fn explain(reason: &str) -> &str {
    match reason {
        "ErrImagePull" | "ImagePullBackOff" => "trying and failing to pull image",
        "InvalidImageName" => "image can't be pulled",
        other => other,
    }
}

/// The earliest time stamp that is wanted, as log records write it.
fn since(call: &Call, target: &Target) -> Option<String> {
    if let Some(seconds) = target.query.number("sinceSeconds") {
        let now = call.cluster.clock.now();
        return now.checked_sub(Duration::from_secs(seconds)).ok().map(crate::clock::stamp_nanos);
    }
    let time: jiff::Timestamp = target.query.get("sinceTime")?.parse().ok()?;
    Some(crate::clock::stamp_nanos(time))
}

/// The last lines; pieces of one line count once.
fn tail(lines: Vec<LogLine>, count: Option<u64>) -> Vec<LogLine> {
    let Some(count) = count else { return lines };
    let mut kept: VecDeque<LogLine> = VecDeque::new();
    let mut wholes = 0;
    for (index, line) in lines.into_iter().rev().enumerate() {
        // A line ends here (or the log does, in the middle of one).
        if line.whole || index == 0 {
            wholes += 1;
        }
        if wholes > count {
            break;
        }
        kept.push_front(line);
    }
    kept.into()
}

impl Follow {
    fn render(&mut self, lines: &[LogLine]) -> Bytes {
        let mut bytes = Vec::new();
        for line in lines {
            if self.stamps && !self.mid_line {
                bytes.extend_from_slice(line.stamp.as_bytes());
                bytes.push(b' ');
            }
            bytes.extend_from_slice(&line.text);
            if line.whole {
                bytes.push(b'\n');
            }
            self.mid_line = !line.whole;
        }
        bytes.truncate(usize::try_from(self.room).unwrap_or(usize::MAX));
        self.room -= bytes.len() as u64;
        bytes.into()
    }

    /// More of the log; `None` when the container has ended and everything was sent.
    async fn next(&mut self) -> Option<Bytes> {
        while self.going && self.room > 0 {
            // The lines come from kubelet: without it they end, or stop coming.
            let faults = &self.cluster.faults;
            if faults.kubelet() != Kubelet::Up {
                faults.kubelet_is(|kubelet| kubelet != Kubelet::Lost).await;
                return None;
            }
            // Asked before reading, so that nothing written before the end is missed.
            let running = self.cluster.kubelet.container(&self.uid, &self.container).is_some();
            if let Ok((lines, offset)) = read_lines(&self.path, self.offset).await {
                self.offset = offset;
                if !lines.is_empty() {
                    return Some(self.render(&lines));
                }
            }
            if !running {
                self.going = false;
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_counts_lines_not_pieces() {
        let line = |text: &str, whole| LogLine { stamp: "t".into(), text: text.into(), whole };
        let lines = vec![line("a", true), line("b1", false), line("b2", true), line("c", true)];
        let texts = |count| {
            tail(lines.clone(), Some(count))
                .iter()
                .map(|line| String::from_utf8_lossy(&line.text).into_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(texts(1), ["c"]);
        assert_eq!(texts(2), ["b1", "b2", "c"]);
        assert_eq!(texts(0), Vec::<String>::new());
        assert_eq!(texts(9).len(), 4);
    }
}
