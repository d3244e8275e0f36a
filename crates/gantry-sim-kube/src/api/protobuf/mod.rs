//! Bodies in protobuf, which clients made with Kubernetes' own library send and, with some
//! settings, want back. They are read into the JSON that everything else here works with, and
//! written from it, by the table in `schema`.

mod read;
mod wire;
mod write;

use axum::{
    body::{Body, Bytes},
    response::Response,
};
use http::{HeaderValue, header};
use serde_json::{Map, Value, json};

use crate::schema::KUBERNETES;

/// The media type of Kubernetes' protobuf.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The media type of a watch in it.
pub(crate) const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";
/// First bytes of every Kubernetes protobuf body.
const MAGIC: &[u8] = b"k8s\0";

pub(crate) use write::message;

/// Reads a body; `None` when it is none of the types that are known here, or broken.
pub(crate) fn read(body: &[u8]) -> Option<Value> {
    let (mut kind, mut version, mut raw) = (String::new(), String::new(), &[][..]);
    for field in wire::Fields(body.strip_prefix(MAGIC)?) {
        match field? {
            (1, wire::Item::Bytes(bytes)) => {
                for field in wire::Fields(bytes) {
                    match field? {
                        (1, wire::Item::Bytes(bytes)) => version = wire::text(bytes)?,
                        (2, wire::Item::Bytes(bytes)) => kind = wire::text(bytes)?,
                        _ => {}
                    }
                }
            }
            (2, wire::Item::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let mut object = read::message(raw, KUBERNETES.get(kind.as_str())?)?;
    object.insert("kind".to_owned(), json!(kind));
    object.insert("apiVersion".to_owned(), json!(version));
    Some(Value::Object(object))
}

/// Writes an object; `None` when its type is not known here.
pub(crate) fn write(object: &Value) -> Option<Vec<u8>> {
    let object = object.as_object()?;
    let word = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or("");
    let fields = KUBERNETES.get(word("kind"))?;
    let mut of = Vec::new();
    wire::put_bytes(&mut of, 1, word("apiVersion").as_bytes());
    wire::put_bytes(&mut of, 2, word("kind").as_bytes());
    let mut body = MAGIC.to_vec();
    wire::put_bytes(&mut body, 1, &of);
    wire::put_bytes(&mut body, 2, &message(&KUBERNETES, object, fields));
    wire::put_bytes(&mut body, 3, b"");
    wire::put_bytes(&mut body, 4, b"");
    Some(body)
}

/// One event of a watch behind its length; `None` when the object's type is not known here.
pub(crate) fn event(kind: &str, object: &Value) -> Option<Bytes> {
    let mut raw = Vec::new();
    wire::put_bytes(&mut raw, 1, &write(object)?);
    let mut event = Vec::new();
    wire::put_bytes(&mut event, 1, kind.as_bytes());
    wire::put_bytes(&mut event, 2, &raw);
    let mut frame = u32::try_from(event.len()).ok()?.to_be_bytes().to_vec();
    frame.append(&mut event);
    Some(frame.into())
}

/// Writes an answer that is JSON anew; others, and those whose type has no message, stay as they
/// are.
pub(crate) async fn translated(answer: Response) -> Response {
    let is_json = answer.headers().get(header::CONTENT_TYPE).is_some_and(|media| media == "application/json");
    if !is_json {
        return answer;
    }
    let (mut parts, body) = answer.into_parts();
    // The body was made in memory, so that reading it neither waits nor fails.
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let written = serde_json::from_slice(&bytes).ok().and_then(|object| write(&object));
    let Some(written) = written else { return Response::from_parts(parts, Body::from(bytes)) };
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(written))
}

/// An object of JSON.
type Object = Map<String, Value>;

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        field.extend_from_slice(bytes);
        field
    }

    #[test]
    fn a_secret_is_read() {
        let meta = [field(1, b"s"), field(2, b""), field(11, &[field(1, b"a"), field(2, b"b")].concat())].concat();
        let data = [field(1, b"pw"), field(2, b"\xff")].concat();
        let secret = [field(1, &meta), field(2, &data), field(3, b"Opaque"), vec![5 << 3, 1]].concat();
        let kind = [field(1, b"v1"), field(2, b"Secret")].concat();
        let body = [MAGIC.to_vec(), field(1, &kind), field(2, &secret), field(3, b"")].concat();
        assert_eq!(
            read(&body).unwrap(),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "labels": {"a": "b"}},
                "data": {"pw": "/w=="}, "type": "Opaque", "immutable": true})
        );
        for length in 0..body.len() {
            // Broken bodies are refused or read as less, never a panic.
            let _ = read(&body[..length]);
        }
        assert_eq!(read(b"k8s\0\x0a\xff\xff"), None);
    }

    #[test]
    fn a_pod_survives_the_way_there_and_back() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "p", "creationTimestamp": "2026-01-02T03:04:05Z", "annotations": {"empty": ""},
                "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {"f:containers": {}}}}],
            },
            "spec": {
                "activeDeadlineSeconds": 3600, "automountServiceAccountToken": false,
                "volumes": [{"name": "e", "emptyDir": {}}, {"name": "c", "configMap": {"name": "m", "defaultMode": 420}}],
                "containers": [{
                    "name": "build", "stdin": true, "command": ["sh", "-c", ""],
                    "env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                    "resources": {"limits": {"memory": "64Mi"}},
                    "securityContext": {"runAsUser": 0, "privileged": false},
                    "livenessProbe": {"httpGet": {"port": "web"}, "periodSeconds": 5},
                    "readinessProbe": {"tcpSocket": {"port": 80}},
                    "volumeMounts": [{"name": "e", "mountPath": "/e", "subPath": "a/b"}],
                }],
            },
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "build", "ready": false, "restartCount": 0, "image": "i", "imageID": "",
                "state": {"terminated": {"exitCode": -1, "startedAt": "2026-01-02T03:04:05Z"}},
            }]},
        });
        assert_eq!(read(&write(&pod).unwrap()).unwrap(), pod);
    }

    #[test]
    fn times_keep_their_microseconds() {
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "spec": {"renewTime": "2026-01-02T03:04:05.000006Z", "leaseDurationSeconds": 0}});
        assert_eq!(read(&write(&lease).unwrap()).unwrap(), lease);
    }
}
