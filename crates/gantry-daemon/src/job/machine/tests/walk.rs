//! Every order of events in a small world, with the machine as it is: one job, the manager that
//! took it, one that may find its pod, the agent in it and GitLab. The first manager may be killed,
//! frozen and thawed, told to leave, or cut off; the pod may die. What must hold is said in
//! docs/ARCHITECTURE.md under "Acceptance and adoption".
//!
//! Managers are the real [`Machine`]; agent and GitLab are their rules, written down once more in
//! few words.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use gantry_gitlab::RemoteStatus;
use gantry_kube::PodState;
use gantry_kube::facts::{self, ContainerEnd, ContainerFacts, ContainerState, PodFacts};
use gantry_relay::{AckOutcome, GitlabStatus, GoneReason, RelayEnd};
use gantry_wire::frame::Phase;
use gantry_wire::layout::{BUILD, HELPER};

use super::super::*;
use super::terms;
use crate::job::events::JobTime;

/// The manager that took the job, and the one that finds it.
const TAKER: usize = 0;
const FINDER: usize = 1;

/// What is on its way, and may arrive at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Under {
    Create,
    Connect,
    Greet,
    Plan,
    Go,
    /// What the agent has to say to its manager: that it runs, and how it ended.
    Word,
    /// Word that a connection is over.
    Lost,
    Acknowledge,
    Ask,
    Deliver,
    Reported,
    Delete,
    /// What the watch shows.
    PodState,
}

/// Who says how the job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Agent,
    Manager,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    /// The job is handed out, and waits for its acknowledgement.
    Waiting,
    /// It was taken back into the queue.
    TakenBack,
    Running,
    Over(By),
}

#[derive(Clone, Debug)]
struct Manager {
    machine: Machine,
    under: BTreeSet<Under>,
    timers: BTreeSet<Timer>,
    lives: bool,
    frozen: bool,
    linked: bool,
    relays: bool,
    verdict: Option<By>,
    end: Option<JobEnd>,
}

#[derive(Clone, Debug)]
struct World {
    managers: Vec<Manager>,
    pod: bool,
    /// There is a pod now, or there was one.
    had_pod: bool,
    /// The agent runs; one whose pod is gone, or that has reported, does not.
    agent: bool,
    phase: Phase,
    holder: Option<usize>,
    reported: bool,
    starts: u32,
    server: Server,
    /// What may still happen to this world, once each.
    misfortunes: BTreeSet<Misfortune>,
    /// The pod has died by itself, so that a manager may say so.
    died: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Misfortune {
    Kill,
    Freeze,
    Leave,
    Cut,
    PodDies,
}

impl Manager {
    fn new((machine, effects): (Machine, Vec<Effect>)) -> Self {
        let mut manager = Self {
            machine,
            under: BTreeSet::new(),
            timers: BTreeSet::new(),
            lives: true,
            frozen: false,
            linked: false,
            relays: false,
            verdict: None,
            end: None,
        };
        for effect in effects {
            manager.perform(effect);
        }
        manager
    }

    /// Whether it does anything at this moment.
    fn acts(&self) -> bool {
        self.lives && !self.frozen && self.end.is_none()
    }

    fn perform(&mut self, effect: Effect) {
        let under = match effect {
            Effect::CreatePod => Under::Create,
            Effect::Connect { .. } => Under::Connect,
            Effect::Greet => Under::Greet,
            Effect::SendPlan => Under::Plan,
            Effect::SendGo => Under::Go,
            Effect::Acknowledge => Under::Acknowledge,
            Effect::AskGitlab => Under::Ask,
            Effect::SendReported => Under::Reported,
            Effect::DeletePod => Under::Delete,
            Effect::StartRelay => {
                self.relays = true;
                return self.deliver();
            }
            Effect::CloseFromAgent => {
                self.verdict = Some(By::Agent);
                return self.deliver();
            }
            Effect::EndLocally { .. } => {
                self.verdict = Some(By::Manager);
                self.linked = false;
                return self.deliver();
            }
            Effect::Arm(timer, _) => {
                if FAIR.contains(&timer) {
                    self.timers.insert(timer);
                }
                return;
            }
            Effect::Disarm(timer) => {
                self.timers.remove(&timer);
                return;
            }
            Effect::Done(end) => {
                self.end = Some(end);
                self.linked = false;
                return self.under.clear();
            }
            // Nothing here is canceled, and what is shown to people changes nothing.
            _ => return,
        };
        self.under.insert(under);
    }

