//! Builds every request as a value. Pure: no IO, no clock, no random numbers (the caller gives the
//! request id).

use bytes::Bytes;
use gantry_core::{FailureReason, JobState, Secret};
use gantry_http::{TransportError, TransportFault};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request};
use serde::Serialize;
use serde_json::json;
use url::Url;

use crate::answer::CallError;
use crate::client_error::ClientError;
use crate::info::RunnerInfo;

pub(crate) const RUNNER_TOKEN: HeaderName = HeaderName::from_static("runner-token");
pub(crate) const JOB_TOKEN: HeaderName = HeaderName::from_static("job-token");
pub(crate) const PRIVATE_TOKEN: HeaderName = HeaderName::from_static("private-token");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Headers that belong to the instance and go nowhere else.
pub(crate) static TOKENS: [HeaderName; 3] = [RUNNER_TOKEN, JOB_TOKEN, PRIVATE_TOKEN];
const CONTENT_RANGE: HeaderName = HeaderName::from_static("content-range");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Job id and job token: what every call about a job needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobCredentials {
    /// The job's id.
    pub id: i64,
    /// The job token.
    pub token: Secret,
}

/// One request for a job.
#[derive(Clone, Debug)]
pub struct JobRequest<'a> {
    /// The runner's authentication token.
    pub token: &'a Secret,
    /// The manager's id, see [`crate::system_id`].
    pub system_id: &'a str,
    /// Who asks.
    pub info: &'a RunnerInfo,
    /// What the last answer to this runner gave; needed for long polling.
    pub last_update: Option<&'a str>,
    /// Where people can enter the job that may come; absent where sessions are off.
    pub session: Option<&'a SessionOffer>,
}

/// Where and how GitLab reaches a job for interactive terminals and proxied services (GitLab Runner
/// 19.4: one of its own for every request).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOffer {
    /// `https://host:port/session/<id>`. Who knows it cannot enter without `authorization`.
    pub url: String,
    /// The server's certificate, which GitLab trusts for this session and no other (PEM).
    pub certificate: String,
    /// What GitLab sends as the header `Authorization`, word for word.
    pub authorization: Secret,
}

/// A state to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobUpdate {
    /// The state.
    pub state: JobState,
    /// Only with [`JobState::Failed`], and already one that the server accepts (see
    /// [`FailureReason::accepted_by`]).
    pub failure_reason: Option<FailureReason>,
    /// Checksum and size of the whole trace.
    pub output: Option<Output>,
    /// Omitted on the wire when 0.
    pub exit_code: Option<i32>,
}

impl JobUpdate {
    /// A state without anything beside it: `pending` and `running`.
    pub fn of(state: JobState) -> Self {
        Self { state, failure_reason: None, output: None, exit_code: None }
    }
}

/// Checksum and size of a whole trace, over exactly the bytes that are sent with PATCH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// CRC-32 (IEEE); sent as `crc32:` and 8 lower-case hex digits.
    pub crc32: u32,
    /// Bytes.
    pub bytesize: u64,
}

/// Attributes of a runner to be registered with a registration token (the old way).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Registration {
    /// Name of the runner.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Free text for administrators.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub maintenance_note: String,
    /// Separated by commas.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tag_list: String,
    /// Sent as true when there are no tags.
    pub run_untagged: bool,
    /// Only for the project it is registered for.
    pub locked: bool,
    /// `not_protected` or `ref_protected`; empty for the server's default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub access_level: String,
    /// Seconds; 0 for none.
    #[serde(skip_serializing_if = "is_zero")]
    pub maximum_timeout: i64,
    /// Takes no jobs.
    pub paused: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// What an artifact is, as far as GitLab wants to know. Empty fields are not sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadQuery {
    /// `archive` or the type of a report.
    pub artifact_type: String,
    /// `zip`, `gzip` or `raw`.
    pub artifact_format: String,
    /// Such as `1 week`.
    pub expire_in: String,
    /// Name of the file in the upload; must not be empty.
    pub filename: String,
}

/// Where a GitLab instance is and what every request to it carries.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    base: Url,
    headers: HeaderMap,
}

