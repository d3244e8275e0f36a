//! What people get wrong about pods: the log of the job names the cause at once, and a job that can
//! never start does not wait for that.
//!
//! Pods may take three minutes to start here, and nobody waits that long: what is said is said
//! early, and what ends ends early.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use gantry_tests::suite::Test;
use gantry_tests::world::script;
use gantry_tests::{Need, Runner, World, until};
use reqwest::Method;
use serde_json::{Value, json};

use crate::causes::{grant, with};

/// Less than the `poll_timeout` of GitLab Runner, which is in force here.
const BOUND: Duration = Duration::from_secs(60);

/// How long the log may take to name a cause, and a job to end that waiting does not help. On a
/// machine with nothing else to do that is 5 s and 10 s; others work beside this test.
const CAUSE: Duration = Duration::from_secs(15);
/// See [`CAUSE`].
const END: Duration = Duration::from_secs(25);

/// Of a name here, so that what is made of it can be the name of a namespace.
const LONGEST_NAME: usize = 30;

/// How variables of the build container come from objects of the cluster: no setting does that but
/// a patch.
const PATCHED_ENVIRONMENT: &str = r#"
    [[runners.kubernetes.pod_spec]]
      patch_type = "strategic"
      patch = '{"containers": [{"name": "build", "envFrom": [{"configMapRef": {"name": "no-map"}}]}]}'
"#;
const PATCHED_VARIABLE: &str = r#"
    [[runners.kubernetes.pod_spec]]
      patch_type = "strategic"
      patch = '''
        containers:
          - name: build
            env: [{name: A, valueFrom: {secretKeyRef: {name: keyless, key: wanted}}}]
      '''
"#;

const CONFIGURATION: &str = "runner_configuration_error";
const SYSTEM: &str = "runner_system_failure";

/// One mistake.
#[derive(Clone, Copy)]
struct Broken {
    name: &'static str,
    /// Lines of `[runners.kubernetes]`.
    kubernetes: &'static str,
    /// Keys of the job.
    job: fn(&World) -> Value,
    /// What is in the cluster: a path, with `{namespace}`, and the object to make there.
    objects: fn() -> Vec<(&'static str, Value)>,
    /// The cause, in the log.
    texts: &'static [&'static str],
    /// How the job ends, if waiting is of no use.
    ends: Option<&'static str>,
    needs: Option<Need>,
}

const NOTHING: Broken =
    Broken { name: "", kubernetes: "", job: |_| json!({}), objects: Vec::new, texts: &[], ends: None, needs: None };

pub(crate) fn tests() -> Vec<Test> {
    let all = [images(), objects(), admission(), nodes()].concat();
    all.into_iter()
        .map(|broken| {
            let test = Test::new(format!("broken: {}", broken.name), move |world| check(world, broken));
            match broken.needs {
                Some(need) => test.needs(need),
                None => test,
            }
        })
        .collect()
}

fn images() -> Vec<Broken> {
    vec![
        Broken {
            name: "an image that is not there",
            job: |_| json!({"image": {"name": "missing-spec:1"}}),
            texts: &["missing-spec:1", "not found"],
            ends: Some(CONFIGURATION),
            ..NOTHING
        },
        Broken {
            name: "an image that wants a login",
            job: |world| json!({"image": {"name": world.cluster().private_image("unknown").0}}),
            texts: &["/library/private-unknown:", "401 Unauthorized"],
            ends: Some(CONFIGURATION),
            needs: Some(Need::PrivateImages),
            ..NOTHING
        },
        Broken {
            name: "a registry that nobody serves",
            job: |_| json!({"image": {"name": "127.0.0.1:9/nobody/home:1"}}),
            texts: &["127.0.0.1:9/nobody/home:1", "connection refused"],
            ends: Some("runner_external_dependency_failure"),
            needs: Some(Need::RealNodes),
            ..NOTHING
        },
        Broken {
            name: "an image without a shell",
            job: |_| json!({"image": {"name": "localhost/gantry-test/pause:1"}}),
            texts: &["\"sh\": executable file not found"],
            ends: Some(CONFIGURATION),
            needs: Some(Need::RealNodes),
            ..NOTHING
        },
        Broken {
            name: "a service whose command is not found",
            job: |_| json!({"services": [{"name": "busybox:1", "alias": "db", "entrypoint": ["no-such-program"]}]}),
            texts: &["container db", "no-such-program"],
            ends: Some(CONFIGURATION),
            ..NOTHING
        },
        Broken {
            name: "an image that runs as root where that is forbidden",
            kubernetes: "    [runners.kubernetes.build_container_security_context]\n      run_as_non_root = true\n",
            texts: &["container has runAsNonRoot and image will run as root"],
            ends: Some(CONFIGURATION),
            ..NOTHING
        },
    ]
}

