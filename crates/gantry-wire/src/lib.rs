//! The contract between the manager and what runs in the job pod: the [`plan::PodPlan`], the
//! [`frame::Frame`]s of the connection between manager and agent, those between agent and shim, and
//! the order of stages.
//!
//! Pure: no IO, no clock. Fields are only ever added; a frame that one side does not know is
//! skipped. The bytes of every frame are pinned by a golden test per protocol version.

pub mod cache;
pub mod codec;
pub mod frame;
pub mod greeting;
mod identity_text;
mod keyed;
pub mod layout;
pub mod plan;
pub mod provenance;
mod secret_text;
pub mod services;
pub mod session;
pub mod shim;
pub mod stage;
pub mod ticket;
pub mod usage;

/// Version of this contract: the newest that this program speaks. Pods are started with nothing
/// older, and adopted down to [`OLDEST_PROTOCOL`].
///
/// 1 is the first. 2 adds what adoption needs: managers greet, and agents say who is in charge.
pub const PROTOCOL: u32 = 2;

/// The oldest version that this program still speaks with a peer that was started by another
/// version.
pub const OLDEST_PROTOCOL: u32 = 1;
