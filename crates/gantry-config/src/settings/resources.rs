//! The 44 quantities of `[runners.kubernetes]`: those of the build container, of the helper, of
//! services and of the pod, each with the most that a job may ask for.

use crate::declare::{Declared, Kind, Walk};
use crate::key::Form;
use crate::kinds::quantity;
use crate::quantity::Quantity;
use crate::section::Section;

/// The quantities of a container or pod; `None` is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// `cpu_request`.
    pub cpu_request: Option<Quantity>,
    /// `cpu_limit`.
    pub cpu_limit: Option<Quantity>,
    /// `memory_request`.
    pub memory_request: Option<Quantity>,
    /// `memory_limit`.
    pub memory_limit: Option<Quantity>,
    /// `ephemeral_storage_request`; never set for pods.
    pub ephemeral_storage_request: Option<Quantity>,
    /// `ephemeral_storage_limit`; never set for pods.
    pub ephemeral_storage_limit: Option<Quantity>,
}

/// What a container gets, and how much more a job may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerResources {
    /// The configured quantities.
    pub set: Resources,
    /// `…_overwrite_max_allowed`: ceilings for jobs; `None` means that the job's wish is ignored.
    pub max: Resources,
}

/// The quantities of all containers and of the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceSettings {
    /// Keys without a prefix.
    pub build: ContainerResources,
    /// `helper_…`.
    pub helper: ContainerResources,
    /// `service_…`: of each service.
    pub service: ContainerResources,
    /// `pod_…`: of the pod as a whole.
    pub pod: ContainerResources,
}

/// Declares all of them.
pub(super) fn resources() -> Declared<impl Kind<Value = ResourceSettings>> {
    Declared::new("", Quantities)
}

/// The most that jobs may ask for of something.
#[derive(Clone, Copy, Debug)]
pub struct Ceiling<'a> {
    /// The key that sets it.
    pub key: &'static str,
    /// The variable by which jobs ask, such as `KUBERNETES_CPU_LIMIT`.
    pub variable: &'static str,
    /// `None` where they may not.
    pub value: Option<&'a Quantity>,
}

/// The key of the most that jobs may ask for by a variable.
pub(crate) fn ceiling(variable: &str) -> Option<&'static str> {
    let mut rows = FAMILIES.iter().flat_map(|family| family.rows);
    rows.find(|row| row.variable == variable).map(|row| row.ceiling)
}

impl ResourceSettings {
    /// All ceilings.
    pub fn ceilings(&self) -> impl Iterator<Item = Ceiling<'_>> {
        let of = [&self.build, &self.service, &self.helper, &self.pod];
        let families = FAMILIES.iter().zip(of.map(|of| &of.max));
        families.flat_map(|(family, max)| {
            family.rows.iter().map(|row| Ceiling { key: row.ceiling, variable: row.variable, value: max.of(row.field) })
        })
    }
}

