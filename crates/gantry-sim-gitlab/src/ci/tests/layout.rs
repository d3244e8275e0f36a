//! YAML that GitLab's parser accepts although it is untidy.

use super::{job, names, pipeline, problems, warnings};

#[test]
fn brackets_need_no_indentation() {
    let pipeline = pipeline(
        "
one: { script: [\"echo a\"] }
two:
  script: [
  \"echo b\"
]
three:
  tags: [
x, # a ] that closes nothing
'it''s, ]',
don't
  ]
  script:
  - echo c
  - [
echo d,
\"e
f\"
]
  variables: {
A: 'é',
B: {value: b,
\texpand: true
}
}
four: { script: [
echo
] }
",
    );
    assert_eq!(names(&pipeline), ["one", "two", "three", "four"]);
    let [_, two, three, four] = pipeline.jobs.as_slice() else { panic!() };
    assert_eq!((two.script.clone(), two.line), (vec!["echo b".to_owned()], 3));
    assert_eq!(three.tags, ["x", "it's, ]", "don't"]);
    assert_eq!(three.script, ["echo c", "echo d", "e f"]);
    assert_eq!(super::pairs(three), ["A=é", "B=b"]);
    assert_eq!((four.script.clone(), four.line), (vec!["echo".to_owned()], 26));
}

#[test]
fn quotes_need_no_indentation() {
    let job = job("a:\n  script: \"echo\n1\"\n  variables:\n    A: 'x\n\ny'\n");
    assert_eq!(job.script, ["echo 1"]);
    assert_eq!(super::pairs(&job), ["A=x\ny"]);
}

#[test]
fn tabs_behind_keys_and_comments_behind_brackets_are_read() {
    let job = job("a:\n  script:\t[x, y]# why\n  stage:\t \ttest\n");
    assert_eq!((job.script.len(), job.stage.as_str()), (2, "test"));
}

#[test]
fn what_is_broken_stays_broken_and_keeps_its_line() {
    for (yaml, line) in [
        ("a:\n  script: [x,\ny\nb: {script: x}\n", "3: "),
        ("a: {script: [x}\n", "1: "),
        ("a:\n  script: 'x\nb: y\n", "2: "),
        ("a:\n  script: x\n y: z\n", "3: "),
    ] {
        let problems = problems(yaml);
        assert!(
            matches!(problems.as_slice(), [one] if one.contains("invalid YAML") && one.starts_with(line)),
            "{problems:?}"
        );
    }
}

#[test]
fn of_duplicate_keys_the_last_wins_with_a_warning() {
    let pipeline = pipeline("a:\n  script: x\n  script: y\nb: {script: b}\na: {script: z}\n");
    assert_eq!(names(&pipeline), ["a", "b"]);
    assert_eq!(pipeline.jobs.first().map(|job| job.script.clone()), Some(vec!["z".to_owned()]));
    assert_eq!(
        warnings(&pipeline),
        [
            "3: duplicate key `script`: the one on line 3 replaces the one on line 2",
            "5: duplicate key `a`: the one on line 5 replaces the one on line 1",
        ]
    );
}

#[test]
fn unknown_tags_are_gone_over() {
    let pipeline = pipeline("a: !job {script: !custom x, variables: {A: !int 010}}\n");
    assert_eq!(pipeline.jobs.first().map(|job| job.script.clone()), Some(vec!["x".to_owned()]));
    assert!(
        warnings(&pipeline).contains(&"1: the tag `!custom` means nothing here; only `!reference` does".to_owned())
    );
}
