//! Shared access signatures for one blob. Pure.
//! <https://learn.microsoft.com/rest/api/storageservices/create-service-sas>,
//! <https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gantry_core::Secret;
use jiff::Timestamp;

use crate::encode::{hmac_sha256, query};
use crate::error::StoreError;

/// The version whose texts are signed.
pub(super) const VERSION: &str = "2020-12-06";

/// A key that Azure has made for the identity of this process.
#[derive(Clone, Debug)]
pub(super) struct UserKey {
    pub(super) object_id: String,
    pub(super) tenant_id: String,
    pub(super) start: String,
    pub(super) expiry: String,
    pub(super) service: String,
    pub(super) version: String,
    /// Base64.
    pub(super) value: Secret,
}

/// Whose key signs.
pub(super) enum Signer<'a> {
    /// The account's, base64.
    Account(&'a Secret),
    Delegated(&'a UserKey),
}

/// What is allowed.
pub(super) struct Sas<'a> {
    pub(super) account: &'a str,
    pub(super) container: &'a str,
    pub(super) blob: &'a str,
    pub(super) permissions: &'a str,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

impl Sas<'_> {
    /// The query of the blob's URL.
    pub(super) fn query(&self, signer: &Signer<'_>) -> Result<String, StoreError> {
        let Self { permissions, .. } = self;
        let (start, end) = (time(self.start), time(self.end));
        let text = self.text(signer);
        let key = match signer {
            Signer::Account(key) => key.expose(),
            Signer::Delegated(key) => key.value.expose(),
        };
        let key = STANDARD.decode(key.trim()).map_err(|_| {
            StoreError::Settings(
                "AccountKey of [runners.cache.azure] is no base64 text, as keys of accounts are".to_owned(),
            )
        })?;
        let signature = STANDARD.encode(hmac_sha256(&key, &text));
        let mut pairs = vec![("sp", *permissions), ("st", &start), ("se", &end), ("spr", "https")];
        if let Signer::Delegated(key) = signer {
            pairs.extend([
                ("skoid", key.object_id.as_str()),
                ("sktid", &key.tenant_id),
                ("skt", &key.start),
                ("ske", &key.expiry),
                ("sks", &key.service),
                ("skv", &key.version),
            ]);
        }
        pairs.extend([("sv", VERSION), ("sr", "b"), ("sig", &signature)]);
        Ok(query(pairs))
    }

    /// The text that is signed: every field in its place, also those that say nothing.
    fn text(&self, signer: &Signer<'_>) -> String {
        let Self { account, container, blob, permissions, .. } = self;
        let (start, end) = (time(self.start), time(self.end));
        let resource = format!("/blob/{account}/{container}/{blob}");
        let mut fields = vec![*permissions, &start, &end, &resource];
        match signer {
            // The identifier of a stored policy.
            Signer::Account(_) => fields.push(""),
            // Behind the key: authorised and unauthorised user, correlation.
            Signer::Delegated(key) => fields.extend([
                key.object_id.as_str(),
                &key.tenant_id,
                &key.start,
                &key.expiry,
                &key.service,
                &key.version,
                "",
                "",
                "",
            ]),
        }
        // Addresses; protocol, version, kind; snapshot and encryption; headers of the answer.
        fields.extend(["", "https", VERSION, "b", "", "", "", "", "", "", ""]);
        fields.join("\n")
    }
}

/// `2026-01-31T12:00:00Z`.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
