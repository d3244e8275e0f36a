//! What is asked of a store about one object, and the signed requests that answer it: the same for
//! all stores.

use std::time::Duration;

use gantry_core::Secret;
use jiff::Timestamp;

/// What is done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// `GET`.
    Read,
    /// `PUT`.
    Write,
}

/// A request that somebody else will send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRequest {
    /// The object's name in its bucket.
    pub name: String,
    /// What is done with it.
    pub access: Access,
    /// How the signature's life is bounded.
    pub valid_for: Duration,
    /// Kept beside the object, for people who look at the bucket.
    pub key: String,
    /// Largest object that may be put, in bytes, where the store can keep such a limit.
    pub most: Option<u64>,
}

/// A signed request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Where it goes; its query holds the signature.
    pub url: Secret,
    /// Headers that must be sent with it.
    pub headers: Vec<(String, String)>,
    /// Largest body that the store takes in this one request, in bytes; nothing where it has no
    /// such limit.
    pub most: Option<u64>,
    /// How the object may be put in parts instead.
    pub parts: Option<Parts>,
    /// When the keys end that it was signed with, and the request with them, whatever its own life.
    /// Absent where they do not, as far as is known.
    pub ends: Option<Timestamp>,
}

/// How an object is put in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parts {
    /// An upload of S3 that has begun.
    S3(S3Parts),
    /// A `POST` that begins an upload of Google's; the answer's `location` is where its parts go.
    Gcs {
        /// Where it goes.
        url: Secret,
        /// Headers that must be sent with it.
        headers: Vec<(String, String)>,
    },
    /// Blocks of Azure go to the blob's address: its signature is for whatever is written to it.
    Azure,
}

/// The requests of an upload of S3 that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Parts {
    /// The URL of every part (`PUT`) up to its number.
    pub before_number: Secret,
    /// What follows the number, up to the part's signature.
    pub after_number: Secret,
    /// The signatures of the parts from 1 on, 64 hexadecimal digits each, with nothing between
    /// them.
    pub signatures: Secret,
    /// Makes the parts one object (`POST`).
    pub complete: Secret,
    /// Gives the upload up (`DELETE`).
    pub abort: Secret,
}

/// Whether a text can stand in a signed header: no other characters are the same everywhere.
pub(crate) fn is_plain(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_graphic();
    !text.is_empty() && text.len() <= 1024 && text.chars().all(is_word)
}
