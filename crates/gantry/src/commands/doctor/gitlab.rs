//! Checks of GitLab: reachable, certificate, clock, token.

use std::time::Duration;

use gantry_core::error_chain::chain;
use gantry_daemon::wiring;
use gantry_gitlab::{Client, Reached, VerifyOutcome};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

use super::Subject;
use super::finding::Finding;
use crate::commands::coordinator;

/// Longest wait for one answer.
const WAIT: Duration = Duration::from_secs(20);

/// Difference of clocks that is worth a word, and one that breaks what has an expiry: signatures of
/// storage, tokens of identity providers.
const CLOCK_OFF: i64 = 30;
const CLOCK_BROKEN: i64 = 300;

/// How to get another token.
const RENEW: &str = "`gantry reset-token` exchanges it, as long as it works; else make a new runner in GitLab and write its \
                     token into the configuration";

/// Asks GitLab what it thinks of the runner.
pub(super) async fn examine(subject: &Subject<'_>) -> Vec<Finding> {
    let runner = subject.runner;
    let options = wiring::gitlab(runner, &subject.directories, subject.settings.connection_max_age);
    let client = match Client::new(options) {
        Ok(client) => client,
        Err(error) => {
            let change = "correct url, tls-ca-file, tls-cert-file and tls-key-file of the runner, or the proxy";
            return vec![Finding::error("gitlab", chain(&error), change)];
        }
    };
    let reached = match tokio::time::timeout(WAIT, client.reach()).await {
        Ok(Ok(reached)) => reached,
        Ok(Err(error)) => return vec![unreachable(&runner.url, &chain(&error))],
        Err(_) => return vec![unreachable(&runner.url, &format!("no answer in {} s", WAIT.as_secs()))],
    };
    let mut findings = vec![gitlab(&runner.url, &reached)];
    findings.extend(certificate(&reached));
    findings.extend(clock(&reached, Timestamp::now()));
    match verified(subject, &client).await {
        // GitLab's API has a version, and verifies tokens; whoever knows neither is none.
        VerifyOutcome::Unsure { message } if reached.status == 404 => return vec![no_gitlab(&runner.url, &message)],
        outcome => findings.push(token(subject, outcome)),
    }
    findings
}

fn no_gitlab(url: &str, message: &str) -> Finding {
    let change = if url.contains("/api/v4") {
        "leave /api/v4 out of url of the runner: it is added to the address of the GitLab instance"
    } else {
        "set url of the runner to the address of the GitLab instance: what stands before /users/sign_in in a browser; a \
         path belongs to it only where the whole instance is below one"
    };
    Finding::error("gitlab", format!("{url} is not the address of a GitLab, and no job will come: {message}"), change)
}

fn unreachable(url: &str, why: &str) -> Finding {
    let change = "what the message says; where GitLab is behind a proxy or has another name here, url of the runner, \
                  HTTPS_PROXY and NO_PROXY";
    Finding::error("gitlab", format!("{url} cannot be reached: {why}"), change)
}

fn gitlab(url: &str, reached: &Reached) -> Finding {
    let Reached { status, is_page, took, .. } = reached;
    let millis = took.as_millis();
    match *status {
        500..=599 => Finding::warning(
            "gitlab",
            format!("{url} answers with status {status}: it, or a proxy before it, cannot work now"),
            "wait, or look at GitLab's own health",
        ),
        // An instance answers 401 to a stranger, and 200 where its version is public.
        300..=399 => Finding::error(
            "gitlab",
            format!("{url} redirects elsewhere (status {status})"),
            "set url of the runner to the final address of GitLab, https:// included",
        ),
        _ if *is_page => Finding::error(
            "gitlab",
            format!("{url} answers with a page for browsers (status {status}), which GitLab's API never does"),
            "set url of the runner to that of the GitLab instance; or have this machine let through by what stands before it: \
             a proxy, or a page to sign in",
        ),
        _ => Finding::ok("gitlab", format!("{url} answers in {millis} ms")),
    }
}

fn certificate(reached: &Reached) -> Option<Finding> {
    let days = gantry_gitlab::limits::CERTIFICATE_LOOKAHEAD.as_secs() / 86_400;
    Some(if reached.certificate_is_good_for? {
        Finding::ok("tls", format!("the chain of certificates is trusted, and for {days} days more"))
    } else {
        let found = format!("the certificate of GitLab, or one above it, ends within {days} days");
        Finding::warning("tls", found, "renew it on the server; runners and jobs will fail when it ends")
    })
}

