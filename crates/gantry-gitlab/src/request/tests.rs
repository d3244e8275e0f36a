use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef";

fn gitlab() -> Instance {
    Instance::new("https://gitlab.example.com").unwrap()
}

fn job() -> JobCredentials {
    JobCredentials { id: 42, token: "glcbt-1".into() }
}

/// The whole request as text; the `info` object, which has its own golden, is cut out.
fn shown(draft: Draft) -> String {
    let request = draft.with_id(ID).unwrap();
    let mut text = format!("{} {}\n", request.method(), request.uri());
    let headers: BTreeMap<_, _> = request.headers().iter().map(|(name, value)| (name.as_str(), value)).collect();
    for (name, value) in headers {
        let value = if name == "user-agent" { "(ours)" } else { value.to_str().unwrap() };
        writeln!(text, "{name}: {value}").unwrap();
    }
    let body = request.body();
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(mut value) => {
            if let Some(info) = value.get_mut("info") {
                *info = "(info)".into();
            }
            write!(text, "\n{value}").unwrap();
        }
        Err(_) => write!(text, "\n{}", String::from_utf8_lossy(body)).unwrap(),
    }
    text
}

#[test]
fn base_urls() {
    for (configured, base) in [
        ("https://gitlab.example.com", "https://gitlab.example.com/api/v4/"),
        ("https://gitlab.example.com///", "https://gitlab.example.com/api/v4/"),
        ("https://gitlab.example.com/ci", "https://gitlab.example.com/api/v4/"),
        ("https://gitlab.example.com/ci///", "https://gitlab.example.com/api/v4/"),
        ("https://example.com/gitlab/", "https://example.com/gitlab/api/v4/"),
        ("https://example.com/gitlab/ci/", "https://example.com/gitlab/api/v4/"),
        ("http://[::1]:8080", "http://[::1]:8080/api/v4/"),
    ] {
        assert_eq!(Instance::new(configured).unwrap().base().as_str(), base, "{configured}");
    }
    for bad in ["example.com", "\n", "", "ftp://example.com", "https://", "https://example.com?x=1"] {
        assert!(Instance::new(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn user_info_becomes_a_hidden_header() {
    let instance = Instance::new("https://me:p%40ss@gitlab.example.com").unwrap();
    assert_eq!(instance.base().as_str(), "https://gitlab.example.com/api/v4/");
    let request = instance.unregister_runner(&"t".into()).with_id(ID).unwrap();
    assert_eq!(request.headers()[AUTHORIZATION], "Basic bWU6cEBzcw==");
    assert!(!format!("{request:?}").contains("bWU6"));
    let error = Instance::new("https://me:pass@gitlab.example.com?x").unwrap_err().to_string();
    assert!(!error.contains("pass"), "{error}");
}

#[test]
fn runner_calls() {
    let info = RunnerInfo::kubernetes("bash", BTreeMap::new());
    let token = Secret::new("glrt-1");
    let plain = Registration { locked: true, ..Registration::default() };
    let full = Registration {
        description: "d".into(),
        maintenance_note: "m".into(),
        tag_list: "a,b".into(),
        access_level: "ref_protected".into(),
        maximum_timeout: 600,
        ..Registration::default()
    };
    let instance = gitlab();
    let session = SessionOffer {
        url: "https://runner.test:8093/session/0a1b".into(),
        certificate: "PEM".into(),
        authorization: "2c3d".into(),
    };
    let request = JobRequest { token: &token, system_id: "r_1", info: &info, last_update: None, session: None };
    let texts = [
        shown(instance.register(&token, &plain)),
        shown(instance.register(&token, &full)),
        shown(instance.verify(&token, "r_1", &info)),
        shown(instance.unregister_runner(&token)),
        shown(instance.unregister_manager(&token, "r_1")),
        shown(instance.reset_token(&token)),
        shown(instance.reset_token_with_pat(7, &"glpat-1".into())),
        shown(instance.request_job(&request)),
        shown(instance.request_job(&JobRequest { last_update: Some("0f1e"), session: Some(&session), ..request })),
    ];
    insta::assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn job_calls() {
    let info = RunnerInfo::kubernetes("bash", BTreeMap::new());
    let failed = JobUpdate {
        state: JobState::Failed,
        failure_reason: Some(FailureReason::ScriptFailure),
        output: Some(Output { crc32: 0x0d7c_f601, bytesize: 51 }),
        exit_code: Some(2),
    };
    let empty = JobUpdate {
        exit_code: Some(0),
        output: Some(Output { crc32: 0, bytesize: 0 }),
        ..JobUpdate::of(JobState::Success)
    };
    let query = UploadQuery {
        artifact_type: "archive".into(),
        artifact_format: "zip".into(),
        expire_in: "1 week".into(),
        filename: "a.zip".into(),
    };
    let instance = gitlab();
    let texts = [
        shown(instance.update_job(&job(), &JobUpdate::of(JobState::Running), &info)),
        shown(instance.update_job(&job(), &failed, &info)),
        shown(instance.update_job(&job(), &empty, &info)),
        shown(instance.patch_trace(&job(), 0, Bytes::from_static(b"abcd"), false)),
        shown(instance.patch_trace(&job(), 4, Bytes::from_static(b"e"), true)),
        shown(instance.upload_artifact(&job(), &query, "b0undary")),
        shown(instance.download_artifact(41, &"glcbt-0".into(), true)),
        shown(instance.download_artifact(41, &"glcbt-0".into(), false)),
    ];
    insta::assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn ranges_of_patches() {
    let range = |offset, length| {
        let request = gitlab().patch_trace(&job(), offset, vec![b'x'; length].into(), false).with_id(ID).unwrap();
        request.headers()["content-range"].to_str().unwrap().to_owned()
    };
    assert_eq!([range(0, 17), range(0, 4), range(4, 1)], ["0-16", "0-3", "4-4"]);
    assert!(gitlab().patch_trace(&job(), 0, Bytes::new(), false).with_id(ID).is_err());
}

#[test]
fn tokens_are_in_no_debug_output_and_no_error() {
    let request = gitlab().patch_trace(&job(), 0, Bytes::from_static(b"x"), false).with_id(ID).unwrap();
    assert!(!format!("{:?}", request.headers()).contains("glcbt"));
    let error = gitlab().download_artifact(1, &"glcbt-\nx".into(), false).with_id(ID).unwrap_err();
    assert!(!format!("{error:?}").contains("glcbt"), "{error:?}");
}
