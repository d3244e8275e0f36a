//! The contract between the manager and what runs in the job pod: the [`plan::PodPlan`], the [`frame::Frame`]s of the connection between
//! manager and agent, those between agent and shim, and the order of stages.
//!
//! Pure: no IO, no clock. Fields are only ever added; a frame that one side does not know is skipped. The bytes of every frame are pinned
//! by a golden test per protocol version.

pub mod codec;
pub mod frame;
pub mod layout;
pub mod plan;
mod secret_text;
pub mod shim;
pub mod stage;

/// Version of this contract. A helper of another version is not used: the manager sends its own.
pub const PROTOCOL: u32 = 1;
