//! Commands that kubelet itself runs in containers: lifecycle hooks and exec probes; and network
//! probes.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    container::{Container, ExecSpec, Output},
    store::object::{at, items, text},
};

/// Most output of a hook or probe that is kept for its message.
const MAX_OUTPUT: usize = 10 << 10;

/// Performs a hook or probe action; the error says what went wrong.
pub(crate) async fn perform(
    container: &Container,
    spec: &Value,
    action: &Value,
    host: IpAddr,
    limit: Duration,
) -> Result<(), String> {
    let done = async {
        if let Some(exec) = action.get("exec") {
            let args = items(exec, &["command"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
            return run(container, args).await;
        }
        if let Some(get) = action.get("httpGet") {
            let address = address(get, spec, host)?;
            return http_get(address, text(get, &["path"])).await;
        }
        if let Some(socket) = action.get("tcpSocket") {
            let address = address(socket, spec, host)?;
            return TcpStream::connect(address).await.map(drop).map_err(|error| format!("dial tcp {address}: {error}"));
        }
        if let Some(seconds) = at(action, &["sleep", "seconds"]).and_then(Value::as_u64) {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
        Ok(())
    };
    tokio::time::timeout(limit, done).await.unwrap_or_else(|_| Err(format!("timed out after {}s", limit.as_secs())))
}

async fn run(container: &Container, args: Vec<String>) -> Result<(), String> {
    let spec = ExecSpec { args, ..ExecSpec::default() };
    let mut child = container.exec(spec).await.map_err(|error| error.to_string())?;
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let outputs = async { tokio::join!(collect(stdout.as_mut()), collect(stderr.as_mut())) };
    // Output is read while the command runs, so that it never stops at a full pipe; the command's
    // end decides, because a child that it leaves behind may keep its output open.
    let (status, text) = tokio::select! {
        biased;
        (out, err) = outputs => (child.wait().await, out + &err),
        status = child.wait() => (status, String::new()),
    };
    if status.code == 0 { Ok(()) } else { Err(format!("command exited with {}: {}", status.code, text.trim_end())) }
}

async fn collect(output: Option<&mut Output>) -> String {
    let mut kept = Vec::new();
    if let Some(output) = output {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = output.read(&mut buffer).await {
            let room = MAX_OUTPUT.saturating_sub(kept.len());
            kept.extend_from_slice(&buffer[..length.min(room)]);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

fn address(action: &Value, spec: &Value, host: IpAddr) -> Result<SocketAddr, String> {
    let port = match action.get("port") {
        Some(Value::Number(number)) => number.as_u64().and_then(|number| u16::try_from(number).ok()),
        Some(Value::String(name)) => items(spec, &["ports"])
            .iter()
            .find(|port| text(port, &["name"]) == name)
            .and_then(|port| port["containerPort"].as_u64())
            .and_then(|number| u16::try_from(number).ok())
            .or_else(|| name.parse().ok()),
        _ => None,
    };
    let host = text(action, &["host"]).parse().unwrap_or(host);
    port.map(|port| SocketAddr::new(host, port)).ok_or("the action names no known port".to_owned())
}

async fn http_get(address: SocketAddr, path: &str) -> Result<(), String> {
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let answer = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: kube-probe/1.33\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut head = [0; 16];
        stream.read_exact(&mut head[..12]).await?;
        Ok::<_, std::io::Error>(head)
    };
    let head = answer.await.map_err(|error| format!("Get \"http://{address}{path}\": {error}"))?;
    let code = std::str::from_utf8(&head[9..12]).ok().and_then(|code| code.parse::<u16>().ok()).unwrap_or(0);
    if (200..400).contains(&code) { Ok(()) } else { Err(format!("HTTP probe failed with statuscode: {code}")) }
}
