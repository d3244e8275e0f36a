//! Stores that find their keys by themselves: services of clouds answer as their documentation
//! says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

mod azure;
mod google;
mod s3;
mod world;
