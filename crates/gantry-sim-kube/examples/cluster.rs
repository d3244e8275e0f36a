//! A simulated cluster to try by hand: `cargo run -p gantry-sim-kube --example cluster --
//! <kubeconfig> [address]`. Environment: nothing. It runs until it is interrupted.

use std::{error::Error, process::ExitCode, time::Duration};

use gantry_sim_kube::{Config, SimKube, container};

fn main() -> ExitCode {
    // A container's first process is this program under another name; that must be settled before
    // any thread exists.
    if let Some(code) = container::run_if_launcher() {
        return code;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let kubeconfig = args.next().ok_or("usage: cluster <kubeconfig> [address]")?;
    let listen = args.next().unwrap_or_else(|| "127.0.0.1:0".to_owned()).parse()?;
    let mut config = Config::new(listen, "/proc/self/exe");
    config.kubeconfig = Some(kubeconfig.into());
    config.pull_delays = vec![("slow*".to_owned(), Duration::from_secs(5))];
    config.missing_images = vec!["missing*".to_owned()];
    let sim = SimKube::bind(config).await?;
    println!("listening on {}", sim.url());
    sim.serve(async {
        let _ = tokio::signal::ctrl_c().await;
    })
    .await?;
    Ok(())
}
