//! What a job may change about its pod by `KUBERNETES_*` variables, within the gates of the config
//! (GitLab Runner 19.4).
//!
//! The patterns of the gates are NOT anchored, as in the reference: `namespace_overwrite_allowed =
//! "ci-"` also allows `kube-ci-system`. Who means the whole value writes `^ci-.*$`. A variable
//! whose gate is closed is ignored.

use std::collections::{BTreeMap, HashSet};

use gantry_config::Quantity;
use gantry_config::names::{
    LABEL_NAME, LABEL_VALUE, is_annotation_name, is_dns_label, is_label_name, is_label_value, is_object_name,
    is_own_annotation, is_own_label, not_tolerable,
};
use gantry_config::settings::kubernetes::gate;
use gantry_config::settings::{ContainerResources, KubernetesSettings, Resources};
use gantry_core::Secret;
use gantry_core::variables::{Variable, Variables};
use regex::Regex;

use crate::PlanError;
use crate::head_line::HeadLine;
use crate::redact::JobSecrets;

/// Settings with the job's overwrites in them.
pub(crate) struct Overwritten {
    pub(crate) settings: KubernetesSettings,
    /// The job's own token for the API server.
    pub(crate) bearer_token: Option<Secret>,
    /// What the job log says about it.
    pub(crate) lines: Vec<HeadLine>,
}

impl Overwritten {
    /// Whether the pod is made by the runner's own account and in its own namespace: that is where
    /// the manager knows its rights.
    pub(crate) fn is_at_home(&self, configured: &KubernetesSettings) -> bool {
        self.bearer_token.is_none() && !configured.namespace_per_job && self.settings.namespace == configured.namespace
    }
}

/// Applies the overwrites of a job; `literal` are its variables after expansion.
///
/// # Errors
/// A wish that its gate does not allow, or that would put a masked value where everybody who may
/// read pods can read it.
pub(crate) fn apply(
    settings: &KubernetesSettings,
    literal: &Variables,
    job_secrets: &JobSecrets,
) -> Result<Overwritten, PlanError> {
    let mut overwriter = Overwriter { literal, job_secrets: Some(job_secrets), lines: Vec::new() };
    let wrong = |detail| PlanError::Configuration(format!("couldn't prepare overwrites: {detail}"));
    let bearer_token = overwriter.bearer_token(settings).map_err(wrong)?;
    let settings = overwriter.all(settings.clone()).map_err(wrong)?;
    Ok(Overwritten { settings, bearer_token, lines: overwriter.lines })
}

/// The quantities that one service asks for by its own variables, which are not expanded, and what
/// the job log says about it; `base` has the job-wide ones.
///
/// # Errors
/// A quantity that is none, or is beyond its ceiling.
pub(crate) fn service_resources(
    base: &ContainerResources,
    own: &[Variable],
) -> Result<(Resources, Vec<HeadLine>), PlanError> {
    let own = Variables::new(own.to_vec(), "");
    let mut overwriter = Overwriter { literal: &own, job_secrets: None, lines: Vec::new() };
    let mut resources = base.clone();
    match overwriter.resources(&mut resources, &SERVICE) {
        Ok(()) => Ok((resources.set, overwriter.lines)),
        Err(detail) => Err(PlanError::Configuration(format!("couldn't prepare explicit service overwrites: {detail}"))),
    }
}

/// A map of the settings that variables bring entries of.
#[derive(Clone, Copy)]
enum Map {
    Labels,
    Annotations,
    NodeSelector,
    Tolerations,
}

