//! Calls git.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gantry_core::{Ending, Secret};
use gantry_wire::plan::Sources;
use gantry_wire::shim::SecretText;
use nix::unistd::{AccessFlags, access};

use super::credentials::{self, Setting};
use crate::layout::Layout;
use crate::ports::Exit;
use crate::process::environment::{inherited, sort};
use crate::process::script::{pass_environment, set_environment};
use crate::stages::variables::{is_traced, variables};
use crate::stages::{COMMAND_NOT_FOUND, StageContext};

/// Mode of files with certificates, one of which may be a key.
const PRIVATE: u32 = 0o600;

/// What every new repository starts with (GitLab Runner 19.4): no questions, no work in the
/// background, no surprises from the network.
const TEMPLATE: &str = "[init]\n\tdefaultBranch = none\n[fetch]\n\trecurseSubmodules = false\n[credential]\n\tinteractive = never\n\
                        [gc]\n\tautoDetach = false\n";

/// The rest of what `git clone` gives the git directory of a submodule, but for what `git
/// submodule` adds by itself.
const MODULE: &str = "[core]\n\tbare = false\n\tlogAllRefUpdates = true\n[remote \"origin\"]\n\
                      \tfetch = +refs/heads/*:refs/remotes/origin/*\n";

/// Git with its environment.
pub(super) struct Git<'a> {
    context: &'a StageContext,
    /// What git and hooks get beside the container's own environment.
    pub(super) environment: Vec<(String, SecretText)>,
    /// Whether that is all they get, the container's own among it.
    pub(super) is_whole: bool,
    /// The same with credentials for whole servers, and with our template for what is cloned.
    for_submodules: Vec<(String, SecretText)>,
    settings: Vec<Setting>,
    for_servers: Vec<Setting>,
    template: String,
    /// Whether large files are fetched in one go after the checkout.
    lfs: bool,
    /// Whether a hook has chosen where programs are looked for.
    is_path_of_hook: bool,
}

impl<'a> Git<'a> {
    pub(super) fn prepare(context: &'a StageContext, sources: &Sources) -> Result<Self, Ending> {
        let certificates = Certificates::write(context, sources)
            .map_err(|error| context.trouble("cannot write the certificates for git", &error))?;
        let agent_dir = context.layout.agent_dir();
        let home = home(&agent_dir).map_err(|error| context.trouble("cannot make a home directory for git", &error))?;
        let template =
            template(context).map_err(|error| context.trouble("cannot write the template for repositories", &error))?;
        let config = context.layout.git_config();
        credentials::write(&config, sources, &[])
            .and_then(|()| credentials::write_helper(&context.layout.git_helper_config(), sources))
            .map_err(|error| context.trouble("cannot write the settings for git", &error))?;
        let mut environment = variables(&context.plan, context.status);
        let mut set = |key: &str, value: &str| environment.push((key.to_owned(), SecretText(value.into())));
        set("GIT_TERMINAL_PROMPT", "0");
        set("GCM_INTERACTIVE", "Never");
        set("HOME", &home.to_string_lossy());
        // Hooks know the file by this name (GitLab Runner 19.4).
        set("GLR_EXT_GIT_CONFIG_PATH", &config.to_string_lossy());
        let mut settings = settings(sources, &certificates);
        settings.push(credentials::include(&config));
        let mut git = Self {
            context,
            environment: Vec::new(),
            is_whole: false,
            for_submodules: Vec::new(),
            settings,
            for_servers: credentials::for_servers(sources),
            template,
            lfs: sources.lfs,
            is_path_of_hook: false,
        };
        git.build_on(environment);
        Ok(git)
    }

    /// Takes the whole environment that a hook has left in the place of the one so far.
    pub(super) fn take(&mut self, left: Vec<(String, SecretText)>) {
        self.is_path_of_hook = last(&left, "PATH") != self.path().as_deref();
        let before = std::mem::take(&mut self.environment);
        // What no process can carry the hook could not leave, and the next hook needs it.
        let assigned = sort(&before, if self.is_whole { 0 } else { inherited() }).assigned;
        let assigned = assigned.into_iter().filter(|(key, _)| last(&left, key).is_none());
        let mut environment: Vec<_> = assigned.map(|(key, value)| (key.to_owned(), SecretText(value.into()))).collect();
        environment.extend(left);
        self.is_whole = true;
        self.build_on(environment);
    }

    /// Adds to `base` what git cannot do without.
    fn build_on(&mut self, mut base: Vec<(String, SecretText)>) {
        if self.lfs {
            base.push(("GIT_LFS_SKIP_SMUDGE".to_owned(), SecretText("1".into())));
        }
        let with = |settings: &[Setting]| {
            let missing = credentials::missing(settings, &base);
            let added = credentials::as_variables(&missing, credentials::count(&base));
            base.iter().cloned().chain(added).collect::<Vec<_>>()
        };
        self.environment = with(&self.settings);
        self.for_submodules = with(&[self.settings.as_slice(), &self.for_servers].concat());
        self.for_submodules.push(("GIT_TEMPLATE_DIR".to_owned(), SecretText(self.template.as_str().into())));
    }

