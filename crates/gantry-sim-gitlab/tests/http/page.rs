//! The page in a real browser: a person starts a pipeline, reads a live log, folds its sections,
//! cancels and retries.

use reqwest::Method;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::git::repository;
use crate::harness::{Sim, Taken, header};

const CI: &str = "
stages: [build, deploy]
\"<i>compile</i>\":
  stage: build
  script: [make]
release:
  stage: deploy
  script: [release]
  when: manual
";

/// A line of a log as runners stamp it.
fn line(text: &str, goes_on: bool) -> String {
    line_at("00.123456", text, goes_on)
}

fn line_at(seconds: &str, text: &str, goes_on: bool) -> String {
    format!("2026-01-31T12:00:{seconds}Z 00O{}{text}\n", if goes_on { '+' } else { ' ' })
}

fn section(name: &str, options: &str, title: &str, body: &str) -> String {
    let start = line(&format!("section_start:1700000000:{name}{options}\r\x1b[0K"), false);
    let end = line_at("07.523456", &format!("section_end:1700000007:{name}\r\x1b[0K"), false);
    format!("{start}{}{body}{end}", line(&format!("\x1b[0K\x1b[36;1m{title}\x1b[0;m"), true))
}

/// Sends more of a job's log; the answer's `Job-Status` and interval.
async fn more(sim: &Sim, job: &Taken, log: &mut String, text: &str) -> (String, String) {
    let answer = sim.patch(job, log.len(), text).await;
    assert_eq!(answer.status(), 202);
    log.push_str(text);
    (header(&answer, "job-status"), header(&answer, "x-gitlab-trace-update-interval"))
}

const LOG: &str = "document.querySelector('.log').innerText";

#[tokio::test]
async fn a_person_runs_reads_cancels_and_retries() {
    let Some(mut browser) = Browser::start().await else { return };
    let origin = repository(&[(".gitlab-ci.yml", CI)]);
    let sim = Sim::with_repo("group/project", origin.path().to_owned()).await;
    browser.resize(1280, 900, false).await;
    browser.open(&sim.url).await;
    browser.until("document.querySelector('#live').textContent === 'live'").await;
    browser.until("document.querySelector('option').value === 'group/project'").await;
    browser.until("[...document.querySelectorAll('#refs option')].some((one) => one.value === 'main')").await;
    browser.press("form.run", "Run pipeline").await;
    browser.until("document.querySelector('article[data-pipeline=\"1\"]').innerText.includes('pending')").await;

    let job = sim.run_next().await;
    let mut log = String::new();
    let sources = section("get_sources", "[collapsed=true]", "Getting sources", &line("Fetching changes...", false));
    more(&sim, &job, &mut log, &(line("Running with a test", false) + &sources)).await;
    browser.until("document.querySelector('article').innerText.includes('running')").await;
    browser.picture("overview").await;
    browser.value("document.querySelector('article .jobs a').click()").await;
    reads_the_log(&mut browser, &sim, &job, &mut log).await;
    browser.picture("job").await;
    stays_quick_in_long_logs(&mut browser, &sim, &job, &mut log).await;
    cancels_and_retries(&mut browser, &sim, &job, &log).await;

    browser.resize(390, 844, true).await;
    browser.value("location.hash = '#/'").await;
    browser.until("document.querySelector('article').innerText.includes('release')").await;
    browser.picture("phone").await;
    assert_eq!(
        browser.value("document.documentElement.scrollWidth").await,
        json!(390),
        "nothing sticks out on a phone"
    );
    assert_eq!(browser.errors(), [""; 0]);
    assert_eq!(sim.broken().await, [""; 0]);
    sim.stop().await;
}

