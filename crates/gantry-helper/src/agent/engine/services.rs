//! Services: waiting until they answer, and what becomes of a job whose services do not.
//!
//! Time counts from the moment at which the manager has seen them started, beside whatever else the job does meanwhile.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use gantry_core::{Ending, go_duration};
use gantry_wire::frame::{NoteLevel, Phase};
use gantry_wire::services::{ServicePlan, ServicesPlan, SilentService};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::job::{Job, Readiness};
use crate::agent::event::Event;
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
            Readiness::Asked { told: told @ false, .. } => *told = true,
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
        let events = self.around.events.clone();
        let asking = async move {
            let services = awaited(&plan.services);
            let asked = join_all(services.map(|(service, limit)| ask(workshop.as_ref(), service, limit))).await;
            let _ = events.send(Event::Services(asked.into_iter().flatten().collect())).await;
        };
        self.readiness = Readiness::Asked { _task: tasks::spawn(asking), told: false };
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

/// Waits until a service answers; what is to be said if it does not.
async fn ask(workshop: &dyn Workshop, service: &ServicePlan, limit: Duration) -> Option<SilentService> {
    let until = Instant::now() + limit;
    let mut silent = service.ports.clone();
    let mut pause = SERVICE_PAUSE;
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
        if Instant::now() + pause >= until {
            break;
        }
        sleep(pause).await;
        pause = (pause * 2).min(SERVICE_PAUSE_MOST);
    }
    let (container, within) = (service.container.clone(), go_duration::format(limit));
    let message = if service.assumed {
        format!(
            "service {} has not answered within {within} on a port that its image is known for, and the job goes on without that: if it \
             listens elsewhere, say where by HEALTHCHECK_TCP_PORT in the variables of the service",
            name(service)
        )
    } else {
        format!(
            "service {} has not answered within {within} (wait_for_services_timeout): look at its log, and at HEALTHCHECK_TCP_PORT",
            name(&ServicePlan { ports: silent, ..service.clone() })
        )
    };
    Some(SilentService { container, message, fatal: !service.assumed })
}

/// Such as `db (port 5432)`.
fn name(service: &ServicePlan) -> String {
    let ports: Vec<String> = service.ports.iter().map(ToString::to_string).collect();
    let (word, between) = match (service.ports.len(), service.assumed) {
        (1, _) => ("port", ""),
        (_, true) => ("port", " or "),
        (_, false) => ("ports", ", "),
    };
    format!("{} ({word} {})", service.container, ports.join(between))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::future::BoxFuture;
    use gantry_wire::shim::SecretText;

    use super::*;
    use crate::ports::{Handover, Outlet, StageTry};

    /// Ports answer from these moments on.
    struct Ports(Vec<(u16, Instant)>);

    impl Workshop for Ports {
        fn perform(&self, _: StageTry, _: Outlet) -> BoxFuture<'static, Result<(), Ending>> {
            std::future::ready(Ok(())).boxed()
        }

        fn prepare(&self, _: Handover) -> BoxFuture<'static, Result<Vec<(String, SecretText)>, Ending>> {
            std::future::ready(Ok(Vec::new())).boxed()
        }

        fn answers(&self, port: u16) -> BoxFuture<'static, bool> {
            let answers = self.0.iter().any(|(known, from)| *known == port && Instant::now() >= *from);
            std::future::ready(answers).boxed()
        }
    }

    fn service(ports: &[u16], assumed: bool) -> ServicePlan {
        ServicePlan { container: "db".into(), label: String::new(), ports: ports.to_vec(), assumed }
    }

    #[tokio::test(start_paused = true)]
    async fn all_named_ports_are_waited_for_and_one_assumed_port() {
        let begun = Instant::now();
        let ports = Ports(vec![(1, begun), (2, begun + Duration::from_secs(40))]);
        let limit = Duration::from_secs(60);
        assert_eq!(ask(&ports, &service(&[1, 2], true), limit).await, None);
        assert!(begun.elapsed() < Duration::from_secs(1));
        assert_eq!(ask(&ports, &service(&[1, 2], false), limit).await, None);
        assert!(begun.elapsed() >= Duration::from_secs(40));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_answer_is_said_with_its_ports() {
        let ports = Ports(vec![(1, Instant::now())]);
        let limit = Duration::from_secs(30);
        let silent = ask(&ports, &service(&[1, 2, 3], false), limit).await.unwrap();
        assert!(silent.fatal && silent.message.starts_with("service db (ports 2, 3) has not answered within 30s"));
        let silent = ask(&ports, &service(&[2, 3], true), limit).await.unwrap();
        assert!(!silent.fatal && silent.message.starts_with("service db (port 2 or 3)"), "{}", silent.message);
    }
}