impl Map {
    /// Its name in messages.
    fn shown(self) -> &'static str {
        match self {
            Self::Labels => "PodLabels",
            Self::Annotations => "PodAnnotations",
            Self::NodeSelector => "NodeSelector",
            Self::Tolerations => "NodeTolerations",
        }
    }

    /// What names of its variables begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Labels => "KUBERNETES_POD_LABELS_",
            Self::Annotations => "KUBERNETES_POD_ANNOTATIONS_",
            Self::NodeSelector => "KUBERNETES_NODE_SELECTOR_",
            Self::Tolerations => "KUBERNETES_NODE_TOLERATIONS_",
        }
    }

    /// The entry of a value: `key=value`, or `key[=value][:effect]` in the form of
    /// `[node_tolerations]`.
    fn entry(self, text: &str) -> Result<(&str, &str), String> {
        match self {
            Self::Tolerations => Ok(text.split_once(':').unwrap_or((text, ""))),
            _ => text.split_once('=').ok_or_else(|| format!("provided value {text:?} does not match \"k=v\"")),
        }
    }

    /// What an API server would say against an entry. Values of labels are made to fit.
    fn refused(self, key: &str, value: &str) -> Option<String> {
        let name = || Some(format!("{key:?} {LABEL_NAME}"));
        match self {
            Self::Labels | Self::NodeSelector if !is_label_name(key) => name(),
            Self::Annotations if !is_annotation_name(key) => name(),
            Self::NodeSelector if !is_label_value(value) => Some(format!("{value:?} {LABEL_VALUE}")),
            Self::Tolerations => not_tolerable(key, value),
            _ => None,
        }
    }

    /// Whether nobody but the runner sets the entry.
    fn is_own(self, key: &str) -> bool {
        match self {
            Self::Labels => is_own_label(key),
            Self::Annotations => is_own_annotation(key),
            Self::NodeSelector | Self::Tolerations => false,
        }
    }
}

struct Overwriter<'a> {
    literal: &'a Variables,
    /// None where only quantities are read.
    job_secrets: Option<&'a JobSecrets>,
    lines: Vec<HeadLine>,
}

/// A family of quantities: the part of the variables' names, that of messages, and that of errors.
struct Family {
    variable: &'static str,
    shown: &'static str,
    of: &'static str,
}

const BUILD: Family = Family { variable: "", shown: "", of: "build" };
const SERVICE: Family = Family { variable: "SERVICE_", shown: "Service", of: "service" };
const HELPER: Family = Family { variable: "HELPER_", shown: "Helper", of: "helper" };
const POD: Family = Family { variable: "POD_", shown: "Pod", of: "Pod" };

