use super::*;

/// The table of failures as people and GitLab see it.
#[test]
fn table_of_endings() {
    let rows: Vec<String> = examples()
        .iter()
        .map(|ending| {
            let verdict = ending.verdict();
            format!(
                "{} | {} | {} | {} | {}",
                verdict.state().as_str(),
                verdict.reason.map_or("-", FailureReason::as_str),
                verdict.exit_code.map_or("-".to_owned(), |code| code.to_string()),
                if ending.is_retryable() { "retryable" } else { "final" },
                verdict.message
            )
        })
        .collect();
    insta::assert_snapshot!(rows.join("\n"));
}

#[test]
fn survives_the_wire() {
    for ending in examples() {
        let text = serde_json::to_string(&ending).unwrap();
        assert_eq!(serde_json::from_str::<Ending>(&text).unwrap(), ending);
    }
}

/// What reads them by name lists all names when it meets another one.
#[test]
fn there_is_an_example_of_every_ending() {
    let error = serde_json::from_str::<Ending>(r#"{"kind": "another"}"#).unwrap_err().to_string();
    let names: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
    assert!(names.len() > 20, "{error}");
    let shown: Vec<String> = examples().iter().map(|ending| serde_json::to_string(ending).unwrap()).collect();
    for name in names {
        let kind = format!("{{\"kind\":{name:?}");
        assert!(shown.iter().any(|example| example.starts_with(&kind)), "no example of {name}");
    }
}
