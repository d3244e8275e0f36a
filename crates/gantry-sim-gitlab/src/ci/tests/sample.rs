//! The sample repository that ships with the product has to read without a complaint.

use super::super::AllowFailure;
use super::{PUSH, names, read_with};

#[test]
fn the_sample_repository_has_no_problems_and_no_warnings() {
    let yaml = include_str!("../../../../gantry/sample/.gitlab-ci.yml");
    let pipeline = read_with(yaml, &[], PUSH).unwrap_or_else(|problems| panic!("{}", problems.join("\n")));
    assert_eq!(pipeline.warnings, []);
    assert_eq!(names(&pipeline), ["build", "test", "lint", "publish"]);
    let [build, test, lint, publish] = pipeline.jobs.as_slice() else { panic!() };
    assert_eq!(build.before_script, ["mkdir -p dist"]);
    assert_eq!(build.artifacts.len(), 1);
    let [service] = test.services.as_slice() else { panic!("{:?}", test.services) };
    assert_eq!(service.alias.as_deref(), Some("library"));
    assert_eq!(service.entrypoint, ["perl", "-MIO::Socket::INET", "-e"]);
    assert!(service.command.iter().any(|program| program.contains("->accept")));
    assert_eq!(test.after_script, ["echo \"The tests ended with $CI_JOB_STATUS.\""]);
    assert_eq!(lint.allow_failure, AllowFailure::Yes);
    assert!(publish.script.iter().any(|line| line.contains("$SAMPLE_TOKEN")));
}
