//! The fields that a pod can have. A real server drops what it does not know, and tells or refuses
//! it if the client wishes so; what is inside of rarely used fields is not looked at.

use serde_json::Value;

/// What a field holds.
#[derive(Clone, Copy)]
enum Kind {
    /// Anything.
    Any,
    One(Shape),
    Many(Shape),
}

use Kind::{Any, Many, One};

type Shape = &'static [(&'static str, Kind)];

const NAME: Shape = &[("name", Any)];
const KEY: Shape = &[("key", Any), ("mode", Any), ("path", Any)];
const RESOURCES: Shape = &[("claims", Any), ("limits", Any), ("requests", Any)];
const HANDLER: Shape = &[
    ("exec", One(&[("command", Any)])),
    ("httpGet", HTTP),
    ("tcpSocket", One(&[("host", Any), ("port", Any)])),
    ("sleep", One(&[("seconds", Any)])),
];
const HTTP: Kind = One(&[("host", Any), ("httpHeaders", Any), ("path", Any), ("port", Any), ("scheme", Any)]);
const PROBE: Kind = One(&[
    ("exec", One(&[("command", Any)])),
    ("failureThreshold", Any),
    ("grpc", Any),
    ("httpGet", HTTP),
    ("initialDelaySeconds", Any),
    ("periodSeconds", Any),
    ("successThreshold", Any),
    ("tcpSocket", One(&[("host", Any), ("port", Any)])),
    ("terminationGracePeriodSeconds", Any),
    ("timeoutSeconds", Any),
]);
const REFERENCE: Kind = One(&[("key", Any), ("name", Any), ("optional", Any)]);
const ENV: Shape = &[
    ("name", Any),
    ("value", Any),
    (
        "valueFrom",
        One(&[
            ("configMapKeyRef", REFERENCE),
            ("fieldRef", One(&[("apiVersion", Any), ("fieldPath", Any)])),
            ("fileKeyRef", Any),
            ("resourceFieldRef", Any),
            ("secretKeyRef", REFERENCE),
        ]),
    ),
];
const CONTEXT: Kind = One(&[
    ("allowPrivilegeEscalation", Any),
    ("appArmorProfile", Any),
    ("capabilities", One(&[("add", Any), ("drop", Any)])),
    ("privileged", Any),
    ("procMount", Any),
    ("readOnlyRootFilesystem", Any),
    ("runAsGroup", Any),
    ("runAsNonRoot", Any),
    ("runAsUser", Any),
    ("seLinuxOptions", Any),
    ("seccompProfile", Any),
    ("windowsOptions", Any),
]);
const CONTAINER: Shape = &[
    ("args", Any),
    ("command", Any),
    ("env", Many(ENV)),
    ("envFrom", Many(&[("configMapRef", Any), ("prefix", Any), ("secretRef", Any)])),
    ("image", Any),
    ("imagePullPolicy", Any),
    ("lifecycle", One(&[("postStart", One(HANDLER)), ("preStop", One(HANDLER)), ("stopSignal", Any)])),
    ("livenessProbe", PROBE),
    ("name", Any),
    ("ports", Many(&[("containerPort", Any), ("hostIP", Any), ("hostPort", Any), ("name", Any), ("protocol", Any)])),
    ("readinessProbe", PROBE),
    ("resizePolicy", Any),
    ("resources", One(RESOURCES)),
    ("restartPolicy", Any),
    ("restartPolicyRules", Any),
    ("securityContext", CONTEXT),
    ("startupProbe", PROBE),
    ("stdin", Any),
    ("stdinOnce", Any),
    ("terminationMessagePath", Any),
    ("terminationMessagePolicy", Any),
    ("tty", Any),
    ("volumeDevices", Any),
    (
        "volumeMounts",
        Many(&[
            ("mountPath", Any),
            ("mountPropagation", Any),
            ("name", Any),
            ("readOnly", Any),
            ("recursiveReadOnly", Any),
            ("subPath", Any),
            ("subPathExpr", Any),
        ]),
    ),
    ("workingDir", Any),
];
const FILES: Shape = &[("defaultMode", Any), ("items", Many(KEY)), ("name", Any), ("optional", Any)];
const VOLUME: Shape = &[
    ("awsElasticBlockStore", Any),
    ("azureDisk", Any),
    ("azureFile", Any),
    ("cephfs", Any),
    ("cinder", Any),
    ("configMap", One(FILES)),
    ("csi", Any),
    ("downwardAPI", Any),
    ("emptyDir", One(&[("medium", Any), ("sizeLimit", Any)])),
    ("ephemeral", Any),
    ("fc", Any),
    ("flexVolume", Any),
    ("flocker", Any),
    ("gcePersistentDisk", Any),
    ("gitRepo", Any),
    ("glusterfs", Any),
    ("hostPath", One(&[("path", Any), ("type", Any)])),
    ("image", Any),
    ("iscsi", Any),
    ("name", Any),
    ("nfs", Any),
    ("persistentVolumeClaim", One(&[("claimName", Any), ("readOnly", Any)])),
    ("photonPersistentDisk", Any),
    ("portworxVolume", Any),
    ("projected", One(&[("defaultMode", Any), ("sources", Any)])),
    ("quobyte", Any),
    ("rbd", Any),
    ("scaleIO", Any),
    ("secret", One(&[("defaultMode", Any), ("items", Many(KEY)), ("optional", Any), ("secretName", Any)])),
    ("storageos", Any),
    ("vsphereVolume", Any),
];
const SPEC: Shape = &[
    ("activeDeadlineSeconds", Any),
    ("affinity", One(&[("nodeAffinity", Any), ("podAffinity", Any), ("podAntiAffinity", Any)])),
    ("automountServiceAccountToken", Any),
    ("containers", Many(CONTAINER)),
    ("dnsConfig", One(&[("nameservers", Any), ("options", Any), ("searches", Any)])),
    ("dnsPolicy", Any),
    ("enableServiceLinks", Any),
    ("ephemeralContainers", Any),
    ("hostAliases", Many(&[("hostnames", Any), ("ip", Any)])),
    ("hostIPC", Any),
    ("hostNetwork", Any),
    ("hostPID", Any),
    ("hostUsers", Any),
    ("hostname", Any),
    ("hostnameOverride", Any),
    ("imagePullSecrets", Many(NAME)),
    ("initContainers", Many(CONTAINER)),
    ("nodeName", Any),
    ("nodeSelector", Any),
    ("os", One(NAME)),
    ("overhead", Any),
    ("preemptionPolicy", Any),
    ("priority", Any),
    ("priorityClassName", Any),
    ("readinessGates", Any),
    ("resourceClaims", Any),
    ("resources", One(RESOURCES)),
    ("restartPolicy", Any),
    ("runtimeClassName", Any),
    ("schedulerName", Any),
    ("schedulingGates", Many(NAME)),
    ("securityContext", Any),
    ("serviceAccount", Any),
    ("serviceAccountName", Any),
    ("setHostnameAsFQDN", Any),
    ("shareProcessNamespace", Any),
    ("subdomain", Any),
    ("terminationGracePeriodSeconds", Any),
    (
        "tolerations",
        Many(&[("effect", Any), ("key", Any), ("operator", Any), ("tolerationSeconds", Any), ("value", Any)]),
    ),
    ("topologySpreadConstraints", Any),
    ("volumes", Many(VOLUME)),
    ("workloadRef", Any),
];
const POD: Shape = &[("apiVersion", Any), ("kind", Any), ("metadata", Any), ("spec", One(SPEC)), ("status", Any)];

