//! Git over HTTP, read-only: the served repositories through git's own HTTP back end, run as a CGI
//! program. Only clone and fetch with the smart protocol; bodies are streamed both ways.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use futures::{Stream, TryStreamExt as _};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_util::io::{ReaderStream, StreamReader};

use super::{refuse, text_answer};
use crate::config::TokenAccess;
use crate::hub::SharedHub;
use crate::limits;
use crate::repo::{Repo, git_config_environment};
use crate::state::World;
use crate::tasks;

/// Everything that is no API: a git request, or not found.
pub(super) async fn serve(State(hub): State<SharedHub>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let Some((repo, service)) = target(&hub, request.uri().path()) else {
        return full_name(&hub, request.uri().path(), query).unwrap_or_else(|| refuse(StatusCode::NOT_FOUND));
    };
    match (request.method(), service) {
        (&Method::GET, "info/refs") if query == "service=git-upload-pack" => {}
        (&Method::POST, "git-upload-pack") => {}
        (_, "info/refs" | "git-receive-pack") => {
            return text_answer(StatusCode::FORBIDDEN, "only clone and fetch are possible here\n");
        }
        _ => return refuse(StatusCode::NOT_FOUND),
    }
    match access(&hub, request.headers(), &repo.name) {
        Access::Granted => {}
        Access::Unknown => {
            let mut response = text_answer(StatusCode::UNAUTHORIZED, "HTTP Basic: Access denied\n");
            let challenge = HeaderValue::from_static("Basic realm=\"GitLab\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            return response;
        }
        Access::Forbidden { source } => {
            let text = format!("{source} may not read {}\n", repo.name);
            return text_answer(StatusCode::FORBIDDEN, &text);
        }
    }
    let repo = repo.clone();
    let service = service.to_owned();
    let job = job_of(&hub.world(), request.headers());
    let counted = Counted { hub: Arc::clone(&hub), job };
    match run(&repo, &service, request, counted).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, repo = repo.name, "git http-backend failed");
            text_answer(StatusCode::BAD_GATEWAY, "git http-backend failed\n")
        }
    }
}

/// The repository and the part of the path behind it: `/group/project.git/info/refs`.
fn target<'a>(hub: &'a SharedHub, path: &'a str) -> Option<(&'a Repo, &'a str)> {
    let (name, service) = path.strip_prefix('/')?.split_once(".git/")?;
    Some((hub.repo(Some(name))?, service))
}

/// GitLab leads a client that left out `.git` to the full name, which it then uses for the rest.
fn full_name(hub: &SharedHub, path: &str, query: &str) -> Option<Response> {
    let repo = hub.repo(Some(path.strip_prefix('/')?.strip_suffix("/info/refs")?))?;
    let place = HeaderValue::try_from(format!("/{}.git/info/refs?{query}", repo.name)).ok()?;
    Some((StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, place)]).into_response())
}

/// The user name that goes with a job token.
const JOB_USER: &str = "gitlab-ci-token";

/// Whether a request may read a repository.
enum Access {
    Granted,
    /// No token, or that of no job that somebody has.
    Unknown,
    /// Somebody known, whom the repository's project does not let in.
    Forbidden {
        source: String,
    },
}

/// Basic authentication with an access token, or as `gitlab-ci-token` with the token of a job that
/// somebody has. Its own project is always open to a job, others by their allowlists; a job without
/// a project is a test's and may read everything.
fn access(hub: &SharedHub, headers: &HeaderMap, target: &str) -> Access {
    let Some((user, token)) = given(headers) else { return Access::Unknown };
    let world = hub.world();
    let mut projects = world.settings.clone_tokens.iter().filter(|known| known.token == token).peekable();
    if projects.peek().is_some() {
        let is_open = projects.any(|known| known.project == target);
        return if is_open { Access::Granted } else { Access::Forbidden { source: "this access token".to_owned() } };
    }
    let now = world.now();
    let mut jobs = world.jobs.values().filter(|_| user == JOB_USER);
    let Some(job) = jobs.find(|job| job.token == token && job.token_is_live(now)) else { return Access::Unknown };
    let Some(source) = world.project_of(job).filter(|source| *source != target) else { return Access::Granted };
    let listed = |entry: &TokenAccess| entry.project == target && entry.by == *source;
    if world.settings.token_access.iter().any(listed) {
        return Access::Granted;
    }
    Access::Forbidden { source: format!("a job of {source}, which is not on the job token allowlist,") }
}

