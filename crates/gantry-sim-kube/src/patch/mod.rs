//! Patching objects: the four ways Kubernetes accepts, and who owns what after it. Pure functions
//! from an object and a patch to an object; whether the result is a legal object is decided
//! elsewhere.

mod fields;
mod json_patch;
pub(crate) mod managed;
mod merge;
mod strategic;

pub(crate) use json_patch::json_patch;
pub(crate) use merge::merge;
pub(crate) use strategic::strategic;
