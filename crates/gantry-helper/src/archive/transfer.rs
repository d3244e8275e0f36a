//! Between the project's files and GitLab. An upload is packed while it is sent, and packed again
//! for a second try; a download lies in a temporary file until it is whole.

mod arrival;
mod in_parts;

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use gantry_core::error_chain::chain;
use gantry_core::feature_flags::parse_bool;
use gantry_gitlab::{
    CallError, Client, ClientError, ClientOptions, DownloadError, JobCredentials, TransportError, UploadAnswer,
    UploadQuery, UploadTimeouts,
};
use gantry_wire::plan::{ArtifactFormat, ArtifactUpload};
use tempfile::NamedTempFile;

use self::arrival::Arrival;
use super::expand::expand;
use super::job::{Direction, MoverJob};
use super::meter::Meter;
use super::pack::{Level, Style};
use super::packing::Packing;
use super::root::{ProjectRoot, Root};
use super::select::{Remark, SelectRules, select};
use super::untracked::Tool;
use super::{pack, provenance, say, unpack, warn};
use crate::limits::{DOWNLOAD_PAUSE, DOWNLOAD_TRIES};

/// What is shown of the progress of a download.
const DOWNLOADING: &str = "Downloading artifacts";

/// The job's variable that says how hard packing is tried.
const LEVEL: &str = "ARTIFACT_COMPRESSION_LEVEL";

/// What is said where there is nothing to send (GitLab Runner 19.4).
const NO_FILES: &str = "\x1b[31;1mERROR: No files to upload\x1b[0;m";

