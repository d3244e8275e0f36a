//! The whole list of GitLab's keywords: none of them is silently ignored.

use super::{PUSH, Tree, read_in};

/// One keyword: its name, a file that has it, and the same without.
struct Row<'t> {
    name: &'t str,
    with: String,
    without: String,
}

fn rows() -> Vec<Row<'static>> {
    let blocks = include_str!("keywords.txt").split("\n== ").skip(1);
    let row = |block: &'static str| {
        let (name, files) = block.split_once('\n').expect("a file behind the name");
        let (with, without) = files.split_once("-- without\n").expect("a file without the keyword");
        Row { name, with: with.to_owned(), without: without.to_owned() }
    };
    blocks.map(row).collect()
}

/// Everything that comes of a file.
fn seen(yaml: &str) -> String {
    let files = &[
        ("one.yml", "one: {script: x}"),
        ("other.yml", "other: {script: x}"),
        ("parts/two.yml", "two: {script: x}"),
        ("inputs.yml", "spec: {inputs: {name: {default: own}}}\n---\n'of $[[ inputs.name ]]': {script: x}"),
        ("more-inputs.yml", "inputs: {more: {default: m}}"),
    ];
    let projects = &[
        ("group/tools", "ci.yml", "three: {script: x}"),
        ("group/tools", "more.yml", "four: {script: x}"),
        ("group/tools", "only-there.txt", ""),
        ("group/tools", "templates/lint.yml", "lint: {script: x}"),
        (
            "group/tools",
            "templates/aware/template.yml",
            "spec: {component: [version]}\n---\naware: {script: '$[[ component.version ]]'}",
        ),
        ("group/tools", "templates/unaware.yml", "spec: {}\n---\naware: {script: '$[[ component.version ]]'}"),
        ("gitlab-org/gitlab", "lib/gitlab/ci/templates/Bash.gitlab-ci.yml", "bash: {script: x}"),
    ];
    let urls = &[("https://example.com/ci.yml", "five: {script: x}")];
    let tree = Tree { files, projects, urls, changed: Some(&["one.yml"]), since_main: &["other.yml"] };
    match read_in(yaml, &tree, PUSH) {
        // Only places may differ: the line of a job is no effect of a keyword.
        Ok(mut pipeline) => {
            for job in &mut pipeline.jobs {
                job.line = 0;
            }
            format!("{pipeline:#?}")
        }
        Err(problems) => problems.join("\n"),
    }
}

#[test]
fn no_keyword_is_silently_ignored() {
    let rows = rows();
    assert!(rows.len() > 150, "the list is read to its end: {}", rows.len());
    let ignored: Vec<&str> =
        rows.iter().filter(|row| seen(&row.with) == seen(&row.without)).map(|row| row.name).collect();
    assert_eq!(ignored, [""; 0], "these keywords change nothing and are not named");
}

/// A file that is refused as a whole says nothing of one keyword.
#[test]
fn the_files_of_the_list_are_valid() {
    let unknown: Vec<String> = rows()
        .iter()
        .flat_map(|row| {
            seen(&row.with)
                .lines()
                .filter(|line| line.contains("unknown keys"))
                .map(|line| format!("{}: {line}", row.name))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(unknown, [""; 0]);
}
