//! The `gantry-helper` binary: everything is in the library, so that `gantry` can act as it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    gantry_helper::main(std::env::args_os())
}