/// Sections fold, new lines come by themselves, and whatever a job prints stays text.
async fn reads_the_log(browser: &mut Browser, sim: &Sim, job: &Taken, log: &mut String) {
    browser.until(&format!("{LOG}.includes('Getting sources')")).await;
    let title = browser.value("document.querySelector('.jobhead h1').textContent").await;
    assert_eq!(title, "<i>compile</i>", "a job's name is text");
    let folded = "document.querySelector('details[data-section=get_sources]')";
    let visible = format!("{folded}.querySelector('.body .line').checkVisibility({{contentVisibilityAuto: true}})");
    assert_eq!(browser.value(&format!("{folded}.open || {visible}")).await, json!(false), "collapsed=true");
    assert_eq!(browser.value(&format!("{folded}.querySelector('.took').textContent")).await, json!("7.4 s"));
    browser.value(&format!("{folded}.querySelector('summary').click()")).await;
    browser.until(&format!("{folded}.open && {visible}")).await;
    browser.press(".bar", "Collapse all").await;
    browser.until(&format!("!{folded}.open && !{visible}")).await;

    let start = line("section_start:1700000007:step_script\r\x1b[0K", false) + &line("Running the script", true);
    let (_, interval) = more(sim, job, log, &start).await;
    assert_eq!(interval, "3", "an open log is watched");
    browser.until(&format!("{LOG}.includes('Running the script')")).await;
    let hostile = line("<img src=x onerror=\"window.pwned = true\"><script>window.pwned = true</script>", false);
    let colours = line("\x1b[31mred\x1b[0m and \x1b[1;38;5;208mbold orange\x1b[0m", false);
    let progress = line("10 %\r", false) + &line("99 %", true);
    more(sim, job, log, &(hostile + &colours + &progress)).await;
    browser.until(&format!("{LOG}.includes('99 %') && !{LOG}.includes('10 %')")).await;
    let inside = "document.querySelector('details[data-section=step_script] .body')";
    assert_eq!(browser.value(&format!("{inside}.querySelector('.f1').textContent")).await, json!("red"));
    let orange = browser.value(&format!("getComputedStyle({inside}.querySelector('.bold')).color")).await;
    assert_eq!(orange, json!("rgb(255, 135, 0)"));
    assert_eq!(browser.value(&format!("{inside}.innerText.includes('<img src=x onerror=')")).await, json!(true));
    assert_eq!(browser.value("document.querySelector('.log img, .log script') === null").await, json!(true));
    assert_eq!(browser.value("typeof window.pwned").await, json!("undefined"));
}

/// A log of 100,000 lines can be searched, and each of its lines has a link.
async fn stays_quick_in_long_logs(browser: &mut Browser, sim: &Sim, job: &Taken, log: &mut String) {
    const ROWS: usize = 100_000;
    let rows: String = (0..ROWS).map(|row| line(&format!("row {row};"), false)).collect();
    more(sim, job, log, &rows).await;
    let text = "document.querySelector('.log').textContent";
    browser.until(&format!("{text}.includes('row {};')", ROWS - 1)).await;
    assert_eq!(browser.value(&format!("{text}.includes('row 1000;')")).await, json!(true), "nothing is cut away");
    let at_the_end = "(({scrollTop, scrollHeight, clientHeight}) => scrollHeight - scrollTop - clientHeight < 40)\
                      (document.querySelector('.log'))";
    browser.until(at_the_end).await;
    let search = "(() => { const input = document.querySelector('.search input'); input.value = 'row 54321;'; \
                  const begun = performance.now(); input.dispatchEvent(new Event('input')); return performance.now() - begun; })()";
    let took = browser.value(search).await;
    println!("a search in {ROWS} lines took {took} ms");
    browser.until("document.querySelector('.count').textContent === '1 of 1'").await;
    let hit = "document.querySelector('.line.here')";
    browser.until(&format!("{hit}.checkVisibility({{contentVisibilityAuto: true}})")).await;
    let number = browser.value(&format!("{hit}.dataset.n")).await;
    let number = number.as_str().expect("a number").to_owned();
    browser.value(&format!("location.hash = '#/jobs/{}/L{number}'", job.id)).await;
    browser.until("document.querySelector('.line.target').textContent === 'row 54321;'").await;
    browser.picture("search").await;
    // Six digits are one number, also where there is little room.
    let fits = "(() => { const line = document.querySelector('.line.target'); const gutter = getComputedStyle(line, '::before'); \
                const canvas = document.createElement('canvas').getContext('2d'); canvas.font = gutter.font; \
                return gutter.whiteSpace === 'nowrap' && canvas.measureText('100000').width <= parseFloat(gutter.width) \
                && parseFloat(gutter.width) < parseFloat(getComputedStyle(line).paddingLeft); })()";
    for (width, height) in [(390, 844), (1280, 900)] {
        browser.resize(width, height, false).await;
        assert_eq!(browser.value(fits).await, json!(true), "numbers of lines are cut at a width of {width}");
    }
}

