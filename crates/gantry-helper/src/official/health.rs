//! `health-check`: waits until something in the pod takes connections on every port that is asked
//! for. The runner ends it.

use std::process::ExitCode;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::sleep;

use super::{Fatal, Flags};

/// Pause before a port is tried again (GitLab Runner 19.4).
const AGAIN: Duration = Duration::from_secs(1);

pub(super) fn run(flags: &Flags) -> Result<ExitCode, Fatal> {
    let mut ports: Vec<String> = [flags.all("port"), flags.all("p")].concat();
    let mut host = "localhost".to_owned();
    // Without ports it is one of the services that a linked container has.
    let is_linked = ports.is_empty();
    if is_linked {
        let texts =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        for (name, value) in texts {
            if name.ends_with("_TCP_ADDR") {
                host = value;
            } else if name.ends_with("_TCP_PORT") {
                ports.push(value);
            }
        }
    }
    let ports: Vec<u16> = ports.iter().filter_map(|port| port.trim().parse().ok()).collect();
    if ports.is_empty() {
        return Err("No HOST or PORT found".to_owned());
    }
    let shown: Vec<String> = ports.iter().map(ToString::to_string).collect();
    println!("waiting for TCP connection to {host} on [{}]...", shown.join(" "));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let waits = ports.iter().map(|port| Box::pin(answers(&host, *port)));
        if is_linked {
            futures::future::select_all(waits).await;
        } else {
            futures::future::join_all(waits).await;
        }
    });
    Ok(ExitCode::SUCCESS)
}

async fn answers(host: &str, port: u16) {
    loop {
        println!("dialing {host}:{port}...");
        if TcpStream::connect((host, port)).await.is_ok() {
            return println!("dial succeeded on {host}:{port}. Exiting...");
        }
        sleep(AGAIN).await;
    }
}
