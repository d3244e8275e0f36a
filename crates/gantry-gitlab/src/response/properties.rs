//! Whatever a server, or a proxy before it, answers: it is read without a panic, and no error
//! repeats a token.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const CANARY: &str = "glcbt-canary";

/// A job with something in every list.
fn payload() -> Value {
    let image = json!({"name": "debian:12", "alias": "a b", "entrypoint": [""], "command": ["x"], "pull_policy": ["always"],
        "ports": [{"number": 80, "protocol": "http", "name": "web"}], "variables": [{"key": "K", "value": "v"}],
        "executor_opts": {"kubernetes": {"user": 1000}}});
    json!({
        "id": 7, "token": CANARY, "allow_git_fetch": true,
        "job_info": {"name": "build", "stage": "test", "project_id": 3, "time_in_queue_seconds": 1.5,
            "project_jobs_running_on_instance_runners_count": "5"},
        "git_info": {"repo_url": "https://gitlab-ci-token:glcbt-canary@gitlab.test/a/b.git", "ref": "main", "sha": "0",
            "refspecs": ["+refs/heads/main:refs/heads/main"], "depth": 20, "protected": null},
        "runner_info": {"timeout": 3600},
        "variables": [{"key": "A", "value": "1", "public": true, "masked": false, "raw": true, "file": false}],
        "steps": [{"name": "script", "script": ["true"], "timeout": 10, "when": "on_success", "allow_failure": false}],
        "image": image, "services": [image],
        "artifacts": [{"name": "n", "paths": ["p"], "exclude": [], "untracked": true, "when": "always", "artifact_type": "archive",
            "artifact_format": "zip", "expire_in": "1 week"}],
        "cache": [{"key": "k", "paths": ["p"], "policy": "pull", "when": "", "fallback_keys": ["f"], "untracked": false}],
        "credentials": [{"type": "registry", "url": "u", "username": "n", "password": "p"}],
        "dependencies": [{"id": 6, "token": "t", "name": "n", "artifacts_file": {"filename": "a.zip", "size": 5}}],
        "features": {"trace_sections": true, "token_mask_prefixes": ["x-"], "failure_reasons": ["script_failure"],
            "tracing": {"trace_id": "0", "span_parent_id": "0", "otel_endpoints": [{"url": "u", "auth": {"type": "t"}}]}},
        "secrets": {"S": {"vault": {"server": {"url": "u", "auth": {"name": "jwt", "path": "p", "data": {"jwt": "j"}}},
            "engine": {"name": "kv-v2", "path": "e"}, "path": "p", "field": "f"}, "file": true}},
        "hooks": [{"name": "pre_get_sources_script", "script": ["true"]}],
        "inputs": [{"key": "age", "value": {"type": "number", "content": 1, "sensitive": false}}],
        "run": "[]",
    })
}

/// The addresses of all values in a JSON document.
fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, item)| pointers(item, &format!("{at}/{index}"), all));
        }
        Value::Object(map) => map.iter().for_each(|(key, item)| pointers(item, &format!("{at}/{key}"), all)),
        _ => {}
    }
}

fn odd() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        Value::Null,
        json!(true),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(""),
        json!("x"),
        json!("\u{0}\u{fffd}\n"),
        json!([]),
        json!([null]),
        json!([[]]),
        json!({}),
        json!({"name": {}}),
    ])
}

fn kind() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "application/json",
        "application/json; charset=utf-8",
        "text/html",
        "application/xml",
        "",
        "\u{7f}",
    ])
}

