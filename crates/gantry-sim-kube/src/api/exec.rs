//! `pods/exec` and `pods/attach`: which container, may it be entered now, and what runs there. What
//! goes over the channels is the business of `remote`.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::{
    access,
    breaker::Breaker,
    call::Call,
    kubelet_link,
    remote::{self, Remote, Streams, WantedStreams},
    request::Target,
    status::ApiError,
    websocket::{self, Upgrade},
};
use crate::{
    auth::attributes::Attributes,
    config::RemoteProtocol,
    container::{Container, ExecChild, ExecSpec, ExitStatus, StartError},
    ids,
    kubelet_state::{Attachment, Console},
    store::{
        Key,
        object::{self, items, text},
    },
};

/// Runs a command in a container, or joins the one that runs.
pub(crate) async fn answer(call: &Call, target: &Target, upgrade: Option<Upgrade>) -> Result<Response, ApiError> {
    if call.cluster.config.exec_needs_create && target.verb == "get" {
        let wish = Attributes { verb: "create".to_owned(), ..target.attributes() };
        access::check(call, &wish)?;
    }
    let key = Key::new(target.kind, &target.namespace, &target.name);
    let pod = call.cluster.store.get(&key).ok_or_else(|| ApiError::not_found(target.kind, &target.name))?;
    let name = named_container(&pod, target, "a container name must be specified")?;
    if text(&pod, &["spec", "nodeName"]).is_empty() {
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", target.name)));
    }
    if ["Succeeded", "Failed"].contains(&text(&pod, &["status", "phase"])) {
        let what = if target.subresource == "exec" { "exec into" } else { "attach" };
        let phase = text(&pod, &["status", "phase"]);
        let message = format!("cannot {what} a container in a completed pod; current phase is {phase}");
        return Err(ApiError::bad_request(message));
    }
    let exec = ExecSpec {
        args: target.query.all("command").map(str::to_owned).collect(),
        env: Vec::new(),
        stdin: target.query.flag("stdin"),
        tty: target.query.flag("tty"),
    };
    let upgrade = remote::required(upgrade)?;
    let uid = object::uid(&pod);
    if target.subresource == "exec" {
        let found = call.cluster.kubelet.container(uid, &name);
        let job = found.map(|container| Job::Exec { container, exec });
        connect(call, target, upgrade, (name, job)).await
    } else {
        let found = call.cluster.kubelet.console(uid, &name);
        let job = found.map(|console| Job::Attach { console, stdin: exec.stdin });
        connect(call, target, upgrade, (name, job)).await
    }
}

/// What is to be connected with the client.
enum Job {
    Exec { container: Container, exec: ExecSpec },
    Attach { console: Arc<Console>, stdin: bool },
}

async fn connect(
    call: &Call,
    target: &Target,
    upgrade: Upgrade,
    (name, job): (String, Option<Job>),
) -> Result<Response, ApiError> {
    let offers_v5 = websocket::offered(&call.headers).iter().any(|name| name == RemoteProtocol::V5.name());
    let upgrades_first = call.cluster.config.exec_errors_after_upgrade && offers_v5;
    let reached = kubelet_link::reach(&call.cluster).await;
    if !upgrades_first {
        reached.clone()?;
        if job.is_none() {
            return Ok(no_container(target, &name));
        }
        if !["stdin", "stdout", "stderr"].iter().any(|stream| target.query.flag(stream)) {
            return Ok(kubelets_text(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr"));
        }
    }
    let (upgrade, protocol) = match remote::negotiated(&call.cluster, upgrade) {
        Ok(agreed) => agreed,
        Err(refusal) => return Ok(*refusal),
    };
    let wanted = WantedStreams::read(target, protocol);
    let cluster = Arc::clone(&call.cluster);
    let fault = cluster.faults.stream(&target.subresource, &target.namespace, &target.name, &name);
    let breaker = Breaker::new(fault);
    let (answer, opening) = upgrade.accept(remote::limits());
    let tasks = Arc::clone(&cluster);
    tasks.tasks.spawn(async move {
        let Ok(socket) = opening.await else { return };
        let how = (wanted, breaker);
        match (reached, job) {
            (Err(error), _) => remote::refuse(socket, &error).await,
            (Ok(()), None) => {
                let why = format!("unable to upgrade connection: container not found ({name:?})");
                remote::refuse(socket, &ApiError::internal(why)).await;
            }
            (Ok(()), Some(Job::Exec { container, exec })) => {
                let start = async {
                    let args = exec.args.clone();
                    let started = container.exec(exec).await;
                    started.map(|child| Entered { child, args }).map_err(|error| start_status(&error))
                };
                Box::pin(remote::serve(cluster, socket, start, how)).await;
            }
            (Ok(()), Some(Job::Attach { console, stdin })) => {
                let start = async { Ok(Attached { console, stdin }) };
                Box::pin(remote::serve(cluster, socket, start, how)).await;
            }
        }
    });
    Ok(answer)
}

/// What kubelet says of a container that does not run, as the API server passes it on: no `Status`,
/// only text.
fn no_container(target: &Target, name: &str) -> Response {
    let message = if target.subresource == "exec" {
        format!("container not found ({name:?})")
    } else {
        format!("container {name} not found in pod {}_{}", target.name, target.namespace)
    };
    kubelets_text(StatusCode::INTERNAL_SERVER_ERROR, &message)
}

/// Kubelet's answer, after which the API server closes the connection.
fn kubelets_text(code: StatusCode, message: &str) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CONNECTION, "close")];
    (code, headers, message.to_owned()).into_response()
}

