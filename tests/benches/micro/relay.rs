//! A trace goes to GitLab in slices, without the network: everything else that a manager does with
//! each byte.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_core::Verdict;
use gantry_gitlab::{
    Body, ByteStream, Client, ClientOptions, JobCredentials, RunnerInfo, Timeouts, Transport, TransportError,
};
use gantry_relay::{FinishedTrace, Input, Pace, RelayEnd, RelayJob, Report};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::lines::{LOG, PIECE, lines};

/// Inputs on their way: as many as a manager's connection to an agent holds.
const INPUTS: usize = 8;

/// Longer than the job of a benchmark lives.
const LIFE: Duration = Duration::from_secs(3600);

/// A log from its first byte to the final state. The clock stands still, and jumps where the relay
/// would wait.
pub(crate) fn relay(criterion: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let log = Bytes::from(lines());
    let sum = crc32fast::hash(&log);
    let mut group = criterion.benchmark_group("relay");
    group.throughput(Throughput::Bytes(LOG as u64));
    group.bench_function("whole log", |bencher| bencher.iter(|| whole(&runtime, &log, sum)));
    group.finish();
}

fn whole(runtime: &Runtime, log: &Bytes, sum: u32) {
    let client = Client::with_transport(ClientOptions::new("https://gitlab.example.com"), Arc::new(Taker));
    let client = client.expect("a client");
    runtime.block_on(async {
        let job = RelayJob {
            creds: JobCredentials { id: 1, token: "glcbt-64_of-the-benchmark".into() },
            info: RunnerInfo::kubernetes("bash", BTreeMap::new()),
            debug_trace: false,
            failure_reasons: Vec::new(),
            acknowledged: true,
            final_tries: 1,
            deadline: Instant::now() + LIFE,
            pace: Pace::default(),
        };
        let (inputs, receiver) = mpsc::channel(INPUTS);
        let (reports, _unread) = mpsc::channel::<Report>(1);
        let feed = async {
            let mut offset = 0;
            for piece in log.chunks(PIECE) {
                let input = Input::Trace { offset, bytes: log.slice_ref(piece) };
                inputs.send(input).await.expect("the relay takes the log");
                offset += piece.len() as u64;
            }
            let verdict = Verdict { success: true, reason: None, exit_code: Some(0), message: String::new() };
            let closed = FinishedTrace { verdict, trace_bytes: offset, trace_crc32: Some(sum) };
            inputs.send(Input::Closed(Box::new(closed))).await.expect("the relay takes the end");
            // An end of the inputs would be another end of the relay.
            std::future::pending::<()>().await;
        };
        let end = tokio::select! {
            end = gantry_relay::run(client, job, receiver, reports) => end,
            () = feed => unreachable!("the feeding does not end"),
        };
        assert_eq!(end, RelayEnd::Delivered);
    });
}

/// A GitLab that takes everything at once.
struct Taker;

impl Transport for Taker {
    fn send(
        &self,
        request: http::Request<Body>,
        _: Timeouts,
    ) -> BoxFuture<'_, Result<http::Response<ByteStream>, TransportError>> {
        let range = request.headers().get("content-range").and_then(|range| range.to_str().ok());
        let end = range.and_then(|range| range.split_once('-')?.1.parse::<u64>().ok());
        let answer = match end {
            // What is stored, with an end that is not part of it.
            Some(last) => http::Response::builder().status(202).header("Range", format!("0-{}", last + 1)),
            None => http::Response::builder().status(200),
        };
        let body: ByteStream = Box::pin(futures::stream::empty());
        async { Ok(answer.header("Job-Status", "running").body(body).expect("an answer")) }.boxed()
    }
}
