//! The service account that signs: its key, or its name and a service that signs for it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_core::Secret;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::GcsKey;
use super::key::Key;
use crate::ask::Question;
use crate::error::StoreError;
use crate::world::{Route, World};

/// Where a machine or a pod of Google's asks about itself.
const METADATA: &str = "metadata.google.internal";

/// A token is asked for anew before it ends.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);

/// Who signs.
#[derive(Clone)]
pub(super) enum Account {
    /// We do.
    Own { email: String, key: Arc<Key> },
    /// Google does, if this token may ask for it.
    Remote { email: String, token: Secret },
}

/// Who signs, as long as that is known.
pub(super) struct Accounts {
    key: GcsKey,
    kept: Option<(Account, Option<Timestamp>)>,
}

/// The key file of a service account.
#[derive(Deserialize)]
struct KeyFile {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    client_email: String,
    #[serde(default)]
    private_key: Secret,
}

#[derive(Deserialize)]
struct Token {
    access_token: Secret,
    #[serde(default)]
    expires_in: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignedBlob {
    signed_blob: String,
}

impl Accounts {
    pub(super) fn new(key: GcsKey) -> Self {
        Self { key, kept: None }
    }

    pub(super) async fn account(&mut self, world: &World, now: Timestamp) -> Result<Account, StoreError> {
        if let Some((account, end)) = &self.kept
            && end.is_none_or(|end| now + MARGIN < end)
        {
            return Ok(account.clone());
        }
        let (account, end) = match &self.key {
            GcsKey::Pair { access_id, private_key } => {
                let key = Key::read(private_key.expose(), "PrivateKey of [runners.cache.gcs]")?;
                (Account::Own { email: access_id.clone(), key: Arc::new(key) }, None)
            }
            GcsKey::File(path) => (of_file(path).await?, None),
            GcsKey::Surroundings => match world.get("GOOGLE_APPLICATION_CREDENTIALS") {
                Some(path) => (of_file(&path).await?, None),
                None => of_metadata(world, now).await?,
            },
        };
        self.kept = Some((account.clone(), end));
        Ok(account)
    }
}

async fn of_file(path: &str) -> Result<Account, StoreError> {
    let read = tokio::fs::read_to_string(path).await;
    let text = read.map_err(|source| StoreError::File { path: path.to_owned(), source })?;
    let wrong = |what: String| StoreError::Settings(format!("{path} {what}"));
    // Without the parser's own words, which may quote the key.
    let file: KeyFile =
        serde_json::from_str(&text).map_err(|_| wrong("is no key file of a Google service account".to_owned()))?;
    if file.kind != "service_account" {
        return Err(wrong(format!(
            "holds credentials of the type {:?}; only service_account can sign here",
            file.kind
        )));
    }
    let key = Key::read(file.private_key.expose(), path)?;
    Ok(Account::Own { email: file.client_email, key: Arc::new(key) })
}

/// The account of this pod or machine.
async fn of_metadata(world: &World, now: Timestamp) -> Result<(Account, Option<Timestamp>), StoreError> {
    const WHO: &str = "Google's metadata service";
    let host = world.get("GCE_METADATA_HOST").unwrap_or_else(|| METADATA.to_owned());
    let ask = async |what: &str| {
        let url = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/{what}");
        let headers = vec![("metadata-flavor", "Google".to_owned())];
        let asked = Question { headers, way: Route::Direct, ..Question::get(WHO, &url) }.granted(world).await;
        asked.map_err(|error| {
            StoreError::NoCredentials(format!(
                "set CredentialsFile, or AccessID and PrivateKey, in [runners.cache.gcs], or GOOGLE_APPLICATION_CREDENTIALS for this process, \
                 or give its pod a service account ({})",
                gantry_core::error_chain::chain(&error)
            ))
        })
    };
    let email = ask("email").await?.text.trim().to_owned();
    let token: Token = serde_json::from_str(&ask("token").await?.text)
        .map_err(|_| StoreError::Refused { who: WHO.to_owned(), said: "its answer holds no token".to_owned() })?;
    let end = now + SignedDuration::from_secs(token.expires_in.clamp(0, 24 * 3600));
    Ok((Account::Remote { email, token: token.access_token }, Some(end)))
}

impl Account {
    pub(super) fn email(&self) -> &str {
        match self {
            Self::Own { email, .. } | Self::Remote { email, .. } => email,
        }
    }

    pub(super) async fn sign(&self, text: &str, world: &World) -> Result<Vec<u8>, StoreError> {
        let (email, token) = match self {
            Self::Own { key, .. } => return key.sign(text),
            Self::Remote { email, token } => (email, token),
        };
        let who = format!("Google's service for signing as {email} (it needs the role iam.serviceAccountTokenCreator)");
        let url = format!("https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{email}:signBlob");
        let body = serde_json::json!({"payload": STANDARD.encode(text)}).to_string();
        let headers = vec![
            ("authorization", format!("Bearer {}", token.expose())),
            ("content-type", "application/json".to_owned()),
        ];
        let question = Question { method: Method::POST, headers, body, ..Question::get(&who, &url) };
        let answer = question.granted(world).await?;
        let signed: Option<SignedBlob> = serde_json::from_str(&answer.text).ok();
        let bytes = signed.and_then(|signed| STANDARD.decode(signed.signed_blob).ok());
        bytes.ok_or(StoreError::Refused { who, said: "its answer holds no signature".to_owned() })
    }
}
