//! The sessions that are open: one for each job of this process that GitLab was offered one for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gantry_core::Secret;
use gantry_core::job::{Image, JobSpec};
use gantry_gitlab::SessionOffer;
use gantry_kube::Cluster;
use gantry_wire::session::{JobSession, SessionPort};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::address::ROOT;
use super::certificate::Identity;
use super::random::random;
use crate::notices::{Notice as _, SessionUntrusted, TerminalLingers, TerminalTimedOut};
use crate::redaction::{self, Guard};
use crate::view::JobView;

/// All sessions of this process.
#[derive(Clone)]
pub(crate) struct Sessions {
    shared: Arc<Shared>,
}

struct Shared {
    /// `https://host:port`.
    base: String,
    identity: Identity,
    /// `session_timeout`, in seconds.
    timeout: AtomicU64,
    open: Mutex<BTreeMap<String, Arc<Session>>>,
}

/// What GitLab is offered with a request for a job.
#[derive(Clone)]
pub(crate) struct Offered {
    id: String,
    authority: Secret,
    pub(crate) offer: SessionOffer,
}

/// The job that a session leads to.
pub(crate) struct Target {
    pub(crate) job: i64,
    pub(crate) cluster: Cluster,
    /// Names the pod, once there is one.
    pub(crate) view: watch::Receiver<JobView>,
}

/// One session.
pub(super) struct Session {
    pub(super) target: Target,
    /// Where a shell begins.
    pub(super) directory: String,
    pub(super) ports: Vec<SessionPort>,
    authorization: Secret,
    /// Whether somebody is in the terminal.
    used: watch::Sender<bool>,
    pub(super) ended: CancellationToken,
    pub(super) span: tracing::Span,
    _guard: Arc<Guard>,
}

/// Somebody is in the terminal, for as long as this lives.
pub(super) struct Claim(Arc<Session>);

/// A job's own view of its session; dropping it ends the session.
pub(crate) struct Visits {
    id: String,
    session: Arc<Session>,
    sessions: Sessions,
}