proptest! {
    /// One value of a job is another one: it is a job all the same, or GitLab can be told that it
    /// is none.
    #[test]
    fn one_value_of_a_job_is_odd(index in any::<prop::sample::Index>(), odd in odd()) {
        let mut job = payload();
        let mut all = Vec::new();
        pointers(&job, "", &mut all);
        let pointer = index.get(&all);
        *job.pointer_mut(pointer).unwrap() = odd;
        let body = job.to_string();
        if let Err(Undecodable { id, message, .. }) = payload::decode(body.as_bytes()) {
            prop_assert!(!message.contains(CANARY), "{message}");
            prop_assert!(pointer.is_empty() || pointer == "/id" || id == Some(7), "{pointer}: {message}");
        }
    }

    /// A job that was cut off or garbled on its way.
    #[test]
    fn a_job_is_cut_off(length in 0_usize..2000, at in 0_usize..2000, byte in any::<u8>()) {
        let mut body = payload().to_string().into_bytes();
        if let Some(there) = body.get_mut(at) {
            *there = byte;
        }
        body.truncate(length);
        if let Err(Undecodable { message, .. }) = payload::decode(&body) {
            prop_assert!(!message.contains(CANARY), "{message}");
        }
    }

    /// Any status with any body, on every call.
    #[test]
    fn any_answer_is_read(
        status in 200_u16..600,
        kind in kind(),
        range in "[0-9-]{0,12}|\\PC{0,8}",
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            "[{}\\[\\]\",:a-z0-9]{0,64}".prop_map(String::into_bytes),
            Just(payload().to_string().into_bytes()),
        ],
    ) {
        let answer = || {
            let mut answer = Response::new(Bytes::from(body.clone()));
            *answer.status_mut() = StatusCode::from_u16(status).unwrap();
            for (name, value) in [("content-type", kind), ("range", &range), ("job-status", &range), ("x-gitlab-trace-update-interval", &range)] {
                if let Ok(value) = value.parse() {
                    answer.headers_mut().insert(name, value);
                }
            }
            answer
        };
        let interval = update(Ok(answer())).headers.update_interval;
        prop_assert!(interval.is_none_or(|interval| !interval.is_zero() && interval <= Duration::from_mins(15)));
        let shown = format!(
            "{:?} {:?} {:?} {:?} {:?} {:?}",
            registered(Ok(answer()), StatusCode::CREATED).map(drop),
            done(Ok(answer()), StatusCode::NO_CONTENT),
            job(Ok(answer())),
            update(Ok(answer())),
            patch(Ok(answer())),
            download_error(&answer()),
        );
        prop_assert!(!shown.contains(CANARY), "{shown}");
    }
}

/// The calls that the table in `tests.rs` does not have, by status: what GitLab Runner 19.4 makes
/// of it.
#[test]
fn statuses_of_the_other_calls() {
    let statuses = [
        200_u16, 201, 202, 204, 301, 400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 416, 422, 425, 429, 500, 501,
        502, 503, 504, 520,
    ];
    let json = |status: u16, body: &str| {
        let answer = Response::builder().status(status).header("content-type", "application/json");
        answer.body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
    };
    let known = r#"{"id": 7, "token": "t"}"#;
    for status in statuses {
        let is_registered = registered(Ok(json(status, known)), StatusCode::CREATED).is_ok();
        assert_eq!(is_registered, status == 201, "registration, token reset: {status}");
        let is_verified = registered(Ok(json(status, known)), StatusCode::OK).is_ok();
        assert_eq!(is_verified, status == 200, "verification: {status}");
        assert_eq!(
            done(Ok(json(status, "")), StatusCode::NO_CONTENT).is_ok(),
            status == 204,
            "unregistration: {status}"
        );
        let said = if status == 403 { r#"{"message": "403 Forbidden"}"# } else { known };
        let poll = crate::answer::Poll { answer: job(Ok(json(status, said))), pushed_back: false, last_update: None };
        // Only a refused token counts against a runner.
        assert_eq!(poll.healthy(), status != 403, "health: {status}");
        let word = match poll.answer {
            JobAnswer::Job(_) => 201,
            JobAnswer::NoJob => 204,
            JobAnswer::Forbidden { .. } => 403,
            JobAnswer::Unavailable { .. } => 503,
            JobAnswer::Undecodable { .. } => 0,
            JobAnswer::Failed(_) => status,
        };
        assert_eq!(word, status, "request");
        let is_final =
            matches!(download_error(&json(status, "")), DownloadError::NotFound | DownloadError::Forbidden { .. });
        assert_eq!(is_final, matches!(status, 401 | 403 | 404), "download: {status}");
    }
}