/// The buttons do what they say, to the runner too.
async fn cancels_and_retries(browser: &mut Browser, sim: &Sim, job: &Taken, log: &str) {
    browser.press(".actions", "Cancel").await;
    browser.until("document.querySelector('.jobhead .badge').innerText.includes('canceling')").await;
    let mut log = log.to_owned();
    let end = line("section_end:1700000012:step_script\r\x1b[0K", false);
    assert_eq!(more(sim, job, &mut log, &end).await.0, "canceling", "the runner is told");
    sim.finish(job, "failed").await;
    browser.until("document.querySelector('.jobhead .badge').innerText.includes('canceled')").await;
    browser.press(".actions", "Retry").await;
    browser.until(&format!("!location.hash.startsWith('#/jobs/{}')", job.id)).await;
    let again = sim.run_next().await;
    browser.until(&format!("location.hash === '#/jobs/{}'", again.id)).await;
    browser.until("document.querySelector('.jobhead .badge').innerText.includes('running')").await;
    assert_eq!(browser.value("document.querySelector('.log').checkVisibility()").await, json!(false), "no old log");
    browser.press(".actions", "Cancel by force").await;
    browser.until("document.querySelector('.jobhead .badge').innerText.includes('canceled')").await;
    assert_eq!(sim.put(&again, &json!({"state": "running"})).await, (403, "canceled".to_owned()));
}

/// A pipeline with needs, a job that fails, variables, and what rules leave out.
const NEEDS: &str = "
workflow: {name: Of the shop}
stages: [build, test]
compile: {stage: build, script: [make]}
style: {stage: build, script: [lint]}
unit: {needs: [compile], script: [check]}
all: {stage: test, script: [x]}
tagged: {script: [x], rules: [{if: $CI_COMMIT_TAG}]}
";

#[tokio::test]
async fn a_pipeline_is_a_graph_and_a_time_line_and_a_failure_says_why() {
    let Some(mut browser) = Browser::start().await else { return };
    let origin = repository(&[(".gitlab-ci.yml", NEEDS)]);
    let sim = Sim::with_repo("group/shop", origin.path().to_owned()).await;
    browser.resize(1280, 900, false).await;
    browser.open(&sim.url).await;
    browser.until("document.querySelector('.brand span').textContent === 'shop'").await;
    browser.value("document.querySelector('.given').open = true; document.querySelector('#variables').value = 'WHO=me\\nA=b=c'").await;
    browser.press("form.run", "Run pipeline").await;
    browser.until("document.querySelector('article h2').textContent === 'Of the shop'").await;
    let compile = sim.run_next().await;
    let given = compile.payload["variables"].as_array().expect("variables");
    for (key, value) in [("WHO", "me"), ("A", "b=c")] {
        assert!(given.iter().any(|variable| variable["key"] == key && variable["value"] == value), "{key}");
    }
    let mut log = String::new();
    let script =
        "make: *** [all] Error 2\n".lines().map(|text| line(text, false)).collect::<String>() + &line("bye", false);
    more(&sim, &compile, &mut log, &section("get_sources", "", "Sources", &line("Fetching", false))).await;
    more(&sim, &compile, &mut log, &section("step_script", "", "Script", &(line("$ make", false) + &script))).await;
    more(&sim, &compile, &mut log, &line("ERROR: Job failed: exit code 2", false)).await;
    sim.put(&compile, &json!({"state": "failed", "failure_reason": "script_failure", "exit_code": 2})).await;
    browser.value("document.querySelector('article h2 a').click()").await;
    browser.until("document.querySelectorAll('.graph .node').length === 4").await;
    browser
        .until(
            "document.querySelectorAll('.edge').length === 3 && document.querySelectorAll('.edge.named').length === 1",
        )
        .await;
    browser
        .until("document.querySelector('.leftout').textContent.includes('tagged (test): none of its rules holds')")
        .await;
    browser.picture("graph").await;
    browser.press(".tabs", "Time line").await;
    browser.until("document.querySelector('.timeline .p-script') && document.querySelector('.track .p-queued')").await;
    browser.picture("timeline").await;
    browser.value(&format!("location.hash = '#/jobs/{}'", compile.id)).await;
    browser
        .until("document.querySelector('.why').textContent.includes('A command of the script failed (exit code 2).')")
        .await;
    browser.until("document.querySelector('.line.target').textContent === 'make: *** [all] Error 2'").await;
    browser.picture("failure").await;
    browser.resize(1280, 900, true).await;
    browser.picture("failure-dark").await;
    browser.resize(390, 844, true).await;
    browser.value("location.hash = '#/pipelines/1'").await;
    browser.until("document.querySelectorAll('.graph .node').length === 4").await;
    browser.picture("graph-phone").await;
    assert_eq!(
        browser.value("document.documentElement.scrollWidth").await,
        json!(390),
        "nothing sticks out on a phone"
    );
    assert_eq!(browser.errors(), [""; 0]);
    sim.stop().await;
}

