//! The command line of `gantry dev`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::commands::listen_address;
use crate::exit_status;

/// Where the page is if nothing else is said.
const PAGE: &str = "127.0.0.1:8080";

/// What the scripts get of this machine, and how a run ends.
const ABOUT: &str = "\
What is run: the repository around the current directory, if it has a .gitlab-ci.yml, with what is not committed; new
files too, unless .gitignore names them. They become a commit of this run alone, in a copy of the repository: yours is
not written to. --committed and --ref run what is committed. Without a repository a sample project is run.

Scripts run with the tools of this machine: the system's, and your own by your PATH and by what variables such as
RUSTUP_HOME, NVM_DIR, PYENV_ROOT, GOPATH or JAVA_HOME name. In the containers your home is empty but for the
directories of such tools; what a job writes there goes with its container. Keys, credentials and settings of the
home (.ssh, .aws, .gitconfig, .netrc, .config, ...) are not shown to scripts: give a job what it needs by variables.

A variables file has lines KEY=VALUE. Its values are masked in logs where they have 8 characters or more, and git must
not know the file. .gantry-variables beside .gitlab-ci.yml is read by itself.

What `cache` keeps lies in ~/.cache/gantry/dev (or in $XDG_CACHE_HOME), in one directory for each repository; to begin
afresh, remove it.

With --images the containers have the files of the jobs' and services' images and nothing of this machine's, but for
its network: what listens there is reached by all, so one job runs at a time in a pipeline with services, and where such
a pipeline may follow (child pipelines, --watch, --serve). podman or docker gets the images, with your logins, and runs
nothing. The files are kept in ~/.cache/gantry/dev-images until no run has used them for two weeks; what jobs write
beside the project goes with their containers. Where you are not root, all files belong to one user in the containers,
which some images do not like (apt-get, for one).

With --cluster the jobs are pods of a real cluster, made with the rights of your kubeconfig (in a pod: with those of its
service account), and their images are real. They fetch sources from this machine and bring their logs and artifacts to
it, over plain HTTP, each with a token of its own; everything else that is served here, the page too, answers this
machine only, unless --serve names an address that others reach. Nothing is kept of `cache` there.

A job of a child pipeline is named with the job that starts it: --job \"deploy > check\".

Output that is no terminal is plain, and so is all output with NO_COLOR set. Ctrl-C ends the jobs, copies the artifacts
of those that have ended (--artifacts) and shows the table; a second one leaves at once.";

