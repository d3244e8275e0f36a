//! What the operator lets jobs choose: images, pull policies, users (GitLab Runner 19.4,
//! `executors/kubernetes`). Unlike there, a user that is not allowed fails the job instead of
//! silently falling back to the image's, which is often root.

use gantry_config::settings::{KubernetesSettings, PullPolicy};
use gantry_core::job::Image;
use gantry_core::variables::Variables;
use globset::{GlobBuilder, GlobMatcher};

use crate::PlanError;

/// Longest reference to an image: 255 bytes of name, 128 of tag, a digest (OCI), and a registry's
/// host.
const LONGEST_IMAGE: usize = 1024;

/// Checks an image against a list of allowed patterns; `always` are allowed whatever the list says.
pub(crate) fn check_image(image: &str, kind: &str, allowed: &[String], always: &[&str]) -> Result<(), PlanError> {
    if image.len() > LONGEST_IMAGE || image.contains(|c: char| c.is_whitespace() || c.is_control()) {
        let start: String = image.chars().take(80).collect();
        return Err(PlanError::Configuration(format!("{start:?} is not the name of an image")));
    }
    let is_allowed = allowed.is_empty()
        || always.contains(&image)
        || allowed.iter().filter_map(|glob| matcher(glob)).any(|glob| glob.is_match(image));
    if is_allowed {
        return Ok(());
    }
    let mut lines = vec![format!("The {image:?} image is not present on list of allowed {kind}:")];
    lines.extend(allowed.iter().map(|glob| format!("- {glob}")));
    lines.push(format!("Please check runner's allowed_{kind} configuration"));
    Err(PlanError::DisallowedImage(lines))
}

/// `*` stays within a path element, `**` crosses them.
fn matcher(glob: &str) -> Option<GlobMatcher> {
    GlobBuilder::new(glob).literal_separator(true).build().ok().map(|glob| glob.compile_matcher())
}

/// The pull policies of a container: those of the job, else of the config, as far as they are
/// allowed.
pub(crate) fn pull_policies(
    container: &str,
    image: &Image,
    settings: &KubernetesSettings,
) -> Result<Vec<PullPolicy>, PlanError> {
    let (wanted, source) = if image.pull_policy.is_empty() {
        let source = if settings.pull_policy.is_empty() { "Runner config (default)" } else { "Runner config" };
        (default_policies(&settings.pull_policy), source)
    } else {
        let wanted = image.pull_policy.iter().map(|text| parse(text)).collect::<Result<_, _>>()?;
        (wanted, "GitLab pipeline config")
    };
    let allowed = default_policies(if settings.allowed_pull_policies.is_empty() {
        &settings.pull_policy
    } else {
        &settings.allowed_pull_policies
    });
    let effective: Vec<PullPolicy> = wanted.iter().copied().filter(|policy| allowed.contains(policy)).collect();
    if effective.is_empty() {
        return Err(PlanError::Configuration(format!(
            "invalid pull policy for container {container:?}: pull_policy ({}) defined in {source} is not one of the \
             allowed_pull_policies ({})",
            shown(&wanted),
            shown(&allowed)
        )));
    }
    Ok(effective)
}

fn default_policies(configured: &[PullPolicy]) -> Vec<PullPolicy> {
    if configured.is_empty() { vec![PullPolicy::ClusterDefault] } else { configured.to_vec() }
}

fn parse(text: &str) -> Result<PullPolicy, PlanError> {
    match text {
        "" => Ok(PullPolicy::ClusterDefault),
        "always" => Ok(PullPolicy::Always),
        "if-not-present" => Ok(PullPolicy::IfNotPresent),
        "never" => Ok(PullPolicy::Never),
        other => Err(PlanError::Configuration(format!("unsupported pull policy: {other:?}"))),
    }
}

/// Kubernetes' word for a policy; `None` leaves the field out.
pub(crate) fn kubernetes_word(policy: PullPolicy) -> Option<&'static str> {
    match policy {
        PullPolicy::ClusterDefault => None,
        PullPolicy::Always => Some("Always"),
        PullPolicy::IfNotPresent => Some("IfNotPresent"),
        PullPolicy::Never => Some("Never"),
    }
}

/// A list of policies as job logs show it: `[Always IfNotPresent]`.
pub(crate) fn shown(policies: &[PullPolicy]) -> String {
    let words: Vec<&str> = policies.iter().filter_map(|policy| kubernetes_word(*policy)).collect();
    format!("[{}]", words.join(" "))
}

/// Whom the processes of a container should run as, as far as the job has a say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestedUser {
    pub(crate) uid: Option<i64>,
    pub(crate) gid: Option<i64>,
}

/// The user and group that a job asks for with `image: kubernetes: user:`.
pub(crate) fn requested_user(
    image: &Image,
    settings: &KubernetesSettings,
    variables: &Variables,
) -> Result<RequestedUser, PlanError> {
    let Some(user) = &image.executor_opts.kubernetes.user else { return Ok(RequestedUser::default()) };
    let user = variables.expand(&user.0);
    if user.is_empty() {
        return Ok(RequestedUser::default());
    }
    let (uid, gid) = user.split_once(':').map_or((user.as_str(), None), |(uid, gid)| (uid, Some(gid)));
    let uid = id(uid, "user", &settings.allowed_users)?;
    let gid = gid.map(|gid| id(gid, "group", &settings.allowed_groups)).transpose()?;
    Ok(RequestedUser { uid: Some(uid), gid })
}

fn id(text: &str, kind: &str, allowed: &[i64]) -> Result<i64, PlanError> {
    let id: i64 = text.parse().ok().filter(|id| (0..=i64::from(i32::MAX)).contains(id)).ok_or_else(|| {
        PlanError::Configuration(format!(
            "image option kubernetes.user asks for {kind} {text:?}, which is not a number that can be one"
        ))
    })?;
    let is_allowed = if allowed.is_empty() { id != 0 } else { allowed.contains(&id) };
    if is_allowed {
        return Ok(id);
    }
    Err(PlanError::Configuration(format!(
        "image option kubernetes.user asks for {kind} {id}, which allowed_{kind}s of the runner's config does not allow"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images() {
        let allowed = ["registry.example.com/team/*:*".to_owned(), "ruby:**".to_owned()];
        let check = |image| check_image(image, "images", &allowed, &["default:1"]).is_ok();
        assert!(check("registry.example.com/team/app:1") && check("ruby:3.3") && check("default:1"));
        assert!(!check("registry.example.com/team/sub/app:1") && !check("python:3"));
    }

    #[test]
    fn policies_are_cut_down_to_allowed_ones() {
        let settings = KubernetesSettings { pull_policy: vec![PullPolicy::IfNotPresent], ..Default::default() };
        let image = |policies: &[&str]| Image {
            pull_policy: policies.iter().map(|&policy| policy.to_owned()).collect(),
            ..Image::default()
        };
        assert_eq!(pull_policies("build", &image(&[]), &settings), Ok(vec![PullPolicy::IfNotPresent]));
        assert_eq!(
            pull_policies("build", &image(&["always", "if-not-present"]), &settings),
            Ok(vec![PullPolicy::IfNotPresent])
        );
        let error = pull_policies("build", &image(&["always"]), &settings).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid pull policy for container \"build\": pull_policy ([Always]) defined in GitLab pipeline config is not one of the \
             allowed_pull_policies ([IfNotPresent])"
        );
    }
}
