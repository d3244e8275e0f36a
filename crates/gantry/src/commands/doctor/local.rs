//! Checks of what is on this machine: the file, the environment, the port.

use std::net::{TcpListener, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

use gantry_config::{Settings, Severity};
use gantry_core::proxy::Proxies;

use super::finding::Finding;
use super::unusable;
use crate::commands::counted;
use crate::commands::runner_file::{RunnerFile, env};
use gantry_core::error_chain::chain;

/// Where the metrics server listens when nobody says otherwise.
const USUAL_PORT: &str = gantry_daemon::DEFAULT_LISTEN_ADDRESS;

/// How long whoever has the port may take to say who it is.
const WHO_IS_IT: Duration = Duration::from_secs(3);

/// The file's settings and what is wrong with it; only findings if it cannot be used at all.
pub(super) fn configuration(config: &Path) -> Result<(Settings, Vec<Finding>), Vec<Finding>> {
    let path = config.display();
    let failed = |what: String, change: &str| vec![Finding::error("config", what, change)];
    let file = RunnerFile::open(config).map_err(|error| failed(chain(error.as_ref()), "mend the file"))?;
    if !file.exists() {
        let what = format!("{path} does not exist");
        return Err(failed(what, "`gantry register` makes one; --config names another"));
    }
    let text = file.text();
    let loaded = gantry_config::load(&text, &env).map_err(|problems| {
        let errors = counted(problems.errors().count(), "error");
        failed(format!("{path} cannot be used: {errors}"), "`gantry lint` lists them, with their lines")
    })?;
    let mut findings = unusable(&file);
    let warnings = loaded.warnings.iter().filter(|problem| problem.severity == Severity::Warning).count();
    let (runners, concurrent) = (loaded.settings.runners.len(), loaded.settings.concurrent);
    if warnings > 0 {
        let settings = counted(warnings, "setting");
        let what = format!("{path} has {settings} without effect, or not the expected one");
        findings.push(Finding::warning("config", what, "`gantry lint` lists them, with their lines"));
    }
    if runners == 0 {
        let what = format!("{path} has no runner that can work");
        findings.push(Finding::error("config", what, "`gantry register` adds one"));
    }
    if findings.is_empty() {
        findings
            .push(Finding::ok("config", format!("{path}: {}, concurrent = {concurrent}", counted(runners, "runner"))));
    }
    Ok((loaded.settings, findings))
}

/// The proxies of this process, and what of them is not used.
pub(super) fn proxies() -> Vec<Finding> {
    let proxies = Proxies::from_environment(&env);
    let remarks = Proxies::remarks(&env);
    let remarks = remarks
        .into_iter()
        .map(|remark| Finding::warning("proxy", remark, "correct the variable in the environment of `gantry run`"));
    let through = [("http", proxies.http()), ("https", proxies.https())];
    let through: Vec<String> = through
        .iter()
        .filter_map(|(scheme, proxy)| proxy.map(|proxy| format!("{scheme} through {}", host_of(proxy.expose()))))
        .collect();
    let found = if through.is_empty() {
        "none in the environment: connections are made directly".to_owned()
    } else {
        format!("{}; not for {:?}", through.join(", "), proxies.no_proxy())
    };
    std::iter::once(Finding::ok("proxy", found)).chain(remarks).collect()
}

fn host_of(proxy: &str) -> String {
    let url = url::Url::parse(proxy).ok();
    let host = url.as_ref().and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
    host.unwrap_or_else(|| "a proxy whose address cannot be read".to_owned())
}

/// Whether metrics can be served where the file says. A runner that works already is no obstacle.
pub(super) async fn metrics(settings: &Settings) -> Vec<Finding> {
    let address = settings.listen_address.clone().unwrap_or_else(|| USUAL_PORT.to_owned());
    let full = match address.as_str() {
        text if text.starts_with(':') => format!("0.0.0.0{text}"),
        text if text.contains(':') => text.to_owned(),
        text => format!("{text}:9252"),
    };
    let change = "set listen_address to a free address of the form host:port";
    let finding = match TcpListener::bind(&full) {
        Ok(_) => Finding::ok("metrics", format!("{address} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            if is_a_runner(&full).await {
                Finding::ok("metrics", format!("a runner serves them at {address}"))
            } else {
                Finding::error("metrics", format!("{address} is taken by another program"), change)
            }
        }
        Err(error) => Finding::error("metrics", format!("{address} cannot be listened on: {error}"), change),
    };
    vec![finding]
}

/// Whether what listens there shows the metrics of a runner.
async fn is_a_runner(address: &str) -> bool {
    let Some(address) = address.to_socket_addrs().ok().and_then(|mut found| found.next()) else { return false };
    let asking = async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").await.ok()?;
        let mut text = Vec::new();
        stream.take(1024 * 1024).read_to_end(&mut text).await.ok()?;
        Some(String::from_utf8_lossy(&text).contains("gitlab_runner_version_info"))
    };
    tokio::time::timeout(WHO_IS_IT, asking).await.ok().flatten().unwrap_or(false)
}
