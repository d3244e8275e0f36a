//! The pod status that kubelet reports, as a pure function of what it knows.

use serde_json::{Value, json};

use super::record::{self, Record, Restart, Role, State};
use crate::store::object::{self, list_mut, map_mut, text};

/// Why a whole pod has failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// `Evicted`, `DeadlineExceeded`.
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// What is known about the pod as a whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Whole {
    pub(crate) started: String,
    pub(crate) host_ip: String,
    /// Set once the sandbox is there.
    pub(crate) pod_ip: Option<String>,
    pub(crate) failed: Option<Failure>,
    /// Older kubelets throw away everything else when they evict.
    pub(crate) wiped: bool,
    /// Every container is being or has been stopped, so none will be started again.
    pub(crate) stopping: bool,
}

/// The phase that follows from the containers.
pub(crate) fn phase(records: &[Record], policy: Restart, whole: &Whole) -> &'static str {
    let none_runs = records.iter().all(|record| record.running().is_none());
    if whole.failed.is_some() && none_runs {
        return "Failed";
    }
    if record::init_failed(records, policy) {
        return "Failed";
    }
    let mains = || records.iter().filter(|record| record.role == Role::Main);
    if whole.stopping && none_runs {
        // A pod that was stopped has failed unless every container had ended well.
        let good = mains().all(|record| record.ended().is_some_and(|ended| ended.code == 0));
        return if good { "Succeeded" } else { "Failed" };
    }
    if !record::initialized(records) {
        return "Pending";
    }
    if mains().any(|record| matches!(record.state, State::Waiting { .. }) && record.last.is_none()) {
        return "Pending";
    }
    if mains().any(|record| record.running().is_some()) || policy == Restart::Always {
        return "Running";
    }
    let good = mains().all(|record| record.ended().is_some_and(|ended| ended.code == 0));
    match (good, policy) {
        (true, _) => "Succeeded",
        (false, Restart::Never) => "Failed",
        (false, _) => "Running",
    }
}

/// The pod's status, keeping from the old one what is not kubelet's.
pub(crate) fn status(pod: &Value, records: &[Record], whole: &Whole, now: &str) -> Value {
    let policy = Restart::of(pod);
    let phase = phase(records, policy, whole);
    if let Some(Failure { reason, message }) = whole.failed.as_ref().filter(|_| whole.wiped) {
        return json!({"phase": phase, "reason": reason, "message": message, "startTime": whole.started});
    }
    let mut status = pod.get("status").cloned().unwrap_or_else(|| json!({}));
    let fields = map_mut(&mut status, &[]);
    fields.insert("phase".to_owned(), json!(phase));
    fields.insert("startTime".to_owned(), json!(whole.started));
    fields.insert("hostIP".to_owned(), json!(whole.host_ip));
    fields.insert("hostIPs".to_owned(), json!([{"ip": whole.host_ip}]));
    if let Some(ip) = &whole.pod_ip {
        fields.insert("podIP".to_owned(), json!(ip));
        fields.insert("podIPs".to_owned(), json!([{"ip": ip}]));
    }
    if let Some(Failure { reason, message }) = &whole.failed {
        fields.insert("reason".to_owned(), json!(reason));
        fields.insert("message".to_owned(), json!(message));
    }
    for (field, init) in [("initContainerStatuses", true), ("containerStatuses", false)] {
        let mut shown: Vec<&Record> = records.iter().filter(|record| (record.role != Role::Main) == init).collect();
        if !init {
            // Init containers come in the order in which they run, the others by name.
            shown.sort_by(|one, other| one.name.cmp(&other.name));
        }
        let list: Vec<Value> = shown.into_iter().map(container).collect();
        if !list.is_empty() {
            fields.insert(field.to_owned(), json!(list));
        }
    }
    for condition in conditions(records, whole, phase) {
        put_condition(&mut status, condition, now);
    }
    status
}

