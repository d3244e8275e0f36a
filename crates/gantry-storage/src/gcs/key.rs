//! The RSA key of a service account.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use crate::error::StoreError;

/// A key that signs.
pub(super) struct Key(RsaKeyPair);

impl Key {
    /// `pem` as files of service accounts hold it; line ends may be written as `\n`, as people do
    /// in TOML and variables.
    pub(super) fn read(pem: &str, place: &str) -> Result<Self, StoreError> {
        let wrong = || StoreError::Settings(format!("{place} is no private RSA key (PEM) of a service account"));
        let pem = pem.replace("\\n", "\n");
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| wrong())?;
        let pair = match &key {
            PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()),
            _ => return Err(wrong()),
        };
        pair.map(Self).map_err(|_| wrong())
    }

    /// PKCS #1 v1.5 with SHA-256.
    pub(super) fn sign(&self, text: &str) -> Result<Vec<u8>, StoreError> {
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .map_err(|_| StoreError::Settings("the private key of the service account cannot sign".to_owned()))?;
        Ok(signature)
    }

    /// The public half, DER (PKCS #1).
    #[cfg(test)]
    pub(super) fn public(&self) -> Vec<u8> {
        aws_lc_rs::signature::KeyPair::public_key(&self.0).as_ref().to_vec()
    }
}
