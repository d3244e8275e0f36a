//! How git gets the project: remote, credentials, refspecs, flags (GitLab Runner 19.4,
//! `shells/abstract.go`).
//!
//! The remote never carries credentials. They are rewriting rules that the agent keeps in a file
//! beside the builds directory.

use gantry_config::{Quantity, RunnerSettings};
use gantry_core::Secret;
use gantry_core::job::JobSpec;
use gantry_core::variables::Variables;
use gantry_wire::plan::{GitCredential, GitOptions, GitStrategy, Script, Sources, SubmoduleStrategy, Submodules};

use crate::job_settings::{Flags, JobSettings};
use crate::mirror::Mirror;
use crate::script::{ScriptStyle, compose};
use crate::{Context, PlanError};

/// The user name that goes with a job token (GitLab's API).
const TOKEN_USER: &str = "gitlab-ci-token";

/// Everything that the sources stage is made from.
pub(crate) struct Inputs<'a> {
    pub(crate) job: &'a JobSpec,
    pub(crate) runner: &'a RunnerSettings,
    pub(crate) context: &'a Context,
    pub(crate) settings: &'a JobSettings,
    pub(crate) flags: &'a Flags,
    pub(crate) variables: &'a Variables,
}

/// The sources stage of a job.
pub(crate) fn sources(inputs: &Inputs<'_>) -> Result<Sources, PlanError> {
    let Inputs { job, runner, context, settings, flags, variables } = inputs;
    let has_git = matches!(settings.git_strategy, GitStrategy::Clone | GitStrategy::Fetch);
    if has_git {
        check(job)?;
    }
    let repo = without_credentials(job.git_info.repo_url.expose());
    let url = match runner.clone_url.as_deref().filter(|url| url.contains("://")) {
        Some(base) => {
            let path = variables.get("CI_PROJECT_PATH").filter(|path| !path.is_empty());
            let path = path.unwrap_or(&job.job_info.project_full_path);
            let base = if http_root(base).is_some() { without_credentials(base) } else { base.to_owned() };
            format!("{}/{path}.git", base.trim_end_matches('/'))
        }
        None => repo.clone(),
    };
    let strategy = settings.submodule_strategy.clone().map_err(PlanError::Configuration)?;
    Ok(Sources {
        strategy: settings.git_strategy,
        credentials: credentials(inputs, &[&url, &repo, &runner.url], strategy),
        own_urls: if url == repo { vec![repo] } else { vec![url.clone(), repo] },
        url,
        git_ref: job.git_info.git_ref.clone(),
        sha: job.git_info.sha.clone(),
        refspecs: job.git_info.refspecs.clone(),
        depth: depth(job.git_info.depth),
        object_format: job.git_info.repo_object_format.clone(),
        checkout: settings.git_checkout,
        clean_flags: settings.clean_flags.clone(),
        fetch_flags: settings.fetch_flags.clone(),
        submodules: Submodules {
            strategy,
            paths: settings.submodule_paths.clone().map_err(PlanError::Configuration)?,
            depth: settings.submodule_depth.unwrap_or_else(|| depth(job.git_info.depth)),
            update_flags: settings.submodule_update_flags.clone(),
        },
        lfs: settings.lfs,
        ca_pem: context.tls_ca_pem.clone(),
        http_headers: context
            .correlation_id
            .iter()
            .filter(|id| flags.is_on("FF_USE_GITALY_CORRELATION_ID") && id.bytes().all(|byte| byte.is_ascii_graphic()))
            .map(|id| format!("X-Gitaly-Correlation-ID: {id}"))
            .collect(),
        user_agent: context.git_user_agent.clone(),
        pre_script: hook("pre_get_sources_script", runner.pre_get_sources_script.as_deref(), job, true, settings),
        post_script: hook("post_get_sources_script", runner.post_get_sources_script.as_deref(), job, false, settings),
        options: GitOptions {
            native_clone: is_native_clone(settings, flags).then(|| settings.clone_flags.clone()),
            without_bundles: !flags.is_on("FF_USE_GIT_BUNDLE_URIS"),
            proactive_auth: flags.is_on("FF_USE_GIT_PROACTIVE_AUTH"),
            clean_up: flags.is_on("FF_ENABLE_JOB_CLEANUP"),
        },
        mirror: Mirror::of(job, runner, settings.git_strategy).is_some(),
        mirror_limit: runner.git_mirror_limit.as_ref().filter(|_| runner.git_mirror.is_some()).map(Quantity::whole),
    })
}

fn is_native_clone(settings: &JobSettings, flags: &Flags) -> bool {
    settings.git_strategy == GitStrategy::Clone && flags.is_on("FF_USE_GIT_NATIVE_CLONE")
}