    /// Where programs are looked for.
    fn path(&self) -> Option<String> {
        let own = || if self.is_whole { None } else { std::env::var("PATH").ok() };
        last(&self.environment, "PATH").map(str::to_owned).or_else(own)
    }

    /// Runs git in the project directory with its output in the log; anything but 0 ends the stage.
    pub(super) async fn must(&self, arguments: &[&str]) -> Result<(), Ending> {
        self.show(arguments).await;
        let exit = self.context.tool(self.command(arguments)).await.map_err(|error| self.cannot_start(&error))?;
        self.judge(arguments, exit)
    }

    /// The same for commands about submodules.
    pub(super) async fn must_with_submodules(&self, arguments: &[&str]) -> Result<(), Ending> {
        self.show(arguments).await;
        let mut command = Command::new("git");
        self.complete(&mut command, arguments, &self.for_submodules);
        let exit = self.context.tool(command).await.map_err(|error| self.cannot_start(&error))?;
        self.judge(arguments, exit)
    }

    /// Shows a call in the log of a job that is traced, as a shell would.
    async fn show(&self, arguments: &[&str]) {
        if is_traced(&self.context.plan) {
            let words: Vec<String> = arguments.iter().map(|argument| quoted(argument)).collect();
            self.context.outlet.plain(&format!("+ git {}", words.join(" "))).await;
        }
    }

    fn judge(&self, arguments: &[&str], exit: Exit) -> Result<(), Ending> {
        if exit.success() {
            return Ok(());
        }
        Err(Ending::StageFailed {
            stage: self.context.name().to_owned(),
            message: format!("{} ended with exit code {}; its messages are above", shown(arguments), exit.code),
            exit_code: exit.code,
        })
    }

    /// Runs git with nothing shown; whether it ended with 0.
    pub(super) async fn succeeds(&self, arguments: &[&str]) -> Result<bool, Ending> {
        let exit = self.context.quiet_tool(self.command(arguments)).await.map_err(|error| self.cannot_start(&error))?;
        Ok(exit.success())
    }

    /// Runs git with nothing shown; in its own last words, why it failed.
    pub(super) async fn attempt(&self, arguments: &[&str]) -> Result<(), String> {
        self.show(arguments).await;
        let ran = self.context.complaint_of(self.command(arguments)).await;
        let (exit, words) = ran.map_err(|error| format!("git cannot be started: {error}"))?;
        if exit.success() {
            return Ok(());
        }
        let call = shown(arguments);
        Err(if words.is_empty() {
            format!("{call} ended with exit code {}", exit.code)
        } else {
            format!("{call} says {words:?}")
        })
    }

    /// Whether the remote can be asked, and has one of `refs` if some are given. No repository
    /// takes part in that.
    pub(super) async fn remote_has(&self, url: &str, refs: &[&str]) -> Result<bool, Ending> {
        let arguments = [&["ls-remote", "--quiet", "--exit-code", url][..], refs].concat();
        self.show(&arguments).await;
        let mut command = self.command(&arguments);
        command.current_dir(self.context.layout.agent_dir());
        let exit = self.context.quiet_tool(command).await.map_err(|error| self.cannot_start(&error))?;
        Ok(exit.success())
    }

    /// What git prints on its standard output; `None` if it fails.
    pub(super) async fn answer(&self, arguments: &[&str]) -> Result<Option<File>, Ending> {
        let answer = self.context.answer_of(self.command(arguments)).await;
        answer.map_err(|error| self.cannot_start(&error))
    }

    /// Whether git-lfs is installed.
    pub(super) async fn has_lfs(&self) -> Result<bool, Ending> {
        self.succeeds(&["lfs", "version"]).await
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        self.complete(&mut command, arguments, &self.environment);
        command
    }

    fn complete(&self, command: &mut Command, arguments: &[&str], environment: &[(String, SecretText)]) {
        command.args(arguments).current_dir(&self.context.plan.paths.project_dir).stdin(Stdio::null());
        if self.is_whole {
            set_environment(command, environment);
        } else {
            pass_environment(command, environment);
        }
    }

    fn cannot_start(&self, error: &io::Error) -> Ending {
        if self.is_path_of_hook && error.kind() == io::ErrorKind::NotFound {
            let message = format!(
                "git is not found ({error}) by the PATH that the hook before getting the sources has exported: extend PATH there, as in \
                 export PATH=\"/opt/tool/bin:$PATH\""
            );
            return Ending::StageFailed {
                stage: self.context.name().to_owned(),
                message,
                exit_code: COMMAND_NOT_FOUND,
            };
        }
        self.context.cannot_start("git", error)
    }
}

/// The value of a variable, of which the last counts.
fn last<'e>(environment: &'e [(String, SecretText)], key: &str) -> Option<&'e str> {
    environment.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.0.expose())
}

/// What git ends with when it does not understand its arguments.
const USAGE: i32 = 129;

