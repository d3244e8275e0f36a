//! Roles that are assumed for one object each, with a policy that allows nothing else (GitLab
//! Runner 19.4).

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_core::chance;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use url::Url;

use super::credentials::{ExpiringCredentials, odd, of_xml, token_service};
use super::presign::{RequestTarget, Signed, sign_form};
use super::{Credentials, Encryption, RoleSettings, S3Settings};
use crate::ask::Question;
use crate::encode::query;
use crate::error::StoreError;
use crate::object::Access;
use crate::world::{RoleEvent, World};

/// How long a role is assumed for (GitLab Runner 19.4: one hour).
const LIFE: &str = "3600";

/// What is kept of assumed roles (GitLab Runner 19.4).
const KEPT: usize = 1000;

/// A role that is about to end is not used again: at least this much must be left (GitLab Runner
/// 19.4).
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(55 * 60);

/// Roles that were assumed.
pub(super) struct Roles {
    settings: RoleSettings,
    at_once: Option<Semaphore>,
    kept: Mutex<BTreeMap<(String, Access), ExpiringCredentials>>,
}

/// What a role is for.
pub(super) struct RoleRequest<'a> {
    pub(super) settings: &'a S3Settings,
    pub(super) own: &'a Credentials,
    pub(super) region: &'a str,
    pub(super) object: &'a str,
    pub(super) access: Access,
    pub(super) valid_for: Duration,
}

impl Roles {
    pub(super) fn new(settings: RoleSettings) -> Self {
        let at_once = settings.concurrency.map(Semaphore::new);
        Self { settings, at_once, kept: Mutex::default() }
    }

    pub(super) async fn assume(
        &self,
        wanted: &RoleRequest<'_>,
        world: &World,
        now: Timestamp,
    ) -> Result<ExpiringCredentials, StoreError> {
        let key = (wanted.object.to_owned(), wanted.access);
        let needed =
            SignedDuration::try_from(wanted.valid_for.clamp(SHORTEST, LONGEST)).unwrap_or(SignedDuration::ZERO);
        if self.settings.keeps {
            let kept = self.kept.lock().await;
            if let Some(found) = kept.get(&key).filter(|(_, end)| end.is_some_and(|end| now + needed < end)) {
                world.role(RoleEvent::Reused);
                return Ok(found.clone());
            }
        }
        let begun = Instant::now();
        let _turn = match &self.at_once {
            Some(at_once) => Some(at_once.acquire().await.map_err(|_| odd("the runner"))?),
            None => None,
        };
        world.role(RoleEvent::Asked { waited: begun.elapsed() });
        let mut asking = Asking { world, begun: Instant::now(), granted: false };
        let found = self.ask(wanted, world, now).await?;
        asking.granted = true;
        drop(asking);
        if self.settings.keeps {
            let mut kept = self.kept.lock().await;
            let before = kept.len();
            kept.retain(|_, (_, end)| end.is_some_and(|end| now < end));
            if kept.len() < KEPT {
                kept.insert(key, found.clone());
            }
            world.role(RoleEvent::Kept(difference(before, kept.len())));
        }
        Ok(found)
    }

    /// Nothing is kept any more.
    pub(super) fn forget(&mut self, world: &World) {
        let kept = self.kept.get_mut();
        world.role(RoleEvent::Kept(difference(kept.len(), 0)));
        kept.clear();
    }

    async fn ask(
        &self,
        wanted: &RoleRequest<'_>,
        world: &World,
        now: Timestamp,
    ) -> Result<ExpiringCredentials, StoreError> {
        const WHO: &str = "Amazon's token service (RoleARN)";
        let session = format!("gitlab-runner-cache-upload-{:016x}", chance::bits());
        let policy = policy(wanted);
        let form = query([
            ("Action", "AssumeRole"),
            ("Version", "2011-06-15"),
            ("RoleArn", self.settings.arn.as_str()),
            ("RoleSessionName", session.as_str()),
            ("DurationSeconds", LIFE),
            ("Policy", policy.as_str()),
        ]);
        let url = token_service(world, wanted.region);
        let parsed =
            Url::parse(&url).map_err(|_| StoreError::Settings(format!("{url} is no URL of a token service")))?;
        let host = match (parsed.host_str(), parsed.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        let place = RequestTarget { scheme: parsed.scheme(), host: &host, path: parsed.path(), query: Vec::new() };
        let signed = Signed { method: "POST", credentials: wanted.own, region: wanted.region, now, seconds: 0 };
        let headers = sign_form(&signed, &place, &form, "sts");
        let question = Question { method: Method::POST, headers, body: form, ..Question::get(WHO, &url) };
        of_xml(&question.granted(world).await?.text).ok_or_else(|| odd(WHO))
    }
}

/// A role that was asked for; it is over when this is dropped, also where nobody waits any more.
struct Asking<'a> {
    world: &'a World,
    begun: Instant,
    granted: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.world.role(RoleEvent::Over { took: self.begun.elapsed(), granted: self.granted });
    }
}

fn difference(before: usize, now: usize) -> i64 {
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    count(now) - count(before)
}

/// One action on one object.
fn policy(wanted: &RoleRequest<'_>) -> String {
    let RoleRequest { settings, region, object, access, .. } = wanted;
    let partition = match region.split('-').next() {
        Some("cn") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    let actions: &[&str] = match access {
        Access::Read => &["s3:GetObject"],
        // The second gives up an upload in parts.
        Access::Write => &["s3:PutObject", "s3:AbortMultipartUpload"],
    };
    let mut statements = vec![serde_json::json!({
        "Effect": "Allow",
        "Action": actions,
        "Resource": format!("arn:{partition}:s3:::{}/{object}", settings.bucket),
    })];
    if matches!(settings.encryption, Some(Encryption::Kms | Encryption::DsseKms)) {
        let key = settings.encryption_key.as_deref().unwrap_or("*");
        statements.push(serde_json::json!({
            "Effect": "Allow",
            "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
            "Resource": key,
        }));
    }
    serde_json::json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}
