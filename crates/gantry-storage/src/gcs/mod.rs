//! Google Cloud Storage: V4 signatures with the key of a service account, or by the service that
//! keeps it. <https://cloud.google.com/storage/docs/authentication/signatures>

mod account;
mod key;

use gantry_core::Secret;
use jiff::Timestamp;
use tokio::sync::Mutex;

use crate::encode::{hex, uri_path};
use crate::error::StoreError;
use crate::object::{Access, Link, ObjectRequest, Parts, is_plain};
use crate::signing::{Draft, UNSIGNED, basic_date, basic_time};
use crate::world::World;

use account::{Account, Accounts};

const ALGORITHM: &str = "GOOG4-RSA-SHA256";

/// Longest life of a signed request (Google: seven days).
const LONGEST: i64 = 7 * 24 * 3600;

/// Where a bucket is and who may use it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcsSettings {
    /// `BucketName`.
    pub bucket: String,
    /// `UniverseDomain`; nothing for Google's own.
    pub universe_domain: Option<String>,
    /// Who signs.
    pub key: GcsKey,
}

/// Who signs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GcsKey {
    /// `CredentialsFile`: the key file of a service account.
    File(String),
    /// `AccessID` and `PrivateKey`.
    Pair {
        /// The account's mail address.
        access_id: String,
        /// Its key, PEM.
        private_key: Secret,
    },
    /// Whoever this process is: `GOOGLE_APPLICATION_CREDENTIALS`, or the account of its pod or
    /// machine.
    #[default]
    Surroundings,
}

/// A bucket.
pub(crate) struct Bucket {
    settings: GcsSettings,
    world: World,
    accounts: Mutex<Accounts>,
}

impl Bucket {
    pub(crate) fn new(settings: GcsSettings, world: World) -> Self {
        let accounts = Mutex::new(Accounts::new(settings.key.clone()));
        Self { settings, world, accounts }
    }

    pub(crate) fn describe(&self) -> String {
        format!("the Google Cloud Storage bucket {:?}", self.settings.bucket)
    }

    pub(crate) fn host(&self) -> String {
        format!("storage.{}", self.settings.universe_domain.as_deref().unwrap_or("googleapis.com"))
    }

    pub(crate) async fn sign(&self, request: &ObjectRequest, now: Timestamp) -> Result<Link, StoreError> {
        if self.settings.bucket.is_empty() {
            return Err(StoreError::Settings("set BucketName in [runners.cache.gcs]".to_owned()));
        }
        let account = self.accounts.lock().await.account(&self.world, now).await?;
        let one =
            async |method, headers: &[(String, String)]| self.link(&account, request, (method, headers), now).await;
        let headers = headers(request);
        if request.access == Access::Read {
            return Ok(Link { url: one("GET", &headers).await?, headers, ..Link::default() });
        }
        let start = [headers.as_slice(), &[("x-goog-resumable".to_owned(), "start".to_owned())]].concat();
        let (url, begin) = tokio::try_join!(one("PUT", &headers), one("POST", &start))?;
        Ok(Link { url, headers, parts: Some(Parts::Gcs { url: begin, headers: start }), ..Link::default() })
    }

    /// The URL of one request.
    async fn link(
        &self,
        account: &Account,
        request: &ObjectRequest,
        (method, headers): (&str, &[(String, String)]),
        now: Timestamp,
    ) -> Result<Secret, StoreError> {
        let host = self.host();
        let path = format!("/{}/{}", self.settings.bucket, uri_path(&request.name));
        let seconds = i64::try_from(request.valid_for.as_secs()).unwrap_or(LONGEST).clamp(60, LONGEST);
        let scope = format!("{}/auto/storage/goog4_request", basic_date(now));
        let headers = headers.to_vec();
        let mut draft = Draft { method, host: &host, path: &path, query: Vec::new(), headers, payload: UNSIGNED };
        let names = draft.signed_headers();
        draft.query = [
            ("X-Goog-Algorithm", ALGORITHM.to_owned()),
            ("X-Goog-Credential", format!("{}/{scope}", account.email())),
            ("X-Goog-Date", basic_time(now)),
            ("X-Goog-Expires", seconds.to_string()),
            ("X-Goog-SignedHeaders", names),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        let text = format!("{ALGORITHM}\n{}\n{scope}\n{}", basic_time(now), draft.digest());
        let signature = hex(&account.sign(&text, &self.world).await?);
        Ok(Secret::new(format!("https://{host}{path}?{}&X-Goog-Signature={signature}", draft.query())))
    }
}

/// Headers that are part of the signature, and must be sent as they are.
fn headers(request: &ObjectRequest) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    if request.access == Access::Read {
        return headers;
    }
    headers.push(("content-type".to_owned(), "application/octet-stream".to_owned()));
    if let Some(most) = request.most {
        headers.push(("x-goog-content-length-range".to_owned(), format!("0,{most}")));
    }
    if is_plain(&request.key) {
        headers.push(("x-goog-meta-cachekey".to_owned(), request.key.clone()));
    }
    headers
}

#[cfg(test)]
mod tests;