impl Instance {
    /// Normalises the configured URL (GitLab Runner 19.4, `network/client.go`): trailing slashes,
    /// then one `/ci`, go; `/api/v4/` comes.
    pub(crate) fn new(configured: &str) -> Result<Self, ClientError> {
        let trimmed = configured.trim().trim_end_matches('/');
        let trimmed = trimmed.strip_suffix("/ci").unwrap_or(trimmed);
        let bad = || ClientError::Url { url: without_user_info(configured) };
        // By itself first: "https://" without a host would take the host from what is appended.
        Url::parse(trimmed).map_err(|_| bad())?;
        let mut base = Url::parse(&format!("{trimmed}/api/v4/")).map_err(|_| bad())?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(ClientError::Scheme { scheme: base.scheme().to_owned() });
        }
        if base.host_str().is_none_or(str::is_empty) || base.query().is_some() || base.fragment().is_some() {
            return Err(bad());
        }
        let mut headers = HeaderMap::new();
        if let Ok(agent) = HeaderValue::from_str(&crate::info::user_agent()) {
            headers.insert(USER_AGENT, agent);
        }
        if let Some(basic) = basic_auth(&base) {
            headers.insert(AUTHORIZATION, basic);
        }
        // Neither fails for http and https URLs with a host.
        let _ = base.set_username("");
        let _ = base.set_password(None);
        Ok(Self { base, headers })
    }

    /// The API's base, ending in a slash, without user info.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// Needs a token of a person, and is asked without one.
    pub(crate) fn version(&self) -> Draft {
        self.start(Method::GET, "version")
    }

    pub(crate) fn register(&self, token: &Secret, attributes: &Registration) -> Draft {
        #[derive(Serialize)]
        struct Payload<'a> {
            token: &'a str,
            #[serde(flatten)]
            attributes: &'a Registration,
            info: RunnerInfo,
        }
        let mut attributes = attributes.clone();
        attributes.run_untagged |= attributes.tag_list.is_empty();
        let payload = Payload { token: token.expose(), attributes: &attributes, info: RunnerInfo::for_registration() };
        self.json(Method::POST, "runners", &payload).decoded().secret(RUNNER_TOKEN, token)
    }

    pub(crate) fn verify(&self, token: &Secret, system_id: &str, info: &RunnerInfo) -> Draft {
        let payload = RunnerPayload { info, token: token.expose(), system_id, last_update: "", session: None };
        self.json(Method::POST, "runners/verify", &payload).decoded().secret(RUNNER_TOKEN, token)
    }

    pub(crate) fn unregister_runner(&self, token: &Secret) -> Draft {
        self.json(Method::DELETE, "runners", &json!({ "token": token.expose() })).secret(RUNNER_TOKEN, token)
    }

    pub(crate) fn unregister_manager(&self, token: &Secret, system_id: &str) -> Draft {
        let payload = json!({ "token": token.expose(), "system_id": system_id });
        self.json(Method::DELETE, "runners/managers", &payload).secret(RUNNER_TOKEN, token)
    }

    /// No authentication header: the token in the body is the whole proof (GitLab Runner 19.4).
    pub(crate) fn reset_token(&self, token: &Secret) -> Draft {
        let payload = json!({ "token": token.expose() });
        self.json(Method::POST, "runners/reset_authentication_token", &payload).decoded()
    }

    /// The body is the JSON word `null` (GitLab Runner 19.4).
    pub(crate) fn reset_token_with_pat(&self, runner: i64, pat: &Secret) -> Draft {
        let path = format!("runners/{runner}/reset_authentication_token");
        self.json(Method::POST, &path, &()).decoded().secret(PRIVATE_TOKEN, pat)
    }

    pub(crate) fn request_job(&self, request: &JobRequest<'_>) -> Draft {
        let payload = RunnerPayload {
            info: request.info,
            token: request.token.expose(),
            system_id: request.system_id,
            last_update: request.last_update.unwrap_or_default(),
            session: request.session.map(|SessionOffer { url, certificate, authorization }| SessionPayload {
                url,
                certificate,
                authorization: authorization.expose(),
            }),
        };
        self.json(Method::POST, "jobs/request", &payload).decoded().secret(RUNNER_TOKEN, request.token)
    }

    pub(crate) fn update_job(&self, job: &JobCredentials, update: &JobUpdate, info: &RunnerInfo) -> Draft {
        let payload = UpdatePayload {
            info,
            token: job.token.expose(),
            state: update.state.as_str(),
            failure_reason: update.failure_reason.map(FailureReason::as_str),
            output: update.output.map_or(OutputPayload::default(), |output| OutputPayload {
                checksum: Some(format!("crc32:{:08x}", output.crc32)),
                bytesize: Some(output.bytesize).filter(|size| *size != 0),
            }),
            exit_code: update.exit_code.filter(|code| *code != 0),
        };
        self.json(Method::PUT, &format!("jobs/{}", job.id), &payload).secret(JOB_TOKEN, &job.token)
    }

    /// `Content-Range` has an inclusive end and no unit: the reference's form, which GitLab
    /// requires.
    pub(crate) fn patch_trace(&self, job: &JobCredentials, offset: u64, bytes: Bytes, debug: bool) -> Draft {
        let Some(last) = (offset + bytes.len() as u64).checked_sub(1).filter(|last| *last >= offset) else {
            return Draft(Err(unsendable("an empty piece of a trace is never sent")));
        };
        self.start(Method::PATCH, &format!("jobs/{}/trace?debug_trace={debug}", job.id))
            .header(CONTENT_TYPE, HeaderValue::from_static("text/plain"))
            .header(CONTENT_RANGE, format!("{offset}-{last}"))
            .secret(JOB_TOKEN, &job.token)
            .body(bytes)
    }

    /// Only the head: the body is a stream that the caller makes.
    pub(crate) fn upload_artifact(&self, job: &JobCredentials, query: &UploadQuery, boundary: &str) -> Draft {
        let mut pairs = url::form_urlencoded::Serializer::new(String::new());
        // In the order of the alphabet, as the reference's library sorts them.
        for (key, value) in [
            ("artifact_format", &query.artifact_format),
            ("artifact_type", &query.artifact_type),
            ("expire_in", &query.expire_in),
        ] {
            if !value.is_empty() {
                pairs.append_pair(key, value);
            }
        }
        self.start(Method::POST, &format!("jobs/{}/artifacts?{}", job.id, pairs.finish()))
            .header(CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"))
            .secret(JOB_TOKEN, &job.token)
    }

    pub(crate) fn download_artifact(&self, job: i64, token: &Secret, direct: bool) -> Draft {
        let query = if direct { "?direct_download=true" } else { "" };
        self.start(Method::GET, &format!("jobs/{job}/artifacts{query}")).secret(JOB_TOKEN, token)
    }

    fn json(&self, method: Method, path: &str, payload: &impl Serialize) -> Draft {
        match serde_json::to_vec(payload) {
            Ok(payload) => self.start(method, path).header(CONTENT_TYPE, JSON).body(payload.into()),
            Err(error) => Draft(Err(unsendable(error.to_string()))),
        }
    }

    fn start(&self, method: Method, path: &str) -> Draft {
        let url = self.base.join(path).map_err(|error| unsendable(error.to_string()));
        let request = url.and_then(|url| {
            let request = Request::builder().method(method).uri(url.as_str()).body(Bytes::new());
            request.map_err(|error| unsendable(error.to_string()))
        });
        Draft(request.map(|mut request| {
            request.headers_mut().clone_from(&self.headers);
            request
        }))
    }
}