    fn deliver(&mut self) {
        if self.relays && self.verdict.is_some() {
            self.under.insert(Under::Deliver);
        }
    }

    fn step(&mut self, event: Event) {
        let effects = self.machine.step(event);
        for effect in effects {
            self.perform(effect);
        }
    }
}

impl World {
    fn new(misfortunes: &[Misfortune]) -> Self {
        Self {
            managers: vec![Manager::new(Machine::taken(terms()))],
            pod: false,
            had_pod: false,
            agent: false,
            phase: Phase::Waiting,
            holder: None,
            reported: false,
            starts: 0,
            server: Server::Waiting,
            misfortunes: misfortunes.iter().copied().collect(),
            died: false,
        }
    }

    /// What the cluster shows of the pod.
    fn pod_state(&self) -> PodState {
        if !self.pod {
            return PodState::Gone(None);
        }
        let end = |code| {
            ContainerState::Terminated(ContainerEnd {
                exit_code: code,
                reason: "Error".into(),
                ..ContainerEnd::default()
            })
        };
        let (helper, build) = match (self.agent, self.reported) {
            (true, _) => (ContainerState::Running, ContainerState::Running),
            (false, true) => (end(0), end(0)),
            (false, false) => (end(137), end(137)),
        };
        let container = |name: &str, state| ContainerFacts { name: name.into(), state, ..ContainerFacts::default() };
        PodState::Present(Arc::new(PodFacts {
            name: "p".into(),
            node: Some("n".into()),
            phase: facts::Phase::Running,
            containers: vec![container(HELPER, helper), container(BUILD, build)],
            ..PodFacts::default()
        }))
    }

    /// Every world that may be the next, with what leads there.
    fn successors(&self) -> Vec<(String, World)> {
        let mut all = Vec::new();
        for (who, manager) in self.managers.iter().enumerate().filter(|(_, manager)| manager.acts()) {
            for under in &manager.under {
                let mut next = self.clone();
                next.managers[who].under.remove(under);
                next.arrives(who, *under);
                all.push((format!("{who}: {under:?}"), next));
            }
            for timer in &manager.timers {
                let mut next = self.clone();
                next.managers[who].timers.remove(timer);
                next.managers[who].step(Event::Time(*timer));
                all.push((format!("{who}: {timer:?} is over"), next));
            }
        }
        all.extend(self.by_themselves());
        all.extend(self.misfortunes.iter().filter_map(|misfortune| {
            let mut next = self.clone();
            next.misfortunes.remove(misfortune);
            next.strikes(*misfortune).then(|| (format!("{misfortune:?}"), next))
        }));
        all
    }

