//! `git clone` instead of `git init` and `git fetch` (GitLab Runner 19.4,
//! `FF_USE_GIT_NATIVE_CLONE`): for flags that only it has, such as `--filter` and `--bundle-uri`.

use std::io::Read as _;

use gantry_core::Ending;
use gantry_wire::plan::Sources;

use super::git::{self, Git};
use crate::stages::StageContext;

/// The first version of git that clones a revision.
const FIRST: (u32, u32) = (2, 49);

/// The flags to clone with, if this is to be done and git can do it.
pub(super) async fn flags<'s>(
    context: &StageContext,
    git: &Git<'_>,
    sources: &'s Sources,
) -> Result<Option<&'s [String]>, Ending> {
    let Some(flags) = &sources.options.native_clone else { return Ok(None) };
    let mut text = String::new();
    if let Some(answer) = git.answer(&["version"]).await? {
        let _ = answer.take(1024).read_to_string(&mut text);
    }
    if version(&text).is_some_and(|version| version >= FIRST) {
        return Ok(Some(flags));
    }
    let text = format!(
        "FF_USE_GIT_NATIVE_CLONE needs git 2.49 or newer in the helper image, which has {:?}: the repository is fetched instead",
        text.trim()
    );
    context.outlet.warning(text).await;
    Ok(None)
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().strip_prefix("git version ")?.split('.');
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

/// Clones into the project's directory, which is empty. What is checked out is decided later.
pub(super) async fn clone(
    context: &StageContext,
    git: &Git<'_>,
    sources: &Sources,
    flags: &[String],
) -> Result<(), Ending> {
    let name = &sources.git_ref;
    let notice = match (name.as_str(), sources.depth) {
        ("", _) => "Cloning repository...".to_owned(),
        (name, 0) => format!("Cloning repository for {name}..."),
        (name, depth) => format!("Cloning repository for {name} with git depth set to {depth}..."),
    };
    context.outlet.notice(&notice).await;
    if sources.mirror {
        context.outlet.notice("The clone comes from GitLab: the git mirror of this node serves fetches").await;
    }
    let template = git::template_dir(&context.layout);
    let depth = sources.depth.to_string();
    let project = &context.plan.paths.project_dir;
    let mut call = vec!["clone", "--no-checkout", &sources.url, project, "--template", &template];
    if sources.depth > 0 {
        call.extend(["--depth", &depth]);
    }
    match name.as_str() {
        "" => {}
        name if name.starts_with("refs/") => call.extend(["--revision", name]),
        name => call.extend(["--branch", name]),
    }
    call.extend(flags.iter().map(String::as_str));
    git.must(&call).await
}

#[cfg(test)]
mod tests {
    use super::{FIRST, version};

    #[test]
    fn versions_are_compared() {
        for (text, is_new) in [
            ("git version 2.49.0\n", true),
            ("git version 3.1", true),
            ("git version 2.39.5 (Apple Git-154)", false),
            ("", false),
        ] {
            assert_eq!(version(text).is_some_and(|version| version >= FIRST), is_new, "{text}");
        }
    }
}
