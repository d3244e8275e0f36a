//! The commands about runners, as processes against a simulated GitLab.

mod charts;
mod doctor;
mod harness;
mod offline;
mod operating;
mod registering;
mod running;
