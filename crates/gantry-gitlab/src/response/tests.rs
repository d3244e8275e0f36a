use super::*;

#[expect(clippy::unnecessary_wraps, reason = "the functions under test take answers and failures")]
fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answered {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    Ok(builder.body(Bytes::copy_from_slice(body.as_bytes())).unwrap())
}

const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

#[test]
fn update_intervals() {
    for (word, seconds) in [
        ("10", Some(10)),
        ("-10", None),
        ("0", None),
        ("some text", None),
        ("", None),
        ("910", Some(900)),
        ("900", Some(900)),
    ] {
        assert_eq!(update_interval(word).map(|interval| interval.as_secs()), seconds, "{word:?}");
    }
}

#[test]
fn server_offsets() {
    let size = |headers: &[(&str, &str)]| match patch(answer(416, headers, "")).outcome {
        PatchOutcome::RangeMismatch { size } => size,
        other => panic!("{other:?}"),
    };
    assert_eq!(size(&[("range", "0-10")]), 10);
    assert_eq!(size(&[]), 0);
    assert_eq!(size(&[("range", "x")]), 0);
    assert_eq!(size(&[("range", "0-x")]), 0);
    assert_eq!(size(&[("range", "0-1-2")]), 0);
    let accepted = |headers: &[(&str, &str)]| match patch(answer(202, headers, "")).outcome {
        PatchOutcome::Accepted { size } => size,
        other => panic!("{other:?}"),
    };
    assert_eq!(accepted(&[("range", "0-17")]), Some(17));
    assert_eq!(accepted(&[]), None);
}

/// One table for both calls about a running job: status → meaning.
#[test]
fn statuses_of_job_calls() {
    let word = |debug: String| debug.split(['(', ' ', '{']).next().unwrap_or_default().to_owned();
    let rows: Vec<String> = [
        200, 201, 202, 204, 301, 400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 416, 422, 425, 429, 500, 501, 502,
        503, 504, 520,
    ]
    .into_iter()
    .map(|status| {
        let put = update(answer(status, &[], "")).outcome;
        let patched = patch(answer(status, &[], "")).outcome;
        format!("{status}: PUT {}, PATCH {}", word(format!("{put:?}")), word(format!("{patched:?}")))
    })
    .collect();
    insta::assert_snapshot!(rows.join("\n"));
}

#[test]
fn headers_of_job_calls() {
    let said =
        update(answer(202, &[("job-status", "canceling"), ("x-gitlab-trace-update-interval", "60")], "")).headers;
    assert_eq!(
        said,
        JobHeaders {
            job_status: Some(RemoteStatus::Canceling),
            update_interval: Some(Duration::from_secs(60)),
            asked_wait: None
        }
    );
    assert_eq!(update(answer(200, &[], "")).headers, JobHeaders::default());
    let odd = patch(answer(202, &[("job-status", "waiting_for_callback")], "")).headers;
    assert_eq!(odd.job_status, Some(RemoteStatus::Other("waiting_for_callback".into())));
}

