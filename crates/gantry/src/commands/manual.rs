//! `gantry man`: manual pages, from the command line's own description and from what the code says
//! of files, variables and exit statuses.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Arg, Args, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use gantry_core::proxy::Proxies;
use gantry_http::roots;
use gantry_kube::access;

use crate::arguments::built_at;
use crate::commands::config_path;
#[cfg(feature = "sim")]
use crate::commands::dev;
use crate::exit_status;

/// Commands that talk to GitLab as the configuration says, but for those below.
const OF_GITLAB: [&str; 4] = ["register", "reset-token", "unregister", "verify"];

/// Commands that use a cluster, too.
const OF_CLUSTER: [&str; 3] = ["doctor", "run", "run-single"];

/// Commands that use a cluster, and a GitLab of their own.
const WITH_OWN_GITLAB: &[&str] = if cfg!(feature = "sim") { &["chaos", "dev"] } else { &[] };

/// The length of a day as RFC 3339 writes it.
const DAY: usize = "2026-01-31".len();

/// Arguments of `gantry man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where the pages go, one for each command: gantry.1, gantry-run.1 and so on
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

/// Writes the pages.
pub(crate) fn write(args: &ManArgs, command: Command) -> anyhow::Result<ExitCode> {
    let directory = &args.directory;
    std::fs::create_dir_all(directory).with_context(|| format!("{} cannot be made", directory.display()))?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    pages(&command, directory).with_context(|| format!("the pages cannot be written to {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The pages of a command and of those below it.
fn pages(command: &Command, directory: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        pages(below, directory)?;
    }
    let source = format!("gantry {}", env!("CARGO_PKG_VERSION"));
    // The day of the build, which is the same for all who build the same. An empty one would give
    // its place to what follows.
    let day = built_at().get(..DAY).unwrap_or(" ").to_owned();
    let man = Man::new(command.clone()).date(day).source(source).manual("Gantry");
    let mut file = File::create(directory.join(man.get_filename()))?;
    man.render_title(&mut file)?;
    man.render_name_section(&mut file)?;
    file.write_all(synopsis(command).to_roff().as_bytes())?;
    man.render_description_section(&mut file)?;
    man.render_options_section(&mut file)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut file)?;
    }
    let name = command.get_display_name().unwrap_or_default();
    let name = name.strip_prefix("gantry-").unwrap_or_default().replace("sim-", "sim ");
    let mut rest = Roff::new();
    notes(&mut rest, command);
    list(&mut rest, "ENVIRONMENT", variables(command, &name));
    list(&mut rest, "FILES", files(command, &name));
    let statuses = exit_status::of(&name).iter();
    list(&mut rest, "EXIT STATUS", statuses.map(|(status, words)| (status.to_string(), (*words).to_owned())).collect());
    file.write_all(rest.to_roff().as_bytes())?;
    file.flush()
}

/// As the help says it: a list of all flags, which some commands have by the hundred, helps nobody.
fn synopsis(command: &Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let mut page = Roff::new();
    page.control("SH", ["SYNOPSIS"]).text([bold(usage.trim_start_matches("Usage: "))]);
    page
}

/// What the help says at its end.
fn notes(page: &mut Roff, command: &Command) {
    let Some(text) = command.get_after_long_help().or(command.get_after_help()) else { return };
    let text = text.to_string();
    let text = exit_status::without_statuses(&text);
    if text.is_empty() {
        return;
    }
    page.control("SH", ["NOTES"]);
    for paragraph in text.split("\n\n") {
        page.control("PP", []);
        // A line that begins with blanks is one of a list or a table.
        let is_filled = !paragraph.lines().any(|line| line.starts_with(' '));
        if !is_filled {
            page.control("nf", []);
        }
        page.text([roman(paragraph)]);
        if !is_filled {
            page.control("fi", []);
        }
    }
}

/// A section of names and what is said of each.
fn list(page: &mut Roff, heading: &str, entries: Vec<(String, String)>) {
    if entries.is_empty() {
        return;
    }
    page.control("SH", [heading]);
    for (name, words) in entries {
        page.control("TP", []).text([bold(name)]).text([roman(words)]);
    }
}

