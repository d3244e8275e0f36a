//! Counts the jobs of a single run by what passes between it and GitLab: a request for a job says
//! that none runs, since only one may; the first update of a job says that it was taken. Whoever
//! counts earlier could end the run between GitLab's answer and the job. A runner that cannot begin
//! is noticed here, too.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_core::ClientIdentity;
use gantry_core::error_chain::chain;
use gantry_daemon::{Network, Outside, Signal};
use gantry_gitlab::{Client, ClientError, ClientOptions};
use gantry_http::{Body, ByteStream, HttpTransport, Timeouts, Transport, TransportError};
use gantry_kube::{Access, Cluster, ConnectError, Driver};
use http::{Method, Request, Response};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use url::Url;

/// When a single run ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) jobs: Option<u32>,
    pub(super) wait: Option<Duration>,
}

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    jobs: u32,
    /// Whether GitLab has handed out a job that has not been updated yet.
    is_taking: bool,
    /// Since when no job runs; nothing while one does.
    idle: Option<Instant>,
}

/// The network, counted. There are no metrics.
pub(super) struct Counting {
    counted: Arc<watch::Sender<Counted>>,
    first: First,
}

/// The first connections of the runner. A daemon tries again what does not work, because somebody
/// may mend it; nobody mends the configuration of a single run.
#[derive(Clone)]
struct First(Arc<Mutex<Option<oneshot::Sender<String>>>>);

/// Says why the runner cannot begin, if it cannot.
pub(super) struct Beginning(oneshot::Receiver<String>);

impl Counting {
    pub(super) fn new() -> (Self, watch::Receiver<Counted>, Beginning) {
        let (counted, receiver) = watch::channel(Counted { jobs: 0, is_taking: false, idle: Some(Instant::now()) });
        let (tell, told) = oneshot::channel();
        let first = First(Arc::new(Mutex::new(Some(tell))));
        (Self { counted: Arc::new(counted), first }, receiver, Beginning(told))
    }
}