fn objects() -> Vec<Broken> {
    vec![
        Broken {
            name: "a secret as a volume",
            kubernetes: "    [[runners.kubernetes.volumes.secret]]\n      name = \"no-secret\"\n      mount_path = \"/s\"\n",
            texts: &["\tFailedMount: ", r#"secret \"no-secret\" not found"#],
            ..NOTHING
        },
        Broken {
            name: "a config map as a volume",
            kubernetes: "    [[runners.kubernetes.volumes.config_map]]\n      name = \"no-map\"\n      mount_path = \"/m\"\n",
            texts: &["\tFailedMount: ", r#"configmap \"no-map\" not found"#],
            ..NOTHING
        },
        Broken {
            name: "a config map as environment",
            kubernetes: PATCHED_ENVIRONMENT,
            job: |_| json!({"variables": [{"key": "FF_USE_ADVANCED_POD_SPEC_CONFIGURATION", "value": "true"}]}),
            texts: &["container build", r#"configmap "no-map" not found"#],
            ends: Some(CONFIGURATION),
            ..NOTHING
        },
        Broken {
            name: "a key of a secret as a variable",
            kubernetes: PATCHED_VARIABLE,
            job: |_| json!({"variables": [{"key": "FF_USE_ADVANCED_POD_SPEC_CONFIGURATION", "value": "true"}]}),
            objects: || {
                let secret = json!({"metadata": {"name": "keyless"}, "stringData": {"other": "x"}});
                vec![("/api/v1/namespaces/{namespace}/secrets", secret)]
            },
            texts: &["container build", "couldn't find key wanted in Secret", "/keyless"],
            ends: Some(CONFIGURATION),
            ..NOTHING
        },
        Broken {
            name: "a claim",
            kubernetes: "    [[runners.kubernetes.volumes.pvc]]\n      name = \"no-claim\"\n      mount_path = \"/c\"\n",
            texts: &["\tUnschedulable: ", r#"persistentvolumeclaim \"no-claim\" not found"#],
            ..NOTHING
        },
        Broken {
            name: "a claim that no storage has been found for",
            kubernetes: "    [[runners.kubernetes.volumes.pvc]]\n      name = \"slow-claim\"\n      mount_path = \"/c\"\n",
            objects: || {
                let spec = json!({
                    "accessModes": ["ReadWriteOnce"], "storageClassName": "slow", "resources": {"requests": {"storage": "1Mi"}},
                });
                let claim = json!({"metadata": {"name": "slow-claim"}, "spec": spec});
                vec![("/api/v1/namespaces/{namespace}/persistentvolumeclaims", claim)]
            },
            texts: &["\tUnschedulable: ", "pod has unbound immediate PersistentVolumeClaims"],
            ..NOTHING
        },
        Broken {
            name: "storage whose driver is not there",
            kubernetes: "    [[runners.kubernetes.volumes.csi]]\n      name = \"fast\"\n      mount_path = \"/f\"\n      driver = \"no-driver\"\n",
            texts: &["\tFailedMount: ", "no-driver"],
            needs: Some(Need::RealNodes),
            ..NOTHING
        },
        Broken {
            name: "a pull secret",
            job: |world| json!({"image": {"name": world.cluster().private_image("secretless").0}}),
            kubernetes: "    image_pull_secrets = [\"no-pull-secret\"]\n",
            texts: &["Unable to retrieve some image pull secrets (no-pull-secret)", "401 Unauthorized"],
            ends: Some(CONFIGURATION),
            needs: Some(Need::PullSecretEvents),
            ..NOTHING
        },
    ]
}

fn admission() -> Vec<Broken> {
    vec![
        Broken {
            name: "a quota",
            objects: || {
                let quota = json!({"metadata": {"name": "none-at-all"}, "spec": {"hard": {"pods": "0"}}});
                vec![("/api/v1/namespaces/{namespace}/resourcequotas", quota)]
            },
            texts: &["exceeded quota: none-at-all, requested: pods=1, used: pods=0, limited: pods=0"],
            ends: Some(SYSTEM),
            ..NOTHING
        },
        Broken {
            name: "Pod Security",
            kubernetes: "    privileged = true\n",
            objects: || {
                let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
                vec![("/api/v1/namespaces/{namespace}", json!({"metadata": {"labels": labels}}))]
            },
            texts: &["violates PodSecurity \"baseline:latest\": privileged"],
            ends: Some(SYSTEM),
            needs: Some(Need::PodSecurity),
            ..NOTHING
        },
        Broken {
            name: "a policy of admission",
            objects: || {
                let policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
                let rule =
                    json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]});
                let spec = json!({
                    "matchConstraints": {"resourceRules": [rule]},
                    "validations": [{"expression": "false", "message": "pods need a cost centre"}],
                });
                let policy = json!({"metadata": {"name": "{namespace}"}, "spec": spec});
                let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": "{namespace}"}});
                let spec = json!({
                    "policyName": "{namespace}", "validationActions": ["Deny"], "matchResources": {"namespaceSelector": selector},
                });
                let binding = json!({"metadata": {"name": "{namespace}"}, "spec": spec});
                vec![
                    (policies, policy),
                    ("/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings", binding),
                ]
            },
            texts: &["pods need a cost centre"],
            ends: Some(SYSTEM),
            needs: Some(Need::Admission),
            ..NOTHING
        },
        Broken {
            name: "a webhook that does not answer",
            objects: || {
                let rule =
                    json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]});
                let webhook = json!({
                    "name": "nobody.gantry.test", "clientConfig": {"url": "https://127.0.0.1:9/admit"}, "rules": [rule],
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "{namespace}"}},
                    "sideEffects": "None", "admissionReviewVersions": ["v1"],
                });
                let object = json!({"metadata": {"name": "{namespace}"}, "webhooks": [webhook]});
                vec![("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations", object)]
            },
            texts: &["Waiting for the API server to create the pod: ", "failed calling webhook", "nobody.gantry.test"],
            needs: Some(Need::Admission),
            ..NOTHING
        },
    ]
}

