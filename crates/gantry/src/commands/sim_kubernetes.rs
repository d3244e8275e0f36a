//! `gantry sim kubernetes`: the simulated cluster alone.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use gantry_sim_kube::{Config, Login, PrivateImage, SimKube};

use crate::commands::{interrupted, listen_address, output, runtime};

/// Arguments of `gantry sim kubernetes`.
#[derive(Debug, Args)]
pub(crate) struct SimKubernetesArgs {
    /// Where the API server listens (TLS), such as 127.0.0.1:6443
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6443", value_parser = listen_address)]
    listen: SocketAddr,
    /// Where to write a kubeconfig of the cluster's administrator
    #[arg(long, value_name = "FILE")]
    kubeconfig: PathBuf,
    /// How long the pull of an image takes, as IMAGE=5s; * matches anything; may be repeated
    #[arg(long = "pull-delay", value_name = "IMAGE=DURATION", value_parser = pull_delay)]
    pull_delays: Vec<(String, Duration)>,
    /// An image that cannot be pulled; * matches anything; may be repeated
    #[arg(long = "missing-image", value_name = "IMAGE")]
    missing_images: Vec<String>,
    /// An image whose registry wants a user and a password, as IMAGE=USER:PASSWORD; * matches
    /// anything; may be repeated
    #[arg(long = "private-image", value_name = "IMAGE=USER:PASSWORD", value_parser = private_image)]
    private_images: Vec<PrivateImage>,
    /// Behave like this version of Kubernetes where clients can see a difference: 1.20 or 1.33
    #[arg(long = "kubernetes", value_name = "VERSION", default_value = "1.33", value_parser = ["1.20", "1.33"])]
    version: String,
    /// How often kubelet compares what pods have written with their limits
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    eviction_period: Duration,
    /// Something that goes wrong from the start, as JSON for /sim/faults; may be repeated
    #[arg(long = "fault", value_name = "JSON")]
    faults: Vec<String>,
    /// One more name or address for the server's certificate; may be repeated
    #[arg(long = "tls-san", value_name = "NAME")]
    extra_sans: Vec<String>,
}

fn pull_delay(text: &str) -> Result<(String, Duration), String> {
    let (image, delay) = text.rsplit_once('=').ok_or("write IMAGE=DURATION, such as ruby:3=5s")?;
    Ok((image.to_owned(), duration(delay)?))
}

fn private_image(text: &str) -> Result<PrivateImage, String> {
    let parts = || {
        let (image, login) = text.split_once('=')?;
        let (user, password) = login.split_once(':')?;
        let login = Login { user: user.to_owned(), password: password.to_owned() };
        Some(PrivateImage { pattern: image.to_owned(), login })
    };
    parts().ok_or_else(|| "write IMAGE=USER:PASSWORD, such as registry.example.com/*=me:secret".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let number = |digits: &str| digits.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    let delay = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(digits), _) => number(digits).map(|millis| millis / 1000.0),
        (None, Some(digits)) => number(digits),
        (None, None) => None,
    };
    let delay = delay.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    delay.ok_or_else(|| "the duration is not of the form 5s or 300ms".to_owned())
}

/// Serves until interrupted.
pub(crate) fn main(args: SimKubernetesArgs) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let kubeconfig = args.kubeconfig.display().to_string();
        let config = Config {
            kubeconfig: Some(args.kubeconfig),
            pull_delays: args.pull_delays,
            missing_images: args.missing_images,
            private_images: args.private_images,
            extra_sans: args.extra_sans,
            eviction_period: args.eviction_period,
            ..Config::new(args.listen, "/proc/self/exe")
        };
        let config = if args.version == "1.20" { config.like_1_20() } else { config };
        let sim = SimKube::bind(config).await.context("the simulated Kubernetes cannot start")?;
        for fault in &args.faults {
            sim.order_fault(fault).with_context(|| format!("--fault {fault}"))?;
        }
        output(&format!(
            "simulated Kubernetes: {}\nkubeconfig:           {kubeconfig}\n\
             Containers are processes of this machine with its own tools, whatever their images are called.\n",
            sim.url()
        ))?;
        sim.serve(interrupted()).await?;
        Ok(ExitCode::SUCCESS)
    })
}