/// The job whose token a git request has.
pub(super) fn job_of(world: &World, headers: &HeaderMap) -> Option<u64> {
    let token = given_token(headers)?;
    world.jobs.values().find(|job| job.token == token).map(|job| job.id)
}

fn given_token(headers: &HeaderMap) -> Option<String> {
    given(headers).filter(|(user, _)| user == JOB_USER).map(|(_, token)| token)
}

/// User and password of a request.
fn given(headers: &HeaderMap) -> Option<(String, String)> {
    let header = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    decoded.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

/// Starts the back end, feeds it the body, and passes on what it says.
async fn run(repo: &Repo, service: &str, request: Request, counted: Counted) -> io::Result<Response> {
    let mut command = Command::new("git");
    command.arg("http-backend").envs(git_config_environment());
    for inherited in ["GIT_PROJECT_ROOT", "GIT_DIR", "GIT_WORK_TREE", "GIT_NAMESPACE", "PATH_INFO", "CONTENT_LENGTH"] {
        command.env_remove(inherited);
    }
    command
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_TRANSLATED", repo.git_dir.join(service))
        .env("REQUEST_METHOD", request.method().as_str())
        .env("QUERY_STRING", request.uri().query().unwrap_or_default())
        .env("REMOTE_USER", "gitlab-ci-token")
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("SERVER_PROTOCOL", "HTTP/1.1");
    for (name, variable) in [
        (header::CONTENT_TYPE, "CONTENT_TYPE"),
        (header::CONTENT_LENGTH, "CONTENT_LENGTH"),
        (header::CONTENT_ENCODING, "HTTP_CONTENT_ENCODING"),
        (HeaderName::from_static("git-protocol"), "GIT_PROTOCOL"),
    ] {
        if let Some(value) = request.headers().get(name).and_then(|value| value.to_str().ok()) {
            command.env(variable, value);
        }
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("no pipe to the back end"));
    };
    // Ends with the body, or with the process, whose death closes the pipe.
    drop(tasks::spawn(feed(request.into_body(), stdin)));
    let mut stdout = BufReader::new(stdout);
    let head = tokio::time::timeout(limits::GIT_HEADERS, read_head(&mut stdout)).await;
    let (status, headers) = head.map_err(|_| io::Error::other("no answer in time"))??;
    let stdout = ReaderStream::with_capacity(stdout, limits::AT_ONCE);
    let body = Output { stdout, counted, _child: child };
    let mut response = Body::from_stream(body).into_response();
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

async fn feed(body: Body, mut stdin: ChildStdin) {
    let mut body = StreamReader::new(body.into_data_stream().map_err(io::Error::other));
    // A back end that has heard enough closes its input; that is no fault.
    let copied = tokio::io::copy(&mut body, &mut stdin).await;
    if let Err(error) = copied.and(stdin.shutdown().await) {
        tracing::debug!(%error, "git http-backend did not read the whole body");
    }
}

/// The CGI header block: `Name: value` lines up to an empty one; `Status:` is the status.
async fn read_head(stdout: &mut BufReader<ChildStdout>) -> io::Result<(StatusCode, HeaderMap)> {
    let mut status = StatusCode::OK;
    let mut headers = HeaderMap::new();
    let mut limited = stdout.take(limits::GIT_HEADER_BYTES);
    loop {
        let mut line = String::new();
        if limited.read_line(&mut line).await? == 0 {
            return Err(io::Error::other("the answer has no complete header"));
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok((status, headers));
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("status") {
            let code = value.trim().split(' ').next().and_then(|code| code.parse::<u16>().ok());
            status = code.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::BAD_GATEWAY);
        } else if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value.trim()))
        {
            headers.append(name, value);
        }
    }
}

/// What the back end writes; the process lives exactly as long as somebody reads it.
struct Output {
    stdout: ReaderStream<BufReader<ChildStdout>>,
    counted: Counted,
    _child: Child,
}

/// Whose bytes these are.
struct Counted {
    hub: SharedHub,
    job: Option<u64>,
}

impl Counted {
    fn add(&self, bytes: usize) {
        let Some(id) = self.job else { return };
        if let Some(job) = self.hub.world().jobs.get_mut(&id) {
            job.git_bytes += bytes as u64;
        }
    }
}

impl Stream for Output {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = Pin::new(&mut self.stdout).poll_next(context);
        if let Poll::Ready(Some(Ok(bytes))) = &next {
            self.counted.add(bytes.len());
        }
        next
    }
}