fn container(record: &Record) -> Value {
    let mut status = json!({
        "name": record.name,
        "image": record.image,
        "imageID": "",
        "ready": record.is_ready(),
        "restartCount": record.restarts,
        "lastState": {},
        "started": record.has_started_up(),
        "state": match &record.state {
            State::Waiting { reason, message } if message.is_empty() => json!({"waiting": {"reason": reason}}),
            State::Waiting { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
            State::Running(running) => json!({"running": {"startedAt": running.started}}),
            State::Ended(ended) => json!({"terminated": terminated(ended)}),
        },
    });
    let id = match &record.state {
        State::Running(running) => running.id.as_str(),
        State::Ended(ended) => ended.id.as_str(),
        State::Waiting { .. } => record.last.as_ref().map_or("", |last| last.id.as_str()),
    };
    if !id.is_empty() {
        status["containerID"] = json!(format!("containerd://{id}"));
        status["imageID"] = json!(format!("{}@gantry-sim", record.image));
    }
    if let Some(last) = &record.last {
        status["lastState"] = json!({"terminated": terminated(last)});
    }
    status
}

fn terminated(ended: &record::Ended) -> Value {
    let mut value = json!({
        "exitCode": ended.code, "reason": ended.reason, "startedAt": ended.started, "finishedAt": ended.finished,
    });
    if !ended.id.is_empty() {
        value["containerID"] = json!(format!("containerd://{}", ended.id));
    }
    if !ended.message.is_empty() {
        value["message"] = json!(ended.message);
    }
    value
}

fn conditions(records: &[Record], whole: &Whole, phase: &str) -> Vec<Value> {
    let condition = |kind: &str, holds: bool, why: Option<(&str, String)>| {
        let mut condition = json!({"type": kind, "status": if holds { "True" } else { "False" }});
        if let Some((reason, message)) = why.filter(|_| !holds || phase == "Succeeded") {
            condition["reason"] = json!(reason);
            if !message.is_empty() {
                condition["message"] = json!(message);
            }
        }
        condition
    };
    let list = |names: Vec<&str>| format!("[{}]", names.join(" "));
    let incomplete: Vec<&str> = records
        .iter()
        .filter(|record| record.role == Role::Init && record.ended().is_none_or(|ended| ended.code != 0))
        .map(|record| record.name.as_str())
        .collect();
    let initialized = if phase == "Succeeded" {
        condition("Initialized", true, Some(("PodCompleted", String::new())))
    } else {
        let why = format!("containers with incomplete status: {}", list(incomplete));
        condition("Initialized", record::initialized(records), Some(("ContainersNotInitialized", why)))
    };
    let unready: Vec<&str> = records
        .iter()
        .filter(|record| record.role == Role::Main && !record.is_ready())
        .map(|record| record.name.as_str())
        .collect();
    let ready = unready.is_empty() && record::initialized(records);
    let why = match phase {
        "Succeeded" => ("PodCompleted", String::new()),
        "Failed" => ("PodFailed", String::new()),
        _ => ("ContainersNotReady", format!("containers with unready status: {}", list(unready))),
    };
    let ready = ready && !["Succeeded", "Failed"].contains(&phase);
    let sandbox = whole.pod_ip.is_some() && !["Succeeded", "Failed"].contains(&phase);
    vec![
        condition("PodReadyToStartContainers", sandbox, None),
        initialized,
        condition("Ready", ready, Some(why.clone())),
        condition("ContainersReady", ready, Some(why)),
    ]
}

/// Puts a condition in, with the time of its last change of status.
pub(crate) fn put_condition(status: &mut Value, mut condition: Value, now: &str) {
    let conditions = list_mut(status, &["conditions"]);
    let kind = text(&condition, &["type"]).to_owned();
    let old = conditions.iter_mut().find(|old| text(old, &["type"]) == kind);
    let same = old.as_ref().is_some_and(|old| old["status"] == condition["status"]);
    let since = old.as_ref().map(|old| text(old, &["lastTransitionTime"]).to_owned()).filter(|_| same);
    object::map_mut(&mut condition, &[])
        .insert("lastTransitionTime".to_owned(), json!(since.unwrap_or_else(|| now.to_owned())));
    match old {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_pod_waits() {
        let pod = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "x"}]},
            "status": {"conditions": [{"type": "PodScheduled", "status": "True"}], "qosClass": "BestEffort"}});
        let records = Record::all(&pod);
        let status = status(&pod, &records, &Whole { started: "t".into(), ..Whole::default() }, "now");
        assert_eq!(status["phase"], "Pending");
        assert_eq!(status["qosClass"], "BestEffort");
        assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "ContainerCreating");
        let ready = status["conditions"].as_array().unwrap().iter().find(|one| one["type"] == "Ready").unwrap();
        assert_eq!(ready["message"], "containers with unready status: [a]");
        assert_eq!(status["conditions"][0]["type"], "PodScheduled");
    }

    #[test]
    fn containers_are_told_by_name() {
        let pod = json!({"spec": {"initContainers": [{"name": "z"}, {"name": "y"}],
            "containers": [{"name": "helper"}, {"name": "svc-0"}, {"name": "build"}]}});
        let status = status(&pod, &Record::all(&pod), &Whole::default(), "now");
        let names = |list: &str| -> Vec<String> {
            status[list].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("containerStatuses"), ["build", "helper", "svc-0"]);
        assert_eq!(names("initContainerStatuses"), ["z", "y"]);
    }

    #[test]
    fn an_evicted_pod_has_failed() {
        let pod = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a"}]}});
        let whole =
            Whole { failed: Some(Failure { reason: "Evicted".into(), message: "low".into() }), ..Whole::default() };
        assert_eq!(phase(&Record::all(&pod), Restart::Never, &whole), "Failed");
    }
}
