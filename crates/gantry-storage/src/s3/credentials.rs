//! Whose keys are used: those that are set, or those of this process, in the order of Amazon's
//! kits: environment, files, the identity of a pod (web identity or container), the machine's role.

use std::time::Duration;

use gantry_core::Secret;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::address::{USUAL_REGION, amazon_domain};
use super::{Credentials, S3Access};
use crate::ask::Question;
use crate::encode::{element, query};
use crate::error::StoreError;
use crate::world::{Route, World};

/// Keys that live no longer than a request shall are asked for anew, because what is signed with
/// them ends with them. Within these bounds: keys of a pod live for an hour, and those of a machine
/// are the same whenever they are asked for.
const SHORTEST: Duration = Duration::from_secs(15 * 60);
const LONGEST: Duration = Duration::from_secs(50 * 60);

/// Where a machine of Amazon's tells about itself.
const METADATA: &str = "http://169.254.169.254";

/// Where a container of Amazon's gets its keys.
const CONTAINER: &str = "http://169.254.170.2";

/// Keys, and where they come from.
pub(super) struct Chain {
    access: S3Access,
    kept: Option<ExpiringCredentials>,
}

/// Keys and when they end.
pub(super) type ExpiringCredentials = (Credentials, Option<Timestamp>);

impl Chain {
    pub(super) fn new(access: S3Access) -> Self {
        Self { access, kept: None }
    }

    /// Keys for a request that is to be valid for so long.
    pub(super) async fn credentials(
        &mut self,
        world: &World,
        now: Timestamp,
        valid_for: Duration,
    ) -> Result<ExpiringCredentials, StoreError> {
        if let S3Access::Keys(credentials) = &self.access {
            return Ok((credentials.clone(), None));
        }
        let needed = SignedDuration::try_from(valid_for.clamp(SHORTEST, LONGEST)).unwrap_or(SignedDuration::ZERO);
        if let Some(kept) = self.kept.as_ref().filter(|(_, end)| end.is_none_or(|end| now + needed < end)) {
            return Ok(kept.clone());
        }
        let found = find(world).await?;
        // Keys without an end may be changed in their file.
        self.kept = found.1.is_some().then(|| found.clone());
        Ok(found)
    }
}

async fn find(world: &World) -> Result<ExpiringCredentials, StoreError> {
    if let Some(found) = of_environment(world) {
        return Ok((found, None));
    }
    if let Some(found) = of_web_identity(world).await? {
        return Ok(found);
    }
    if let Some(found) = of_files(world).await? {
        return Ok((found, None));
    }
    if let Some(found) = of_container(world).await? {
        return Ok(found);
    }
    of_machine(world).await
}

fn of_environment(world: &World) -> Option<Credentials> {
    Some(Credentials {
        access_key: world.get("AWS_ACCESS_KEY_ID")?,
        secret_key: Secret::new(world.get("AWS_SECRET_ACCESS_KEY")?),
        session_token: world.get("AWS_SESSION_TOKEN").map(Secret::new),
    })
}

/// `~/.aws/credentials`.
async fn of_files(world: &World) -> Result<Option<Credentials>, StoreError> {
    let named = world.get("AWS_SHARED_CREDENTIALS_FILE");
    let is_named = named.is_some();
    let Some(path) = named.or_else(|| Some(format!("{}/.aws/credentials", world.get("HOME")?))) else {
        return Ok(None);
    };
    let text = match tokio::fs::read_to_string(&path).await {
        Ok(text) => text,
        Err(_) if !is_named => return Ok(None),
        Err(source) => return Err(StoreError::File { path, source }),
    };
    let profile = world.get("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    Ok(of_profile(&text, &profile))
}

fn of_profile(text: &str, profile: &str) -> Option<Credentials> {
    let mut is_ours = false;
    let (mut access_key, mut secret_key, mut session_token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_ours = name.trim() == profile;
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| is_ours) else { continue };
        let value = value.trim().to_owned();
        match key.trim() {
            "aws_access_key_id" => access_key = Some(value),
            "aws_secret_access_key" => secret_key = Some(Secret::new(value)),
            "aws_session_token" => session_token = Some(Secret::new(value)),
            _ => {}
        }
    }
    Some(Credentials { access_key: access_key?, secret_key: secret_key?, session_token })
}

