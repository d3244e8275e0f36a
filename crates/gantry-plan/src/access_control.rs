//! What the operator lets jobs choose: images, pull policies, users (GitLab Runner 19.4,
//! `executors/kubernetes`). Unlike there, a user that is not allowed fails the job instead of
//! silently falling back to the image's, which is often root.

use gantry_config::settings::{ContainerSecurityContext, KubernetesSettings, PodSecurityContext, PullPolicy};
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
        let wanted = image.pull_policy.iter().map(|text| parse(container, text)).collect::<Result<_, _>>()?;
        (wanted, "GitLab pipeline config")
    };
    let allowed = allowed_policies(settings);
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

/// The pull policies of the helper: those of the config first, because the image is the operator's,
/// then those of the build container, with which the reference pulls it. So there is always one.
pub(crate) fn helper_pull_policies(build: &[PullPolicy], settings: &KubernetesSettings) -> Vec<PullPolicy> {
    let allowed = allowed_policies(settings);
    let mut policies = default_policies(&settings.pull_policy);
    policies.retain(|policy| allowed.contains(policy));
    let of_build: Vec<PullPolicy> = build.iter().copied().filter(|policy| !policies.contains(policy)).collect();
    policies.extend(of_build);
    policies
}

fn allowed_policies(settings: &KubernetesSettings) -> Vec<PullPolicy> {
    default_policies(if settings.allowed_pull_policies.is_empty() {
        &settings.pull_policy
    } else {
        &settings.allowed_pull_policies
    })
}

fn default_policies(configured: &[PullPolicy]) -> Vec<PullPolicy> {
    if configured.is_empty() { vec![PullPolicy::ClusterDefault] } else { configured.to_vec() }
}

fn parse(container: &str, text: &str) -> Result<PullPolicy, PlanError> {
    match text {
        "" => Ok(PullPolicy::ClusterDefault),
        "always" => Ok(PullPolicy::Always),
        "if-not-present" => Ok(PullPolicy::IfNotPresent),
        "never" => Ok(PullPolicy::Never),
        other => Err(PlanError::Configuration(format!(
            "converting pull policy for container {container:?}: unsupported pull policy: {other:?}: there are always, if-not-present and never"
        ))),
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

/// The user and group that a job asks for with `image: kubernetes: user:`, as it wrote them. Either
/// may be missing: `1000`, `1000:100`, `:100`.
pub(crate) struct RequestedUser {
    user: Option<String>,
    group: Option<String>,
}

/// What a container gets of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GrantedUser {
    pub(crate) uid: Option<i64>,
    pub(crate) gid: Option<i64>,
}

impl RequestedUser {
    pub(crate) fn of(image: &Image, variables: &Variables) -> Self {
        let text =
            image.executor_opts.kubernetes.user.as_ref().map(|user| variables.expand(&user.0)).unwrap_or_default();
        let (user, group) = text.split_once(':').unwrap_or((&text, ""));
        let given = |id: &str| (!id.is_empty()).then(|| id.to_owned());
        Self { user: given(user), group: given(group) }
    }

    /// The ids that the container gets by it: nothing of what the settings say themselves, which
    /// nobody overrules.
    pub(crate) fn granted(
        &self,
        container: &str,
        own: &ContainerSecurityContext,
        settings: &KubernetesSettings,
    ) -> Result<GrantedUser, PlanError> {
        let pod = &settings.pod_security_context;
        let user = self.user.as_ref().filter(|_| own.run_as_user.or(pod.run_as_user).is_none());
        let group = self.group.as_ref().filter(|_| own.run_as_group.or(pod.run_as_group).is_none());
        let user = user.map(|user| id(container, user, "user", settings.allowed_users.as_deref()));
        let group = group.map(|group| id(container, group, "group", settings.allowed_groups.as_deref()));
        Ok(GrantedUser { uid: user.transpose()?, gid: group.transpose()? })
    }

    /// What to say about those that it does not get, because the settings have others.
    pub(crate) fn overruled(
        &self,
        container: &str,
        own: &ContainerSecurityContext,
        pod: &PodSecurityContext,
    ) -> Vec<String> {
        let one = |what: &str, requested: Option<&String>, own: Option<i64>, pod: Option<i64>| {
            let (requested, (set, place)) =
                (requested?, own.map(|id| (id, "container")).or(pod.map(|id| (id, "pod")))?);
            Some(format!(
                "Overriding {what} for container {container:?} to {requested:?} is not allowed: {what} is set to {set} in {place} security context"
            ))
        };
        [
            one("user", self.user.as_ref(), own.run_as_user, pod.run_as_user),
            one("group", self.group.as_ref(), own.run_as_group, pod.run_as_group),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Without a list everybody but root is allowed.
fn id(container: &str, text: &str, kind: &str, allowed: Option<&[i64]>) -> Result<i64, PlanError> {
    let id: i64 = text.parse().ok().filter(|id| (0..=i64::from(i32::MAX)).contains(id)).ok_or_else(|| {
        PlanError::Configuration(format!(
            "image option kubernetes.user for container {container:?} asks for {kind} {text:?}, which is not a number that can be one: give one, or \
             leave {kind} out"
        ))
    })?;
    if allowed.map_or(id != 0, |allowed| allowed.contains(&id)) {
        return Ok(id);
    }
    Err(PlanError::Configuration(format!(
        "image option kubernetes.user for container {container:?} asks for {kind} {id}, which allowed_{kind}s of the runner's config does not \
         allow: ask for it in allowed_{kind}s, or leave {kind} out"
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
    fn the_helper_is_pulled_as_the_config_says_and_then_as_the_job_does() {
        use PullPolicy::{Always, ClusterDefault, IfNotPresent, Never};
        for (configured, allowed, build, expected) in [
            (&[][..], &[Never, IfNotPresent][..], Never, &[Never][..]),
            (&[Always], &[Never, IfNotPresent], Never, &[Never]),
            (&[Never], &[Never, Always], Always, &[Never, Always]),
            (&[IfNotPresent], &[], IfNotPresent, &[IfNotPresent]),
            (&[], &[], ClusterDefault, &[ClusterDefault]),
        ] {
            let settings = KubernetesSettings {
                pull_policy: configured.to_vec(),
                allowed_pull_policies: allowed.to_vec(),
                ..Default::default()
            };
            assert_eq!(helper_pull_policies(&[build], &settings), expected);
        }
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
