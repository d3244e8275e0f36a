//! One namespace of one cluster, as this manager works in it: one watch, one gate for execs and one
//! keeper, whatever the number of `[[runners]]` entries whose pods go there. What a pod that is
//! found means is in `meaning.rs`, whether its manager lives in `owners.rs`; `keeper.rs` looks and
//! acts, `heart.rs` says that this manager lives, `adoption.rs` goes on with a job, and
//! `resealing.rs` keeps tickets readable; `hold.rs` above says why no job should be asked for.

mod adoption;
mod heart;
mod keeper;
mod meaning;
mod owners;
mod resealing;
mod shared;
mod sites;

pub(crate) use shared::{FleetPlace, HeldPod, Site};
pub(crate) use sites::Sites;