#[tokio::test]
async fn the_page_is_closed_to_what_it_does_not_need() {
    let sim = Sim::start().await;
    let page = sim.call(Method::GET, "/").send().await.expect("an answer");
    assert_eq!(page.status(), 200);
    let policy = header(&page, "content-security-policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(header(&page, "x-content-type-options"), "nosniff");
    for (path, kind) in [("style.css", "text/css"), ("app.js", "text/javascript"), ("icon.svg", "image/svg+xml")] {
        let file = sim.call(Method::GET, &format!("/-/app/{path}")).send().await.expect("an answer");
        assert_eq!((file.status().as_u16(), header(&file, "content-type").starts_with(kind)), (200, true), "{path}");
    }
    assert_eq!(sim.call(Method::GET, "/-/app/none").send().await.expect("an answer").status(), 404);
    sim.post("/sim/jobs", &json!({})).await;
    let job = sim.run_next().await;
    let part = reqwest::multipart::Part::bytes(&b"<script>"[..]).file_name("page.html");
    let form = reqwest::multipart::Form::new().part("file", part);
    let upload =
        sim.call(Method::POST, &format!("/api/v4/jobs/{}/artifacts?artifact_type=sast&artifact_format=raw", job.id));
    assert_eq!(upload.header("JOB-TOKEN", &job.token).multipart(form).send().await.expect("an answer").status(), 201);
    for (path, kind) in [("trace", "text/plain; charset=utf-8"), ("artifacts/page.html", "application/octet-stream")] {
        let file = sim.call(Method::GET, &format!("/sim/jobs/{}/{path}", job.id)).send().await.expect("an answer");
        assert_eq!(
            (header(&file, "content-type").as_str(), header(&file, "x-content-type-options").as_str()),
            (kind, "nosniff")
        );
    }
    let foreign = sim.call(Method::POST, "/sim/jobs").header("Sec-Fetch-Site", "cross-site").json(&json!({}));
    assert_eq!(foreign.send().await.expect("an answer").status(), 403);
    assert_eq!(sim.get("/sim/jobs").await.as_array().map(Vec::len), Some(1));
    let journal = sim.get("/sim/requests").await;
    let paths = journal.as_array().expect("a list").iter().filter_map(|entry| entry["path"].as_str());
    assert!(
        paths.into_iter().all(|path| path.starts_with("/api/")),
        "people's requests are not in the journal: {journal}"
    );
    sim.stop().await;
}

#[tokio::test]
async fn events_tell_of_changes_and_end_with_the_server() {
    let sim = Sim::start().await;
    let mut events = sim.call(Method::GET, "/sim/events").send().await.expect("an answer");
    assert_eq!(header(&events, "content-type"), "text/event-stream");
    assert!(events.chunk().await.expect("an event").is_some_and(|event| event.starts_with(b"data: ")));
    sim.post("/sim/jobs", &json!({"name": "one"})).await;
    assert!(events.chunk().await.expect("an event").is_some_and(|event| event.starts_with(b"data: ")));
    let overview: Value = sim.get("/sim/overview").await;
    assert_eq!((&overview["jobs"][0]["name"], &overview["mode"]), (&json!("one"), &json!("normal")));
    sim.stop().await;
    assert!(events.chunk().await.expect("a proper end").is_none());
}
