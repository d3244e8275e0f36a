//! Artifacts: upload and download by runners, and the listing for people. Files go to disk as they
//! arrive.

use std::io::BufReader;
use std::path::{Path as FilePath, PathBuf};

use axum::body::Body;
use axum::extract::multipart::{Field, Multipart};
use axum::extract::{DefaultBodyLimit, FromRequest as _, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::Value;
use tokio::fs::File;
use tokio::io::{AsyncWriteExt as _, BufWriter};
use tokio_util::io::ReaderStream;

use super::{Refusal, admin_error, json_answer, message, refuse, set, text_answer, token, too_many};
use crate::archive;
use crate::dotenv;
use crate::hub::SharedHub;
use crate::limits;
use crate::state::JobAccess;
use crate::state::job::{Artifact, Breach};
use crate::state::mode::Rated;
use crate::tasks;

/// The query of an upload.
#[derive(Clone, Deserialize)]
pub(super) struct UploadQuery {
    expire_in: Option<String>,
    artifact_format: Option<String>,
    artifact_type: Option<String>,
    token: Option<String>,
}

/// Why an upload was not stored.
enum Failed {
    TooLarge,
    /// The client's fault: 400 and a violation.
    Bad(String),
    /// A user's fault: 400 and nothing else.
    Report(String),
    Storage(std::io::Error),
}

/// `POST jobs/<id>/artifacts`.
pub(super) async fn upload(
    State(hub): State<SharedHub>,
    Path(id): Path<String>,
    Query(query): Query<UploadQuery>,
    request: Request,
) -> Response {
    let Ok(id) = id.parse::<u64>() else { return refuse(StatusCode::NOT_FOUND) };
    let token = token(query.token.as_deref(), request.headers(), "job-token");
    if let Some(refused) = too_many(&hub, Rated::JobUpdate, &token) {
        return refused;
    }
    if !hub.world().settings.artifacts {
        discard(request.into_body()).await;
        return refuse(StatusCode::METHOD_NOT_ALLOWED);
    }
    if let Err(refused) = may_upload(&hub, id, &token) {
        discard(request.into_body()).await;
        return *refused;
    }
    let kind = query.artifact_type.as_deref().filter(|kind| !kind.is_empty()).unwrap_or("archive");
    let format = query.artifact_format.as_deref().filter(|format| !format.is_empty()).unwrap_or("zip");
    if let Some(right) = wrong_format(kind, format) {
        discard(request.into_body()).await;
        return bad_upload(&hub, id, &format!("type {kind} with format {format}: {right}"));
    }
    let path = hub.artifacts.path().join(format!("{id}-{}", crate::tokens::salt()));
    let limit = hub.world().settings.artifact_limit;
    let stored = receive(request, &path, limit).await;
    let variables = match &stored {
        Ok(_) if kind == "dotenv" => read_dotenv(&path).await,
        _ => Ok(Vec::new()),
    };
    let answer = match stored.and_then(|stored| Ok((stored, variables?))) {
        Ok(((filename, size, crc), variables)) => {
            let artifact = Artifact {
                kind: kind.to_owned(),
                format: format.to_owned(),
                filename,
                size,
                crc,
                expire_in: query.expire_in.clone(),
                variables,
                path: path.clone(),
            };
            keep(&hub, id, &token, artifact)
        }
        Err(Failed::Report(what)) => message(StatusCode::BAD_REQUEST, &what),
        Err(Failed::TooLarge) => refuse(StatusCode::PAYLOAD_TOO_LARGE),
        Err(Failed::Bad(what)) => bad_upload(&hub, id, &what),
        Err(Failed::Storage(error)) => {
            tracing::error!(%error, "cannot store an artifact");
            refuse(StatusCode::INTERNAL_SERVER_ERROR)
        }
    };
    if !is_kept(&hub, id, &path)
        && let Err(error) = tokio::fs::remove_file(&path).await
    {
        tracing::debug!(%error, "no file of a refused artifact to remove");
    }
    answer
}

/// A running job with the right token, whose token has not expired.
fn may_upload(hub: &SharedHub, id: u64, token: &str) -> Result<(), Refusal> {
    let mut world = hub.world();
    let (now, timing) = (world.now(), world.timing.clone());
    let JobAccess::Granted(job) = world.access(id, token) else { return Err(refuse(StatusCode::FORBIDDEN).into()) };
    if job.status.is_processing() && !job.token_expired(now) {
        job.hear(now, &timing);
        return Ok(());
    }
    let (status, waiting) = (job.status, job.is_waiting());
    if waiting {
        world
            .violation(&Breach::new("artifact before acknowledgement", "upload for a job that does not run"), Some(id));
    }
    let mut response = refuse(StatusCode::FORBIDDEN);
    set(&mut response, "job-status", status.word());
    Err(response.into())
}

fn bad_upload(hub: &SharedHub, id: u64, what: &str) -> Response {
    hub.world().violation(&Breach::new("artifact", what), Some(id));
    message(StatusCode::BAD_REQUEST, &format!("400 Bad request - {what}"))
}

/// The formats that GitLab accepts for its artifact types (GitLab server); `None` if this pair is
/// right.
fn wrong_format(kind: &str, format: &str) -> Option<&'static str> {
    let (right, is_right) = match kind {
        "archive" | "lsif" | "scip" => ("zip is right", format == "zip"),
        "junit"
        | "metrics"
        | "dotenv"
        | "cobertura"
        | "jacoco"
        | "cyclonedx"
        | "annotations"
        | "repository_xray"
        | "cluster_applications"
        | "metrics_referee"
        | "network_referee" => ("gzip is right", format == "gzip"),
        "sast"
        | "secret_detection"
        | "dependency_scanning"
        | "container_scanning"
        | "cluster_image_scanning"
        | "dast"
        | "license_scanning"
        | "accessibility"
        | "codequality"
        | "performance"
        | "browser_performance"
        | "load_performance"
        | "terraform"
        | "requirements"
        | "requirements_v2"
        | "coverage_fuzzing"
        | "api_fuzzing"
        | "sarif" => ("raw is right", format == "raw"),
        _ => ("no such type", false),
    };
    (!is_right).then_some(right)
}