/// A pod's service account that stands for a role (EKS and others).
async fn of_web_identity(world: &World) -> Result<Option<ExpiringCredentials>, StoreError> {
    let (Some(role), Some(path)) = (world.get("AWS_ROLE_ARN"), world.get("AWS_WEB_IDENTITY_TOKEN_FILE")) else {
        return Ok(None);
    };
    let token = tokio::fs::read_to_string(&path).await.map_err(|source| StoreError::File { path, source })?;
    let session = world.get("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "gantry".to_owned());
    let form = query([
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", role.as_str()),
        ("RoleSessionName", session.as_str()),
        ("WebIdentityToken", token.trim()),
    ]);
    let region = world.get("AWS_REGION").or_else(|| world.get("AWS_DEFAULT_REGION"));
    let url = token_service(world, region.as_deref().unwrap_or(USUAL_REGION));
    let question = Question {
        method: Method::POST,
        headers: vec![("content-type", "application/x-www-form-urlencoded".to_owned())],
        body: form,
        ..Question::get("Amazon's token service", &url)
    };
    let answer = question.granted(world).await?;
    Ok(Some(of_xml(&answer.text).ok_or_else(|| odd("Amazon's token service"))?))
}

/// Where roles are assumed.
pub(super) fn token_service(world: &World, region: &str) -> String {
    let url = world.get("AWS_ENDPOINT_URL_STS");
    let url = url.unwrap_or_else(|| format!("https://sts.{region}.{}", amazon_domain(region)));
    format!("{}/", url.trim_end_matches('/'))
}

/// The credentials in an answer of the token service.
pub(super) fn of_xml(text: &str) -> Option<ExpiringCredentials> {
    let credentials = Credentials {
        access_key: element(text, "AccessKeyId")?,
        secret_key: Secret::new(element(text, "SecretAccessKey")?),
        session_token: element(text, "SessionToken").map(Secret::new),
    };
    Some((credentials, element(text, "Expiration").and_then(|end| end.parse().ok())))
}

pub(super) fn odd(who: &str) -> StoreError {
    StoreError::Refused { who: who.to_owned(), said: "its answer holds no credentials".to_owned() }
}

/// As containers and machines get them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CredentialsAnswer {
    access_key_id: String,
    secret_access_key: Secret,
    token: Option<Secret>,
    expiration: Option<Timestamp>,
}

fn of_json(text: &str, who: &str) -> Result<ExpiringCredentials, StoreError> {
    let told: CredentialsAnswer = serde_json::from_str(text).map_err(|_| odd(who))?;
    let credentials =
        Credentials { access_key: told.access_key_id, secret_key: told.secret_access_key, session_token: told.token };
    Ok((credentials, told.expiration))
}

/// A container's role: ECS, and the pod identity of EKS.
async fn of_container(world: &World) -> Result<Option<ExpiringCredentials>, StoreError> {
    const WHO: &str = "the container's credentials service";
    let relative = world.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{CONTAINER}{path}"));
    let Some(url) = relative.or_else(|| world.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")) else { return Ok(None) };
    let token = match world.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(path) => {
            let read = tokio::fs::read_to_string(&path).await;
            Some(read.map_err(|source| StoreError::File { path, source })?.trim().to_owned())
        }
        None => world.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    };
    let headers = token.into_iter().map(|token| ("authorization", token)).collect();
    let answer = Question { headers, way: Route::Direct, ..Question::get(WHO, &url) }.granted(world).await?;
    of_json(&answer.text, WHO).map(Some)
}

/// The role of the machine, by version 2 of its metadata service.
async fn of_machine(world: &World) -> Result<ExpiringCredentials, StoreError> {
    const WHO: &str = "the machine's metadata service";
    let nowhere = |why: String| {
        StoreError::NoCredentials(format!(
            "set AccessKey, SecretKey and ServerAddress (or AuthenticationType = \"access-key\") in [runners.cache.s3], or \
             AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for this process, or give its service account or its machine a role ({why})"
        ))
    };
    if world.get("AWS_EC2_METADATA_DISABLED").is_some_and(|word| word.eq_ignore_ascii_case("true")) {
        return Err(nowhere("AWS_EC2_METADATA_DISABLED is set".to_owned()));
    }
    let base = world.get("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| METADATA.to_owned());
    let base = base.trim_end_matches('/').to_owned();
    let url = format!("{base}/latest/api/token");
    let question = Question {
        method: Method::PUT,
        headers: vec![("x-aws-ec2-metadata-token-ttl-seconds", "21600".to_owned())],
        way: Route::Direct,
        ..Question::get(WHO, &url)
    };
    let token = match question.granted(world).await {
        Ok(answer) => answer.text.trim().to_owned(),
        Err(error) => return Err(nowhere(gantry_core::error_chain::chain(&error))),
    };
    let ask = async |path: String| {
        let url = format!("{base}/latest/meta-data/iam/security-credentials/{path}");
        let headers = vec![("x-aws-ec2-metadata-token", token.clone())];
        Question { headers, way: Route::Direct, ..Question::get(WHO, &url) }.granted(world).await
    };
    let roles = match ask(String::new()).await {
        Ok(answer) => answer.text,
        Err(error) => return Err(nowhere(gantry_core::error_chain::chain(&error))),
    };
    let Some(role) = roles.lines().next().filter(|role| !role.is_empty()) else {
        return Err(nowhere("this machine has no role".to_owned()));
    };
    of_json(&ask(role.to_owned()).await?.text, WHO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_of_a_credentials_file() {
        let text = "# mine\n[default]\naws_access_key_id = A\naws_secret_access_key=S\n[ci]\naws_access_key_id=B\n\
                    aws_secret_access_key = T/=\naws_session_token = U\n[half]\naws_access_key_id=C\n";
        assert_eq!(of_profile(text, "default").unwrap().access_key, "A");
        let ci = of_profile(text, "ci").unwrap();
        assert_eq!((ci.secret_key.expose(), ci.session_token.unwrap().expose()), ("T/=", "U"));
        assert!(of_profile(text, "half").is_none() && of_profile(text, "other").is_none());
    }
}