impl Overwriter<'_> {
    fn all(&mut self, mut settings: KubernetesSettings) -> Result<KubernetesSettings, String> {
        let gates = settings.gates.clone();
        if settings.namespace_per_job {
            if gates.namespace.is_some() && self.wish("KUBERNETES_NAMESPACE_OVERWRITE").is_some() {
                self.lines.push(HeadLine::warning(
                    "KUBERNETES_NAMESPACE_OVERWRITE has no effect: namespace_per_job is set in the runner's config",
                ));
            }
        } else if let Some(name) =
            self.name("Namespace", "KUBERNETES_NAMESPACE_OVERWRITE", gates.namespace.as_deref())?
        {
            if !is_dns_label(&name) {
                return Err(format!(
                    "provided value {name:?} of KUBERNETES_NAMESPACE_OVERWRITE cannot be a namespace: those have up to 63 lower-case letters, \
                     digits and inner dashes"
                ));
            }
            settings.namespace = Some(name);
        }
        let account = gates.service_account.as_deref();
        if let Some(name) = self.name("ServiceAccount", "KUBERNETES_SERVICE_ACCOUNT_OVERWRITE", account)? {
            if !is_object_name(&name) {
                return Err(format!(
                    "provided value {name:?} of KUBERNETES_SERVICE_ACCOUNT_OVERWRITE cannot be a service account: their names have \
                     lower-case letters, digits, inner dashes and dots, up to 253"
                ));
            }
            settings.service_account = Some(name);
        }
        settings.pod_labels.extend(escaped(self.map(Map::Labels, gates.pod_labels.as_deref())?));
        settings.pod_annotations.extend(escaped(self.map(Map::Annotations, gates.pod_annotations.as_deref())?));
        settings.node_selector.extend(self.map(Map::NodeSelector, gates.node_selector.as_deref())?);
        settings.node_tolerations.extend(self.map(Map::Tolerations, gates.node_tolerations.as_deref())?);
        self.resources(&mut settings.resources.build, &BUILD)?;
        self.resources(&mut settings.resources.service, &SERVICE)?;
        self.resources(&mut settings.resources.helper, &HELPER)?;
        self.resources(&mut settings.resources.pod, &POD)?;
        Ok(settings)
    }

    fn bearer_token(&mut self, settings: &KubernetesSettings) -> Result<Option<Secret>, String> {
        let wish = self.wish("KUBERNETES_BEARER_TOKEN").filter(|_| settings.gates.bearer_token);
        let Some(token) = wish else { return Ok(None) };
        if settings.host.is_none() {
            // Going on with the manager's own token could give the job more rights than it asked
            // for.
            return Err("KUBERNETES_BEARER_TOKEN needs host in [runners.kubernetes] of the runner's config".to_owned());
        }
        self.lines.push(HeadLine::plain("\"BearerToken\" overwritten with \"XXXXXXXX...\""));
        Ok(Some(Secret::new(token)))
    }

    /// The value of a variable; an empty one counts as absent.
    fn wish(&self, key: &str) -> Option<String> {
        self.literal.get(key).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    fn name(&mut self, shown: &str, key: &str, gate: Option<&str>) -> Result<Option<String>, String> {
        let (Some(pattern), Some(value)) = (gate, self.wish(key)) else { return Ok(None) };
        self.check(pattern, key, &value)?;
        self.lines.push(HeadLine::plain(format!("{shown:?} overwritten with {value:?}")));
        Ok(Some(value))
    }

    /// Every variable whose name has the prefix brings one entry.
    fn map(&mut self, map: Map, pattern: Option<&str>) -> Result<BTreeMap<String, String>, String> {
        let mut entries = BTreeMap::new();
        let Some(pattern) = pattern else { return Ok(entries) };
        let (shown, literal) = (map.shown(), self.literal);
        let named = literal.iter().map(|variable| variable.key.as_str()).filter(|name| name.starts_with(map.prefix()));
        let mut seen = HashSet::new();
        for name in named.filter(|name| seen.insert(*name)) {
            let text = literal.get(name).unwrap_or_default();
            self.check(pattern, name, text)?;
            let (key, value) = map.entry(text).map_err(|error| format!("{error} ({name})"))?;
            if map.is_own(key) {
                self.lines.push(HeadLine::warning(format!("{name} has no effect: the runner sets {key:?} itself")));
                continue;
            }
            if let Some(wrong) = map.refused(key, value) {
                return Err(format!("{name} is {text:?}: {wrong}"));
            }
            self.lines.push(HeadLine::plain(format!("{shown:?} {key:?} overwritten with {value:?}")));
            entries.insert(key.to_owned(), value.to_owned());
        }
        Ok(entries)
    }

    /// Checks the value of a variable against the pattern of its gate.
    fn check(&self, pattern: &str, variable: &str, value: &str) -> Result<(), String> {
        if let Some(name) = self.job_secrets.and_then(|job_secrets| job_secrets.found_in(value)) {
            return Err(format!(
                "{variable} has the masked value of {name:?} in it, which could be read in the pod's spec"
            ));
        }
        let gate = gate(variable).unwrap_or_default();
        let compiled = Regex::new(pattern).map_err(|_| {
            format!(
                "{gate} of the runner's config, {pattern:?}, is not a regular expression: ask its operator ({variable})"
            )
        })?;
        if compiled.is_match(value) {
            Ok(())
        } else {
            Err(format!(
                "provided value {value:?} does not match {pattern:?} ({variable}; {gate} of the runner's config)"
            ))
        }
    }

    fn resources(&mut self, resources: &mut ContainerResources, family: &Family) -> Result<(), String> {
        let ContainerResources { set, max } = resources;
        for (name, shown, set, max) in [
            ("CPU_REQUEST", "CPURequest", &mut set.cpu_request, &max.cpu_request),
            ("CPU_LIMIT", "CPULimit", &mut set.cpu_limit, &max.cpu_limit),
            ("MEMORY_REQUEST", "MemoryRequest", &mut set.memory_request, &max.memory_request),
            ("MEMORY_LIMIT", "MemoryLimit", &mut set.memory_limit, &max.memory_limit),
            (
                "EPHEMERAL_STORAGE_REQUEST",
                "EphemeralStorageRequest",
                &mut set.ephemeral_storage_request,
                &max.ephemeral_storage_request,
            ),
            (
                "EPHEMERAL_STORAGE_LIMIT",
                "EphemeralStorageLimit",
                &mut set.ephemeral_storage_limit,
                &max.ephemeral_storage_limit,
            ),
        ] {
            let key = format!("KUBERNETES_{}{name}", family.variable);
            let (Some(max), Some(wish)) = (max, self.wish(&key)) else { continue };
            let shown = format!("{}{shown}", family.shown);
            let quantity = quantity(&shown, &wish, max).map_err(|detail| {
                let kind = if name.ends_with("LIMIT") { "limits" } else { "requests" };
                format!(
                    "invalid {} {kind} specified: {detail} ({key}; {} of the runner's config)",
                    family.of,
                    gate(&key).unwrap_or_default()
                )
            })?;
            self.lines.push(HeadLine::plain(format!("{shown:?} overwritten with {wish:?}")));
            *set = Some(quantity);
        }
        Ok(())
    }
}