/// Whether a failure is git's own word about what it was asked for. A git that could not be
/// started, or not be loaded, says nothing of that, and neither does one that was asked for
/// something that it does not know.
pub(super) fn has_judged(ending: &Ending) -> bool {
    matches!(ending, Ending::StageFailed { exit_code, .. } if ![COMMAND_NOT_FOUND, USAGE].contains(exit_code))
}

/// Directory with the configuration of new repositories.
pub(super) fn template_dir(layout: &Layout) -> String {
    layout.agent_dir().join("git-template").to_string_lossy().into_owned()
}

fn template(context: &StageContext) -> io::Result<String> {
    let directory = template_dir(&context.layout);
    fs::create_dir_all(&directory)?;
    fs::write(Path::new(&directory).join("config"), format!("{TEMPLATE}{}", include(&context.layout)))?;
    Ok(directory)
}

fn include(layout: &Layout) -> String {
    let paths = [layout.git_config(), layout.git_helper_config()];
    let lines = paths.iter().map(|path| format!("\tpath = {}\n", credentials::quoted(&path.to_string_lossy())));
    format!("[include]\n{}", lines.collect::<String>())
}

/// The configuration of a submodule whose git directory is there already.
pub(crate) fn module_config(layout: &Layout, sources: &Sources) -> String {
    let format = match sources.object_format.as_str() {
        "" | "sha1" => "[core]\n\trepositoryFormatVersion = 0\n".to_owned(),
        // A submodule has the format of the repository that holds it (git).
        other => format!("[core]\n\trepositoryFormatVersion = 1\n[extensions]\n\tobjectFormat = {other}\n"),
    };
    format!("{format}{MODULE}{TEMPLATE}{}", include(layout))
}

fn settings(sources: &Sources, certificates: &Certificates) -> Vec<Setting> {
    let mut settings: Vec<Setting> = Vec::new();
    let mut set = |key: &str, value: &str| settings.push((Secret::new(key), Secret::new(value)));
    // The tree may belong to the user of an earlier build container.
    set("safe.directory", "*");
    if !sources.options.without_bundles {
        set("transfer.bundleURI", "true");
    }
    if sources.options.proactive_auth {
        set(&format!("http.{}.proactiveAuth", origin(&sources.url)), "basic");
    }
    if !sources.user_agent.is_empty() {
        set("http.userAgent", &sources.user_agent);
    }
    for header in &sources.http_headers {
        set("http.extraHeader", header);
    }
    for (key, file) in &certificates.files {
        set(&format!("http.{}.{key}", origin(&sources.url)), &file.to_string_lossy());
    }
    settings
}

/// Scheme, host and port of a URL: certificates that were configured for one server are for that
/// server only.
fn origin(url: &str) -> &str {
    let after_scheme = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(after_scheme..).and_then(|rest| rest.find('/')).map_or(url.len(), |at| after_scheme + at);
    url.get(..end).unwrap_or(url)
}

/// Files with certificates for git, which takes no text.
struct Certificates {
    /// By the setting that names them.
    files: Vec<(&'static str, PathBuf)>,
}

impl Certificates {
    fn write(context: &StageContext, sources: &Sources) -> io::Result<Self> {
        let identity = context.plan.coordinator.identity.as_ref();
        let texts = [
            ("sslCAInfo", "git-ca.pem", sources.ca_pem.as_deref()),
            ("sslCert", "git-cert.pem", identity.map(|identity| identity.cert_pem.as_str())),
            ("sslKey", "git-key.pem", identity.map(|identity| identity.key_pem.expose())),
        ];
        let mut files = Vec::new();
        for (setting, name, text) in texts {
            let Some(text) = text else { continue };
            let path = context.layout.agent_dir().join(name);
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(PRIVATE).open(&path)?;
            file.write_all(text.as_bytes())?;
            files.push((setting, path));
        }
        Ok(Self { files })
    }
}

/// The container's own home where it can be written to, because images bring settings there; else
/// one of ours.
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

/// A word about as a shell reads it. Nothing in it is escaped: masks know it as it is.
fn quoted(word: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || "-_=+:,./@%".contains(c);
    if !word.is_empty() && word.chars().all(is_bare) { word.to_owned() } else { format!("'{word}'") }
}

/// The sub-command, which is all of a call that helps and never holds anything private.
fn shown(arguments: &[&str]) -> String {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if *argument == "-c" {
            rest.next();
        } else if !argument.starts_with("--git-dir=") {
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
    fn words_are_shown_as_masks_know_them() {
        assert_eq!(
            ["--depth=20", "+refs/a:b", "", "a b", "it's"].map(quoted),
            ["--depth=20", "+refs/a:b", "''", "'a b'", "'it's'"]
        );
    }

    #[test]
    fn only_the_sub_command_is_shown() {
        assert_eq!(shown(&["-c", "submodule.recurse=false", "checkout", "-f"]), "git checkout");
        assert_eq!(shown(&["--git-dir=/x", "fetch"]), "git fetch");
    }
}
