//! Serves repositories as a simulated GitLab until Ctrl-C: `serve <listen> [<project
//! path>=<directory>]…`.

use std::error::Error;
use std::path::PathBuf;

use gantry_sim_gitlab::{Config, SimGitlab};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().ok_or("give an address to listen on, such as 127.0.0.1:8080")?.parse()?;
    let mut config = Config { registration_token: Some("registration-token".to_owned()), ..Config::new(listen) };
    for argument in arguments {
        let (name, path) = argument.split_once('=').ok_or("repositories are given as group/project=/directory")?;
        config.repos.push((name.to_owned(), PathBuf::from(path)));
    }
    let sim = SimGitlab::bind(config).await?;
    println!("url {}\nrunner token {}", sim.url(), sim.runner_token());
    let interrupted = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            eprintln!("cannot wait for Ctrl-C: {error}");
        }
    };
    sim.serve(interrupted).await?;
    Ok(())
}
