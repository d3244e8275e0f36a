//! Services: waiting until they answer or have ended, and what becomes of a job whose services do
//! not answer.
//!
//! Time counts from the moment at which the manager has seen them started, beside whatever else the
//! job does meanwhile.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use gantry_core::backoff::Backoff;
use gantry_core::{Ending, NoteLevel, go_duration};
use gantry_wire::frame::Phase;
use gantry_wire::services::{EndedService, ServicePlan, ServicesPlan, SilentService, called};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::job::{Ended, Job, Readiness};
use crate::event::Event;
use crate::limits::{CAUSE_OF_DEATH, SERVICE_DIAL, SERVICE_PAUSE, SERVICE_PAUSE_MOST};
use crate::ports::Workshop;
use crate::tasks;

impl Job {
    /// Whether scripts may run. What they wait for is said once.
    pub(super) fn services_are_ready(&mut self) -> bool {
        if !self.plan.wait_for_services {
            return true;
        }
        match &mut self.readiness {
            Readiness::Ready => return true,
            Readiness::Asked { announced: announced @ false, .. } => *announced = true,
            _ => return false,
        }
        let named: Vec<String> = awaited(&self.plan.services).map(|(service, _)| name(service)).collect();
        self.journal.note(NoteLevel::Plain, &format!("Waiting for services to answer: {}", named.join(", ")));
        false
    }

    /// The manager has seen all of them started.
    pub(super) fn ask_services(&mut self) {
        if !matches!(self.readiness, Readiness::Starting) {
            return;
        }
        if awaited(&self.plan.services).next().is_none() {
            self.readiness = Readiness::Ready;
            return;
        }
        let (plan, workshop) = (Arc::clone(&self.plan), Arc::clone(&self.around.workshop));
        let (events, ended) = (self.around.events.clone(), self.ended_services.subscribe());
        let asking = async move {
            let asked = awaited(&plan.services).map(|(service, limit)| {
                let question = Question { workshop: workshop.as_ref(), services: &plan.services, service, limit };
                question.ask(ended.clone())
            });
            let asked = join_all(asked).await;
            let _ = events.send(Event::Services(asked.into_iter().flatten().collect())).await;
        };
        self.readiness = Readiness::Asked { _task: tasks::spawn(asking), announced: false };
    }

    /// A manager has seen the container of a service end.
    pub(super) fn on_service_ended(&self, EndedService { container, how }: EndedService) {
        self.ended_services.send_if_modified(|ended| ended.insert(container, how).is_none());
    }

    /// All have answered, but these.
    pub(super) fn on_services(&mut self, silent: Vec<SilentService>) {
        for service in silent.iter().filter(|service| !service.fatal) {
            self.journal.note(NoteLevel::Warning, &service.message);
        }
        let fatal = silent.iter().find(|service| service.fatal);
        self.readiness = match fatal {
            None => Readiness::Ready,
            Some(SilentService { container, message, .. }) => Readiness::Silent {
                until: Instant::now() + CAUSE_OF_DEATH,
                ending: Ending::ServiceNotReady { service: container.clone(), message: message.clone() },
            },
        };
        self.silent_services = silent;
        self.try_script();
    }

    /// When the agent ends the job for want of a service, if the manager has not.
    pub(super) fn services_given_up_at(&self) -> Option<Instant> {
        match &self.readiness {
            Readiness::Silent { until, .. } if self.phase == Phase::Running => Some(*until),
            _ => None,
        }
    }

    /// Ends a job whose services do not answer. Without a manager nobody can show more.
    pub(super) fn check_services(&mut self) {
        let Readiness::Silent { until, ending } = &self.readiness else { return };
        let nobody_says_more = !self.around.managers.borrow().connected || Instant::now() >= *until;
        if self.phase == Phase::Running && nobody_says_more {
            let ending = ending.clone();
            self.readiness = Readiness::Ready;
            self.stop_all(ending);
        }
    }
}

/// The services that are waited for, and how long each.
fn awaited(services: &ServicesPlan) -> impl Iterator<Item = (&ServicePlan, Duration)> {
    let limit = |service: &ServicePlan| {
        Duration::from_millis(if service.assumed { services.assumed_timeout_ms } else { services.timeout_ms })
    };
    let services = services.list.iter().filter(|service| !service.ports.is_empty());
    services.map(move |service| (service, limit(service))).filter(|(_, limit)| !limit.is_zero())
}