    /// What agent, GitLab and the one who looks for pods without managers do by themselves.
    fn by_themselves(&self) -> Vec<(String, World)> {
        let mut all = Vec::new();
        let mut may = |is_so: bool, what: &str, change: &dyn Fn(&mut World)| {
            if is_so {
                let mut next = self.clone();
                change(&mut next);
                all.push((what.to_owned(), next));
            }
        };
        let is_alone = !self.managers.iter().any(|manager| manager.linked);
        let nobody_asks = !self.managers.iter().any(Manager::acts);
        may(self.agent && self.phase == Phase::Running, "the job ends", &|next| {
            next.phase = Phase::Closed;
            next.speak();
        });
        may(self.agent && self.phase == Phase::Closed && is_alone && self.starts > 0, "the agent reports", &|next| {
            next.tell(By::Agent);
            next.leave();
        });
        // Of a job with a pod the next manager says so sooner.
        may(self.server == Server::Waiting && nobody_asks && !self.had_pod, "GitLab takes the job back", &|next| {
            next.server = Server::TakenBack;
        });
        let asked = self.managers[TAKER].under.contains(&Under::Create) && !self.managers[TAKER].lives;
        may(asked, "a pod comes that was asked for by a manager that is dead", &|next| {
            next.managers[TAKER].under.remove(&Under::Create);
            (next.pod, next.had_pod, next.agent) = (true, true, true);
        });
        // A job that was acknowledged while its pod could not be made is known to nobody when its
        // manager goes then.
        let nobody_lives = !self.managers.iter().any(|manager| manager.lives && manager.end.is_none());
        may(self.server == Server::Running && nobody_lives && !self.had_pod, "GitLab gives up", &|next| {
            next.server = Server::Over(By::Manager);
        });
        // Whoever leaves a pod to another manager looks at it again later.
        let is_looked_for = self.managers.get(FINDER).is_none_or(|finder| finder.end == Some(JobEnd::Owned));
        may(self.pod && is_looked_for && !self.managers[TAKER].acts(), "the pod is found", &|next| {
            let mut finder = Manager::new((Machine::adopted(terms()), Vec::new()));
            finder.under.insert(Under::PodState);
            next.managers.truncate(FINDER);
            next.managers.push(finder);
        });
        may(self.managers[TAKER].frozen, "the first manager goes on", &|next| next.managers[TAKER].frozen = false);
        all
    }

    fn strikes(&mut self, misfortune: Misfortune) -> bool {
        let can = match misfortune {
            Misfortune::PodDies => self.agent,
            Misfortune::Cut => self.managers.iter().any(|manager| manager.linked),
            _ => self.managers[TAKER].acts(),
        };
        match misfortune {
            _ if !can => {}
            Misfortune::Kill => {
                let taker = &mut self.managers[TAKER];
                (taker.lives, taker.linked) = (false, false);
            }
            Misfortune::Freeze => self.managers[TAKER].frozen = true,
            Misfortune::Leave => self.managers[TAKER].step(Event::Leave),
            Misfortune::Cut => self.cut(|_| true),
            Misfortune::PodDies => {
                (self.agent, self.died) = (false, true);
                self.cut(|_| true);
                self.look();
            }
        }
        can
    }

    /// The connections of some managers end.
    fn cut(&mut self, whose: impl Fn(usize) -> bool) {
        for (_, manager) in self.managers.iter_mut().enumerate().filter(|(who, manager)| manager.linked && whose(*who))
        {
            manager.linked = false;
            manager.under.insert(Under::Lost);
        }
    }

    /// All watches show the pod again.
    fn look(&mut self) {
        for manager in &mut self.managers {
            manager.under.insert(Under::PodState);
        }
    }

    /// The agent has something to say.
    fn speak(&mut self) {
        for manager in self.managers.iter_mut().filter(|manager| manager.linked) {
            manager.under.insert(Under::Word);
        }
    }

    /// The agent is done.
    fn leave(&mut self) {
        (self.reported, self.agent) = (true, false);
        self.cut(|_| true);
        self.look();
    }

    /// A final state reaches GitLab: the first one counts.
    fn tell(&mut self, by: By) {
        if self.server == Server::Running {
            assert!(
                by == By::Agent || self.died || !self.agent || self.starts == 0,
                "a manager ends a job whose agent lives: {self:?}"
            );
            self.server = Server::Over(by);
        }
    }

