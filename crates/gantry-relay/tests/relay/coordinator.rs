//! A coordinator for one job, small enough to be read at once: HTTP/1.1 by hand, so that it can
//! also cut a connection at any place. It keeps the protocol's rules about offsets and states by
//! itself and shares no code with the client.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, Error};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub(crate) const TOKEN: &str = "glcbt-relay";

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The connection is cut before anything is done.
    CutBefore,
    /// Everything is done, then the connection is cut.
    CutAfter,
    /// 409.
    Lock,
    /// 503.
    Unavailable,
    /// 403 without a state.
    Maintenance,
    /// Half of the log is lost before the request is looked at.
    Shrink,
    /// A terminal state is answered with 412, and the log thrown away.
    Reject,
    /// Never answered.
    Hang,
}

#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) log: Vec<u8>,
    pub(crate) status: &'static str,
    /// Terminal states that were taken or rejected, with their checksum.
    pub(crate) terminal: Vec<(String, String)>,
    pub(crate) largest_patch: usize,
    pub(crate) requests: usize,
    faults: VecDeque<Fault>,
}

pub(crate) struct Coordinator {
    address: std::net::SocketAddr,
    state: Arc<Mutex<State>>,
    /// Dropped with the coordinator, and then aborted.
    _serving: JoinSet<()>,
}

impl Coordinator {
    pub(crate) async fn start(faults: impl IntoIterator<Item = Fault>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            log: Vec::new(),
            status: "running",
            terminal: Vec::new(),
            largest_patch: 0,
            requests: 0,
            faults: faults.into_iter().collect(),
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.spawn(serve(connection, Arc::clone(&shared)));
            }
        });
        Self { address, state, _serving: serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn state(&self) -> State {
        self.state.lock().unwrap().clone()
    }

    pub(crate) fn with(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    pub(crate) async fn until(&self, condition: impl Fn(&State) -> bool) {
        for _ in 0..20_000 {
            if condition(&self.state.lock().unwrap()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("not reached; last: {:?}", self.state());
    }
}

struct Request {
    method: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

async fn read(connection: &mut BufReader<TcpStream>) -> Result<Option<Request>, Error> {
    let mut line = String::new();
    if connection.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let method = line.split(' ').next().unwrap().to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        connection.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut request = Request { method, headers, body: Vec::new() };
    request.body = vec![0; request.header("content-length").parse().unwrap_or(0)];
    connection.read_exact(&mut request.body).await?;
    Ok(Some(request))
}

async fn serve(connection: TcpStream, state: Arc<Mutex<State>>) {
    let mut connection = BufReader::new(connection);
    while let Ok(Some(request)) = read(&mut connection).await {
        let (fault, answer) = {
            let mut state = state.lock().unwrap();
            state.requests += 1;
            let fault = state.faults.pop_front().unwrap_or(Fault::None);
            (fault, answer(&mut state, &request, fault))
        };
        let Some(answer) = answer else { return };
        match fault {
            Fault::Hang => std::future::pending().await,
            Fault::CutAfter => return,
            _ => {}
        }
        if connection.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Nothing for a cut connection.
fn answer(state: &mut State, request: &Request, fault: Fault) -> Option<String> {
    match fault {
        Fault::CutBefore => return None,
        Fault::Lock => return Some(http(409, "")),
        Fault::Unavailable => return Some(http(503, "")),
        Fault::Maintenance => return Some(http(403, "")),
        Fault::Shrink => state.log.truncate(state.log.len() / 2),
        _ => {}
    }
    if request.header("job-token") != TOKEN {
        return Some(http(403, ""));
    }
    let status = format!("Job-Status: {}\r\n", state.status);
    if !matches!(state.status, "running" | "canceling") {
        return Some(http(403, &status));
    }
    Some(if request.method == "PATCH" { patch(state, request, &status) } else { put(state, request, &status, fault) })
}

fn patch(state: &mut State, request: &Request, status: &str) -> String {
    let offset = request.header("content-range").split('-').next().and_then(|first| first.parse::<usize>().ok());
    if offset != Some(state.log.len()) {
        return http(416, &format!("{status}Range: 0-{}\r\n", state.log.len()));
    }
    state.log.extend_from_slice(&request.body);
    state.largest_patch = state.largest_patch.max(request.body.len());
    http(202, &format!("{status}Range: 0-{}\r\n", state.log.len()))
}

fn put(state: &mut State, request: &Request, status: &str, fault: Fault) -> String {
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let field = |name: &str| {
        let (_, rest) = body.split_once(&format!("\"{name}\":\"")).unwrap_or_default();
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    if matches!(field("state").as_str(), "running" | "pending") {
        return http(200, status);
    }
    state.terminal.push((field("state"), field("checksum")));
    if fault == Fault::Reject {
        state.log.clear();
        return http(412, status);
    }
    state.status = "failed";
    http(200, "Job-Status: failed\r\n")
}

fn http(status: u16, headers: &str) -> String {
    format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: 0\r\n\r\n")
}