/// Drops what a pod cannot have, and returns the paths of it.
pub(crate) fn prune(pod: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    walk(pod, POD, "", &mut unknown);
    unknown
}

fn walk(value: &mut Value, shape: Shape, path: &str, unknown: &mut Vec<String>) {
    let Some(map) = value.as_object_mut() else { return };
    let place = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    map.retain(|key, _| {
        let known = shape.iter().any(|(name, _)| name == key);
        if !known {
            unknown.push(place(key));
        }
        known
    });
    for (name, kind) in shape {
        let Some(inner) = map.get_mut(*name) else { continue };
        match kind {
            Any => {}
            One(shape) => walk(inner, shape, &place(name), unknown),
            Many(shape) => {
                for (index, item) in inner.as_array_mut().into_iter().flatten().enumerate() {
                    walk(item, shape, &format!("{}[{index}]", place(name)), unknown);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_unknown_goes_and_is_told() {
        let mut pod = json!({"metadata": {"name": "p", "labels": {"any": "thing"}}, "spec": {"colour": 1,
            "nodeSelector": {"any": "thing"},
            "containers": [{"name": "a", "comand": ["x"], "env": [{"name": "N", "valu": "1"}]}]}});
        assert_eq!(prune(&mut pod), ["spec.colour", "spec.containers[0].comand", "spec.containers[0].env[0].valu"]);
        assert_eq!(pod["spec"]["containers"], json!([{"name": "a", "env": [{"name": "N"}]}]));
        assert!(prune(&mut pod).is_empty());
    }
}