    fn arrives(&mut self, who: usize, under: Under) {
        match under {
            Under::Create => {
                (self.pod, self.had_pod, self.agent) = (true, true, true);
                self.managers[who].step(Event::PodCreated);
            }
            Under::Connect => {
                let event =
                    if self.agent { Event::AgentMet(self.phase) } else { Event::AgentUnreachable(self.death()) };
                self.managers[who].step(event);
            }
            Under::Greet => self.claimed(who),
            Under::Plan | Under::Go | Under::Reported | Under::Word => self.over_link(who, under),
            Under::Lost => self.managers[who].step(Event::AgentLost),
            Under::Acknowledge => {
                if self.server == Server::Waiting {
                    self.server = Server::Running;
                }
                let outcome = self.gone().map_or(AckOutcome::Running, AckOutcome::Gone);
                self.managers[who].step(Event::Acknowledged(outcome));
            }
            Under::Ask => {
                let status = match self.gone() {
                    Some(reason) => GitlabStatus::Gone(reason),
                    None if self.server == Server::Waiting => GitlabStatus::Waiting,
                    None => GitlabStatus::Running,
                };
                self.managers[who].step(Event::GitlabStatus(status));
            }
            Under::Deliver => {
                self.tell(self.managers[who].verdict.expect("a verdict"));
                self.managers[who].step(Event::RelayEnded(RelayEnd::Delivered));
            }
            Under::Delete => {
                let is_needed = who == TAKER || self.starts > 0;
                let waits = self.server == Server::Running;
                assert!(!(is_needed && waits), "a pod is deleted while GitLab waits for its job's end: {self:?}");
                (self.pod, self.agent) = (false, false);
                self.cut(|_| true);
                self.managers[who].step(Event::PodDeleted);
                self.look();
            }
            Under::PodState => {
                let pod_state = self.pod_state();
                self.managers[who].step(Event::PodSeen(pod_state));
            }
        }
    }

    /// What went over a connection that may have ended since.
    fn over_link(&mut self, who: usize, under: Under) {
        if !self.managers[who].linked || !self.agent {
            return;
        }
        assert_eq!(self.holder, Some(who), "whoever is not in charge is heard");
        match under {
            Under::Plan if self.phase == Phase::Waiting => {
                self.phase = Phase::Planned;
                self.managers[who].step(Event::PlanAccepted);
            }
            Under::Go if self.phase == Phase::Planned => {
                assert_eq!(self.server, Server::Running, "a job begins that GitLab does not show as running: {self:?}");
                self.phase = Phase::Running;
                self.starts += 1;
                self.speak();
            }
            Under::Word => {
                if self.phase == Phase::Running {
                    self.managers[who].step(Event::AgentRuns);
                }
                if self.phase == Phase::Closed {
                    self.managers[who].step(Event::AgentClosed);
                }
            }
            Under::Reported if self.phase == Phase::Closed => self.leave(),
            _ => {}
        }
    }

    /// The agent decides on a claim. Whether the one in charge is silent is not known here, but
    /// only one that does nothing can be.
    fn claimed(&mut self, who: usize) {
        if !self.agent {
            return self.managers[who].step(Event::AgentLost);
        }
        let other = self.managers.iter().enumerate().find(|(number, _)| *number != who);
        let other_speaks = other.is_some_and(|(_, other)| other.acts() && other.linked);
        let taker_may_come = self.holder.is_none() && self.managers[TAKER].acts();
        let is_granted = match (who, self.holder) {
            (_, Some(holder)) if holder == who => true,
            (TAKER, None) => true,
            (TAKER, Some(_)) => return self.managers[who].step(Event::AgentOwned),
            _ => !other_speaks && !taker_may_come,
        };
        if !is_granted {
            return self.managers[who].step(Event::AgentBusy(Duration::from_secs(3)));
        }
        self.cut(|number| number != who);
        self.holder = Some(who);
        self.managers[who].linked = true;
        let time = (who == FINDER && self.phase != Phase::Waiting)
            .then_some(JobTime { timeout: Duration::from_secs(3600), left: Duration::from_secs(3000) });
        self.managers[who].step(Event::AgentReady { phase: self.phase, time });
        self.speak();
    }