impl Resources {
    /// Requests and limits of the same thing, with its part of the keys' names; first what pods
    /// have, too.
    pub fn pairs(&self) -> [(&'static str, Option<&Quantity>, Option<&Quantity>); 3] {
        [
            ("cpu", self.cpu_request.as_ref(), self.cpu_limit.as_ref()),
            ("memory", self.memory_request.as_ref(), self.memory_limit.as_ref()),
            ("ephemeral_storage", self.ephemeral_storage_request.as_ref(), self.ephemeral_storage_limit.as_ref()),
        ]
    }

    fn of(&self, field: &str) -> Option<&Quantity> {
        match field {
            "cpu_request" => self.cpu_request.as_ref(),
            "cpu_limit" => self.cpu_limit.as_ref(),
            "memory_request" => self.memory_request.as_ref(),
            "memory_limit" => self.memory_limit.as_ref(),
            "ephemeral_storage_request" => self.ephemeral_storage_request.as_ref(),
            "ephemeral_storage_limit" => self.ephemeral_storage_limit.as_ref(),
            _ => None,
        }
    }
}

/// A quantity: its key with the flag of `register`, those of its ceiling, and the field.
struct Row {
    key: &'static str,
    flag: &'static str,
    ceiling: &'static str,
    ceiling_flag: &'static str,
    /// By which jobs set it, and `register` too.
    variable: &'static str,
    field: &'static str,
    about: &'static str,
}

/// The quantities of a container, or of the pod.
struct Family {
    field: &'static str,
    of: &'static str,
    rows: &'static [Row],
}

macro_rules! row {
    ($prefix:literal $key:literal, $flag_prefix:literal $flag:literal, $variable_prefix:literal $variable:literal, $about:literal) => {
        Row {
            key: concat!($prefix, $key),
            flag: concat!($flag_prefix, $flag),
            ceiling: concat!($prefix, $key, "_overwrite_max_allowed"),
            ceiling_flag: concat!($flag_prefix, $flag, "-overwrite-max-allowed"),
            variable: concat!("KUBERNETES_", $variable_prefix, $variable),
            field: $key,
            about: $about,
        }
    };
}

macro_rules! family {
    ($field:literal, $prefix:literal $flag_prefix:literal $variable:literal, $of:literal $(, $storage:literal)?) => {
        Family {
            field: $field,
            of: $of,
            rows: &[
                row!($prefix "cpu_limit", $flag_prefix "cpu-limit", $variable "CPU_LIMIT", "limit for the CPU"),
                row!($prefix "cpu_request", $flag_prefix "cpu-request", $variable "CPU_REQUEST", "request for the CPU"),
                row!($prefix "memory_limit", $flag_prefix "memory-limit", $variable "MEMORY_LIMIT", "limit for the memory"),
                row!($prefix "memory_request", $flag_prefix "memory-request", $variable "MEMORY_REQUEST", "request for the memory"),
                $(
                    row!($prefix "ephemeral_storage_limit", $storage "-limit", $variable "EPHEMERAL_STORAGE_LIMIT", "limit for the ephemeral storage"),
                    row!($prefix "ephemeral_storage_request", $storage "-request", $variable "EPHEMERAL_STORAGE_REQUEST", "request for the ephemeral storage"),
                )?
            ],
        }
    };
}

/// The spelling of some flags is irregular (GitLab Runner 19.4).
static FAMILIES: [Family; 4] = [
    family!("build", "" "" "", "the build container", "ephemeral-storage"),
    family!("service", "service_" "service-" "SERVICE_", "a service container", "service-ephemeral_storage"),
    family!("helper", "helper_" "helper-" "HELPER_", "the helper container", "helper-ephemeral_storage"),
    family!("pod", "pod_" "pod-" "POD_", "the whole pod"),
];

struct Quantities;

impl Kind for Quantities {
    type Value = ResourceSettings;

    fn read(&self, section: &Section<'_>, _: &'static str) -> ResourceSettings {
        let [build, service, helper, pod] = FAMILIES.each_ref().map(|family| ContainerResources {
            set: family.read(section, |row| row.key),
            max: family.read(section, |row| row.ceiling),
        });
        ResourceSettings { build, helper, service, pod }
    }

    fn form(&self) -> Option<Form> {
        None
    }

    fn describe_below(&self, walk: &mut Walk) {
        for family in &FAMILIES {
            for Row { key, flag, ceiling, ceiling_flag, field, about, .. } in family.rows {
                let of = family.of;
                let (first, rest) = about.split_at(1);
                let about_key = format!("{}{rest} of {of}.", first.to_uppercase());
                let set = format!("{}.set.{field}", family.field);
                quantity(key).flag_as(flag).describe(walk, Some(&set), &about_key);
                let about_ceiling = format!("Most that a job may choose as {about} of {of}.");
                let max = format!("{}.max.{field}", family.field);
                quantity(ceiling).flag_as(ceiling_flag).describe(walk, Some(&max), &about_ceiling);
            }
        }
    }
}

impl Family {
    fn read(&self, section: &Section<'_>, key: impl Fn(&Row) -> &'static str) -> Resources {
        let of = |field| section.quantity(key(self.rows.iter().find(|row| row.field == field)?));
        Resources {
            cpu_request: of("cpu_request"),
            cpu_limit: of("cpu_limit"),
            memory_request: of("memory_request"),
            memory_limit: of("memory_limit"),
            ephemeral_storage_request: of("ephemeral_storage_request"),
            ephemeral_storage_limit: of("ephemeral_storage_limit"),
        }
    }
}