impl Sessions {
    pub(super) fn new(address: &str, identity: Identity, timeout: Duration) -> Self {
        let base = format!("https://{address}");
        let shared = Shared { base, identity, timeout: AtomicU64::new(timeout.as_secs()), open: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// `session_timeout` as it is now.
    pub(crate) fn set_timeout(&self, timeout: Duration) {
        self.shared.timeout.store(timeout.as_secs(), Ordering::Relaxed);
    }

    /// An address of its own for the job that may come; nothing if the machine gives no random
    /// numbers.
    pub(crate) fn offer(&self) -> Option<Offered> {
        let (id, authorization) = (random()?, random()?);
        let url = format!("{}{ROOT}{id}", self.shared.base);
        let Identity { pem, key, .. } = &self.shared.identity;
        let offer = SessionOffer { url, certificate: pem.clone(), authorization: authorization.into() };
        Some(Offered { id, authority: key.clone(), offer })
    }

    /// Opens what GitLab was offered, by this manager or by the one before it.
    pub(crate) fn open(&self, session: JobSession, target: Target) -> Visits {
        let JobSession { id, authorization, directory, ports, authority } = session;
        if let Err(error) = self.shared.identity.vouched_by(&authority) {
            SessionUntrusted(error.as_ref()).say();
        }
        let guard = redaction::guard(Some(target.job), [&authorization]);
        let session = Arc::new(Session {
            target,
            directory,
            ports,
            authorization,
            used: watch::Sender::new(false),
            ended: CancellationToken::new(),
            span: tracing::Span::current(),
            _guard: guard,
        });
        self.lock().insert(id.clone(), Arc::clone(&session));
        Visits { id, session, sessions: self.clone() }
    }

    /// How their server shows itself.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.shared.identity.acceptor()
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.lock().get(id).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Session>>> {
        self.shared.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Offered {
    /// What a manager needs to open it for this job. Where a shell begins is still to be said.
    pub(crate) fn session(&self, job: &JobSpec) -> JobSession {
        let authorization = self.offer.authorization.clone();
        let (id, authority) = (self.id.clone(), self.authority.clone());
        JobSession { id, authorization, directory: String::new(), ports: ports(job), authority }
    }
}

impl Session {
    /// Whether this is the word that opens it: no scheme before it (GitLab Runner 19.4). Takes as
    /// long for any of the same length.
    pub(super) fn admits(&self, authorization: &[u8]) -> bool {
        let wanted = self.authorization.expose().as_bytes();
        let differences = wanted.iter().zip(authorization).fold(0, |sum, (a, b)| sum | (a ^ b));
        wanted.len() == authorization.len() && differences == 0
    }

    /// Enters the terminal, unless somebody is in it.
    pub(super) fn claim(self: &Arc<Self>) -> Option<Claim> {
        self.used.send_if_modified(|used| !std::mem::replace(used, true)).then(|| Claim(Arc::clone(self)))
    }

    /// The pod, once it exists; nothing when there is none within `within`.
    pub(super) async fn pod(&self, within: Duration) -> Option<String> {
        let mut view = self.target.view.clone();
        let found = timeout(within, view.wait_for(|view| !view.pod.is_empty())).await.ok()?.ok()?;
        Some(found.pod.clone())
    }
}

impl Claim {
    pub(super) fn session(&self) -> &Session {
        &self.0
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.used.send_replace(false);
    }
}

impl Visits {
    /// Whether somebody is in the terminal.
    pub(crate) fn are_there(&self) -> bool {
        *self.session.used.borrow() && !self.session.ended.is_cancelled()
    }

    /// Waits until nobody is in the terminal, but no longer than `session_timeout` and `most`; then
    /// whoever is there has to leave.
    pub(crate) fn over(&self, most: Duration) -> impl Future<Output = ()> + Send + 'static {
        let limit = most.min(Duration::from_secs(self.sessions.shared.timeout.load(Ordering::Relaxed)));
        let session = Arc::clone(&self.session);
        async move {
            let mut used = session.used.subscribe();
            TerminalLingers(limit).say();
            let left = async {
                let _ = used.wait_for(|used| !used).await;
            };
            tokio::select! {
                gone = timeout(limit, left) => if gone.is_err() {
                    TerminalTimedOut(limit).say();
                },
                () = session.ended.cancelled() => {}
            }
            session.ended.cancel();
        }
    }

    /// Whoever is in the terminal has to leave.
    pub(crate) fn end(&self) {
        self.session.ended.cancel();
    }
}

impl Drop for Visits {
    fn drop(&mut self) {
        let mut sessions = self.sessions.lock();
        // Another try to adopt the job may have opened it anew.
        if sessions.get(&self.id).is_some_and(|session| Arc::ptr_eq(session, &self.session)) {
            sessions.remove(&self.id);
        }
        drop(sessions);
        self.session.ended.cancel();
    }
}

/// The ports of a job's containers, with the names that people use for them (GitLab Runner 19.4:
/// the build container is `build` where it has no alias, a service without one `proxy-` and the
/// name of its container).
fn ports(job: &JobSpec) -> Vec<SessionPort> {
    let build = std::iter::once((&job.image, "build".to_owned()));
    let services = job.services.iter().enumerate().map(|(index, image)| (image, format!("proxy-svc-{index}")));
    build.chain(services).flat_map(|(image, usual)| of_image(image, &usual)).collect()
}

fn of_image(image: &Image, usual: &str) -> Vec<SessionPort> {
    let aliases = image.aliases.split([' ', ',']).filter(|alias| !alias.is_empty());
    let mut services: Vec<String> = aliases.map(str::to_owned).collect();
    if services.is_empty() {
        services.push(usual.to_owned());
    }
    let ports = image.ports.iter().filter_map(|port| {
        let number = u16::try_from(port.number).ok()?;
        let protocol = port.protocol.clone();
        Some(SessionPort { services: services.clone(), number, name: port.name.clone(), protocol })
    });
    ports.collect()
}