fn clock(reached: &Reached, now: Timestamp) -> Option<Finding> {
    let theirs = rfc2822::parse(reached.date.as_deref()?).ok()?.timestamp();
    let off = now.as_second() - theirs.as_second();
    let found = format!("this clock is {} s {} GitLab's", off.abs(), if off < 0 { "behind" } else { "ahead of" });
    let change = "synchronise the clock of this machine (NTP)";
    Some(match off.abs() {
        0..CLOCK_OFF => Finding::ok("clock", "agrees with GitLab's"),
        CLOCK_OFF..CLOCK_BROKEN => Finding::warning("clock", found, change),
        _ => Finding::error("clock", format!("{found}: links to storage and tokens of jobs will be refused"), change),
    })
}

async fn verified(subject: &Subject<'_>, client: &Client) -> VerifyOutcome {
    let runner = subject.runner;
    let info = wiring::runner_info(runner);
    let asked = client.verify(&runner.token, &subject.system_id, &info);
    tokio::time::timeout(WAIT, asked)
        .await
        .unwrap_or_else(|_| VerifyOutcome::Unsure { message: format!("no answer in {} s", WAIT.as_secs()) })
}

fn token(subject: &Subject<'_>, outcome: VerifyOutcome) -> Finding {
    let runner = subject.runner;
    match outcome {
        VerifyOutcome::Valid(found) => {
            let ends = coordinator::expiry(found.token_expires_at.as_deref()).or(runner.token_expires_at);
            life(runner.token_obtained_at, ends, Timestamp::now())
        }
        VerifyOutcome::Invalid { message } => Finding::error(
            "token",
            format!("GitLab refuses it ({message}): the runner was removed there, or its token was reset"),
            format!("{RENEW} ({})", subject.config.display()),
        ),
        VerifyOutcome::Unsure { message } => {
            Finding::warning("token", format!("GitLab did not say whether it is good: {message}"), "try again later")
        }
    }
}

/// What its end means. `gantry run` renews it when three quarters of its life are over.
fn life(obtained: Option<Timestamp>, ends: Option<Timestamp>, now: Timestamp) -> Finding {
    let Some(ends) = ends else { return Finding::ok("token", "GitLab takes it, and it does not end") };
    let left = ends.as_second() - now.as_second();
    let whole = obtained.map(|obtained| ends.as_second() - obtained.as_second()).filter(|whole| *whole > 0);
    let is_late = match whole {
        Some(whole) => left < whole / 4,
        None => left < 7 * 86_400,
    };
    if is_late {
        let found = format!("GitLab takes it, but it ends at {ends} and should have been renewed");
        return Finding::warning("token", found, RENEW);
    }
    Finding::ok("token", format!("GitLab takes it, until {ends}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::finding::Grade;

    fn reached(status: u16, date: Option<&str>, good: Option<bool>) -> Reached {
        let took = Duration::from_millis(3);
        Reached { status, is_page: false, date: date.map(str::to_owned), took, certificate_is_good_for: good }
    }

    #[test]
    fn answers_and_certificates() {
        let grade = |status| gitlab("https://g", &reached(status, None, None)).grade;
        assert_eq!([grade(401), grade(200), grade(404)], [Grade::Ok; 3]);
        assert_eq!([grade(503), grade(302)], [Grade::Warning, Grade::Error]);
        let page = gitlab("https://g", &Reached { is_page: true, ..reached(200, None, None) });
        assert_eq!(page.grade, Grade::Error);
        assert!(page.found.contains("a page for browsers (status 200)"), "{page:?}");
        assert_eq!(certificate(&reached(401, None, None)), None);
        assert_eq!(certificate(&reached(401, None, Some(true))).unwrap().grade, Grade::Ok);
        assert_eq!(certificate(&reached(401, None, Some(false))).unwrap().grade, Grade::Warning);
    }

    #[test]
    fn clocks() {
        let now: Timestamp = "2015-10-21T07:28:00Z".parse().unwrap();
        let at = |date: &str| clock(&reached(401, Some(date), None), now);
        assert_eq!(at("Wed, 21 Oct 2015 07:28:10 GMT").unwrap().grade, Grade::Ok);
        let off = at("Wed, 21 Oct 2015 07:29:00 GMT").unwrap();
        assert_eq!((off.grade, off.found.as_str()), (Grade::Warning, "this clock is 60 s behind GitLab's"));
        assert_eq!(at("Wed, 21 Oct 2015 06:28:00 GMT").unwrap().grade, Grade::Error);
        assert_eq!(at("yesterday"), None);
    }

    #[test]
    fn the_end_of_a_token() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        assert_eq!(life(None, None, at(0)).grade, Grade::Ok);
        assert_eq!(life(Some(at(0)), Some(at(1000)), at(700)).grade, Grade::Ok);
        assert_eq!(life(Some(at(0)), Some(at(1000)), at(800)).grade, Grade::Warning);
        assert_eq!(life(None, Some(at(8 * 86_400)), at(0)).grade, Grade::Ok);
    }
}
