//! What services do to a job's life: one that has ended is news, one that does not answer may end the job. Both are said with the end of the
//! service's log, where that may be read.

use gantry_core::Ending;
use gantry_kube::facts::{ContainerState, PodFacts};
use gantry_kube::{ApiError, Fault};
use gantry_plan::HeadLine;
use gantry_wire::services::SilentService;

use super::{Effect, Machine};
use crate::job::events::ServiceNews;

/// How a service has ended that should have gone on; nothing if it runs, or goes because the pod does.
pub(super) fn death(facts: &PodFacts, service: &str) -> Option<ServiceNews> {
    let container = facts.container(service).filter(|_| facts.deletion.is_none() && !facts.phase.is_over())?;
    let ContainerState::Terminated(end) = &container.state else { return None };
    // What could not be started ends the job, with its cause.
    if end.never_ran() {
        return None;
    }
    let reason = if end.reason.is_empty() { String::new() } else { format!(", reason {}", end.reason) };
    let text = format!("Service {service} has ended while the job ran: exit code {}{reason}", end.exit_code);
    // One that ends well may be meant to.
    let line = if end.exit_code == 0 && !end.is_oom() { HeadLine::plain(text) } else { HeadLine::warning(text) };
    Some(ServiceNews { container: service.to_owned(), line, ends: None })
}

/// The lines about it, in which what it has printed is told apart.
fn shown(namespace: &str, news: &ServiceNews, log: Result<Vec<String>, ApiError>) -> Vec<HeadLine> {
    let ServiceNews { container, line, .. } = news;
    let with = |text: &str| HeadLine { level: line.level, text: format!("{}; {text}", line.text) };
    match log {
        Ok(lines) if lines.is_empty() => vec![with("its log is empty")],
        Ok(lines) => {
            let lines: Vec<String> = lines.iter().map(|line| format!("[service:{container}] {line}")).collect();
            vec![with("the end of its log:"), HeadLine::plain(lines.join("\n"))]
        }
        Err(error) if error.fault == Fault::Forbidden => vec![with(&format!(
            "the end of its log cannot be shown: the runner's service account has no right to get pods/log in namespace {namespace}"
        ))],
        Err(error) => vec![with(&format!("the end of its log cannot be shown: {error}"))],
    }
}

impl Machine {
    /// The agent says that a service does not answer.
    pub(super) fn service_silent(&mut self, silent: SilentService, out: &mut Vec<Effect>) {
        let SilentService { container, message, fatal } = silent;
        if !self.is_handed_over() || !self.pod.is_news_of_service(&format!("silent {container}")) {
            return;
        }
        // That others do not answer is said by the agent.
        let line = HeadLine::plain(format!("Service {container} does not answer"));
        let ends = fatal.then(|| Ending::ServiceNotReady { service: container.clone(), message });
        out.push(Effect::AskLog(ServiceNews { container, line, ends }));
    }

    /// The end of its log is there, or cannot be had.
    pub(super) fn log_read(&mut self, news: ServiceNews, log: Result<Vec<String>, ApiError>, out: &mut Vec<Effect>) {
        if !self.is_open() {
            return;
        }
        out.push(Effect::ShowNotes(shown(&self.terms.namespace, &news, log)));
        if let Some(ending) = news.ends {
            self.doomed(ending, out);
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
        let db = ContainerFacts { name: "db".into(), state, ..ContainerFacts::default() };
        PodFacts { containers: vec![db], ..PodFacts::default() }
    }

    #[test]
    fn the_end_of_a_service_is_said_with_the_end_of_its_log() {
        let news = death(&facts(3), "db").unwrap();
        assert_eq!(death(&facts(3), "other"), None);
        let text = |log| shown("ci", &news, log).iter().map(|line| line.text.clone()).collect::<Vec<_>>().join("\n");
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