impl First {
    /// Tells of a failure, unless the runner has begun.
    fn saw<T, E: std::error::Error>(&self, result: &Result<T, E>) {
        let Err(error) = result else { return };
        if let Some(tell) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Nobody listens once the run has ended.
            let _ = tell.send(chain(error));
        }
    }

    /// From here on a failure is that of one job.
    fn is_over(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Beginning {
    /// Ends with the reason if the runner cannot begin, and never otherwise.
    pub(super) async fn failed(self) -> String {
        match self.0.await {
            Ok(why) => why,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Counting {
    fn client(&self, options: ClientOptions) -> Result<Client, ClientError> {
        // What is no URL is explained by the client itself.
        let Ok(base) = Url::parse(&options.url) else { return Client::new(options) };
        let connections = gantry_http::Options {
            ca_pem: options.ca_pem.clone(),
            identity: options.identity.clone(),
            files: options.files.clone(),
            proxy: options.proxy.clone(),
            connection_max_age: options.connection_max_age,
        };
        let inner = HttpTransport::new(&base, connections)?;
        Client::with_transport(options, Arc::new(Counter { inner, counted: Arc::clone(&self.counted) }))
    }
}

impl Outside for Counting {
    fn gitlab(&self, options: ClientOptions) -> Result<Client, ClientError> {
        let client = self.client(options);
        self.first.saw(&client);
        client
    }

    fn cluster(
        &self,
        access: Access,
        namespace: String,
        selector: String,
    ) -> BoxFuture<'static, Result<(Cluster, Driver), ConnectError>> {
        let first = self.first.clone();
        let connecting = Network.cluster(access, namespace, selector);
        async move {
            let connected = connecting.await;
            first.saw(&connected);
            first.is_over();
            connected
        }
        .boxed()
    }

    fn listen(&self, _: Option<String>) -> BoxFuture<'static, Result<Option<TcpListener>, gantry_daemon::BindError>> {
        async { Ok(None) }.boxed()
    }
}

struct Counter {
    inner: HttpTransport,
    counted: Arc<watch::Sender<Counted>>,
}

impl Counter {
    fn sees_request(&self, method: &Method, path: &str) {
        self.counted.send_if_modified(|counted| counted.sees_request(method, path, Instant::now()));
    }
}

impl Counted {
    /// Says whether something has changed.
    fn sees_request(&mut self, method: &Method, path: &str, now: Instant) -> bool {
        let before = *self;
        if method == Method::PUT && self.is_taking {
            self.is_taking = false;
            self.jobs += 1;
        } else if is_for_a_job(method, path) && !self.is_taking {
            self.idle = self.idle.or(Some(now));
        }
        before != *self
    }

    fn sees_job(&mut self) {
        self.is_taking = true;
        self.idle = None;
    }
}

fn is_for_a_job(method: &Method, path: &str) -> bool {
    method == Method::POST && path.ends_with("/jobs/request")
}

impl Transport for Counter {
    fn send(
        &self,
        request: Request<Body>,
        timeouts: Timeouts,
    ) -> BoxFuture<'_, Result<Response<ByteStream>, TransportError>> {
        let is_for_a_job = is_for_a_job(request.method(), request.uri().path());
        self.sees_request(request.method(), request.uri().path());
        async move {
            let answer = self.inner.send(request, timeouts).await?;
            if is_for_a_job && answer.status() == http::StatusCode::CREATED {
                self.counted.send_modify(Counted::sees_job);
            }
            Ok(answer)
        }
        .boxed()
    }

    fn verified_chain_pem(&self) -> Option<String> {
        self.inner.verified_chain_pem()
    }

    fn configured_ca_pem(&self) -> Option<String> {
        self.inner.configured_ca_pem()
    }

    fn client_identity(&self) -> Option<ClientIdentity> {
        self.inner.client_identity()
    }
}

/// Tells the daemon to take no more jobs as soon as a limit is reached.
pub(super) async fn limit(
    mut counted: watch::Receiver<Counted>,
    limits: Limits,
    signals: mpsc::Sender<Signal>,
) -> Infallible {
    loop {
        let now = *counted.borrow_and_update();
        let waited = async {
            match (limits.wait, now.idle) {
                (Some(wait), Some(since)) => tokio::time::sleep_until(since + wait).await,
                _ => std::future::pending().await,
            }
        };
        let reached = if limits.jobs.is_some_and(|jobs| now.jobs >= jobs) {
            Some(format!("jobs taken: {} (--max-builds)", now.jobs))
        } else {
            tokio::select! {
                changed = counted.changed() => match changed {
                    Ok(()) => None,
                    Err(_) => return std::future::pending().await,
                },
                () = waited => {
                    Some(format!("no job for {} s (--wait-timeout)", limits.wait.unwrap_or_default().as_secs()))
                }
            }
        };
        if let Some(reached) = reached {
            tracing::info!("{reached}: the run ends");
            // Closed only when the daemon has ended.
            let _ = signals.send(Signal::Drain).await;
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_job_counts_when_it_is_updated() {
        let start = Instant::now();
        let mut counted = Counted { jobs: 0, is_taking: false, idle: Some(start) };
        let ask = |counted: &mut Counted| counted.sees_request(&Method::POST, "/api/v4/jobs/request", start);
        assert!(!ask(&mut counted));
        counted.sees_job();
        assert_eq!((counted.jobs, counted.idle), (0, None));
        assert!(counted.sees_request(&Method::PUT, "/api/v4/jobs/1", start));
        assert!(!counted.sees_request(&Method::PUT, "/api/v4/jobs/1", start), "its second update");
        assert_eq!((counted.jobs, counted.idle), (1, None), "it runs");
        assert!(ask(&mut counted));
        assert_eq!(counted.idle, Some(start));
    }

    #[tokio::test(start_paused = true)]
    async fn limits_end_the_run_once() {
        let (counting, counted, _beginning) = Counting::new();
        let (sender, mut signals) = mpsc::channel(4);
        let limits = Limits { jobs: Some(2), wait: Some(Duration::from_secs(60)) };
        let limiting = limit(counted, limits, sender);
        tokio::pin!(limiting);
        let soon = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        counting.counted.send_modify(Counted::sees_job);
        tokio::select! { () = soon(600) => {} never = &mut limiting => match never {} }
        assert!(signals.try_recv().is_err(), "a job runs");
        counting.counted.send_modify(|counted| counted.jobs = 2);
        tokio::select! { () = soon(1) => {} never = &mut limiting => match never {} }
        assert_eq!(signals.try_recv().ok(), Some(Signal::Drain));
        counting.counted.send_modify(|counted| counted.idle = Some(Instant::now()));
        tokio::select! { () = soon(600) => {} never = &mut limiting => match never {} }
        assert!(signals.try_recv().is_err(), "said once");
    }
}