/// What a job asks of git in vain.
pub(crate) fn warning(settings: &JobSettings, flags: &Flags) -> Option<String> {
    (!settings.clone_flags.is_empty() && !is_native_clone(settings, flags)).then(|| {
        "GIT_CLONE_EXTRA_FLAGS has no effect without GIT_STRATEGY: clone and FF_USE_GIT_NATIVE_CLONE: use GIT_FETCH_EXTRA_FLAGS".to_owned()
    })
}

/// Refuses what git would take for something else than a commit or a refspec.
fn check(job: &JobSpec) -> Result<(), PlanError> {
    let git = &job.git_info;
    let invalid = |message: String| Err(PlanError::InvalidJob(message));
    if !git.repo_url.expose().contains("://") {
        return invalid("git_info.repo_url is missing or not a URL".to_owned());
    }
    let is_sha = matches!(git.sha.len(), 40 | 64) && git.sha.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_sha {
        return invalid(format!("git_info.sha is {:?}, which is not a commit id", git.sha));
    }
    let is_bad = |refspec: &&String| {
        refspec.is_empty() || refspec.starts_with('-') || refspec.contains(|c: char| c.is_control() || c == ' ')
    };
    if let Some(bad) = git.refspecs.iter().find(is_bad) {
        return invalid(format!("git_info.refspecs has {bad:?}, which is not a refspec"));
    }
    if !matches!(git.repo_object_format.as_str(), "" | "sha1" | "sha256") {
        return invalid(format!("git_info.repo_object_format is {:?}, not sha1 or sha256", git.repo_object_format));
    }
    Ok(())
}

fn depth(depth: i64) -> u32 {
    u32::try_from(depth).unwrap_or(0)
}

/// Drops user and password from a URL, and query and fragment, which have no meaning for git and
/// may hold a token too.
pub(crate) fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// Scheme and host of an HTTP URL as a prefix ending in `/`.
fn http_root(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split('/').next().unwrap_or_default();
    (matches!(scheme, "http" | "https") && !host.is_empty()).then(|| format!("{scheme}://{host}/"))
}

fn credentials(inputs: &Inputs<'_>, urls: &[&str], submodules: SubmoduleStrategy) -> Vec<GitCredential> {
    let token = inputs.job.token.expose();
    let with_token = |root: &str| Secret::new(root.replacen("://", &format!("://{TOKEN_USER}:{token}@"), 1));
    let mut rules: Vec<GitCredential> = Vec::new();
    for root in urls.iter().filter_map(|url| http_root(&without_credentials(url))) {
        if rules.iter().all(|rule| rule.without != root) {
            rules.push(GitCredential { with: with_token(&root), without: root });
        }
    }
    if submodules != SubmoduleStrategy::None && inputs.settings.submodule_force_https {
        let base = http_root(&without_credentials(urls.first().copied().unwrap_or_default()));
        let host = ["CI_SERVER_SHELL_SSH_HOST", "CI_SERVER_HOST"]
            .iter()
            .find_map(|key| inputs.variables.get(key).filter(|host| !host.is_empty()));
        if let (Some(base), Some(host)) = (base, host) {
            let port =
                inputs.variables.get("CI_SERVER_SHELL_SSH_PORT").filter(|port| !port.is_empty() && *port != "22");
            let forms = match port {
                Some(port) => vec![format!("ssh://git@{host}:{port}/")],
                None => vec![format!("git@{host}:"), format!("ssh://git@{host}/")],
            };
            rules.extend(forms.into_iter().map(|without| GitCredential { with: with_token(&base), without }));
        }
    }
    rules
}

/// A hook around git: the config's is the outer one.
fn hook(
    name: &str,
    configured: Option<&str>,
    job: &JobSpec,
    configured_first: bool,
    settings: &JobSettings,
) -> Option<Script> {
    let of_job = job.hooks.iter().find(|hook| hook.name == name).map(|hook| hook.script.as_slice()).unwrap_or_default();
    let configured = configured.filter(|script| !script.trim().is_empty());
    let mut commands: Vec<&str> = of_job.iter().map(String::as_str).collect();
    if let Some(script) = configured {
        commands.insert(if configured_first { 0 } else { commands.len() }, script);
    }
    let style = ScriptStyle { xtrace: settings.debug_trace, ..ScriptStyle::default() };
    (!commands.is_empty()).then(|| Script { text: Secret::new(compose(commands, style)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_their_credentials() {
        for (url, clean) in [
            ("https://gitlab-ci-token:t@h:8443/g/p.git", "https://h:8443/g/p.git"),
            ("https://h/g/p.git", "https://h/g/p.git"),
            ("https://a@b@h", "https://h"),
            ("https://h/g/p.git?private_token=t#x", "https://h/g/p.git"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(without_credentials(url), clean);
        }
        assert_eq!(http_root("https://h:8443/g/p.git").as_deref(), Some("https://h:8443/"));
        assert_eq!(http_root("ssh://git@h/x"), None);
    }
}
