//! The commands about runners, as processes against a simulated GitLab.

mod harness;
mod operating;
mod registering;
mod running;
