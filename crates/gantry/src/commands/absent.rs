//! Commands that this build does not have: the simulators are a cargo feature, which the image
//! leaves out.

use std::ffi::OsString;
use std::process::ExitCode;

/// Whatever the command would take.
#[derive(Debug, clap::Args)]
pub(crate) struct AbsentArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _all: Vec<OsString>,
}

/// Says why `gantry <command>` cannot run, and where it can.
pub(crate) fn main(command: &str) -> anyhow::Result<ExitCode> {
    anyhow::bail!(
        "`gantry {command}` needs the simulators, which this build is without (cargo feature `sim`); run it in a clone of the sources: \
         cargo run -p gantry -- {command}"
    )
}
