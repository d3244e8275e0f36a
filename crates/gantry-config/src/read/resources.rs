//! The 44 quantities of `[runners.kubernetes]`.

use crate::problem::Severity;
use crate::quantity::Quantity;
use crate::section::Section;
use crate::settings::kubernetes::{ContainerResources, ResourceSettings, Resources};

/// The four families of keys, each as six quantities and then six ceilings, in the order of the fields of [`Resources`].
pub(super) fn read(section: &Section<'_>) -> ResourceSettings {
    ResourceSettings {
        build: family(section, &BUILD),
        helper: family(section, &HELPER),
        service: family(section, &SERVICE),
        pod: family(section, &POD),
    }
}

/// `cpu`, `memory` and `ephemeral_storage`, each as request and limit. Empty names are keys that do not exist.
type Keys = [&'static str; 6];

macro_rules! keys {
    ($prefix:literal) => {
        [
            [
                concat!($prefix, "cpu_request"),
                concat!($prefix, "cpu_limit"),
                concat!($prefix, "memory_request"),
                concat!($prefix, "memory_limit"),
                concat!($prefix, "ephemeral_storage_request"),
                concat!($prefix, "ephemeral_storage_limit"),
            ],
            [
                concat!($prefix, "cpu_request_overwrite_max_allowed"),
                concat!($prefix, "cpu_limit_overwrite_max_allowed"),
                concat!($prefix, "memory_request_overwrite_max_allowed"),
                concat!($prefix, "memory_limit_overwrite_max_allowed"),
                concat!($prefix, "ephemeral_storage_request_overwrite_max_allowed"),
                concat!($prefix, "ephemeral_storage_limit_overwrite_max_allowed"),
            ],
        ]
    };
}

static BUILD: [Keys; 2] = keys!("");
static HELPER: [Keys; 2] = keys!("helper_");
static SERVICE: [Keys; 2] = keys!("service_");
static POD: [Keys; 2] = [
    ["pod_cpu_request", "pod_cpu_limit", "pod_memory_request", "pod_memory_limit", "", ""],
    [
        "pod_cpu_request_overwrite_max_allowed",
        "pod_cpu_limit_overwrite_max_allowed",
        "pod_memory_request_overwrite_max_allowed",
        "pod_memory_limit_overwrite_max_allowed",
        "",
        "",
    ],
];

fn family(section: &Section<'_>, [set, max]: &[Keys; 2]) -> ContainerResources {
    ContainerResources { set: resources(section, set), max: resources(section, max) }
}

fn resources(section: &Section<'_>, keys: &Keys) -> Resources {
    let [cpu_request, cpu_limit, memory_request, memory_limit, storage_request, storage_limit] =
        keys.map(|key| if key.is_empty() { None } else { quantity(section, key) });
    Resources {
        cpu_request,
        cpu_limit,
        memory_request,
        memory_limit,
        ephemeral_storage_request: storage_request,
        ephemeral_storage_limit: storage_limit,
    }
}

fn quantity(section: &Section<'_>, key: &'static str) -> Option<Quantity> {
    let text = section.text(key)?;
    Quantity::parse(&text).map_err(|error| section.problem(Severity::Error, key, format!("{text:?} is {error}"))).ok()
}
