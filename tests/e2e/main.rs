//! The shipped binaries end to end: on the simulators, or with `--cluster` on the cluster of `KUBECONFIG`, with the same results.
//!
//! Tests share one world: simulated GitLab, a cluster, and one runner with the smallest rights. Those that need another configuration, or
//! that harm their runner, start one of their own beside it. Jobs that are only data are in `cases/`.

mod cancel;
mod causes;
mod connections;
mod containers;
mod deployment;
mod dev;
mod jobs;
mod lasting;
mod output;
mod process;

use std::process::ExitCode;

use gantry_tests::case;
use gantry_tests::suite::{self, Test};

/// The files of cases, by name.
const CASES: [(&str, &str); 8] = [
    ("scripts", include_str!("cases/scripts.toml")),
    ("processes", include_str!("cases/processes.toml")),
    ("variables", include_str!("cases/variables.toml")),
    ("sources", include_str!("cases/sources.toml")),
    ("builds", include_str!("cases/builds.toml")),
    ("artifacts", include_str!("cases/artifacts.toml")),
    ("containers", include_str!("cases/containers.toml")),
    ("cancel", include_str!("cases/cancel.toml")),
];

fn main() -> ExitCode {
    let mut tests = Vec::new();
    for (file, text) in CASES {
        match case::read(text) {
            Ok(cases) => tests.extend(cases.into_iter().enumerate().map(|(number, case)| {
                let name = format!("{file}: {}", case.name);
                let label = format!("{file}-{number}");
                let need = case.needs();
                let test = Test::new(name, move |world| async move { case.check(&world, &label).await });
                match need {
                    Some(need) => test.needs(need),
                    None => test,
                }
            })),
            Err(error) => {
                eprintln!("cases/{file}.toml: {error:#}");
                return ExitCode::FAILURE;
            }
        }
    }
    tests.extend(containers::tests());
    tests.extend(output::tests());
    tests.extend(cancel::tests());
    tests.extend(jobs::tests());
    tests.extend(lasting::tests());
    tests.extend(process::tests());
    tests.extend(causes::tests());
    tests.extend(connections::tests());
    tests.extend(deployment::tests());
    tests.extend(dev::tests());
    suite::main(tests)
}