    /// Why GitLab wants nothing more about the job, if so.
    fn gone(&self) -> Option<GoneReason> {
        match self.server {
            Server::TakenBack => Some(GoneReason::TakenBack),
            Server::Over(_) => Some(GoneReason::Over(RemoteStatus::Failed)),
            _ => None,
        }
    }

    fn death(&self) -> Ending {
        let died = |exit_code| Ending::ContainerDied {
            container: HELPER.into(),
            exit_code,
            reason: "Error".into(),
            entrypoint: None,
        };
        match (self.pod, self.reported) {
            (false, _) => Ending::PodDeleted { pod: "p".into() },
            (true, true) => died(0),
            (true, false) => died(137),
        }
    }

    /// Nothing is left to do: GitLab knows how the job ended, or has it back; and no pod is left
    /// that nobody removes.
    fn is_settled(&self) -> bool {
        matches!(self.server, Server::Over(_) | Server::TakenBack) && !self.pod
    }
}

/// Timers that may run out at any time. The others mean that something takes too long, which is not
/// what is looked at here.
const FAIR: [Timer; 6] = [Timer::Slow, Timer::Find, Timer::Claim, Timer::Drain, Timer::HandOver, Timer::Leave];

/// More worlds than there are would be a mistake in the walk.
const MOST: usize = 400_000;

/// Visits every world that these misfortunes can lead to, and gives their number. From each a
/// settled one can be reached.
fn walk(misfortunes: &[Misfortune]) -> usize {
    let first = World::new(misfortunes);
    let key = |world: &World| {
        let mut hasher = DefaultHasher::new();
        format!("{world:?}").hash(&mut hasher);
        hasher.finish()
    };
    let mut numbers = HashMap::from([(key(&first), 0_usize)]);
    let mut came_from: Vec<Vec<usize>> = vec![Vec::new()];
    let mut ways: Vec<String> = vec![String::new()];
    let mut settled = Vec::new();
    let mut open = VecDeque::from([(0_usize, first)]);
    while let Some((number, world)) = open.pop_front() {
        if world.is_settled() {
            settled.push(number);
        }
        assert!(world.starts <= 1, "it begins twice: {world:?}");
        assert!(world.managers.iter().filter(|manager| manager.linked).count() <= 1, "two relays: {world:?}");
        for (what, next) in world.successors() {
            let fresh = numbers.len();
            let reached = *numbers.entry(key(&next)).or_insert(fresh);
            if reached == fresh {
                came_from.push(Vec::new());
                ways.push(format!("{}\n  {what}", ways[number]));
                open.push_back((fresh, next));
                assert!(fresh < MOST, "there is no end of worlds:{}", ways[fresh]);
            }
            came_from[reached].push(number);
        }
    }
    let mut good: HashSet<usize> = settled.iter().copied().collect();
    let mut from: VecDeque<usize> = settled.into();
    while let Some(number) = from.pop_front() {
        for before in &came_from[number] {
            if good.insert(*before) {
                from.push_back(*before);
            }
        }
    }
    let lost = (0..came_from.len()).find(|number| !good.contains(number));
    assert!(lost.is_none(), "nothing good comes of this any more:{}", ways[lost.unwrap_or(0)]);
    came_from.len()
}

#[test]
fn a_job_begins_once_and_has_one_relay_and_one_end_whatever_happens_to_its_manager() {
    use Misfortune::{Cut, Freeze, Kill, Leave, PodDies};
    for misfortunes in [&[][..], &[Cut], &[Kill, Cut], &[Freeze], &[Leave, Kill], &[PodDies, Kill]] {
        let worlds = walk(misfortunes);
        assert!(worlds > 40, "{misfortunes:?}: only {worlds} worlds");
    }
}