/// Writes the part named `file` to `path`; its file name, size and checksum.
async fn receive(mut request: Request, path: &FilePath, limit: u64) -> Result<(String, u64, u32), Failed> {
    // The size limit is checked while writing; the framework's own one is made for small bodies.
    DefaultBodyLimit::disable().apply(&mut request);
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|error| Failed::Bad(format!("no multipart/form-data body: {error}")))?;
    while let Some(field) = form.next_field().await.map_err(|error| Failed::Bad(error.to_string()))? {
        if field.name() == Some("file") {
            let filename = plain_file_name(field.file_name().unwrap_or_default());
            let filename = filename.ok_or_else(|| Failed::Bad("the part `file` has no usable file name".to_owned()))?;
            let (size, crc) = store(field, path, limit).await?;
            return Ok((filename, size, crc));
        }
    }
    Err(Failed::Bad("the form has no part `file`".to_owned()))
}

async fn store(mut field: Field<'_>, path: &FilePath, limit: u64) -> Result<(u64, u32), Failed> {
    let file = File::create(path).await.map_err(Failed::Storage)?;
    let mut file = BufWriter::with_capacity(limits::AT_ONCE, file);
    let mut size = 0_u64;
    let mut crc = crc32fast::Hasher::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| Failed::Bad(error.to_string()))? {
        size += chunk.len() as u64;
        if size > limit {
            return Err(Failed::TooLarge);
        }
        crc.update(&chunk);
        file.write_all(&chunk).await.map_err(Failed::Storage)?;
    }
    file.flush().await.map_err(Failed::Storage)?;
    Ok((size, crc.finalize()))
}

async fn read_dotenv(path: &FilePath) -> Result<Vec<(String, String)>, Failed> {
    let file = File::open(path).await.map_err(Failed::Storage)?.into_std().await;
    let reading = tasks::blocking(move || dotenv::read(BufReader::new(file)));
    match reading.await {
        Ok(read) => read.map_err(Failed::Report),
        Err(error) => Err(Failed::Storage(std::io::Error::other(error))),
    }
}

/// The last component, so that a name never leads out of a directory.
fn plain_file_name(name: &str) -> Option<String> {
    let name = name.rsplit(['/', '\\']).next()?;
    (!name.is_empty() && name != "." && name != ".." && !name.contains('\0')).then(|| name.to_owned())
}

