//! A client's certificate and key on their way to the agent: `#[serde(with = "identity_text")]`.

use gantry_core::{ClientIdentity, Secret};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::secret_text;

#[derive(Serialize, Deserialize)]
struct Text {
    cert_pem: String,
    #[serde(with = "secret_text")]
    key_pem: Secret,
}

#[expect(clippy::ref_option, reason = "as serde calls it")]
pub(crate) fn serialize<S: Serializer>(identity: &Option<ClientIdentity>, serializer: S) -> Result<S::Ok, S::Error> {
    let text = |ClientIdentity { cert_pem, key_pem }: ClientIdentity| Text { cert_pem, key_pem };
    identity.clone().map(text).serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ClientIdentity>, D::Error> {
    let identity = |Text { cert_pem, key_pem }| ClientIdentity { cert_pem, key_pem };
    Ok(Option::<Text>::deserialize(deserializer)?.map(identity))
}