/// A finished request, or why there is none.
pub(crate) type Built = Result<Request<Bytes>, CallError>;

/// A request in the making; an error stays until the end.
#[derive(Debug)]
pub(crate) struct Draft(Built);

impl Draft {
    /// The finished request. Tries of the same call share the id.
    pub(crate) fn with_id(self, id: &str) -> Built {
        self.header(REQUEST_ID, id).0
    }

    /// Says that the answer's body is wanted; the reference does so for these calls only.
    fn decoded(self) -> Self {
        self.header(ACCEPT, JSON)
    }

    fn header<V: TryInto<HeaderValue>>(mut self, name: HeaderName, value: V) -> Self {
        if let Ok(request) = &mut self.0 {
            match value.try_into() {
                Ok(value) => drop(request.headers_mut().insert(name, value)),
                Err(_) => self.0 = Err(unsendable(format!("header {name} would hold characters that HTTP forbids"))),
            }
        }
        self
    }

    /// A header that debug output hides. An empty secret is no header.
    fn secret(mut self, name: HeaderName, secret: &Secret) -> Self {
        if let Ok(request) = &mut self.0
            && !secret.is_empty()
        {
            if let Ok(mut value) = HeaderValue::from_str(secret.expose()) {
                value.set_sensitive(true);
                request.headers_mut().insert(name, value);
            } else {
                let what = format!("the token for header {name} holds characters that HTTP forbids");
                self.0 = Err(unsendable(what));
            }
        }
        self
    }

    fn body(mut self, bytes: Bytes) -> Self {
        if let Ok(request) = &mut self.0 {
            *request.body_mut() = bytes;
        }
        self
    }
}

#[derive(Serialize)]
struct RunnerPayload<'a> {
    info: &'a RunnerInfo,
    #[serde(skip_serializing_if = "str::is_empty")]
    token: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    system_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    last_update: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionPayload<'a>>,
}

#[derive(Serialize)]
struct SessionPayload<'a> {
    url: &'a str,
    certificate: &'a str,
    authorization: &'a str,
}

#[derive(Serialize)]
struct UpdatePayload<'a> {
    info: &'a RunnerInfo,
    token: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_reason: Option<&'static str>,
    /// Always there, even empty.
    output: OutputPayload,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
}

#[derive(Default, Serialize)]
struct OutputPayload {
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytesize: Option<u64>,
}

fn unsendable(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CallError {
    CallError::Transport(TransportError::new(TransportFault::Request, why))
}

/// User info of the URL becomes basic authentication, for a proxy in front of GitLab that wants it.
fn basic_auth(url: &Url) -> Option<HeaderValue> {
    use base64::Engine as _;
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decode = |text: &str| percent_decoded(text);
    let pair = format!("{}:{}", decode(url.username()), decode(url.password().unwrap_or_default()));
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Percent escapes resolved; a form decoder does it once its own meaning of `+` is out of the way.
fn percent_decoded(text: &str) -> String {
    let form = format!("x={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(form.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

/// For an error message: everything between the scheme and the last `@` may be a password.
fn without_user_info(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!("{}{}", url.get(..scheme + 3).unwrap_or_default(), url.get(at + 1..).unwrap_or_default())
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests;
