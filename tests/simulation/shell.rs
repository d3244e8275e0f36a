//! The build container's shell and processes as data.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gantry_helper::ports::{Exit, Process, ProcessEvent, Shell};
use gantry_wire::shim::Run;
use tokio::time::{Instant, sleep_until};

use crate::pods::{Pod, Pods};
use crate::programs::End;

const TERM: i32 = 15;
const KILL: i32 = 9;

/// The shell of one build container.
pub(crate) struct DataShell {
    pods: Arc<Pods>,
    pod: Arc<Pod>,
    /// Set by a script that ends for want of memory.
    kills: Arc<AtomicU64>,
}

impl DataShell {
    pub(crate) fn new(pods: Arc<Pods>, pod: Arc<Pod>) -> Self {
        Self { pods, pod, kills: Arc::default() }
    }
}

impl Shell for DataShell {
    type Process = Running;

    fn path(&self) -> Option<String> {
        Some("/bin/sh".to_owned())
    }

    fn start(&mut self, run: &Run) -> Result<Running, String> {
        let job = self.pod.job;
        let program = self.pods.program(job, run.script.expose());
        let program = program.ok_or_else(|| format!("this script is not one of job {job}"))?;
        let script = program.script(&run.name).ok_or_else(|| format!("job {job} has no stage {}", run.name))?;
        let one = (self.pod.name.clone(), run.name.clone());
        self.pods.ledger.of(job, |facts| facts.starts.push(one));
        self.pods.ledger.tell(|| format!("job {job} starts {} in {}", run.name, self.pod.name));
        let begun = Instant::now();
        let mut at = begun;
        let prints = script.prints.iter().map(|(pause, text)| {
            at += *pause;
            (at, text.clone())
        });
        Ok(Running {
            prints: prints.collect(),
            end: script.end,
            dies_after: script.dies_after,
            stop: None,
            kills: Arc::clone(&self.kills),
            report: Some(Report { pods: Arc::clone(&self.pods), job, stage: run.name.clone() }),
        })
    }

    fn oom_kills(&self) -> u64 {
        self.kills.load(Ordering::Relaxed)
    }
}

/// Writes down how a script ended.
struct Report {
    pods: Arc<Pods>,
    job: u64,
    stage: String,
}

/// A script that runs.
pub(crate) struct Running {
    prints: VecDeque<(Instant, Bytes)>,
    end: End,
    dies_after: Option<Duration>,
    /// When it ends because it was told to, and by which signal.
    stop: Option<(Instant, i32)>,
    kills: Arc<AtomicU64>,
    report: Option<Report>,
}

impl Running {
    fn ended(&mut self, code: i32, signal: Option<i32>) -> ProcessEvent {
        if let Some(Report { pods, job, stage }) = self.report.take() {
            pods.ledger.tell(|| format!("job {job} {stage} ends with {code}"));
            pods.ledger.of(job, |facts| facts.ends.push((stage, code)));
        }
        ProcessEvent::Ended(Exit { code, signal })
    }
}

impl Process for Running {
    async fn next(&mut self) -> ProcessEvent {
        let stop = self.stop;
        let stopped = async {
            match stop {
                Some((at, signal)) => {
                    sleep_until(at).await;
                    signal
                }
                None => pending().await,
            }
        };
        let next = self.prints.front().map(|(at, _)| *at);
        let due = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            signal = stopped => {
                if let Some(Report { pods, job, stage }) = &self.report {
                    pods.ledger.of(*job, |facts| facts.stopped.insert(stage.clone()));
                }
                return self.ended(128 + signal, Some(signal));
            }
            () = due => {}
        }
        let text = self.prints.pop_front().map(|(_, text)| text).unwrap_or_default();
        if !text.is_empty() {
            return ProcessEvent::Output(text);
        }
        match self.end {
            End::Code(code) => self.ended(code, None),
            End::OutOfMemory => {
                self.kills.fetch_add(1, Ordering::Relaxed);
                self.ended(128 + KILL, Some(KILL))
            }
            // Nothing is left to wait for but a signal.
            End::Never => pending().await,
        }
    }

    fn kill(&mut self, grace: Duration) {
        let now = Instant::now();
        let by_kill = (now + grace, KILL);
        let wanted = match self.dies_after {
            Some(after) if after < grace => (now + after, TERM),
            _ => by_kill,
        };
        self.stop = Some(self.stop.map_or(wanted, |before| if before.0 <= wanted.0 { before } else { wanted }));
    }
}
