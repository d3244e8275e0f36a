//! What services do to a job's life: one that has ended is news, one that does not answer may end
//! the job. Both are said with the end of the service's log, where that may be read.

use std::collections::{BTreeMap, BTreeSet};

use gantry_core::Ending;
use gantry_kube::facts::{ContainerState, PodFacts};
use gantry_kube::{ApiError, Fault};
use gantry_plan::HeadLine;
use gantry_wire::services::{self, EndedService, SilentService};

use super::{Effect, Machine};
use crate::job::events::ServiceNews;

/// What is known of the services of a job, and what was said of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Services {
    ended: BTreeMap<String, EndedService>,
    /// Those of which the agent says that they do not answer.
    silent: BTreeSet<String>,
    logs: BTreeMap<String, Log>,
}

/// How far it is with showing the end of a log.
#[derive(Clone, Debug)]
enum Log {
    /// It was asked for; the job ends this way once it is shown.
    Asked { then: Option<Ending> },
    /// It is shown, as far as it could be.
    Shown,
}

/// A service whose container has ended, and the line about that.
pub(super) struct Death {
    pub(super) service: EndedService,
    line: HeadLine,
}

impl Services {
    /// Takes a death; whether it is news.
    pub(super) fn take(&mut self, death: &Death) -> bool {
        let service = death.service.clone();
        self.ended.insert(service.container.clone(), service).is_none()
    }

    /// Those that have ended.
    pub(super) fn ended(&self) -> impl Iterator<Item = &EndedService> {
        self.ended.values()
    }

    /// Has the end of the service's log shown with the news of its death. A log that was asked for
    /// already is not asked for again, which would forget how the job ends once it is shown.
    pub(super) fn show(&mut self, death: Death, out: &mut Vec<Effect>) {
        let Death { service, line } = death;
        if let Some(Log::Asked { .. }) = self.logs.get(&service.container) {
            out.push(Effect::ShowNotes(vec![line]));
            return;
        }
        self.ask(ServiceNews { container: service.container, line }, None, out);
    }

    fn ask(&mut self, news: ServiceNews, then: Option<Ending>, out: &mut Vec<Effect>) {
        self.logs.insert(news.container.clone(), Log::Asked { then });
        out.push(Effect::AskLog(news));
    }
}

/// How a service has ended that should have gone on; nothing if it runs, or goes because the pod
/// does.
pub(super) fn death(facts: &PodFacts, service: &str) -> Option<Death> {
    let container = facts.container(service).filter(|_| facts.deletion.is_none() && !facts.phase.is_over())?;
    let ContainerState::Terminated(end) = &container.state else { return None };
    // What could not be started ends the job, with its cause.
    if end.never_ran() {
        return None;
    }
    let reason = if end.reason.is_empty() { String::new() } else { format!(", reason {}", end.reason) };
    let how = format!("exit code {}{reason}", end.exit_code);
    let name = services::shown(service, &container.image);
    let text = format!("Service {name} has ended while the job ran: {how}");
    // One that ends well may be meant to.
    let line = if end.exit_code == 0 && !end.is_oom() { HeadLine::plain(text) } else { HeadLine::warning(text) };
    Some(Death { service: EndedService { container: service.to_owned(), how }, line })
}

/// The lines about it, in which what it has printed is told apart.
fn shown(namespace: &str, (name, line): (&str, &HeadLine), log: Result<Vec<String>, ApiError>) -> Vec<HeadLine> {
    let with = |text: &str| HeadLine { level: line.level, text: format!("{}; {text}", line.text) };
    match log {
        Ok(lines) if lines.is_empty() => vec![with("its log is empty")],
        Ok(lines) => {
            let lines: Vec<String> = lines.iter().map(|line| format!("[service:{name}] {line}")).collect();
            vec![with("the end of its log:"), HeadLine::plain(lines.join("\n"))]
        }
        Err(error) if error.fault == Fault::Forbidden => vec![with(&format!(
            "the end of its log cannot be shown: the runner's service account has no right to get pods/log in namespace {namespace}"
        ))],
        Err(error) => vec![with(&format!("the end of its log cannot be shown: {error}"))],
    }
}

impl Machine {
    /// The agent says that a service does not answer. The end of its log is shown once: of one that
    /// has ended it may have been already.
    pub(super) fn service_silent(&mut self, silent: SilentService, out: &mut Vec<Effect>) {
        let SilentService { container, message, fatal } = silent;
        if !self.is_handed_over() || !self.pod.services.silent.insert(container.clone()) {
            return;
        }
        let ends = fatal.then(|| Ending::ServiceNotReady { service: container.clone(), message });
        match self.pod.services.logs.get_mut(&container) {
            Some(Log::Asked { then }) => *then = ends,
            Some(Log::Shown) => {
                if let Some(ending) = ends {
                    self.end_job(ending, out);
                }
            }
            None => {
                // That others do not answer is said by the agent.
                let line = HeadLine::plain(format!("Service {} does not answer", self.pod.shown_service(&container)));
                self.pod.services.ask(ServiceNews { container, line }, ends, out);
            }
        }
    }

    /// The end of its log is there, or cannot be had.
    pub(super) fn log_read(&mut self, news: &ServiceNews, log: Result<Vec<String>, ApiError>, out: &mut Vec<Effect>) {
        let was = self.pod.services.logs.insert(news.container.clone(), Log::Shown);
        if !self.is_open() {
            return;
        }
        let name = self.pod.service_name(&news.container);
        out.push(Effect::ShowNotes(shown(&self.terms.namespace, (&name, &news.line), log)));
        if let Some(Log::Asked { then: Some(ending) }) = was {
            self.end_job(ending, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use gantry_kube::facts::{ContainerEnd, ContainerFacts};

    use super::*;

    fn facts(exit_code: i32) -> PodFacts {
        let end = ContainerEnd { exit_code, reason: "Error".into(), ..ContainerEnd::default() };
        let state = ContainerState::Terminated(end);
        let one = |name: &str| ContainerFacts {
            name: name.into(),
            image: "redis:7".into(),
            state: state.clone(),
            ..ContainerFacts::default()
        };
        PodFacts { containers: vec![one("db"), one("svc-0")], ..PodFacts::default() }
    }

    #[test]
    fn the_end_of_a_service_is_said_with_the_end_of_its_log() {
        let line = death(&facts(3), "db").unwrap().line;
        assert!(death(&facts(3), "other").is_none());
        let nameless = death(&facts(0), "svc-0").unwrap();
        assert!(
            nameless.line.text.starts_with("Service redis:7 (container svc-0) has ended"),
            "{}",
            nameless.line.text
        );
        assert_eq!(nameless.service.how, "exit code 0, reason Error");
        let text =
            |log| shown("ci", ("db", &line), log).iter().map(|line| line.text.clone()).collect::<Vec<_>>().join("\n");
        let head = "Service db has ended while the job ran: exit code 3, reason Error; ";
        assert_eq!(
            text(Ok(vec!["a".into(), "b".into()])),
            format!("{head}the end of its log:\n[service:db] a\n[service:db] b")
        );
        assert_eq!(text(Ok(Vec::new())), format!("{head}its log is empty"));
        let refused = ApiError {
            fault: Fault::Forbidden,
            code: 403,
            reason: "Forbidden".into(),
            message: "no".into(),
            retry_after: None,
        };
        assert!(text(Err(refused)).ends_with("has no right to get pods/log in namespace ci"));
    }
}
