//! A native GitLab CI runner for Kubernetes: arguments in, exit code out.
//!
//! One binary is three programs. Started under the name `gantry-helper` it is the helper of a job
//! pod; re-executed by the simulated kubelet it becomes a container's first process; otherwise it
//! is the command line of [`cli`].

mod arguments;
mod cli;
mod commands;
mod exit_status;
mod go_arguments;
mod helper_binary;
mod logging;
mod style;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

/// How it is set stands in `.cargo/config.toml`.
#[cfg(all(feature = "jemalloc", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Must come first: it may not run beside other threads.
    #[cfg(feature = "sim")]
    if let Some(code) = gantry_sim_kube::container::run_if_launcher() {
        return code;
    }
    let name = std::env::args_os().next();
    let name = name.as_deref().map(Path::new).and_then(Path::file_name);
    if name == Some(OsStr::new("gantry-helper")) {
        return gantry_helper::main(std::env::args_os());
    }
    if name == Some(OsStr::new("entrypoint")) {
        // Probes look for the name of the process that they know, and GitLab's image becomes it
        // here. Where that is impossible they look in vain, and say so.
        let _ = std::fs::write("/proc/self/comm", "gitlab-runner");
    }
    cli::main()
}
