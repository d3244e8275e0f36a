//! Secrets of jobs that other stores keep: HashiCorp Vault and OpenBao, Google Cloud, Azure, AWS,
//! GitLab's own manager.
//!
//! A store ([`Store`]) is what a job's payload says about one secret; [`Store::fetch`] gets it,
//! through [`World`]. Nothing here knows what becomes of a secret, keeps one, or puts one into an
//! error. Start at [`resolve`]; one file per provider.

mod ask;
mod aws;
mod azure;
mod error;
mod gcp;
mod gitlab;
mod text;
mod vault;
mod world;

#[cfg(test)]
mod stub;

use futures::future::BoxFuture;
use gantry_core::Secret;
use gantry_core::job::SecretSpec;

pub use error::{Kind, SecretError};
pub use world::{Connect, Google, Lookup, World};

/// One secret in one store.
pub trait Store: Send + Sync {
    /// The provider's name, as the payload has it.
    fn provider(&self) -> &'static str;

    /// Gets the secret.
    fn fetch<'a>(&'a self, world: &'a World) -> BoxFuture<'a, Result<Secret, SecretError>>;
}

/// The store of a secret; nothing where no provider of the payload is known. `expand` replaces
/// references to variables of the job.
pub fn resolve(spec: &SecretSpec, expand: &dyn Fn(&str) -> String) -> Option<Box<dyn Store>> {
    if let Some(vault) = &spec.vault {
        return Some(Box::new(vault::Vault::new(vault, expand)));
    }
    if let Some(gcp) = &spec.gcp_secret_manager {
        return Some(Box::new(gcp::Gcp::new(gcp, expand)));
    }
    if let Some(azure) = &spec.azure_key_vault {
        return Some(Box::new(azure::Azure::new(azure, expand)));
    }
    if let Some(aws) = &spec.aws_secrets_manager {
        return Some(Box::new(aws::Aws::new(aws, expand)));
    }
    spec.gitlab_secrets_manager.as_ref().map(|gitlab| Box::new(gitlab::Gitlab::new(gitlab)) as Box<dyn Store>)
}
