//! How many pause pods there are, whose they are, and a daemon that keeps them with an API server
//! which knows nothing but one Deployment.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use gantry_config::RunnerSettings;
use gantry_config::settings::kubernetes::Autoscaler;
use gantry_gitlab::{
    Body, ByteStream, Client, ClientError, ClientOptions, Timeouts, Transport, TransportError, TransportFault,
};
use gantry_kube::{Access, Cluster, ConnectError, Driver};
use gantry_plan::Fleet;
use http::{Method, Request, StatusCode};
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::{Heartbeats, LEFT, Level, wanted};
use crate::outside::stub;
use crate::server::BindError;
use crate::{App, Network, Outside, Signal, signal_channel};

fn autoscaler(more: &str) -> Autoscaler {
    let text = format!(
        "[[runners]]\nurl = \"https://gitlab.example.com\"\ntoken = \"glrt-x\"\nexecutor = \"kubernetes\"\n\
         [runners.kubernetes.autoscaler]\n{more}"
    );
    let loaded = gantry_config::load(&text, &|_| None).expect("a file");
    assert_eq!((loaded.unusable.len(), loaded.warnings.len()), (0, 0), "{:?}", loaded.warnings);
    loaded.settings.runners.into_iter().next().expect("a runner").kubernetes.autoscaler
}

#[test]
fn policies_say_how_many() {
    let settings = autoscaler(
        "max_pause_pods = 8\n\
         [[runners.kubernetes.autoscaler.policy]]\nidle_count = 1\n\
         [[runners.kubernetes.autoscaler.policy]]\nperiods = [\"* 8-17 * * mon-fri\"]\ntimezone = \"Europe/Berlin\"\n\
         idle_count = 2\nidle_time = \"10m\"\nscale_factor = 0.5\nscale_factor_limit = 5\n",
    );
    // 2026-11-30 is a Monday, and Berlin an hour ahead.
    for (now, jobs, expected) in [
        ("2026-11-30T06:59:59Z", 30, (1, 5)),
        ("2026-11-30T07:00:00Z", 0, (2, 10)),
        ("2026-11-30T07:00:00Z", 5, (3, 10)),
        ("2026-11-30T07:00:00Z", 30, (5, 10)),
        ("2026-11-29T07:00:00Z", 30, (1, 5)),
    ] {
        let (pods, idle_time) = wanted(&settings, jobs, now.parse().expect("a time"), &TimeZone::UTC);
        assert_eq!((pods, idle_time.as_secs() / 60), expected, "{now} {jobs}");
    }
    let bounded = autoscaler("max_pause_pods = 3\n[[runners.kubernetes.autoscaler.policy]]\nscale_factor = 2\n");
    let (pods, _) = wanted(&bounded, 30, jiff::Timestamp::UNIX_EPOCH, &TimeZone::UTC);
    assert_eq!(pods, 3);
}

#[tokio::test(start_paused = true)]
async fn a_manager_is_gone_when_its_heartbeat_has_not_changed_for_long_by_our_clock() {
    let (mut heartbeats, start, second) = (Heartbeats::default(), Instant::now(), Duration::from_secs(1));
    let mut silent = |at, found: &[(&str, &str)]| {
        heartbeats.look(found.iter().copied(), at);
        ["a", "b"].map(|name| heartbeats.are_silent(name, at))
    };
    // The clock of a's manager is years late.
    assert_eq!(silent(start, &[("a", "2020-01-01T00:00:00Z"), ("b", "x")]), [false, false]);
    assert_eq!(silent(start + LEFT - second, &[("a", "2020-01-01T00:59:00Z"), ("b", "x")]), [false, false]);
    assert_eq!(silent(start + LEFT, &[("a", "2020-01-01T00:59:00Z"), ("b", "x")]), [false, true]);
    assert_eq!(silent(start + LEFT, &[("a", "2020-01-01T00:59:00Z")]), [false, false], "b has gone");
    assert_eq!(silent(start + 2 * LEFT, &[("a", "2020-01-01T00:59:00Z"), ("b", "x")]), [true, false], "b is new");
}

#[tokio::test(start_paused = true)]
async fn there_are_more_at_once_and_fewer_after_a_while() {
    let (mut level, start, minute) = (Level::default(), Instant::now(), Duration::from_mins(1));
    let mut at = |wanted, minutes: u32| level.next(wanted, 5 * minute, start + minutes * minute);
    assert_eq!([at(3, 0), at(1, 1), at(1, 5)], [3, 3, 3]);
    assert_eq!(at(3, 5), 3, "as many as before start the time anew");
    assert_eq!([at(2, 6), at(1, 10), at(2, 11), at(0, 12)], [3, 3, 2, 2]);
    assert_eq!(at(7, 12), 7);
}

/// A GitLab that nobody reaches, in a cluster that is reached as the settings say.
struct NoGitLab;

impl Transport for NoGitLab {
    fn send(&self, _: Request<Body>, _: Timeouts) -> BoxFuture<'_, Result<http::Response<ByteStream>, TransportError>> {
        async { Err(TransportError::new(TransportFault::Connect, "nobody")) }.boxed()
    }
}