/// One service that is waited for.
struct Question<'a> {
    workshop: &'a dyn Workshop,
    services: &'a ServicesPlan,
    service: &'a ServicePlan,
    limit: Duration,
}

impl Question<'_> {
    /// Waits until the service answers, or has ended; what is to be said if it does not answer.
    async fn ask(self, mut ended: watch::Receiver<Ended>) -> Option<SilentService> {
        let Self { workshop, service, limit, .. } = self;
        let until = Instant::now() + limit;
        let mut silent = service.ports.clone();
        let mut backoff = Backoff::new(SERVICE_PAUSE, SERVICE_PAUSE_MOST);
        loop {
            let asked = silent.iter().map(|port| timeout(SERVICE_DIAL, workshop.answers(*port)));
            if let Ok(answers) = timeout_at(until, join_all(asked)).await {
                let mut answers = answers.into_iter().map(|answer| answer.unwrap_or(false));
                silent.retain(|_| !answers.next().unwrap_or(false));
            }
            let is_ready = if service.assumed { silent.len() < service.ports.len() } else { silent.is_empty() };
            if is_ready {
                return None;
            }
            {
                let ended = ended.borrow();
                if let Some(how) = ended.get(&service.container) {
                    return self.ended(silent, how, &ended);
                }
            }
            let pause = backoff.next_pause();
            if Instant::now() + pause >= until {
                return Some(self.silent(silent));
            }
            let news = async { ended.wait_for(|ended| ended.contains_key(&service.container)).await.is_ok() };
            tokio::select! {
                true = news => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// It has not answered on these ports, and its time is over.
    fn silent(&self, ports: Vec<u16>) -> SilentService {
        let (service, within) = (self.service, go_duration::format(self.limit));
        let message = if service.assumed {
            format!(
                "service {} has not answered within {within} on a port that no variable of its own names, and the job goes on without that: if \
                 it listens elsewhere, say where by HEALTHCHECK_TCP_PORT in the variables of the service",
                name(service)
            )
        } else {
            format!(
                "service {} has not answered within {within} (wait_for_services_timeout): look at its log, and at HEALTHCHECK_TCP_PORT",
                name(&ServicePlan { ports, ..service.clone() })
            )
        };
        SilentService { container: service.container.clone(), message, fatal: !service.assumed }
    }

    /// It has ended before it answered on these ports. Of ports that no variable of its own names
    /// the job makes what it can; a port that another one has too may be that of the other, which
    /// is waited for by itself.
    fn ended(&self, mut ports: Vec<u16>, how: &str, ended: &Ended) -> Option<SilentService> {
        let living = |port: &u16| {
            let others = self.services.list.iter().filter(|other| !ended.contains_key(&other.container));
            others.flat_map(|other| &other.ports).any(|other| other == port)
        };
        ports.retain(|port| !living(port));
        if self.service.assumed || ports.is_empty() {
            return None;
        }
        let message = format!(
            "service {} has ended before it answered, {how}: look at its log",
            name(&ServicePlan { ports, ..self.service.clone() })
        );
        Some(SilentService { container: self.service.container.clone(), message, fatal: true })
    }
}

/// Such as `db (port 5432)` or `redis:7 (container svc-0, port 6379)`.
fn name(service: &ServicePlan) -> String {
    let ports: Vec<String> = service.ports.iter().map(ToString::to_string).collect();
    let (word, between) = match (service.ports.len(), service.assumed) {
        (1, _) => ("port", ""),
        (_, true) => ("port", " or "),
        (_, false) => ("ports", ", "),
    };
    let (name, container) = called(&service.container, &service.image);
    let container = container.map(|container| format!("container {container}, ")).unwrap_or_default();
    format!("{name} ({container}{word} {})", ports.join(between))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::future::BoxFuture;
    use gantry_wire::shim::SecretText;

    use super::*;
    use crate::ports::{Outlet, ScriptSetup, StageTry};

    /// Ports answer from these moments on.
    struct Ports(Vec<(u16, Instant)>);

    impl Workshop for Ports {
        fn perform(&self, _: StageTry, _: Outlet) -> BoxFuture<'static, Result<(), Ending>> {
            std::future::ready(Ok(())).boxed()
        }

        fn prepare(&self, _: ScriptSetup) -> BoxFuture<'static, Result<Vec<(String, SecretText)>, Ending>> {
            std::future::ready(Ok(Vec::new())).boxed()
        }

        fn answers(&self, port: u16) -> BoxFuture<'static, bool> {
            let answers = self.0.iter().any(|(known, from)| *known == port && Instant::now() >= *from);
            std::future::ready(answers).boxed()
        }
    }

    fn service(ports: &[u16], assumed: bool) -> ServicePlan {
        let (container, image) = ("db".into(), "postgres:17".into());
        ServicePlan { container, image, label: String::new(), ports: ports.to_vec(), assumed }
    }

    /// Asks for the first of these services while nothing ends.
    async fn ask(ports: &Ports, services: &[ServicePlan], limit: u64) -> Option<SilentService> {
        let (_ended, watched) = watch::channel(Ended::default());
        ask_watching(ports, services, limit, watched).await
    }

    async fn ask_watching(
        ports: &Ports,
        services: &[ServicePlan],
        limit: u64,
        ended: watch::Receiver<Ended>,
    ) -> Option<SilentService> {
        let plan = ServicesPlan { list: services.to_vec(), ..ServicesPlan::default() };
        let limit = Duration::from_secs(limit);
        Question { workshop: ports, services: &plan, service: &plan.list[0], limit }.ask(ended).await
    }

    #[tokio::test(start_paused = true)]
    async fn all_named_ports_are_waited_for_and_one_assumed_port() {
        let begun = Instant::now();
        let ports = Ports(vec![(1, begun), (2, begun + Duration::from_secs(40))]);
        assert_eq!(ask(&ports, &[service(&[1, 2], true)], 60).await, None);
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert_eq!(ask(&ports, &[service(&[1, 2], false)], 60).await, None);
        assert!(begun.elapsed() >= Duration::from_secs(40));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_answer_is_said_with_its_ports() {
        let ports = Ports(vec![(1, Instant::now())]);
        let silent = ask(&ports, &[service(&[1, 2, 3], false)], 30).await.unwrap();
        assert!(silent.fatal && silent.message.starts_with("service db (ports 2, 3) has not answered within 30s"));
        let silent = ask(&ports, &[service(&[2, 3], true)], 30).await.unwrap();
        assert!(!silent.fatal && silent.message.starts_with("service db (port 2 or 3)"), "{}", silent.message);
        let nameless = ServicePlan { container: "svc-0".into(), ..service(&[2], false) };
        let silent = ask(&ports, &[nameless], 30).await.unwrap();
        assert!(silent.message.starts_with("service postgres:17 (container svc-0, port 2)"), "{}", silent.message);
    }

    /// A service that has ended is not waited for; what it would have said then depends on who has
    /// named its ports, and for whom.
    #[tokio::test(start_paused = true)]
    async fn a_dead_service_ends_its_wait_at_once() {
        let begun = Instant::now();
        let nobody = Ports(Vec::new());
        let after_two_seconds = |how: &str| {
            let (ended, watched) = watch::channel(Ended::default());
            let how = how.to_owned();
            let dies = async move {
                sleep(Duration::from_secs(2)).await;
                ended.send_modify(|ended| drop(ended.insert("db".into(), how)));
                ended
            };
            (dies, watched)
        };
        let (dies, watched) = after_two_seconds("exit code 7, reason Error");
        let list = [service(&[1], false)];
        let (silent, _ended) = tokio::join!(ask_watching(&nobody, &list, 600, watched), dies);
        let SilentService { message, fatal, .. } = silent.unwrap();
        assert!(fatal && begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        assert_eq!(
            message,
            "service db (port 1) has ended before it answered, exit code 7, reason Error: look at its log"
        );
        // The job goes on without what was only assumed, and the other service's port is waited for
        // there.
        let other = ServicePlan { container: "web".into(), ..service(&[1], false) };
        for list in [vec![service(&[1], true)], vec![service(&[1], false), other]] {
            let (dies, watched) = after_two_seconds("exit code 0");
            let (silent, _ended) = tokio::join!(ask_watching(&nobody, &list, 600, watched), dies);
            assert_eq!(silent, None, "{list:?}");
        }
        assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    }
}