/// Why something could not be moved.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransferError {
    #[error("GitLab cannot be talked to")]
    Client(#[from] ClientError),
    #[error("a temporary file cannot be used in {directory}; is the node short of disk?")]
    Scratch {
        directory: String,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "the project directory {path} is {what} now: the job has replaced it, and nothing that it leads to is an artifact"
    )]
    Replaced { path: String, what: &'static str },
    #[error("the project directory {path} cannot be opened")]
    Project {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the artifacts cannot be packed")]
    Pack(#[from] pack::PackError),
    #[error("the artifacts cannot be unpacked")]
    Unpack(#[from] unpack::UnpackError),
    #[error("the statement of the artifacts' provenance cannot be made (RUNNER_GENERATE_ARTIFACTS_METADATA)")]
    Provenance(#[source] std::io::Error),
    #[error("GitLab refused the artifacts: permission denied: {0}")]
    Forbidden(String),
    #[error("GitLab refused the artifacts: too large: {0}; see the limits of the instance and the project")]
    TooLarge(String),
    #[error("GitLab refused the artifacts{kind} (status {status}): {message}{help}")]
    Refused { kind: String, status: u16, message: String, help: &'static str },
    #[error("the artifacts could not be uploaded after {tries} tries")]
    Upload {
        tries: u32,
        #[source]
        source: CallError,
    },
    #[error("the artifacts could not be downloaded")]
    Download(#[source] DownloadError),
    #[error("the download of the artifacts broke off")]
    Broken(#[source] TransportError),
}

/// Does what `job` says.
pub(super) async fn carry_out(job: &MoverJob) -> Result<(), TransferError> {
    let options = ClientOptions {
        ca_pem: job.coordinator.ca_pem.clone(),
        identity: job.coordinator.identity.clone(),
        ..ClientOptions::new(&job.coordinator.url)
    };
    let client = Client::new(options)?;
    match &job.direction {
        Direction::Upload(artifact) => upload(&client, job, artifact).await,
        Direction::Download => download(&client, job).await,
    }
}

async fn upload(client: &Client, job: &MoverJob, artifact: &ArtifactUpload) -> Result<(), TransferError> {
    let variable = |name: &str| std::env::var(name).ok();
    let expanded = |list: &[String]| list.iter().map(|text| expand(text, variable)).collect::<Vec<_>>();
    let (paths, exclude) = (expanded(&artifact.paths), expanded(&artifact.exclude));
    let project = Path::new(&job.project_dir);
    let Some(root) = root(job)? else {
        say(NO_FILES);
        return Ok(());
    };
    let tool = Tool { path: &job.tool_path, object_format: &job.object_format, scratch: Path::new(&job.scratch_dir) };
    let untracked = artifact.untracked.then_some(tool);
    let (mut found, remarks) =
        select(&SelectRules { project, root: &root, paths: &paths, exclude: &exclude, untracked });
    for remark in remarks {
        match remark {
            Remark::Plain(text) => say(&text),
            Remark::Warning(text) => warn(&text),
        }
    }
    if found.is_empty() || (artifact.format != ArtifactFormat::Zip && pack::files(&root, &found).next().is_none()) {
        // No failure: a job may have nothing to show (GitLab Runner 19.4).
        say(NO_FILES);
        return Ok(());
    }
    let query = UploadQuery {
        artifact_type: artifact.artifact_type.clone(),
        artifact_format: format_word(artifact.format).to_owned(),
        expire_in: artifact.expire_in.clone(),
        filename: file_name(&expand(&artifact.name, variable), artifact),
    };
    if let Some(about) = &artifact.provenance {
        let name = query.filename.trim_end_matches(".zip");
        provenance::add(&root, &mut found, name, job.job_id, about).map_err(TransferError::Provenance)?;
    }
    let credentials = JobCredentials { id: job.job_id, token: job.token.0.clone() };
    let timeouts = UploadTimeouts {
        total: Duration::from_millis(job.coordinator.upload_timeout_ms),
        response_header: Duration::from_millis(job.coordinator.response_header_timeout_ms),
    };
    let kind = match artifact.artifact_type.as_str() {
        "" => String::new(),
        kind => format!(" as \"{kind}\""),
    };
    let (level, why) = Level::of_variable(LEVEL, &variable(LEVEL).unwrap_or_default());
    if let Some(why) = why {
        warn(&why);
    }
    let (packing, mut failure) = Packing::new(Style { format: artifact.format.into(), level }, root, found);
    let stream = || Meter::new("Uploading artifacts", None).watch(packing.stream());
    let retrying = |error: &CallError| warn(&format!("{}; retrying...", chain(error)));
    let answer = tokio::select! {
        biased;
        // No second try helps here, and what GitLab makes of half an archive says nothing.
        Some(error) = failure.recv() => return Err(error.into()),
        answer = client.upload_artifact(&credentials, &query, (&stream, &retrying), timeouts) => answer,
    };
    let result = match answer {
        UploadAnswer::Uploaded => Ok("201 Created"),
        UploadAnswer::Forbidden { message } => Err(TransferError::Forbidden(message)),
        UploadAnswer::TooLarge { message } => Err(TransferError::TooLarge(message)),
        UploadAnswer::Refused { status, message } => {
            Err(TransferError::Refused { kind: kind.clone(), status, message, help: help(artifact, status) })
        }
        UploadAnswer::Failed { tries, error } => Err(TransferError::Upload { tries, source: error }),
    };
    say(&format!(
        "Uploading artifacts{kind} to coordinator... {} id={}",
        result.as_ref().unwrap_or(&"failed"),
        job.job_id
    ));
    result.map(|_| ())
}

/// What to do about a report that GitLab has read and does not take.
fn help(artifact: &ArtifactUpload, status: u16) -> &'static str {
    match (artifact.artifact_type.as_str(), status) {
        ("dotenv", 400) => "; a dotenv report has one NAME=value in each line, without comments and empty lines",
        _ => "",
    }
}

/// The project's directory; `None`, with a warning, if the job has removed it.
fn root(job: &MoverJob) -> Result<Option<Root>, TransferError> {
    let path = &job.project_dir;
    match Root::open(Path::new(&job.builds_dir), Path::new(path)) {
        Ok(ProjectRoot::Directory(root)) => Ok(Some(root)),
        Ok(ProjectRoot::Missing) => {
            warn(&format!(
                "the project directory {path} is not there any more: the job has removed it, and no artifact is left"
            ));
            Ok(None)
        }
        Ok(ProjectRoot::Other(what)) => Err(TransferError::Replaced { path: path.clone(), what }),
        Err(source) => Err(TransferError::Project { path: path.clone(), source }),
    }
}

fn format_word(format: ArtifactFormat) -> &'static str {
    match format {
        ArtifactFormat::Zip => "zip",
        ArtifactFormat::Gzip => "gzip",
        ArtifactFormat::Raw => "raw",
    }
}

/// The name of what is sent (GitLab Runner 19.4): the last part of the artifact's name, with the
/// ending of its format.
fn file_name(expanded: &str, artifact: &ArtifactUpload) -> String {
    let base = Path::new(expanded).file_name().map(|base| base.to_string_lossy().into_owned());
    let base = match base {
        _ if artifact.name.is_empty() => "artifacts".to_owned(),
        Some(base) if !base.is_empty() => base,
        _ => "default".to_owned(),
    };
    match artifact.format {
        ArtifactFormat::Zip => base + ".zip",
        ArtifactFormat::Gzip => base + ".gz",
        ArtifactFormat::Raw => base,
    }
}

async fn download(client: &Client, job: &MoverJob) -> Result<(), TransferError> {
    let direct = is_on("FF_USE_DIRECT_DOWNLOAD", true);
    let (mut tries, mut begun) = (0, None);
    let scratch = loop {
        tries += 1;
        // An instance that sends us to an object store we cannot reach is asked for the bytes
        // themselves next time.
        let error = match download_once(client, job, direct && tries == 1, &mut begun).await {
            Ok(scratch) => break scratch,
            Err(error) => error,
        };
        let again = match &error {
            TransferError::Download(DownloadError::Failed(_)) | TransferError::Broken(_) => true,
            // What an object store has refused GitLab may still give by itself.
            TransferError::Download(DownloadError::Refused { .. } | DownloadError::Forbidden { .. }) => {
                direct && tries == 1
            }
            _ => false,
        };
        if !again || tries >= DOWNLOAD_TRIES {
            say(&format!("Downloading artifacts from coordinator... failed id={}", job.job_id));
            return Err(error);
        }
        warn(&format!("{}; retrying...", chain(&error)));
        tokio::time::sleep(DOWNLOAD_PAUSE).await;
    };
    say(&format!("Downloading artifacts from coordinator... ok id={}", job.job_id));
    let file = File::open(scratch.path()).map_err(|source| scratch_error(job, source))?;
    unpack::unpack(file, Path::new(&job.project_dir))?;
    Ok(())
}

async fn download_once(
    client: &Client,
    job: &MoverJob,
    direct: bool,
    begun: &mut Option<Arrival>,
) -> Result<NamedTempFile, TransferError> {
    if is_on("FF_USE_PARALLEL_ARTIFACT_TRANSFER", false) {
        return in_parts::download(client, job, direct).await;
    }
    arrival::download(client, job, direct, begun).await
}

/// A feature flag, as all processes of the job see it.
fn is_on(flag: &str, default: bool) -> bool {
    std::env::var(flag).ok().and_then(|text| parse_bool(&text)).unwrap_or(default)
}

fn scratch(job: &MoverJob) -> Result<NamedTempFile, TransferError> {
    NamedTempFile::with_prefix_in("artifacts", &job.scratch_dir).map_err(|source| scratch_error(job, source))
}

fn scratch_error(job: &MoverJob, source: std::io::Error) -> TransferError {
    TransferError::Scratch { directory: job.scratch_dir.clone(), source }
}

#[cfg(test)]
mod server;

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(name: &str, format: ArtifactFormat) -> ArtifactUpload {
        ArtifactUpload {
            name: name.into(),
            paths: Vec::new(),
            exclude: Vec::new(),
            untracked: false,
            artifact_type: String::new(),
            format,
            expire_in: String::new(),
            provenance: None,
        }
    }

    #[test]
    fn names_of_files() {
        for (name, expanded, format, expected) in [
            ("", "", ArtifactFormat::Zip, "artifacts.zip"),
            ("$X", "", ArtifactFormat::Zip, "default.zip"),
            ("a/b", "a/b", ArtifactFormat::Gzip, "b.gz"),
            (".", ".", ArtifactFormat::Zip, "default.zip"),
            ("report.xml", "report.xml", ArtifactFormat::Raw, "report.xml"),
        ] {
            assert_eq!(file_name(expanded, &artifact(name, format)), expected, "{name}");
        }
    }
}
