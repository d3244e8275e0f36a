//! Every call with every status, and with none: what becomes of it, and how often it is sent. A
//! status that GitLab asks for less with is the answer only after five tries. Where the words
//! differ from GitLab Runner 19.4, the comment at the table says so.

use std::fmt::{Debug, Write as _};

use super::*;
use crate::answer::VerifyOutcome;

/// Those that GitLab, or a proxy before it, gives to runners.
const STATUSES: [u16; 22] =
    [200, 201, 202, 204, 400, 401, 403, 404, 405, 409, 410, 412, 413, 416, 422, 429, 500, 501, 502, 503, 504, 520];

/// More than any call asks for.
const MOST: usize = 8;

/// The body that every call which reads one understands.
const RUNNER_AND_JOB: &str = r#"{"id": 7, "token": "t"}"#;

/// The words without which a 403 is not GitLab's.
const REFUSED: &str = r#"{"message": "403 Forbidden"}"#;

/// A GitLab that answers everything so.
fn always(status: Option<u16>) -> World {
    world((0..MOST).map(|_| match status {
        Some(403) => json(403, REFUSED),
        Some(status) => json(status, RUNNER_AND_JOB),
        None => Err(TransportFault::Broken),
    }))
}

/// What a call led to, and how often it was sent.
fn cell(world: &World, word: &str) -> String {
    format!("{word} {}", world.script.lines().len())
}

/// The name of a variant.
fn name(outcome: &impl Debug) -> String {
    let shown = format!("{outcome:?}");
    shown.split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
}

async fn row(status: Option<u16>) -> Vec<String> {
    let (token, world) = (Secret::new("glrt-1"), || always(status));
    let ok = |is_ok: bool| if is_ok { "ok" } else { "fail" };
    let mut cells = vec![status.map_or("none".to_owned(), |status| status.to_string())];

    let now = world();
    let answer = now.client.register(&token, &Registration::default()).await;
    cells.push(cell(&now, ok(answer.is_ok())));

    let now = world();
    let word = match now.client.verify(&token, "r_1", &info()).await {
        VerifyOutcome::Valid(_) => "ok",
        VerifyOutcome::Invalid { .. } => "invalid",
        VerifyOutcome::Unsure { .. } => "unsure",
    };
    cells.push(cell(&now, word));

    let now = world();
    let of_runner = cell(&now, ok(now.client.unregister_runner(&token).await.is_ok()));
    let now = world();
    let answer = now.client.unregister_manager(&token, "r_1").await;
    cells.push(cell(&now, ok(answer.is_ok())));
    assert_eq!(of_runner.split(' ').next(), cells[3].split(' ').next(), "{status:?}: both are removed alike");

    let now = world();
    let answer = now.client.reset_token(&token).await;
    cells.push(cell(&now, ok(answer.is_ok())));
    let now = world();
    let answer = now.client.reset_token_with_pat(7, &token).await;
    assert_eq!(cell(&now, ok(answer.is_ok())), cells[4], "{status:?}: both ways to a new token are alike");

    let now = world();
    let asked = poll(&now).await;
    assert_eq!(asked.healthy(), status != Some(403), "{status:?}: health");
    cells.push(cell(&now, &name(&asked.answer)));

    let now = world();
    let update = JobUpdate::of(JobState::Running);
    let answer = now.client.update_job(&job(), &update, &info(), limits::ANSWER_TIMEOUT).await;
    cells.push(cell(&now, &name(&answer.outcome)));

    let now = world();
    let piece = (0, Bytes::from_static(b"x"));
    let answer = now.client.patch_trace(&job(), piece, false, limits::ANSWER_TIMEOUT).await;
    cells.push(cell(&now, &name(&answer.outcome)));

    let now = world();
    let answer = upload(&now).await;
    cells.push(cell(&now, &name(&answer)));

    let now = world();
    let word = match now.client.download_artifact(41, &"t".into(), false).await {
        Ok(_) => "ok".to_owned(),
        Err(error) => name(&error),
    };
    cells.push(cell(&now, &word));
    cells
}

/// The reference verifies, sends a job's state and its log once where the connection breaks, or
/// twice, and uploads and downloads again what was refused for good. What a relay makes of the
/// outcomes of PUT and PATCH is in its own tests.
#[tokio::test(start_paused = true)]
async fn statuses_of_all_calls() {
    let head = ["", "register", "verify", "unregister", "reset", "request", "PUT", "PATCH", "upload", "download"];
    let mut table = String::new();
    for cells in [head.map(str::to_owned).to_vec()].into_iter().chain(rows().await) {
        for (cell, width) in cells.iter().zip([5, 9, 10, 11, 7, 14, 16, 16, 12, 0]) {
            write!(table, "{cell:width$}").unwrap();
        }
        table = table.trim_end().to_owned() + "\n";
    }
    insta::assert_snapshot!(table);
}

async fn rows() -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for status in STATUSES.map(Some).into_iter().chain([None]) {
        rows.push(row(status).await);
    }
    rows
}
