//! Calls git.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gantry_core::{Ending, Secret};
use gantry_wire::plan::Sources;
use gantry_wire::shim::SecretText;
use nix::unistd::{AccessFlags, access};

use super::credentials::{self, Setting};
use crate::agent::script_environment::variables;
use crate::process::script::pass_environment;
use crate::stages::StageContext;

/// What every new repository starts with (GitLab Runner 19.4): no questions, no work in the background, no surprises from the network.
const TEMPLATE: &str = "[init]\n\tdefaultBranch = none\n[fetch]\n\trecurseSubmodules = false\n[credential]\n\tinteractive = never\n\
                        [gc]\n\tautoDetach = false\n";

/// Git with its environment.
pub(super) struct Git<'a> {
    context: &'a StageContext,
    /// What git and hooks get beside the container's own environment.
    pub(super) environment: Vec<(String, SecretText)>,
}

impl<'a> Git<'a> {
    pub(super) fn prepare(context: &'a StageContext, sources: &Sources) -> Result<Self, Ending> {
        let ca_file = write_ca(context, sources)
            .map_err(|error| context.trouble("cannot write the certificates for git", &error))?;
        let home = home(&context.layout.agent_dir())
            .map_err(|error| context.trouble("cannot make a home directory for git", &error))?;
        let mut environment = variables(&context.plan, context.status);
        let settings = settings(sources, ca_file.as_deref());
        environment.extend(credentials::as_variables(&settings, credentials::count(&environment)));
        let mut set = |key: &str, value: &str| environment.push((key.to_owned(), SecretText(value.into())));
        set("GIT_TERMINAL_PROMPT", "0");
        set("GCM_INTERACTIVE", "Never");
        set("HOME", &home.to_string_lossy());
        if sources.lfs {
            // Large files are fetched in one go after the checkout.
            set("GIT_LFS_SKIP_SMUDGE", "1");
        }
        Ok(Self { context, environment })
    }

    /// Runs git in the project directory with its output in the log; anything but 0 ends the stage.
    pub(super) async fn must(&self, arguments: &[&str]) -> Result<(), Ending> {
        let exit = self.context.tool(self.command(arguments)).await.map_err(|error| cannot_start(&error))?;
        if exit.success() {
            return Ok(());
        }
        Err(Ending::StageFailed {
            stage: self.context.name().to_owned(),
            message: format!("{} ended with exit code {}; its messages are above", shown(arguments), exit.code),
            exit_code: exit.code,
        })
    }

    /// The same where failing is not the end.
    pub(super) async fn tries(&self, arguments: &[&str]) -> Result<bool, Ending> {
        let exit = self.context.tool(self.command(arguments)).await.map_err(|error| cannot_start(&error))?;
        Ok(exit.success())
    }

    /// Runs git with nothing shown; whether it ended with 0.
    pub(super) async fn succeeds(&self, arguments: &[&str]) -> Result<bool, Ending> {
        let exit = self.context.quiet_tool(self.command(arguments)).await.map_err(|error| cannot_start(&error))?;
        Ok(exit.success())
    }

    /// Whether git-lfs is installed.
    pub(super) async fn has_lfs(&self) -> Result<bool, Ending> {
        self.succeeds(&["lfs", "version"]).await
    }

    /// Directory with the configuration of new repositories.
    pub(super) fn template(&self) -> io::Result<String> {
        let directory = self.context.layout.agent_dir().join("git-template");
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("config"), TEMPLATE)?;
        Ok(directory.to_string_lossy().into_owned())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.args(arguments).current_dir(&self.context.plan.paths.project_dir).stdin(Stdio::null());
        pass_environment(&mut command, &self.environment);
        command
    }
}

fn settings(sources: &Sources, ca_file: Option<&Path>) -> Vec<Setting> {
    let mut settings: Vec<Setting> = Vec::new();
    let mut set = |key: &str, value: &str| settings.push((Secret::new(key), Secret::new(value)));
    // The tree may belong to the user of an earlier build container.
    set("safe.directory", "*");
    set("transfer.bundleURI", "true");
    if !sources.user_agent.is_empty() {
        set("http.userAgent", &sources.user_agent);
    }
    for header in &sources.http_headers {
        set("http.extraHeader", header);
    }
    if let Some(file) = ca_file {
        set(&format!("http.{}.sslCAInfo", origin(&sources.url)), &file.to_string_lossy());
    }
    settings.extend(credentials::rules(sources));
    settings
}

/// Scheme, host and port of a URL: certificates that were configured for one server are for that server only.
fn origin(url: &str) -> &str {
    let after_scheme = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(after_scheme..).and_then(|rest| rest.find('/')).map_or(url.len(), |at| after_scheme + at);
    url.get(..end).unwrap_or(url)
}

fn write_ca(context: &StageContext, sources: &Sources) -> io::Result<Option<PathBuf>> {
    let Some(pem) = &sources.ca_pem else { return Ok(None) };
    let path = context.layout.agent_dir().join("git-ca.pem");
    fs::write(&path, pem)?;
    Ok(Some(path))
}

/// The container's own home where it can be written to, because images bring settings there; else one of ours.
fn home(agent_dir: &Path) -> io::Result<PathBuf> {
    if let Some(home) = std::env::var_os("HOME").map(PathBuf::from)
        && home.is_dir()
        && access(&home, AccessFlags::W_OK).is_ok()
    {
        return Ok(home);
    }
    let home = agent_dir.join("home");
    fs::create_dir_all(&home)?;
    Ok(home)
}

fn cannot_start(error: &io::Error) -> Ending {
    let message = if error.kind() == io::ErrorKind::NotFound {
        "there is no git in the helper image: use one that has it, such as gitlab-runner-helper".to_owned()
    } else {
        format!("git cannot be started in the helper container: {error}")
    };
    Ending::HelperUnusable { message }
}

/// The sub-command, which is all of a call that helps and never holds anything private.
fn shown(arguments: &[&str]) -> String {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if *argument == "-c" {
            rest.next();
        } else {
            return format!("git {argument}");
        }
    }
    "git".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_for_one_server() {
        assert_eq!(origin("https://gitlab.example.com:8443/g/p.git"), "https://gitlab.example.com:8443");
        assert_eq!(origin("https://gitlab.example.com"), "https://gitlab.example.com");
        assert_eq!(origin("/srv/git/p.git"), "");
    }

    #[test]
    fn only_the_sub_command_is_shown() {
        assert_eq!(shown(&["-c", "submodule.recurse=false", "checkout", "-f"]), "git checkout");
    }
}
