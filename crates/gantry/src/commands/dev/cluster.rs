//! `--cluster`: job pods in a real cluster, which fetch sources and bring artifacts from and to
//! this machine.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket};

use gantry_config::settings::{KubernetesSettings, RunnerSettings};
use gantry_core::error_chain::chain;
use gantry_daemon::wiring;
use gantry_kube::{Access, Cluster, access};

use super::BadInput;
use super::args::DevArgs;
use crate::commands::doctor;

/// The image of jobs that name none.
const IMAGE: &str = "debian:12";

/// Selects no pod: only rights are asked for.
const SELECTOR: &str = "gantry.dev/dev=none";

/// The cluster that a run's pods are in.
#[derive(Debug)]
pub(super) struct Target {
    /// Of the kubeconfig; nothing: the current one.
    context: Option<String>,
    server: String,
    pub(super) namespace: String,
    helper_image: Option<String>,
    /// How pods reach this machine.
    pub(super) advertised: Advertised,
}

/// This machine, as pods see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advertised {
    /// A name or an address, as it stands in a URL.
    pub(super) host: String,
    /// Where to listen for that.
    ip: IpAddr,
}

impl Target {
    /// Finds the cluster that the arguments mean, and asks it whether the runner may work there.
    pub(super) async fn find(args: &DevArgs) -> Result<Option<Self>, BadInput> {
        let Some(context) = &args.cluster else { return Ok(None) };
        let context = Some(context.clone()).filter(|context| !context.is_empty());
        let access = access_of(context.clone());
        let place = access::place(&access).await;
        let place = place.map_err(|error| BadInput(format!("--cluster: {}", chain(&error))))?;
        let advertised = match &args.advertise {
            Some(given) => Advertised::given(given)?,
            None => Advertised::by_route(&place.host, place.port)?,
        };
        let namespace = args.namespace.clone().unwrap_or_else(|| place.namespace.clone());
        check(access, &namespace, &place.server).await?;
        let (helper_image, server) = (args.helper_image.clone(), place.server);
        Ok(Some(Self { context, server, namespace, helper_image, advertised }))
    }

    /// What is said of the run.
    pub(super) fn title(&self) -> String {
        format!("in namespace {} of {}, with the images of its jobs", self.namespace, self.server)
    }

    /// The lines of `[runners.kubernetes]`.
    pub(super) fn settings(&self) -> String {
        let text = |value: &str| toml_edit::Value::from(value).to_string();
        let mut lines = format!("    namespace = {}\n    image = \"{IMAGE}\"\n", text(&self.namespace));
        for (key, value) in [("context", &self.context), ("helper_image", &self.helper_image)] {
            if let Some(value) = value {
                let _ = writeln!(lines, "    {key} = {}", text(value));
            }
        }
        lines
    }
}

/// The way that a runner with these settings goes.
fn access_of(context: Option<String>) -> Access {
    let kubernetes = KubernetesSettings { context, ..KubernetesSettings::default() };
    wiring::cluster(&RunnerSettings { kubernetes, ..RunnerSettings::default() })
}

/// Asks the API server before anything is started: without an answer, or without rights, jobs would
/// only wait.
async fn check(access: Access, namespace: &str, server: &str) -> Result<(), BadInput> {
    let connected = Cluster::connect(access, namespace.to_owned(), SELECTOR.to_owned()).await;
    // What watches pods is not needed.
    let (cluster, _) = connected.map_err(|error| BadInput(format!("--cluster: {}", chain(&error))))?;
    let version = cluster.server_version().await;
    version.map_err(|error| BadInput(format!("--cluster: {server} cannot be used: {error}")))?;
    let missing = doctor::missing_rights(&cluster).await;
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join("\n");
    Err(BadInput(format!("--cluster: jobs cannot run in namespace {namespace}; --namespace names another:\n{missing}")))
}

