//! The page for people: its files, which are part of the binary, and what only it asks for.
//! Everything that it does it does through the same `/sim/` paths that people and tests use.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::Stream;
use serde::Deserialize;
use serde_json::json;

use super::{admin_error, json_answer, refuse};
use crate::hub::SharedHub;
use crate::limits;
use crate::tasks;

/// Where the page's files are. No project path begins so.
pub(super) const PREFIX: &str = "/-/app";

const INDEX: &str = include_str!("../page/index.html");

/// The page's files: name, kind, text.
const FILES: [(&str, &str, &str); 8] = [
    ("style.css", "text/css; charset=utf-8", include_str!("../page/style.css")),
    ("app.js", "text/javascript; charset=utf-8", include_str!("../page/app.js")),
    ("dom.js", "text/javascript; charset=utf-8", include_str!("../page/dom.js")),
    ("log.js", "text/javascript; charset=utf-8", include_str!("../page/log.js")),
    ("pipeline.js", "text/javascript; charset=utf-8", include_str!("../page/pipeline.js")),
    ("reasons.js", "text/javascript; charset=utf-8", include_str!("../page/reasons.js")),
    ("search.js", "text/javascript; charset=utf-8", include_str!("../page/search.js")),
    ("icon.svg", "image/svg+xml", include_str!("../page/icon.svg")),
];

/// Only the page's own files, nothing inline, no frame around it: whatever a job prints, it stays
/// text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// Shortest time between two events: a job that prints much must not keep the page busy.
const QUIET: Duration = Duration::from_millis(250);

/// `GET /`.
pub(super) async fn index() -> Response {
    file("text/html; charset=utf-8", INDEX)
}

/// `GET /-/app/<file>`.
pub(super) async fn asset(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, _, _)| *known == name) {
        Some((_, kind, text)) => file(kind, text),
        None => refuse(StatusCode::NOT_FOUND),
    }
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // The files belong to this binary; the next one may have others.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

/// `GET /sim/overview`: what the page shows first.
pub(super) async fn overview(State(hub): State<SharedHub>) -> Response {
    let projects: Vec<_> =
        hub.repos.iter().map(|repo| json!({"name": repo.name, "default_branch": repo.default_branch})).collect();
    let world = hub.world();
    let loose = world.jobs.values().rev().filter(|job| job.pipeline().is_none()).take(limits::SHOWN);
    let view = json!({
        "url": world.url,
        "now": world.now().wall,
        "mode": world.mode.word(),
        "projects": projects,
        "pipelines": world.latest_pipelines(),
        "jobs": loose.map(crate::state::job::Job::view).collect::<serde_json::Value>(),
        "runners": world.runners.view(),
        "violations": world.violations.count(),
        "faults": world.faults.count(),
    });
    json_answer(StatusCode::OK, &view)
}

/// `GET /sim/events`: server-sent events, one soon after every change of anything. They say that
/// something has changed, not what.
pub(super) async fn events(State(hub): State<SharedHub>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let changes = hub.world().watch_changes();
    let stopping = hub.stopping.subscribe();
    let events = futures::stream::unfold((changes, stopping, true), |(mut changes, mut stopping, first)| async move {
        if !first {
            tokio::select! {
                changed = changes.changed() => changed.ok()?,
                _ = stopping.wait_for(|stopping| *stopping) => return None,
            }
            tokio::select! {
                () = tokio::time::sleep(QUIET) => {}
                _ = stopping.wait_for(|stopping| *stopping) => return None,
            }
        }
        let number = *changes.borrow_and_update();
        Some((Ok(Event::default().data(number.to_string())), (changes, stopping, false)))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// The query of a list of refs.
#[derive(Deserialize)]
pub(super) struct RefsQuery {
    repo: String,
}

/// `GET /sim/refs?repo=<project>`: its branches and tags, the latest first.
pub(super) async fn refs(State(hub): State<SharedHub>, Query(query): Query<RefsQuery>) -> Response {
    let Some(repo) = hub.repo(Some(&query.repo)).cloned() else {
        return admin_error(StatusCode::NOT_FOUND, format!("no repository {:?}", query.repo));
    };
    let question = tasks::blocking(move || repo.refs());
    match tokio::time::timeout(limits::GIT_QUESTION, question).await {
        Ok(Ok(Ok(refs))) => json_answer(StatusCode::OK, &json!(refs)),
        Ok(Ok(Err(what))) => admin_error(StatusCode::INTERNAL_SERVER_ERROR, what),
        Ok(Err(_)) | Err(_) => admin_error(StatusCode::INTERNAL_SERVER_ERROR, "git did not answer"),
    }
}

/// Refuses what another site's page makes a browser send here: a browser says where a request comes
/// from, everybody else sends no such header.
pub(super) async fn own_pages_only(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads && is_foreign(request.headers()) {
        return admin_error(StatusCode::FORBIDDEN, "a page of another site may not do this");
    }
    next.run(request).await
}

fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("sec-fetch-site") {
        Some(site) => !matches!(site, "same-origin" | "none"),
        None => text("origin").is_some_and(|origin| origin.split_once("://").map(|(_, host)| host) != text("host")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_sites_are_told_from_own_pages_and_programs() {
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            let pair = |(name, value): &(&'static str, &'static str)| {
                (header::HeaderName::from_static(name), header::HeaderValue::from_static(value))
            };
            pairs.iter().map(pair).collect()
        };
        assert!(!is_foreign(&headers(&[])));
        assert!(!is_foreign(&headers(&[("sec-fetch-site", "same-origin"), ("origin", "http://a")])));
        assert!(is_foreign(&headers(&[("sec-fetch-site", "cross-site")])));
        assert!(is_foreign(&headers(&[("sec-fetch-site", "same-site")])));
        assert!(!is_foreign(&headers(&[("origin", "http://127.0.0.1:8080"), ("host", "127.0.0.1:8080")])));
        assert!(is_foreign(&headers(&[("origin", "http://evil.test"), ("host", "127.0.0.1:8080")])));
        assert!(is_foreign(&headers(&[("origin", "null"), ("host", "127.0.0.1:8080")])));
    }

    #[test]
    fn the_page_names_only_files_that_exist_and_no_other_host() {
        for (name, _, text) in FILES.iter().chain([&("index.html", "", INDEX)]) {
            assert!(!text.contains("https://"), "{name} names another host");
            for sink in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!text.contains(sink), "{name} has {sink}: text of jobs must stay text");
            }
        }
        for reference in INDEX.split('"').filter(|text| text.starts_with(PREFIX)) {
            assert!(FILES.iter().any(|(name, _, _)| reference == format!("{PREFIX}/{name}")), "{reference}");
        }
    }
}