#[test]
fn answers_to_a_request_for_a_job() {
    let good = job(answer(201, &[JSON, ("x-request-id", "abc")], r#"{"id": 1, "token": "t"}"#));
    let JobAnswer::Job(received) = good else { panic!("{good:?}") };
    assert_eq!((received.spec.id, received.correlation_id.as_deref()), (1, Some("abc")));

    assert!(matches!(job(answer(204, &[], "")), JobAnswer::NoJob));
    assert!(matches!(job(answer(403, &[], "")), JobAnswer::Forbidden { .. }));
    assert!(matches!(job(answer(403, &[JSON], r#"{"message": "403 Forbidden"}"#)), JobAnswer::Forbidden { .. }));
    // Nothing is known of the token then.
    let others = [
        (("content-type", "text/html"), "<html>blocked</html>"),
        (("content-type", "text/plain"), "blocked"),
        (JSON, r#"{"message": "You cannot perform write operations on a read-only instance"}"#),
        (JSON, r#"{"message": "403 Forbidden - this GitLab is read-only for now"}"#),
        (JSON, r#"{"message": "Forbidden"}"#),
        (JSON, r#"{"code": 1020}"#),
    ];
    for (kind, body) in others {
        let said = job(answer(403, &[kind], body));
        assert!(matches!(&said, JobAnswer::Failed(error) if error.status() == Some(403)), "{body}: {said:?}");
    }
    assert!(matches!(job(answer(503, &[], "")), JobAnswer::Unavailable { .. }));
    assert!(matches!(job(answer(409, &[], "")), JobAnswer::Failed(CallError::Status { status: 409, .. })));
    assert!(matches!(
        job(answer(201, &[("content-type", "text/html")], "{}")),
        JobAnswer::Failed(CallError::Malformed { .. })
    ));
    let page = job(answer(200, &[("content-type", "text/html")], "<html>"));
    let JobAnswer::Failed(error) = page else { panic!("{page:?}") };
    assert!(error.to_string().contains("status 200: OK, with a page for browsers"), "{error}");
    assert!(matches!(job(answer(201, &[JSON], r#"{"id": "x", "token": "t"}"#)), JobAnswer::Undecodable { .. }));
    assert_eq!(
        last_update(answer(204, &[("X-GitLab-Last-Update", "0f1e")], "").unwrap().headers()).as_deref(),
        Some("0f1e")
    );
}

#[test]
fn registration_answers() {
    let ok = |body: &str| registered(answer(201, &[JSON], body), StatusCode::CREATED);
    let full = ok(r#"{"id": 12345, "token": "glrt-x", "token_expires_at": "2684-10-16T13:25:59Z"}"#).unwrap();
    assert_eq!(
        (full.id, full.token.expose(), full.token_expires_at.as_deref()),
        (12345, "glrt-x", Some("2684-10-16T13:25:59Z"))
    );
    assert_eq!(ok(r#"{"id": 1, "token": "x", "token_expires_at": null}"#).unwrap().token_expires_at, None);
    let error = ok(r#"{"id": "glrt-secret"}"#).unwrap_err();
    assert!(!format!("{error:?}").contains("glrt-secret"), "{error:?}");
}

#[test]
fn words_of_errors() {
    let said = |status, headers: &[(&str, &str)], body: &str| message(&answer(status, headers, body).unwrap());
    assert_eq!(said(403, &[JSON], r#"{"message": "403 Forbidden"}"#), "403 Forbidden");
    let limit = r#"{"message": {"runner_namespaces.base": ["Maximum number reached", "x"], "tags": "none"}}"#;
    assert_eq!(said(400, &[JSON], limit), "runner_namespaces.base: Maximum number reached; x, tags: none");
    assert_eq!(said(502, &[("content-type", "text/html")], "<html>long page</html>"), "Bad Gateway");
    let xml = "<?xml?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";
    assert_eq!(said(403, &[("content-type", "application/xml")], xml), "AccessDenied: Request has expired");
    let moved = said(301, &[("location", "https://new.example.com/api/v4/runners?private_token=x")], "");
    assert_eq!(moved, "redirected to https://new.example.com; configure the final URL of this GitLab instance");
    let long = said(400, &[JSON], &format!(r#"{{"message": "a\n{}"}}"#, "x".repeat(1000)));
    assert!(long.starts_with("a xx") && long.chars().count() == limits::MAX_MESSAGE_CHARS + 1);
}

#[test]
fn download_answers() {
    let kind = |status| download_error(&answer(status, &[], "").unwrap());
    assert!(matches!(kind(404), DownloadError::NotFound));
    assert!(matches!(kind(401), DownloadError::Forbidden { status: 401, .. }));
    assert!(matches!(kind(403), DownloadError::Forbidden { status: 403, .. }));
    assert!(matches!(kind(500), DownloadError::Failed(_)));
}