/// The container that the request names, or the pod's only or default one.
pub(crate) fn named_container(pod: &Value, target: &Target, otherwise: &str) -> Result<String, ApiError> {
    let all: Vec<&str> = ["initContainers", "containers"]
        .iter()
        .flat_map(|list| items(pod, &["spec", list]))
        .map(|container| text(container, &["name"]))
        .collect();
    let mains: Vec<&str> = items(pod, &["spec", "containers"]).iter().map(|one| text(one, &["name"])).collect();
    let default = object::at(pod, &["metadata", "annotations", "kubectl.kubernetes.io/default-container"]);
    let asked = target.query.get("container").filter(|name| !name.is_empty());
    let name = match (asked, mains.as_slice(), default.and_then(Value::as_str)) {
        (Some(name), _, _) | (None, _, Some(name)) => name,
        (None, [name], None) => *name,
        (None, _, None) => {
            let message = format!("{otherwise} for pod {}, choose one of: [{}]", target.name, mains.join(" "));
            return Err(ApiError::bad_request(message));
        }
    };
    if !all.contains(&name) {
        return Err(ApiError::bad_request(format!("container {name} is not valid for pod {}", target.name)));
    }
    Ok(name.to_owned())
}

/// A command that was started in a container.
struct Entered {
    child: ExecChild,
    args: Vec<String>,
}

impl Remote for Entered {
    fn streams(&mut self) -> Streams {
        let child = &mut self.child;
        Streams { stdin: child.stdin.take(), stdout: child.stdout.take(), stderr: child.stderr.take() }
    }

    fn resize(&self, columns: u16, rows: u16) {
        let _ = self.child.resize(columns, rows);
    }

    async fn ended(&self) -> Value {
        exit_status(self.child.wait().await, &self.args)
    }
}

/// A container whose own first process is spoken with.
struct Attached {
    console: Arc<Console>,
    stdin: bool,
}

impl Remote for Attached {
    fn streams(&mut self) -> Streams {
        let Attachment { stdin, stdout, stderr } = self.console.attach();
        Streams { stdin: stdin.filter(|_| self.stdin), stdout: Some(stdout), stderr }
    }

    fn resize(&self, columns: u16, rows: u16) {
        let _ = self.console.container.resize(columns, rows);
    }

    /// Its exit code is in the pod's status only.
    async fn ended(&self) -> Value {
        self.console.container.wait().await;
        json!({"metadata": {}, "status": "Success"})
    }
}

fn exit_status(status: ExitStatus, args: &[String]) -> Value {
    if status.code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!(
            "command terminated with non-zero exit code: error executing command [{}], exit code {}",
            args.join(" "),
            status.code
        ),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": status.code.to_string()}]},
    })
}

/// A command that did not start is trouble of the container runtime, in its words.
fn start_status(error: &StartError) -> Value {
    let why = match error {
        StartError::NotRunning => "no running task found: container is not running".to_owned(),
        error if error.is_users_fault() => format!(
            "failed to start exec {:?}: OCI runtime exec failed: exec failed: unable to start container process: \
             {error}: unknown",
            ids::container_id()
        ),
        error => error.to_string(),
    };
    ApiError::internal(format!("error executing command in container: failed to exec in container: {why}")).to_status()
}
