//! Words shared by all of Gantry: the job as GitLab describes it, its variables, how it can end,
//! secrets, limits.
//!
//! This crate never does IO, knows no clock and no runtime. Start reading at [`ending`];
//! what GitLab hands out is [`job::JobSpec`].

pub mod backoff;
pub mod chance;
mod client_identity;
pub mod effect;
pub mod ending;
pub mod error_chain;
pub mod feature_flags;
pub mod go_duration;
pub mod job;
pub mod job_variables;
mod lenient;
pub mod limits;
mod note_level;
pub mod outcome;
pub mod proxy;
pub mod quantity;
pub mod redactor;
pub mod reserved;
pub mod secret;
pub mod short_token;
pub mod user_info;
pub mod variables;

pub use client_identity::ClientIdentity;
pub use effect::Effect;
pub use ending::Ending;
pub use note_level::NoteLevel;
pub use outcome::{FailureReason, JobState, Verdict};
pub use secret::Secret;