fn quantity(shown: &str, wish: &str, max: &Quantity) -> Result<Quantity, String> {
    let quantity = Quantity::parse(wish).map_err(|error| format!("parsing resource limit: \"{wish} is {error}\""))?;
    if Quantity::parse("0").is_ok_and(|zero| quantity < zero) {
        return Err(format!("parsing resource limit: \"{wish} is less than nothing\""));
    }
    if quantity > *max {
        return Err(format!("the resource {shown:?} requested {wish:?} is higher than limit allowed \"{max}\""));
    }
    Ok(quantity)
}

/// Values of labels and annotations are expanded once more when the pod is made; those of a job
/// have been already.
fn escaped(entries: BTreeMap<String, String>) -> impl Iterator<Item = (String, String)> {
    entries.into_iter().map(|(key, value)| (key, value.replace('$', "$$")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Option<Quantity> {
        Quantity::parse(text).ok()
    }

    fn settings() -> KubernetesSettings {
        let mut settings = KubernetesSettings { namespace: Some("ci".to_owned()), ..KubernetesSettings::default() };
        settings.gates.namespace = Some("^ci-".to_owned());
        settings.gates.service_account = Some("(".to_owned());
        settings.gates.node_tolerations = Some(".*".to_owned());
        settings.gates.pod_labels = Some("^team=".to_owned());
        settings.gates.node_selector = Some(".*".to_owned());
        settings.gates.pod_annotations = Some(".*".to_owned());
        settings.resources.build.max.cpu_limit = quantity("4");
        settings.resources.service.max.memory_limit = quantity("1Gi");
        settings
    }

    fn applied(pairs: &[(&str, &str)]) -> Result<Overwritten, String> {
        let list = pairs.iter().map(|(key, value)| Variable::made(*key, *value)).collect();
        apply(&settings(), &Variables::new(list, ""), &JobSecrets::new([].iter(), &Secret::default()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn allowed_overwrites_are_applied_and_shown() {
        let made = applied(&[
            ("KUBERNETES_NAMESPACE_OVERWRITE", "ci-tests"),
            ("KUBERNETES_POD_LABELS_1", "team=a$b=c"),
            ("KUBERNETES_NODE_TOLERATIONS_1", "dedicated=ci:NoSchedule"),
            ("KUBERNETES_NODE_TOLERATIONS_2", ""),
            ("KUBERNETES_CPU_LIMIT", "3500m"),
            ("KUBERNETES_CPU_REQUEST", "100"),
            ("KUBERNETES_SERVICE_ACCOUNT_OVERWRITE", ""),
            ("KUBERNETES_HELPER_CPU_LIMIT", "1"),
        ])
        .unwrap();
        let settings = &made.settings;
        assert_eq!(settings.namespace.as_deref(), Some("ci-tests"));
        assert_eq!(settings.pod_labels.get("team").map(String::as_str), Some("a$$b=c"));
        assert_eq!(settings.node_tolerations.get("dedicated=ci").map(String::as_str), Some("NoSchedule"));
        assert_eq!(settings.node_tolerations.get("").map(String::as_str), Some(""));
        assert_eq!(
            (&settings.resources.build.set.cpu_limit, &settings.resources.build.set.cpu_request),
            (&quantity("3500m"), &None)
        );
        assert_eq!(settings.resources.helper.set.cpu_limit, None);
        let lines: Vec<&str> = made.lines.iter().map(|line| line.text.as_str()).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn what_is_not_allowed_fails_the_job() {
        let errors: Vec<String> = [
            ("KUBERNETES_NAMESPACE_OVERWRITE", "kube-system"),
            ("KUBERNETES_NAMESPACE_OVERWRITE", "ci-../../x"),
            ("KUBERNETES_NODE_TOLERATIONS_1", "dedicated=ci:Never"),
            ("KUBERNETES_NODE_TOLERATIONS_1", "=ci:NoExecute"),
            ("KUBERNETES_NODE_SELECTOR_1", "a b=c"),
            ("KUBERNETES_NODE_SELECTOR_1", "a=b c"),
            ("KUBERNETES_NODE_SELECTOR_1", "a"),
            ("KUBERNETES_POD_ANNOTATIONS_1", "a b=c"),
            ("KUBERNETES_SERVICE_ACCOUNT_OVERWRITE", "admin"),
            ("KUBERNETES_POD_LABELS_X", "owner=me"),
            ("KUBERNETES_CPU_LIMIT", "5"),
            ("KUBERNETES_CPU_LIMIT", "-1"),
            ("KUBERNETES_CPU_LIMIT", "many"),
            ("KUBERNETES_SERVICE_MEMORY_LIMIT", "1025Mi"),
        ]
        .iter()
        .filter_map(|pair| applied(&[*pair]).err())
        .collect();
        assert_eq!(errors.len(), 14);
        insta::assert_snapshot!(errors.join("\n"));
    }

    #[test]
    fn what_the_runner_sets_itself_is_not_overwritten() {
        let mut settings = settings();
        settings.gates.pod_labels = Some(".*".to_owned());
        let list = [
            ("KUBERNETES_POD_LABELS_1", "Job.Runner.gitlab.com/pod=mine"),
            ("KUBERNETES_POD_LABELS_2", "gantry.dev/managed=false"),
            ("KUBERNETES_POD_ANNOTATIONS_1", "gantry.dev/ticket=x"),
            ("KUBERNETES_POD_ANNOTATIONS_2", "job.runner.gitlab.com/name=mine"),
        ];
        let variables = Variables::new(list.map(|(key, value)| Variable::made(key, value)).to_vec(), "");
        let made = apply(&settings, &variables, &JobSecrets::new([].iter(), &Secret::default())).unwrap();
        assert!(made.settings.pod_labels.is_empty());
        let annotations: Vec<&String> = made.settings.pod_annotations.keys().collect();
        assert_eq!(annotations, ["job.runner.gitlab.com/name"]);
        let lines: Vec<&str> = made.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(
            lines,
            [
                "KUBERNETES_POD_LABELS_1 has no effect: the runner sets \"Job.Runner.gitlab.com/pod\" itself",
                "KUBERNETES_POD_LABELS_2 has no effect: the runner sets \"gantry.dev/managed\" itself",
                "KUBERNETES_POD_ANNOTATIONS_1 has no effect: the runner sets \"gantry.dev/ticket\" itself",
                "\"PodAnnotations\" \"job.runner.gitlab.com/name\" overwritten with \"mine\"",
            ]
        );
    }

    #[test]
    fn a_service_asks_for_itself() {
        let base = settings().resources.service;
        let own = |value: &str| [Variable::made("KUBERNETES_SERVICE_MEMORY_LIMIT", value)];
        let (resources, lines) = service_resources(&base, &own("512Mi")).unwrap();
        assert_eq!(resources.memory_limit, quantity("512Mi"));
        assert_eq!(lines, [HeadLine::plain("\"ServiceMemoryLimit\" overwritten with \"512Mi\"")]);
        assert_eq!(service_resources(&base, &[]).unwrap(), (base.set.clone(), Vec::new()));
        let error = service_resources(&base, &own("2Gi")).unwrap_err().to_string();
        assert!(error.starts_with("couldn't prepare explicit service overwrites: invalid service limits"), "{error}");
    }
}