fn nodes() -> Vec<Broken> {
    vec![
        Broken {
            name: "a node that is full",
            kubernetes: "    cpu_request = \"1000\"\n",
            texts: &["\tUnschedulable: ", "Insufficient cpu"],
            ..NOTHING
        },
        Broken {
            name: "a taint that the pod does not tolerate",
            kubernetes: "    [runners.kubernetes.node_selector]\n      \"gantry.test/name\" = \"{namespace}\"\n",
            objects: || {
                let taint = json!({"key": "gantry.test/reserved", "value": "others", "effect": "NoSchedule"});
                let node = json!({
                    "metadata": {"name": "{namespace}", "labels": {"gantry.test/name": "{namespace}"}},
                    "spec": {"taints": [taint]},
                });
                vec![("/api/v1/nodes", node)]
            },
            // "untolerated taint(s)", or "that the pod didn't tolerate" in older schedulers.
            texts: &["\tUnschedulable: ", "tolerate"],
            needs: Some(Need::RealNodes),
            ..NOTHING
        },
    ]
}

async fn check(world: Rc<World>, broken: Broken) -> anyhow::Result<()> {
    let short = broken.name.to_lowercase().replace(' ', "-");
    let short = short.get(..LONGEST_NAME).unwrap_or(&short).trim_end_matches('-').to_owned();
    let namespace = world.namespace_name(&short);
    let runner = with(&world, &short, &broken.kubernetes.replace("{namespace}", &namespace)).await?;
    grant(&world, &runner, &json!([{"apiGroups": [""], "resources": ["events"], "verbs": ["list"]}])).await?;
    let mut made = Vec::new();
    for (path, object) in (broken.objects)() {
        let path = path.replace("{namespace}", &namespace);
        let object: Value = serde_json::from_str(&object.to_string().replace("{namespace}", &namespace))?;
        let method = if path.ends_with(&namespace) { Method::PATCH } else { Method::POST };
        let (status, answer) = world.kube.ask(method, &path, Some(&object)).await?;
        ensure!(status.is_success(), "{path}: {answer}");
        let name = object.pointer("/metadata/name").and_then(Value::as_str);
        made.extend(name.filter(|name| *name == namespace).map(|name| format!("{path}/{name}")));
    }
    if broken.needs == Some(Need::Admission) {
        is_in_force(&world, &namespace).await?;
    }
    let outcome = outcome(&world, &runner, &broken).await;
    // What is not in the namespace does not go with it.
    for path in made {
        world.kube.ask(Method::DELETE, &path, None).await?;
    }
    outcome
}

/// An API server takes some time until it asks whom it was told to ask.
async fn is_in_force(world: &World, namespace: &str) -> anyhow::Result<()> {
    let spec = json!({"containers": [{"name": "a", "image": "a"}]});
    let pod = json!({"metadata": {"name": "a"}, "spec": spec});
    let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
    until("a pod to be refused", BOUND, async || {
        let (status, answer) = world.kube.ask(Method::POST, &path, Some(&pod)).await?;
        Ok(if status.is_success() { Err(answer.to_string()) } else { Ok(()) })
    })
    .await
}

async fn outcome(world: &World, runner: &Runner, broken: &Broken) -> anyhow::Result<()> {
    let mut job = script(&["echo never"]);
    let own = (broken.job)(world);
    job.as_object_mut().context("no object")?.extend(own.as_object().cloned().unwrap_or_default());
    let id = world.post_job(runner, &job).await?;
    if let Some(reason) = broken.ends {
        let (job, log) = world.ended(id, END).await?;
        ensure!(job.status == "failed" && job.failure_reason.as_deref() == Some(reason), "{job:?}\n{log}");
        return contains(&log, broken.texts);
    }
    for text in broken.texts {
        world.gitlab.wait_for_text(id, text, CAUSE).await?;
    }
    ensure!(!world.gitlab.job(id).await?.is_final(), "the job has ended");
    world.gitlab.cancel(id, false).await?;
    world.ended(id, BOUND).await.map(drop)
}

fn contains(log: &str, texts: &[&str]) -> anyhow::Result<()> {
    for text in texts {
        ensure!(log.contains(text), "the log lacks {text:?}:\n{log}");
    }
    Ok(())
}