impl Advertised {
    /// The address of this machine on the way to the API server. Nothing is sent.
    fn by_route(host: &str, port: u16) -> Result<Self, BadInput> {
        let route = || {
            let server = (host, port).to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
            let any: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() };
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(server)?;
            Ok(socket.local_addr()?.ip())
        };
        let ip = route().map_err(|error: std::io::Error| {
            BadInput(format!("no address of this machine leads to {host}:{port} ({error}): name one with --advertise"))
        })?;
        Ok(Self::of(ip))
    }

    /// As somebody has said it. What is an address of this machine is the only one that is listened
    /// on.
    fn given(text: &str) -> Result<Self, BadInput> {
        let host = text.trim_matches(['[', ']']);
        if let Ok(ip) = host.parse::<IpAddr>() {
            let is_own = std::net::TcpListener::bind((ip, 0)).is_ok();
            return Ok(if is_own { Self::of(ip) } else { Self { ip: any(ip.is_ipv4()), ..Self::of(ip) } });
        }
        let is_name = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
        if is_name {
            return Ok(Self { host: host.to_owned(), ip: any(true) });
        }
        Err(BadInput(format!("--advertise {text:?} is no address and no name of this machine, such as 192.0.2.7")))
    }

    fn of(ip: IpAddr) -> Self {
        let host = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
        Self { host, ip }
    }

    /// Where to listen. `page`: where somebody wants the page; what only this machine reaches is of
    /// no use to pods, and where people and pods use different addresses all of them are listened
    /// on.
    pub(super) fn listen(&self, page: Option<SocketAddr>) -> SocketAddr {
        match page {
            Some(page) if page.ip() == self.ip || page.ip().is_unspecified() => page,
            Some(page) if page.ip().is_loopback() => SocketAddr::new(self.ip, page.port()),
            Some(page) => SocketAddr::new(any(page.is_ipv4()), page.port()),
            None => SocketAddr::new(self.ip, 0),
        }
    }
}

fn any(is_ipv4: bool) -> IpAddr {
    if is_ipv4 { [0, 0, 0, 0].into() } else { [0_u16; 8].into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_this_machine_is_found_or_taken() {
        let own = Advertised::by_route("127.0.0.1", 6443).unwrap();
        assert_eq!((own.host.as_str(), own.ip), ("127.0.0.1", [127, 0, 0, 1].into()));
        assert!(
            Advertised::by_route("no.such.host.invalid", 6443)
                .is_err_and(|BadInput(what)| what.contains("--advertise"))
        );
        let six = Advertised::given("[::1]").unwrap();
        assert_eq!(six.host, "[::1]");
        let elsewhere = Advertised::given("192.0.2.7").unwrap();
        assert_eq!((elsewhere.host.as_str(), elsewhere.ip), ("192.0.2.7", any(true)));
        let named = Advertised::given("laptop.example").unwrap();
        assert_eq!((named.host.as_str(), named.ip), ("laptop.example", any(true)));
        for wrong in ["", "http://x", "a b", "x:80"] {
            assert!(Advertised::given(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pods_are_listened_for_where_they_come() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let own = Advertised::of([10, 0, 0, 7].into());
        assert_eq!(own.listen(None), at("10.0.0.7:0"));
        assert_eq!(own.listen(Some(at("127.0.0.1:8080"))), at("10.0.0.7:8080"));
        assert_eq!(own.listen(Some(at("0.0.0.0:8080"))), at("0.0.0.0:8080"));
        assert_eq!(own.listen(Some(at("192.168.1.5:8080"))), at("0.0.0.0:8080"));
        assert_eq!(own.listen(Some(at("10.0.0.7:8080"))), at("10.0.0.7:8080"));
        assert_eq!(Advertised::of([127, 0, 0, 1].into()).listen(Some(at("127.0.0.1:1"))), at("127.0.0.1:1"));
    }

    #[test]
    fn what_is_written_is_what_was_given() {
        let target = Target {
            context: Some("a \"b\"".to_owned()),
            server: "https://k:6443".to_owned(),
            namespace: "ci".to_owned(),
            helper_image: None,
            advertised: Advertised::of([10, 0, 0, 7].into()),
        };
        let text = format!(
            "[[runners]]\nurl = \"http://x\"\ntoken = \"t\"\nexecutor = \"kubernetes\"\n[runners.kubernetes]\n{}",
            target.settings()
        );
        let loaded = gantry_config::load(&text, &|_| None).unwrap();
        let kubernetes = &loaded.settings.runners[0].kubernetes;
        assert_eq!(kubernetes.context.as_deref(), Some("a \"b\""));
        assert_eq!((kubernetes.image.as_deref(), kubernetes.helper_image.as_deref()), (Some(IMAGE), None));
    }
}
