//! `gantry health-check`: waits until services listen. With ports, until all of them do on this
//! machine; without, until one does that the variables of container links name, as the helper image
//! of GitLab Runner 19.4 is called.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use gantry_core::go_duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::commands::{runtime, texts_of_environment};
use crate::exit_status;

/// How long one connection may take to come about, and the pause between two tries (GitLab Runner
/// 19.4).
const DIAL: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_secs(1);

/// Arguments of `gantry health-check`.
#[derive(Debug, Args)]
#[command(after_help = exit_status::help("", "health-check"))]
pub(crate) struct HealthCheckArgs {
    /// A port of this machine that must be open; may be repeated
    #[arg(long = "port", short = 'p', value_name = "PORT", value_parser = port)]
    ports: Vec<String>,
    /// How long to wait, such as 30s; default: without end
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    go_duration::parse(text).map_err(|error| error.to_string())
}

fn port(text: &str) -> Result<String, String> {
    let is_port = text.parse::<u16>().is_ok_and(|port| port > 0);
    is_port.then(|| text.to_owned()).ok_or_else(|| "not a port from 1 to 65535; repeat --port for several".to_owned())
}

/// What is waited for.
#[derive(Debug, PartialEq, Eq)]
struct AwaitedPorts {
    places: Vec<(String, String)>,
    /// Whether one of them is enough.
    any: bool,
}

/// Waits.
pub(crate) fn main(args: &HealthCheckArgs) -> anyhow::Result<ExitCode> {
    let wanted = wanted(&args.ports, texts_of_environment())?;
    let limit = args.timeout;
    runtime()?.block_on(async {
        let waiting = wait(wanted);
        match limit {
            None => waiting.await,
            Some(limit) => tokio::time::timeout(limit, waiting)
                .await
                .unwrap_or_else(|_| Err(anyhow::anyhow!("not everything is open after {} s", limit.as_secs()))),
        }
    })
}

fn wanted(ports: &[String], env: impl Iterator<Item = (String, String)>) -> anyhow::Result<AwaitedPorts> {
    if !ports.is_empty() {
        let places = ports.iter().map(|port| ("localhost".to_owned(), port.clone())).collect();
        return Ok(AwaitedPorts { places, any: false });
    }
    let (mut address, mut ports) = (None, Vec::new());
    for (name, value) in env {
        if name.ends_with("_TCP_ADDR") {
            address = Some(value);
        } else if name.ends_with("_TCP_PORT") {
            ports.push(value);
        }
    }
    let nothing = "nothing to check: give --port, or variables …_TCP_ADDR and …_TCP_PORT";
    let address = address.filter(|address| !address.is_empty()).context(nothing)?;
    ports.sort();
    if ports.is_empty() {
        bail!(nothing);
    }
    Ok(AwaitedPorts { places: ports.into_iter().map(|port| (address.clone(), port)).collect(), any: true })
}

async fn wait(mut wanted: AwaitedPorts) -> anyhow::Result<ExitCode> {
    let mut said = None;
    loop {
        let mut closed = Vec::new();
        for (host, port) in std::mem::take(&mut wanted.places) {
            let begun = Instant::now();
            match dial(&host, &port).await {
                Ok(()) => {
                    tracing::info!("{host}:{port} is open after {} ms", begun.elapsed().as_millis());
                    if wanted.any {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
                Err(error) => {
                    let line = format!("waiting for {host}:{port}: {error}");
                    if said.as_ref() != Some(&line) {
                        tracing::info!("{line}");
                        said = Some(line);
                    }
                    closed.push((host, port));
                }
            }
        }
        if closed.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        wanted.places = closed;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn dial(host: &str, port: &str) -> io::Result<()> {
    let port: u16 = port.parse().map_err(|_| io::Error::other(format!("{port:?} is not a port")))?;
    let connected = tokio::time::timeout(DIAL, TcpStream::connect((host, port))).await;
    connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_checked() {
        let env = |pairs: &[(&str, &str)]| {
            let owned: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            owned.into_iter()
        };
        let place = |host: &str, port: &str| (host.to_owned(), port.to_owned());
        let all = wanted(&["80".to_owned(), "81".to_owned()], env(&[("A_TCP_ADDR", "db")])).unwrap();
        assert_eq!(all, AwaitedPorts { places: vec![place("localhost", "80"), place("localhost", "81")], any: false });
        let linked = [("DB_PORT_5432_TCP_PORT", "5432"), ("DB_PORT_5432_TCP_ADDR", "db"), ("PATH", "/bin")];
        assert_eq!(wanted(&[], env(&linked)).unwrap(), AwaitedPorts { places: vec![place("db", "5432")], any: true });
        assert!(wanted(&[], env(&[])).unwrap_err().to_string().starts_with("nothing to check"));
        assert!(wanted(&[], env(&linked[1..])).is_err(), "no port");
    }
}
