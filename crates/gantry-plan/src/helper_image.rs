//! Which helper image a pod gets: the configured one, else the official one for the pod's
//! architecture (GitLab Runner 19.4). It only has to bring git; our own binary is pushed into it.

use gantry_config::settings::KubernetesSettings;
use gantry_core::variables::{Variables, expand};

use crate::PlanError;

/// The official helper image, without its tag.
pub(crate) const OFFICIAL: &str = "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper";

/// The version in its tag.
const VERSION: &str = "19.4.0";

/// Labels of nodes (Kubernetes API).
pub(crate) const ARCH_LABEL: &str = "kubernetes.io/arch";
const OS_LABEL: &str = "kubernetes.io/os";

/// Chooses the image; `manager_arch` is `os/arch` of the manager.
///
/// # Errors
/// The pod would run on another system than Linux.
pub(crate) fn helper_image(
    settings: &KubernetesSettings,
    variables: &Variables,
    manager_arch: &str,
) -> Result<String, PlanError> {
    if let Some(os) = settings.node_selector.get(OS_LABEL).filter(|os| *os != "linux") {
        return Err(PlanError::Configuration(format!(
            "the node selector asks for {OS_LABEL} = {os:?}: this runner runs jobs on Linux nodes only"
        )));
    }
    let configured = settings.helper_image.as_deref().map(|image| expanded(image, variables)).unwrap_or_default();
    if !configured.is_empty() {
        return Ok(configured);
    }
    let arch = match arch(settings, manager_arch) {
        "amd64" => "x86_64",
        other => other,
    };
    let flavor = settings.helper_image_flavor.as_deref().map(|flavor| variables.expand(flavor)).unwrap_or_default();
    let prefix = match flavor.as_str() {
        "" | "alpine" => String::new(),
        flavor => format!("{flavor}-"),
    };
    Ok(format!("{OFFICIAL}:{prefix}{arch}-v{VERSION}"))
}

/// The configured image. The reference's images have its revision as a tag, which nobody knows
/// here, and beside it its version: that one takes the place of the other.
fn expanded(image: &str, variables: &Variables) -> String {
    expand(image, |name| match name {
        "CI_RUNNER_REVISION" => Some(format!("v{VERSION}")),
        name => Some(variables.expand(&format!("${{{name}}}"))),
    })
}

/// The architecture that the pod's node should be of, in the words of images: GitLab Runner 19.4
/// takes amd64 where nobody says another.
pub(crate) fn arch<'a>(settings: &'a KubernetesSettings, manager_arch: &'a str) -> &'a str {
    let own = manager_arch.split_once('/').map(|(_, arch)| arch).filter(|_| settings.helper_image_autoset_arch_and_os);
    let selected = settings.node_selector.get(ARCH_LABEL).map(String::as_str);
    selected.or(own).unwrap_or("amd64")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(flavor: &str, arch: Option<&str>, autoset: bool) -> String {
        let settings = KubernetesSettings {
            helper_image_flavor: Some(flavor.to_owned()),
            helper_image_autoset_arch_and_os: autoset,
            node_selector: arch.iter().map(|arch| (ARCH_LABEL.to_owned(), (*arch).to_owned())).collect(),
            ..KubernetesSettings::default()
        };
        let image = helper_image(&settings, &Variables::default(), "linux/arm64").unwrap();
        image.rsplit_once(':').unwrap().1.to_owned()
    }

    #[test]
    fn tags() {
        assert_eq!(tag("", None, false), "x86_64-v19.4.0");
        assert_eq!(tag("alpine", None, true), "arm64-v19.4.0");
        assert_eq!(tag("ubuntu", Some("amd64"), true), "ubuntu-x86_64-v19.4.0");
        assert_eq!(tag("ubi-fips", Some("s390x"), false), "ubi-fips-s390x-v19.4.0");
    }

    /// Its own tags follow from the version, as those of the official image do.
    #[test]
    fn the_revision_in_a_tag_becomes_the_version() {
        let made = |key: &str, value: &str| gantry_core::variables::Variable::made(key, value);
        let list = vec![
            made("CI_RUNNER_VERSION", VERSION),
            made("CI_RUNNER_REVISION", "0123abcd"),
            made("ODD-NAME", "odd"),
            made("PRICE", "$$"),
        ];
        let variables = Variables::new(list, "");
        for (written, image) in [
            ("r/helper:x86_64-${CI_RUNNER_REVISION}", "r/helper:x86_64-v19.4.0"),
            ("r/helper:arm64-$CI_RUNNER_REVISION", "r/helper:arm64-v19.4.0"),
            ("r/helper:x86_64-v${CI_RUNNER_VERSION}", "r/helper:x86_64-v19.4.0"),
            ("r/${ODD-NAME}$NONE/$PRICE:1", "r/odd/$$:1"),
        ] {
            let settings = KubernetesSettings { helper_image: Some(written.to_owned()), ..Default::default() };
            assert_eq!(helper_image(&settings, &variables, "linux/amd64").unwrap(), image, "{written}");
        }
    }

    #[test]
    fn other_systems_are_refused() {
        let mut settings = KubernetesSettings::default();
        settings.node_selector.insert(OS_LABEL.to_owned(), "windows".to_owned());
        assert!(helper_image(&settings, &Variables::default(), "linux/amd64").is_err());
    }
}
