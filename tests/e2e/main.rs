//! The shipped binaries end to end: on the simulators, or with `--cluster` on the cluster of
//! `KUBECONFIG`, with the same results.
//!
//! Tests share one world: simulated GitLab, a cluster, and one runner with the smallest rights.
//! Those that need another configuration, or that harm their runner, start one of their own beside
//! it. Jobs that are only data are in `cases/`.

mod broken;
mod caches;
mod cancel;
mod causes;
mod chart;
mod connections;
mod containers;
mod deployment;
mod dev;
mod dev_cluster;
mod dev_home;
mod dev_images;
mod doctor;
mod gitlab_chart;
mod jobs;
mod lasting;
mod managers;
mod many;
mod mirror;
mod openbao;
mod output;
mod package;
mod process;
mod registries;
mod restricted;
mod room;
mod secrets;
mod services;
mod settings;
mod telemetry;
mod terminal;
mod warm;

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
    tests.extend(caches::tests());
    tests.extend(jobs::tests());
    tests.extend(lasting::tests());
    tests.extend(managers::tests());
    tests.extend(many::tests());
    tests.extend(mirror::tests());
    tests.extend(package::tests());
    tests.extend(process::tests());
    tests.extend(secrets::tests());
    tests.extend(openbao::tests());
    tests.extend(services::tests());
    tests.extend(doctor::tests());
    tests.extend(terminal::tests());
    tests.extend(telemetry::tests());
    tests.extend(room::tests());
    tests.extend(settings::tests());
    tests.extend(warm::tests());
    tests.extend(causes::tests());
    tests.extend(broken::tests());
    tests.extend(registries::tests());
    tests.extend(restricted::tests());
    tests.extend(connections::tests());
    tests.extend(chart::tests());
    tests.extend(gitlab_chart::tests());
    tests.extend(deployment::tests());
    tests.extend(dev::tests());
    tests.extend(dev_home::tests());
    tests.extend(dev_images::tests());
    tests.extend(dev_cluster::tests());
    suite::main(tests)
}