/// What the environment may say: of each flag what stands for it, then what no flag says.
fn variables(command: &Command, name: &str) -> Vec<(String, String)> {
    let mut entries: Vec<(String, String)> = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
        .filter_map(|arg| {
            let flag = arg.get_long()?;
            Some((variable(arg)?, format!("Where --{flag} is not given.")))
        })
        .collect();
    let mut say = |name: &str, words: &str| entries.push((name.to_owned(), words.to_owned()));
    let is_one = |of: &[&str]| of.contains(&name);
    if is_one(&OF_GITLAB) || is_one(&OF_CLUSTER) || is_one(WITH_OWN_GITLAB) {
        let [http, https, no_proxy] = Proxies::VARIABLES;
        say(http, "The proxy for addresses with http; in lower case, too, like the next two.");
        say(https, "The proxy for addresses with https.");
        say(
            no_proxy,
            "What is reached without a proxy: names, domains, addresses and networks, with commas between them.",
        );
    }
    if is_one(&OF_GITLAB) || is_one(&OF_CLUSTER) {
        say(
            roots::ADDED_VARIABLE,
            &format!(
                "A file with certificates that are trusted besides those of the system; {} without it.",
                roots::ADDED
            ),
        );
        say("SSL_CERT_FILE", "The certificates of the system, in a file; SSL_CERT_DIR names directories.");
    }
    if is_one(&OF_CLUSTER) || is_one(WITH_OWN_GITLAB) {
        say(
            access::KUBECONFIG,
            &format!(
                "Where the way to the cluster is described, if the configuration names no host; ~/{} without it.",
                access::USUAL_KUBECONFIG
            ),
        );
    }
    if has_config(command) {
        say("HOME", "Where ~ is.");
    }
    say("NO_COLOR", "Output has no colours if this is set to anything.");
    entries
}

/// The variable of a flag: one that the parser reads, or one that its help names as `[env: NAME]`.
fn variable(arg: &Arg) -> Option<String> {
    let parsed = arg.get_env().map(|name| name.to_string_lossy().into_owned());
    parsed.or_else(|| {
        let help = arg.get_help()?.to_string();
        let (_, behind) = help.split_once("[env: ")?;
        Some(behind.split_once(']')?.0.to_owned())
    })
}

fn has_config(command: &Command) -> bool {
    command.get_arguments().any(|arg| arg.get_long() == Some("config"))
}

/// Files that a command reads or writes by itself.
fn files(command: &Command, name: &str) -> Vec<(String, String)> {
    let mut entries: Vec<(String, String)> = Vec::new();
    let mut say = |path: &str, words: &str| entries.push((path.to_owned(), words.to_owned()));
    let is_one = |of: &[&str]| of.contains(&name);
    if has_config(command) {
        say(
            config_path::SYSTEM,
            "The configuration, for root. For others where the next one is not there and this one is, or could be made.",
        );
        say(&format!("~/{}", config_path::OWN), "The configuration of users other than root.");
        say(config_path::HERE, "In the current directory: the configuration of users without HOME.");
    }
    if is_one(&OF_GITLAB) || is_one(&OF_CLUSTER) {
        let certificates = format!("{}/HOST.crt", gantry_daemon::CERTIFICATES);
        say(
            &certificates,
            "Beside the configuration: certificates to trust for GitLab's host. HOST.auth.crt and HOST.auth.key are a client certificate and its key.",
        );
        say(roots::ADDED, "Certificates that are trusted besides those of the system.");
        say(
            gantry_daemon::SYSTEM_ID_FILE,
            "Beside the configuration: by what GitLab tells managers with one token apart. It is made if it is not there.",
        );
    }
    if is_one(&OF_CLUSTER) || is_one(WITH_OWN_GITLAB) {
        say(
            &format!("~/{}", access::USUAL_KUBECONFIG),
            "The way to the cluster, where neither configuration nor environment says it and the process is in no pod.",
        );
    }
    #[cfg(feature = "sim")]
    if name == "dev" {
        say(dev::CI_FILE, "In the repository: what is run.");
        say(dev::OWN_FILE, "Beside it: variables and secrets, if git does not know the file.");
        say(
            &format!("~/.cache/{}", dev::CACHES),
            "What `cache` keeps, in a directory for each repository; or in $XDG_CACHE_HOME.",
        );
        say(&format!("~/.cache/{}", dev::IMAGES), "The files of images, with --images.");
    }
    entries
}
