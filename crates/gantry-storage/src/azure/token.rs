//! A key that Azure makes for the identity of this process: a client secret, a pod's federated
//! token, or a machine's identity.

use gantry_core::Secret;
use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::sas::{UserKey, VERSION, time};
use crate::ask::Question;
use crate::encode::{element, query};
use crate::error::StoreError;
use crate::world::{Route, World};

/// What a token is for.
const SCOPE: &str = "https://storage.azure.com/.default";
const RESOURCE: &str = "https://storage.azure.com/";

/// Where a machine of Azure's asks about itself.
const METADATA: &str = "http://169.254.169.254/metadata/identity/oauth2/token";

/// Azure's own sign-in.
const AUTHORITY: &str = "https://login.microsoftonline.com";

/// How long a key is asked for. Azure gives at most seven days.
const LIFE: SignedDuration = SignedDuration::from_hours(24 * 6);

/// A key and when it ends.
pub(super) struct Delegated {
    key: UserKey,
    valid: (Timestamp, Timestamp),
}

#[derive(Deserialize)]
struct Token {
    access_token: Secret,
}

impl Delegated {
    /// A key that is valid for the whole of a time: the kept one, or another.
    pub(super) async fn get<'k>(
        kept: &'k mut Option<Self>,
        world: &World,
        host: &str,
        (start, end): (Timestamp, Timestamp),
    ) -> Result<&'k UserKey, StoreError> {
        let is_enough = |key: &Self| key.valid.0 <= start && end <= key.valid.1;
        let made = if let Some(made) = kept.take().filter(is_enough) {
            made
        } else {
            let valid = (start, end.max(start + LIFE));
            Self { key: make(world, host, valid).await?, valid }
        };
        Ok(&kept.insert(made).key)
    }
}

async fn make(world: &World, host: &str, (start, end): (Timestamp, Timestamp)) -> Result<UserKey, StoreError> {
    const WHO: &str = "Azure's storage (a key for this identity; it needs the role Storage Blob Delegator)";
    let token = token(world).await?;
    let url = format!("https://{host}/?restype=service&comp=userdelegationkey");
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><KeyInfo><Start>{}</Start><Expiry>{}</Expiry></KeyInfo>",
        time(start),
        time(end)
    );
    let headers = vec![
        ("authorization", format!("Bearer {}", token.expose())),
        ("x-ms-version", VERSION.to_owned()),
        ("content-type", "application/xml".to_owned()),
    ];
    let answer = Question { method: Method::POST, headers, body, ..Question::get(WHO, &url) }.granted(world).await?;
    let part = |name: &str| element(&answer.text, name);
    let key = || {
        Some(UserKey {
            object_id: part("SignedOid")?,
            tenant_id: part("SignedTid")?,
            start: part("SignedStart")?,
            expiry: part("SignedExpiry")?,
            service: part("SignedService")?,
            version: part("SignedVersion")?,
            value: Secret::new(part("Value")?),
        })
    };
    key().ok_or_else(|| StoreError::Refused { who: WHO.to_owned(), said: "its answer holds no key".to_owned() })
}

/// A token for storage, in the order of Azure's kits.
async fn token(world: &World) -> Result<Secret, StoreError> {
    let (client, tenant) = (world.get("AZURE_CLIENT_ID"), world.get("AZURE_TENANT_ID"));
    if let (Some(client), Some(tenant)) = (&client, &tenant) {
        if let Some(secret) = world.get("AZURE_CLIENT_SECRET") {
            return sign_in(world, (client, tenant), &[("client_secret", secret)]).await;
        }
        if let Some(path) = world.get("AZURE_FEDERATED_TOKEN_FILE") {
            let read = tokio::fs::read_to_string(&path).await;
            let assertion = read.map_err(|source| StoreError::File { path, source })?.trim().to_owned();
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned();
            let proof = [("client_assertion_type", kind), ("client_assertion", assertion)];
            return sign_in(world, (client, tenant), &proof).await;
        }
    }
    of_machine(world, client).await
}

async fn sign_in(
    world: &World,
    (client, tenant): (&str, &str),
    proof: &[(&str, String)],
) -> Result<Secret, StoreError> {
    let authority = world.get("AZURE_AUTHORITY_HOST").unwrap_or_else(|| AUTHORITY.to_owned());
    let url = format!("{}/{tenant}/oauth2/v2.0/token", authority.trim_end_matches('/'));
    let fixed = [("grant_type", "client_credentials"), ("client_id", client), ("scope", SCOPE)];
    let body = query(fixed.into_iter().chain(proof.iter().map(|(name, value)| (*name, value.as_str()))));
    let headers = vec![("content-type", "application/x-www-form-urlencoded".to_owned())];
    read(Question { method: Method::POST, headers, body, ..Question::get("Azure's sign-in", &url) }, world).await
}

async fn of_machine(world: &World, client: Option<String>) -> Result<Secret, StoreError> {
    let mut pairs = vec![("api-version", "2018-02-01"), ("resource", RESOURCE)];
    pairs.extend(client.as_ref().map(|client| ("client_id", client.as_str())));
    let url = format!("{METADATA}?{}", query(pairs));
    let headers = vec![("metadata", "true".to_owned())];
    let question = Question { headers, way: Route::Direct, ..Question::get("the machine's identity service", &url) };
    read(question, world).await.map_err(|error| {
        StoreError::NoCredentials(format!(
            "set AccountKey in [runners.cache.azure], or AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET for this process, or give \
             its pod or machine an identity ({})",
            gantry_core::error_chain::chain(&error)
        ))
    })
}

async fn read(question: Question<'_>, world: &World) -> Result<Secret, StoreError> {
    let who = question.who.to_owned();
    let answer = question.granted(world).await?;
    let token: Result<Token, _> = serde_json::from_str(&answer.text);
    token
        .map(|token| token.access_token)
        .map_err(|_| StoreError::Refused { who, said: "its answer holds no token".to_owned() })
}
