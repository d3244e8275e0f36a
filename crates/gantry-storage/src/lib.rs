//! Object stores: S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage.
//!
//! Whoever holds a [`Store`] has requests signed for one object each ([`Store::sign`]), which
//! anybody can then send: so that a job's pod gets and puts its caches without credentials of the
//! store. Signing is pure (`signing.rs`, `s3/presign.rs`, `gcs/mod.rs`, `azure/sas.rs`); what it
//! needs of the world, credentials and the region of a bucket, is asked for through `gantry-http`
//! and kept while it is valid. No objects are moved here. [`refusal`] says what the answer of a
//! store means.
//!
//! The signatures are made here and not by a library: `object_store` and the vendors' kits bring an
//! HTTP client and a TLS provider of their own, and each signature is a page of code over `hmac`
//! and `sha2`, with examples in its vendor's documentation.

mod ask;
mod azure;
mod encode;
mod error;
mod gcs;
mod object;
pub mod refusal;
mod s3;
mod signing;
mod store;
mod world;

pub use azure::AzureSettings;
pub use error::StoreError;
pub use gcs::{GcsKey, GcsSettings};
pub use object::{Access, Link, ObjectRequest, Parts, S3Parts};
pub use s3::SINGLE_PUT;
pub use s3::{Credentials, Encryption, RoleSettings, S3Access, S3Settings};
pub use store::{Settings, Store};
pub use world::{Connect, RoleEvent, RoleObserver, Route, Variable, World};
