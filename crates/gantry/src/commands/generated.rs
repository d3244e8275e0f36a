//! What is made of the command line's own description: completions for shells, and manual pages.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
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

/// Arguments of `gantry man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where the pages go, one for each command: gantry.1, gantry-run.1 and so on
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

/// Prints the completion script of a shell.
pub(crate) fn completions(args: &CompletionsArgs, mut command: Command) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, args.name.as_str(), &mut text);
    output(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the manual pages.
pub(crate) fn man(args: &ManArgs, command: Command) -> anyhow::Result<ExitCode> {
    let directory = &args.directory;
    std::fs::create_dir_all(directory).with_context(|| format!("{} cannot be made", directory.display()))?;
    clap_mangen::generate_to(command, directory)
        .with_context(|| format!("the pages cannot be written to {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}
