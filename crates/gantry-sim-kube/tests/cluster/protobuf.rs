//! Requests and answers in protobuf, written and read here byte by byte.

use http::{Method, Request, header};
use kube::client::Body;
use serde_json::json;

use crate::World;

const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// A field with bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2, u8::try_from(bytes.len()).expect("a short field")];
    field.extend_from_slice(bytes);
    field
}

/// An object behind the first bytes that all have.
fn body(kind: &str, object: &[u8]) -> Vec<u8> {
    let kind = [field(1, b"v1"), field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), field(1, &kind), field(2, object)].concat()
}

/// A pod named `p` with one container that ends at once.
fn pod() -> Vec<u8> {
    let container = [field(1, b"a"), field(2, b"a:1"), field(3, b"true")].concat();
    let spec = [field(2, &container), field(3, b"Never")].concat();
    body("Pod", &[field(1, &field(1, b"p")), field(2, &spec)].concat())
}

async fn ask(world: &World, method: Method, path: &str, body: Vec<u8>) -> (u16, String, Vec<u8>) {
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, MEDIA_TYPE);
    let request = request.header(header::ACCEPT, MEDIA_TYPE).body(Body::from(body)).expect("a request");
    let answer = world.admin().send(request).await.expect("an answer");
    let media = answer.headers()[header::CONTENT_TYPE].to_str().expect("text").to_owned();
    let status = answer.status().as_u16();
    (status, media, answer.into_body().collect_bytes().await.expect("a body").to_vec())
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn a_client_that_knows_only_protobuf_is_understood_and_answered() {
    let world = World::new().await;
    let pods = "/api/v1/namespaces/ci/pods";
    let (code, media, made) = ask(&world, Method::POST, pods, pod()).await;
    assert_eq!((code, media.as_str()), (201, MEDIA_TYPE));
    assert!(made.starts_with(b"k8s\0") && has(&made, &[field(1, b"a"), field(2, b"a:1")].concat()), "{made:?}");
    let done = world.phase("p", "Succeeded").await;
    assert_eq!(done["spec"]["containers"][0]["command"], json!(["true"]));
    let (code, media, list) = ask(&world, Method::GET, pods, Vec::new()).await;
    assert_eq!((code, media.as_str()), (200, MEDIA_TYPE));
    assert!(has(&list, &field(2, b"PodList")) && has(&list, b"Succeeded"));
    let options = body("DeleteOptions", &[1 << 3, 0]);
    let (code, ..) = ask(&world, Method::DELETE, &format!("{pods}/p"), options).await;
    assert_eq!(code, 200);
    let (code, media, gone) = ask(&world, Method::GET, &format!("{pods}/p"), Vec::new()).await;
    assert_eq!((code, media.as_str()), (404, MEDIA_TYPE));
    assert!(has(&gone, &field(2, b"Status")) && has(&gone, &field(3, b"pods \"p\" not found")));
    world.stop().await;
}

#[tokio::test]
async fn a_watch_in_protobuf_has_one_frame_for_each_event() {
    let world = World::new().await;
    let path = "/api/v1/namespaces/ci/serviceaccounts?watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3Drunner";
    let (code, media, watched) = ask(&world, Method::GET, path, Vec::new()).await;
    assert_eq!((code, media.as_str()), (200, "application/vnd.kubernetes.protobuf;stream=watch"));
    let (length, rest) = watched.split_at(4);
    let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
    assert_eq!(rest.len(), usize::try_from(length).expect("a length"), "one frame and no more");
    assert!(rest.starts_with(&field(1, b"ADDED")) && has(rest, b"k8s\0") && has(rest, &field(1, b"runner")));
    world.stop().await;
}