impl Outside for NoGitLab {
    fn gitlab(&self, options: ClientOptions) -> Result<Client, ClientError> {
        Client::with_transport(options, Arc::new(Self))
    }

    fn cluster(
        &self,
        access: Access,
        namespace: String,
        selector: String,
    ) -> BoxFuture<'static, Result<(Cluster, Driver), ConnectError>> {
        Network.cluster(access, namespace, selector)
    }

    fn listen(&self, _: Option<String>) -> BoxFuture<'static, Result<Option<TcpListener>, BindError>> {
        stub::no_listener()
    }
}

/// Says what is asked about Deployments, of which there is one or none; knows nothing else.
#[derive(Clone)]
struct ApiServer {
    /// Without it nobody hears what comes of making one.
    deployment: Option<Value>,
    asked: mpsc::UnboundedSender<Method>,
}

async fn answer(State(server): State<ApiServer>, request: axum::extract::Request) -> Response {
    if !request.uri().path().contains("/deployments") {
        return StatusCode::NOT_FOUND.into_response();
    }
    let method = request.method().clone();
    let items = Vec::from_iter(&server.deployment);
    let found = match method {
        Method::GET => json!({"apiVersion": "apps/v1", "kind": "DeploymentList", "metadata": {}, "items": items}),
        Method::DELETE => json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success"}),
        _ => server.deployment.clone().unwrap_or_default(),
    };
    let _ = server.asked.send(method);
    if found.is_null() {
        std::future::pending::<()>().await;
    }
    axum::Json(found).into_response()
}

/// Far more than it takes.
const BOUND: Duration = Duration::from_secs(30);

/// An earlier life of the manager has left its Deployment. Whichever entry begins first, the one
/// without policies neither removes it nor stands in the way.
#[tokio::test]
async fn entries_with_one_token_have_the_pause_pods_of_the_one_with_policies() {
    for names in [("a", "b"), ("b", "a")] {
        timeout(BOUND, pause_pods_are_kept(names)).await.expect("pause pods are looked after");
    }
}

const SYSTEM_ID: &str = "s_0123456789ab";

/// A daemon with these entries, by name and further settings, on an API server; what that is asked;
/// and what serves.
async fn daemon(
    entries: [(&str, &str); 2],
    left: impl FnOnce(&RunnerSettings) -> Option<Value>,
) -> (App, mpsc::UnboundedReceiver<Method>, impl Future<Output = io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let entries = entries.map(|(name, more)| {
        format!(
            "[[runners]]\nname = \"{name}\"\nurl = \"http://gitlab.test\"\ntoken = \"glrt-a\"\n\
             executor = \"kubernetes\"\n[runners.kubernetes]\nhost = \"http://{address}\"\nnamespace = \"ci\"\n{more}"
        )
    });
    let text = format!("concurrent = 4\n{}", entries.concat());
    let settings = gantry_config::load(&text, &|_| None).expect("a file").settings;
    let (asked, heard) = mpsc::unbounded_channel();
    let server = ApiServer { deployment: left(&settings.runners[0]), asked };
    let serving = axum::serve(listener, axum::Router::new().fallback(answer).with_state(server));

    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("config.toml");
    std::fs::write(&config, text).expect("a file");
    std::fs::write(directory.path().join(".runner_system_id"), SYSTEM_ID).expect("a file");
    (App::build(stub::options(config, Arc::new(NoGitLab))).await.expect("a daemon"), heard, async move {
        let _directory = directory;
        serving.await
    })
}

const POLICY: &str = "[[runners.kubernetes.autoscaler.policy]]\nidle_count = 1\n";

async fn pause_pods_are_kept((without, with): (&str, &str)) {
    let left = |settings: &RunnerSettings| {
        let fleet = Fleet::of(None, &settings.url, "ci");
        let left = gantry_plan::pause_deployment(settings, (SYSTEM_ID, &fleet), 5, "2026-11-30T07:00:00Z");
        Some(serde_json::to_value(left).expect("JSON"))
    };
    let (app, mut heard, serving) = daemon([(without, ""), (with, POLICY)], left).await;
    let (_signals, receiver) = signal_channel();
    let kept = async {
        while let Some(method) = heard.recv().await {
            assert_ne!(method, Method::DELETE, "nobody may remove it");
            if method == Method::PATCH {
                return;
            }
        }
    };
    tokio::select! {
        () = kept => {}
        _ = app.run(receiver) => unreachable!("nobody has told it to end"),
        _ = serving => unreachable!("it serves for ever"),
    }
}

/// The first Deployment is made when the process is told to end: it may have come about.
#[tokio::test]
async fn pause_pods_whose_creation_was_cut_off_are_removed() {
    let (app, mut heard, serving) = daemon([("a", POLICY), ("b", "")], |_| None).await;
    let (signals, receiver) = signal_channel();
    let removed = async {
        while let Some(method) = heard.recv().await {
            match method {
                Method::PATCH => signals.send(Signal::Stop("terminated")).await.expect("it runs"),
                Method::DELETE => return,
                _ => {}
            }
        }
    };
    let ended = async {
        tokio::join!(removed, app.run(receiver));
    };
    tokio::select! {
        ended = timeout(BOUND, ended) => ended.expect("it is removed"),
        _ = serving => unreachable!("it serves for ever"),
    }
}