/// Arguments of `gantry dev`.
#[derive(Debug, Args)]
#[command(after_long_help = exit_status::help(ABOUT, "dev"))]
pub(crate) struct DevArgs {
    /// A git repository; its .gitlab-ci.yml is run. Default: the one around the current directory,
    /// else a sample project
    #[arg(long, value_name = "DIR")]
    pub(super) repo: Option<PathBuf>,
    /// The sample project, wherever this is started
    #[arg(long, conflicts_with = "repo")]
    pub(super) sample: bool,
    /// Branch, tag or commit; default: what is checked out
    #[arg(long = "ref", value_name = "REF", conflicts_with = "sample")]
    pub(super) git_ref: Option<String>,
    /// Only what is committed, without the changes of the work tree
    #[arg(long)]
    pub(super) committed: bool,
    /// Run this job with what it needs; may be repeated. Manual jobs that are named start by
    /// themselves
    #[arg(long = "job", value_name = "NAME")]
    pub(super) jobs: Vec<String>,
    /// Run the jobs of --job or --failed alone, without what they need
    #[arg(long)]
    pub(super) no_needs: bool,
    /// Run again what failed in the last run of this repository, with what it needs
    #[arg(long, conflicts_with_all = ["jobs", "sample"])]
    pub(super) failed: bool,
    /// Start manual and delayed jobs when it is their turn: all of them, or the named ones
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "*", require_equals = true)]
    pub(super) manual: Vec<String>,
    /// Show the jobs and why others are left out, and run nothing
    #[arg(long, conflicts_with = "serve")]
    pub(super) list: bool,
    /// Show everything that is known about the jobs, with their scripts, and run nothing
    #[arg(long, conflicts_with_all = ["serve", "list"])]
    pub(super) dry_run: bool,
    /// A variable of the pipeline; may be repeated
    #[arg(long = "variable", value_name = "KEY=VALUE", value_parser = pair)]
    pub(super) variables: Vec<(String, String)>,
    /// A file with variables and secrets that is not committed
    #[arg(long, value_name = "FILE")]
    pub(super) variables_file: Option<PathBuf>,
    /// A value for an input that `spec:inputs` of the .gitlab-ci.yml asks for; may be repeated
    #[arg(long = "input", value_name = "KEY=VALUE", value_parser = pair)]
    pub(super) inputs: Vec<(String, String)>,
    /// A directory that stands for another project in `include`, and for its components; may be
    /// repeated
    #[arg(long = "include-project", value_name = "GROUP/NAME=DIR", value_parser = place)]
    pub(super) projects: Vec<(String, PathBuf)>,
    /// A file that stands for a URL in `include` (or a directory for all URLs that begin so, with a
    /// slash at the end)
    #[arg(long = "include-remote", value_name = "URL=FILE", value_parser = place)]
    pub(super) remotes: Vec<(String, PathBuf)>,
    /// Copy the files of the jobs' artifacts to DIR, in a directory for each job; a new DIR is one
    /// that git ignores
    #[arg(long, value_name = "DIR")]
    pub(super) artifacts: Option<PathBuf>,
    /// Run again whenever a file changes, until Ctrl-C
    #[arg(long, conflicts_with_all = ["git_ref", "committed", "list", "dry_run"])]
    pub(super) watch: bool,
    /// Run what this job needs, and open a shell in its container instead of its script; leaving it
    /// ends the job well, with its artifacts
    #[arg(long, value_name = "JOB", conflicts_with_all = ["jobs", "failed", "list", "dry_run", "watch", "serve", "no_needs"])]
    pub(super) shell: Option<String>,
    /// Run the jobs in the cluster of the kubeconfig's current context, or of CONTEXT, with the
    /// images that they name
    #[arg(long, value_name = "CONTEXT", num_args = 0..=1, default_missing_value = "", require_equals = true, conflicts_with_all = ["shell", "list", "dry_run"])]
    pub(super) cluster: Option<String>,
    /// Namespace of the pods; default: the context's
    #[arg(long, value_name = "NAMESPACE", requires = "cluster")]
    pub(super) namespace: Option<String>,
    /// Address or name under which pods reach this machine; default: its address on the way to the
    /// API server
    #[arg(long, value_name = "ADDRESS", requires = "cluster")]
    pub(super) advertise: Option<String>,
    /// Image of the container that fetches sources, with git; our helper is put into it. Default:
    /// GitLab's own
    #[arg(long, value_name = "IMAGE", requires = "cluster")]
    pub(super) helper_image: Option<String>,
    /// Run the jobs and their services in the images that they name, which podman or docker gets;
    /// their containers are local processes on this machine's network. Default: podman, else docker
    #[arg(long, value_name = "ENGINE", num_args = 0..=1, default_missing_value = "", require_equals = true, conflicts_with_all = ["cluster", "list", "dry_run"])]
    pub(super) images: Option<String>,
    /// Keep running after the pipeline and show everything on a page; Ctrl-C ends it. ADDR is the
    /// page's; default 127.0.0.1:8080
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = PAGE, value_parser = listen_address)]
    pub(super) serve: Option<SocketAddr>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    if key.is_empty() {
        Err("the key is empty: write KEY=VALUE".to_owned())
    } else {
        Ok((key.to_owned(), value.to_owned()))
    }
}

/// The last `=` separates: URLs may have some themselves.
fn place(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.rsplit_once('=').ok_or("write NAME=PATH")?;
    let path = PathBuf::from(path);
    let path = path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((name.to_owned(), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_split_where_they_are_meant_to_be() {
        assert_eq!(pair("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert!(pair("A").is_err() && pair("=b").is_err());
        assert_eq!(place("https://a/?b=c=/"), Ok(("https://a/?b=c".to_owned(), PathBuf::from("/"))));
        assert!(place("a/b=/no/such/place").is_err());
    }
}