/// Adds a stored file to its job, if the job still runs. The same file again is fine, another of
/// its type is not.
fn keep(hub: &SharedHub, id: u64, token: &str, artifact: Artifact) -> Response {
    if let Err(refused) = may_upload(hub, id, token) {
        return *refused;
    }
    let mut world = hub.world();
    let Some(job) = world.jobs.get_mut(&id) else { return refuse(StatusCode::FORBIDDEN) };
    let same = job.artifacts.iter().find(|other| other.kind == artifact.kind);
    let breach = match same {
        Some(same) if same.size == artifact.size && same.crc == artifact.crc => None,
        Some(_) => Some(format!("another artifact of type {} exists already", artifact.kind)),
        None if job.artifacts.len() >= limits::ARTIFACTS_PER_JOB => Some("too many artifacts".to_owned()),
        None => {
            job.artifacts.push(artifact);
            None
        }
    };
    drop(world);
    match breach {
        Some(what) => bad_upload(hub, id, &what),
        None => text_answer(StatusCode::CREATED, "201"),
    }
}

fn is_kept(hub: &SharedHub, id: u64, path: &FilePath) -> bool {
    hub.world().jobs.get(&id).is_some_and(|job| job.artifacts.iter().any(|artifact| artifact.path == path))
}

/// Reads a refused body to its end, up to a limit: a client that is cut off while it sends may
/// never see the answer.
async fn discard(body: Body) {
    let mut stream = body.into_data_stream();
    let mut size = 0;
    while let Some(Ok(chunk)) = stream.next().await {
        size += chunk.len();
        if size > limits::PATCH_BODY {
            return;
        }
    }
}

/// The query of a download.
#[derive(Deserialize)]
pub(super) struct DownloadQuery {
    token: Option<String>,
    direct_download: Option<String>,
}

/// `GET jobs/<id>/artifacts`: the archive, for the job itself or a running job that depends on it.
pub(super) async fn download(
    State(hub): State<SharedHub>,
    Path(id): Path<String>,
    Query(query): Query<DownloadQuery>,
    headers: HeaderMap,
) -> Response {
    let Ok(id) = id.parse::<u64>() else { return refuse(StatusCode::NOT_FOUND) };
    let token = token(query.token.as_deref(), &headers, "job-token");
    if let Some(refused) = too_many(&hub, Rated::JobUpdate, &token) {
        return refused;
    }
    let direct = query.direct_download.is_some_and(|direct| matches!(direct.as_str(), "true" | "1" | "t"));
    match may_download(&hub, id, &token) {
        Ok((path, filename)) if direct && hub.world().settings.object_storage => elsewhere(&hub, &path, &filename),
        Ok((path, filename)) => send_file(&path, &filename).await,
        Err(code) => refuse(code),
    }
}

/// Sends the client to the simulated object storage: whoever knows the link may fetch the file,
/// without any token.
fn elsewhere(hub: &SharedHub, path: &FilePath, filename: &str) -> Response {
    let key = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let plain: String =
        filename.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')).collect();
    let mut response = StatusCode::FOUND.into_response();
    let url = hub.world().url.clone();
    set(&mut response, "location", &format!("{url}/-/storage/{key}/{plain}"));
    response
}

/// `GET /-/storage/<key>/<file name>`: the object storage, where files lie under names that nobody
/// can guess.
pub(super) async fn stored(State(hub): State<SharedHub>, Path((key, filename)): Path<(String, String)>) -> Response {
    let known = hub.world().jobs.values().flat_map(|job| &job.artifacts).find_map(|artifact| {
        (artifact.path.file_name().and_then(|name| name.to_str()) == Some(&key)).then(|| artifact.path.clone())
    });
    match known {
        Some(path) => send_file(&path, &filename).await,
        None => refuse(StatusCode::NOT_FOUND),
    }
}

