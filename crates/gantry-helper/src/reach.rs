//! Whether GitLab can be reached from where this runs: what an agent without a manager needs. For
//! `doctor`, which runs it in a trial pod.

use std::io::Read as _;
use std::process::ExitCode;

use gantry_core::error_chain::chain;
use gantry_gitlab::{Client, ClientOptions};

/// Most that is read of the certificates on standard input.
const MAX_CA: u64 = 1024 * 1024;

/// Asks the GitLab at `url`, trusting the certificates on standard input too, and prints one line:
/// how it went.
pub(crate) fn run(url: &str) -> ExitCode {
    let answer = ask(url);
    match &answer {
        Ok(line) => println!("{line}"),
        Err(why) => println!("{why}"),
    }
    if answer.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn ask(url: &str) -> Result<String, String> {
    let mut ca_pem = String::new();
    // The end of the input is marked by an empty line, since not every API server can close it
    // alone.
    let mut stdin = std::io::stdin().lock().take(MAX_CA);
    let mut byte = [0_u8; 1];
    while !ca_pem.ends_with("\n\n") && stdin.read(&mut byte).is_ok_and(|count| count > 0) {
        ca_pem.push(char::from(byte[0]));
    }
    let ca_pem = Some(ca_pem).filter(|pem| !pem.trim().is_empty());
    let options = ClientOptions { ca_pem, ..ClientOptions::new(url) };
    let client = Client::new(options).map_err(|error| chain(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let reached = runtime.block_on(client.reach()).map_err(|error| chain(&error))?;
    Ok(format!("status {} in {} ms", reached.status, reached.took.as_millis()))
}
