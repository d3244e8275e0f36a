//! The container launcher alone, for tests whose own `main` belongs to the test harness. The
//! `gantry` binary is its own launcher.

use std::process::ExitCode;

fn main() -> ExitCode {
    gantry_sim_kube::container::run_if_launcher().unwrap_or_else(|| {
        eprintln!("this program is started by the container runtime of the simulated Kubernetes, not by hand");
        ExitCode::FAILURE
    })
}
