//! `gantry completions`: what shells know of the command line.

use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::commands::output;

/// Arguments of `gantry completions`.
#[derive(Debug, Args)]
#[command(after_help = "For bash: gantry completions bash > /etc/bash_completion.d/gantry")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
    /// Name of the program that is completed, where it is installed under another one
    #[arg(long, value_name = "NAME", default_value = "gantry")]
    name: String,
}

/// Prints the completion script of a shell.
pub(crate) fn completions(args: &CompletionsArgs, mut command: Command) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, args.name.as_str(), &mut text);
    output(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}
