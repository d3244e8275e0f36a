//! The jobs that run now, for metrics and for people who look.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::metrics::{Metrics, RunnerLabels};
use crate::redaction::redact;
use crate::view::JobView;

/// All jobs that run now.
#[derive(Clone, Default)]
pub(crate) struct Running {
    jobs: Arc<Mutex<BTreeMap<u64, Entry>>>,
    next: Arc<std::sync::atomic::AtomicU64>,
    /// Runners that are there, each with a series of its own, and how often: a change of the file
    /// starts one anew before the one before has ended.
    runners: Arc<Mutex<BTreeMap<RunnerLabels, usize>>>,
    /// Held while the metrics are set and read: two who scrape at once would count for each other.
    scrape: Arc<Mutex<()>>,
}

struct Entry {
    url: String,
    labels: RunnerLabels,
    view: watch::Receiver<JobView>,
    started: Instant,
}

/// A runner in the list; dropping the last one of its labels removes what is true only of a runner
/// that asks for jobs.
pub(crate) struct KnownRunner {
    labels: RunnerLabels,
    running: Running,
    metrics: Arc<Metrics>,
}

/// A job in the list; dropping it removes the job.
pub(crate) struct Listed {
    key: u64,
    running: Running,
}

impl Running {
    /// Shows a runner, whether it has jobs or not.
    pub(crate) fn knows(&self, labels: &RunnerLabels, metrics: &Arc<Metrics>) -> KnownRunner {
        *self.runners.lock().unwrap_or_else(PoisonError::into_inner).entry(labels.clone()).or_default() += 1;
        KnownRunner { labels: labels.clone(), running: self.clone(), metrics: Arc::clone(metrics) }
    }

    /// Lists a job under the address of its page in GitLab.
    pub(crate) fn add(&self, url: String, labels: RunnerLabels, view: watch::Receiver<JobView>) -> Listed {
        let key = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let entry = Entry { url, labels, view, started: Instant::now() };
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).insert(key, entry);
        Listed { key, running: self.clone() }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How many of them are those of one runner.
    pub(crate) fn count_of(&self, labels: &RunnerLabels) -> usize {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.values().filter(|entry| entry.labels == *labels).count()
    }

    /// One line per job (GitLab Runner 19.4, `/debug/jobs/list`).
    pub(crate) fn list(&self) -> String {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for entry in jobs.values() {
            let view = entry.view.borrow();
            let duration = gantry_core::go_duration::format(entry.started.elapsed());
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "url={} state=running stage={} executor_stage= duration={duration} pod={}",
                entry.url, view.stage, view.pod
            );
        }
        redact(None, &text).into_owned()
    }

    /// The text that Prometheus scrapes, as all is now.
    ///
    /// # Errors
    /// A metric cannot be written.
    pub(crate) fn scrape(&self, metrics: &Metrics) -> Result<Vec<u8>, prometheus::Error> {
        let _alone = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        self.show(metrics);
        metrics.render()
    }

    /// Sets the gauge of running jobs to what is true now.
    fn show(&self, metrics: &Metrics) {
        metrics.jobs.reset();
        for labels in self.runners.lock().unwrap_or_else(PoisonError::into_inner).keys() {
            metrics.show_idle(labels);
        }
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in jobs.values() {
            let stage = entry.view.borrow().stage.clone();
            let RunnerLabels { runner, name, system_id } = &entry.labels;
            let stage = redact(None, &stage);
            metrics.jobs.with_label_values(&[runner, name, system_id, "running", &stage, ""]).inc();
        }
    }
}

impl Drop for KnownRunner {
    fn drop(&mut self) {
        let mut runners = self.running.runners.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = runners.get_mut(&self.labels) else { return };
        *count -= 1;
        if *count == 0 {
            runners.remove(&self.labels);
            let is_shared = runners.keys().any(|other| self.labels.shares_polls_with(other));
            self.metrics.forget(&self.labels, is_shared);
        }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.running.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_scrapes_at_the_same_time_sees_the_same() {
        const JOBS: usize = 200;
        let (running, metrics) = (Running::default(), Arc::new(Metrics::new().unwrap()));
        let labels = RunnerLabels { runner: "abc".to_owned(), name: "one".to_owned(), system_id: "r_1".to_owned() };
        let _known = running.knows(&labels, &metrics);
        let jobs: Vec<Listed> = (0..JOBS)
            .map(|_| running.add(String::new(), labels.clone(), watch::channel(JobView::default()).1))
            .collect();
        let scrape = || {
            let text = String::from_utf8(running.scrape(&metrics).unwrap()).unwrap();
            let is_of_jobs = |line: &&str| line.starts_with("gitlab_runner_jobs{");
            let sum = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap();
            text.lines().filter(is_of_jobs).map(sum).sum::<usize>()
        };
        std::thread::scope(|scope| {
            let scrapers: Vec<_> = (0..4).map(|_| scope.spawn(|| (0..400).all(|_| scrape() == JOBS))).collect();
            assert!(scrapers.into_iter().all(|scraper| scraper.join().unwrap()));
        });
        drop(jobs);
    }

    #[test]
    fn of_a_runner_that_is_gone_only_what_it_has_done_is_left() {
        let (running, metrics) = (Running::default(), Arc::new(Metrics::new().unwrap()));
        let of = |runner: &str| RunnerLabels { runner: runner.into(), name: "one".into(), system_id: "r_1".into() };
        let begin = |runner: &str| {
            let known = running.knows(&of(runner), &metrics);
            metrics.seed(&of(runner), 3, 2);
            let then = Some(jiff::Timestamp::UNIX_EPOCH);
            metrics.show_token_life(&of(runner), then, then);
            let of = of(runner);
            for gauge in [
                &metrics.token_refused,
                &metrics.queue_size,
                &metrics.queue_depth,
                &metrics.pause_pods_desired,
                &metrics.pause_pods_current,
            ] {
                gauge.with_label_values(&crate::metrics::of(&of)).set(1);
            }
            known
        };
        let lines = |runner: &str| {
            let text = String::from_utf8(running.scrape(&metrics).unwrap()).unwrap();
            let of = format!("runner=\"{runner}\"");
            let lines = text.lines().filter(|line| line.contains(&of) && !line.contains("_total{"));
            lines.map(|line| line.split('{').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let (first, again, other) = (begin("old"), begin("old"), begin("new"));
        drop(first);
        assert!(lines("old").contains(&"gantry_runner_token_refused".to_owned()), "it was only started anew");
        let expected = lines("new");
        drop(again);
        assert_eq!((lines("old"), lines("new")), (Vec::new(), expected));
        drop(other);
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_is_listed_as_it_is_now_and_as_long_as_it_runs() {
        let running = Running::default();
        let labels = RunnerLabels { runner: "abc".to_owned(), name: "one".to_owned(), system_id: "r_1".to_owned() };
        let (view, reader) = watch::channel(JobView::default());
        let listed = running.add("https://gitlab.test/a/-/jobs/7".to_owned(), labels, reader);
        view.send_modify(|view| {
            view.created("runner-7");
            view.begin("get_sources".to_owned());
        });
        tokio::time::advance(std::time::Duration::from_secs(90)).await;
        assert_eq!(
            running.list(),
            "url=https://gitlab.test/a/-/jobs/7 state=running stage=get_sources executor_stage= duration=1m30s pod=runner-7\n"
        );
        assert_eq!(running.count(), 1);
        drop(listed);
        assert_eq!((running.list().as_str(), running.count()), ("", 0));
    }
}