fn may_download(hub: &SharedHub, id: u64, token: &str) -> Result<(PathBuf, String), StatusCode> {
    let mut world = hub.world();
    let now = world.now();
    let holder = world.jobs.values().find(|job| job.token == token);
    // What the server ended on its own account the runner may not know yet; its own verdict it
    // knows.
    let late = world.jobs.values().any(|job| job.token == token && job.reported.is_none());
    let Some(holder) = holder.filter(|job| job.token_is_live(now) || job.id == id) else {
        if !late {
            let detail = "artifact download with a token of no running job";
            world.violation(&Breach::new("job authentication", detail), Some(id));
        }
        return Err(StatusCode::UNAUTHORIZED);
    };
    if holder.id != id && !holder.dependencies.contains(&id) {
        let detail = format!("job {} does not depend on it", holder.id);
        world.violation(&Breach::new("artifact download", detail), Some(id));
        return Err(StatusCode::FORBIDDEN);
    }
    let archive = world.jobs.get(&id).and_then(|job| job.archive()).ok_or(StatusCode::NOT_FOUND)?;
    Ok((archive.path.clone(), archive.filename.clone()))
}

async fn send_file(path: &FilePath, filename: &str) -> Response {
    let opened = async {
        let file = File::open(path).await?;
        let size = file.metadata().await?.len();
        Ok::<_, std::io::Error>((file, size))
    };
    match opened.await {
        Ok((file, size)) => {
            let mut response = Body::from_stream(ReaderStream::with_capacity(file, limits::AT_ONCE)).into_response();
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            let plain: String = filename.chars().filter(|c| *c != '"' && !c.is_control()).collect();
            set(&mut response, "content-disposition", &format!("attachment; filename=\"{plain}\""));
            response
        }
        Err(error) => {
            tracing::error!(%error, "cannot read a stored artifact");
            refuse(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// `GET /sim/jobs/<id>/artifacts`.
pub(super) async fn list(State(hub): State<SharedHub>, Path(id): Path<u64>) -> Response {
    let world = hub.world();
    let Some(job) = world.jobs.get(&id) else {
        return admin_error(StatusCode::NOT_FOUND, format!("no job {id}"));
    };
    json_answer(StatusCode::OK, &job.artifacts.iter().map(Artifact::view).collect::<Value>())
}

/// `GET /sim/jobs/<id>/artifacts/<file name>`.
pub(super) async fn show(State(hub): State<SharedHub>, Path((id, wanted)): Path<(u64, String)>) -> Response {
    let found = {
        let world = hub.world();
        let artifacts = world.jobs.get(&id).map(|job| job.artifacts.as_slice()).unwrap_or_default();
        artifacts.iter().find(|artifact| artifact.filename == wanted).map(|artifact| artifact.path.clone())
    };
    match found {
        Some(path) => send_file(&path, &wanted).await,
        None => admin_error(StatusCode::NOT_FOUND, format!("job {id} has no artifact {wanted:?}")),
    }
}

/// The stored archive of a job.
fn archive_of(hub: &SharedHub, id: u64) -> Option<PathBuf> {
    hub.world().jobs.get(&id)?.archive().map(|archive| archive.path.clone())
}

/// `GET /sim/jobs/<id>/files`: what is in the job's archive.
pub(super) async fn files(State(hub): State<SharedHub>, Path(id): Path<u64>) -> Response {
    let Some(path) = archive_of(&hub, id) else {
        return admin_error(StatusCode::NOT_FOUND, format!("job {id} has no archive"));
    };
    match tasks::blocking(move || archive::list(&path)).await {
        Ok(Some(files)) => json_answer(StatusCode::OK, &Value::Array(files)),
        _ => admin_error(StatusCode::NOT_FOUND, format!("the archive of job {id} cannot be read")),
    }
}

/// `GET /sim/jobs/<id>/files/<path>`: one file of the job's archive, always as text or as a
/// download.
pub(super) async fn file(State(hub): State<SharedHub>, Path((id, wanted)): Path<(u64, String)>) -> Response {
    let Some(path) = archive_of(&hub, id) else {
        return admin_error(StatusCode::NOT_FOUND, format!("job {id} has no archive"));
    };
    let name = wanted.clone();
    let read = tasks::blocking(move || archive::file(&path, &name, limits::SHOWN_FILE)).await;
    let Ok(Some(bytes)) = read else {
        let most = limits::SHOWN_FILE;
        return admin_error(StatusCode::NOT_FOUND, format!("the archive has no {wanted:?} of at most {most} bytes"));
    };
    let kind =
        if std::str::from_utf8(&bytes).is_ok() { "text/plain; charset=utf-8" } else { "application/octet-stream" };
    // What a job has made must not become a page in somebody's browser.
    ([(header::CONTENT_TYPE, kind), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], bytes).into_response()
}
