//! Nothing in a file makes the reader panic or run long.

use std::fmt::Write;

use proptest::prelude::*;

use super::{PUSH, problems, read_with};

/// Text that is more likely than chance to be a configuration.
fn fragments() -> impl Strategy<Value = String> {
    let fragment = prop::sample::select(vec![
        "a",
        "b:",
        ".x:",
        "script:",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        ": ",
        "&a ",
        "*a",
        "<<: ",
        "!reference ",
        "extends: ",
        "rules:",
        "if: ",
        "$A == 'b'",
        "=~ /x/",
        "needs:",
        "include: ",
        "parallel: ",
        "matrix:",
        "variables:",
        "default:",
        "stages:",
        "stage: ",
        "when: ",
        "1",
        "true",
        "~",
        "'",
        "\"",
        "|",
        ">",
        "#",
        "é",
        "\t",
        "---\n",
        "x.yml",
        "workflow:",
        "only:",
        "cache:",
        "artifacts:",
        "!",
        "%",
        "@",
        "\u{feff}",
        "\r\n",
    ]);
    prop::collection::vec(fragment, 0..60).prop_map(|parts| parts.concat())
}

fn read_any(text: &str) {
    let files = [("x.yml", text)];
    if let Err(problems) = read_with(text, &files, PUSH) {
        assert!(!problems.is_empty(), "an error without a problem: {text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        read_any(&text);
    }

    #[test]
    fn any_mix_of_keywords_is_read_or_refused(text in fragments()) {
        read_any(&text);
    }

    #[test]
    fn any_expression_is_read_or_refused(text in "[$A-Z ='\"/!&|()~a-z\\\\]{0,40}") {
        let quoted = text.replace('\'', "''");
        read_any(&format!("a: {{script: x, rules: [{{if: '{quoted}'}}]}}"));
    }

    #[test]
    fn any_cut_of_a_real_file_is_read_or_refused(cut in 0_usize..3000) {
        let text = include_str!("golden/service.yml");
        let end = (0..=cut.min(text.len())).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0);
        read_any(text.get(..end).unwrap_or(""));
    }
}

#[test]
fn deep_nesting_is_refused() {
    for open in ["[", "{a: ", "- ", "? ", "a: [", "(", "!reference ["] {
        for count in [90, 300, 100_000] {
            read_any(&open.repeat(count));
            read_any(&format!("a: {{script: {}", open.repeat(count)));
        }
    }
    let indented: String = (0..1000).fold(String::new(), |mut text, level| {
        let _ = writeln!(text, "{}k:", " ".repeat(level));
        text
    });
    assert_eq!(problems(&indented), ["101: values are nested deeper than 100 levels"]);
}

#[test]
fn alias_bombs_are_refused() {
    let mut bomb = ".l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let aliases = format!("*l{}, ", level - 1).repeat(10);
        let _ = writeln!(bomb, ".l{level}: &l{level} [{aliases}]");
    }
    bomb.push_str("a: {script: *l29}\n");
    assert_eq!(problems(&bomb), ["1: the file has more than 200000 values when its aliases are written out"]);
}

#[test]
fn reference_bombs_are_refused() {
    let mut bomb = ".l0: {script: [x, x, x, x, x, x, x, x, x, x]}\n".to_owned();
    for level in 1..10 {
        let references = format!("!reference [.l{}, script], ", level - 1).repeat(20);
        let _ = writeln!(bomb, ".l{level}: {{script: [{references}]}}");
    }
    bomb.push_str("a: {script: x}\n");
    let problems = problems(&bomb);
    assert!(problems.iter().any(|line| line.contains("larger than 200000 values")), "{problems:?}");
}

#[test]
fn merge_bombs_are_refused() {
    let keys: String = (0..2000).fold(String::new(), |mut text, n| {
        let _ = write!(text, "k{n}: 1, ");
        text
    });
    let mut bomb = format!(".big: &big {{{keys}}}\n");
    for n in 0..5000 {
        let _ = writeln!(bomb, ".m{n}: {{<<: *big}}");
    }
    let problems = problems(&bomb);
    assert!(matches!(problems.as_slice(), [one] if one.contains("`<<` copies more than 200000 keys")), "{problems:?}");
}

#[test]
fn pipelines_of_any_size_are_refused() {
    let lines = "x, ".repeat(20_000);
    let mut bomb = format!("default: {{before_script: [{lines}]}}\n");
    for n in 0..200 {
        let _ = writeln!(bomb, "j{n}: {{script: x, parallel: 200}}");
    }
    let problems = problems(&bomb);
    assert!(matches!(problems.as_slice(), [one] if one.contains("the pipeline is too large")), "{problems:?}");
    let jobs: String = (0..500).fold(String::new(), |mut text, n| {
        let _ = writeln!(text, "j{n}: {{script: x, parallel: 200, needs: [n]}}");
        text
    });
    let problems = super::problems(&format!("n: {{stage: build, script: x, parallel: 200}}\n{jobs}"));
    assert!(matches!(problems.as_slice(), [one] if one.contains("needs and dependencies")), "{problems:?}");
}

#[test]
fn large_files_are_refused() {
    let large = format!("a: {{script: x}}\n#{}", "x".repeat(3 << 20));
    assert_eq!(problems(&large), ["1: the file is larger than 2097152 bytes"]);
}

#[test]
fn hostile_names_stay_short_in_messages() {
    let name = "é".repeat(50_000);
    let problems = problems(&format!("{name}: {{script: x, {name}: 1}}\n"));
    assert!(!problems.is_empty());
    assert!(problems.iter().all(|line| line.len() < 700));
}

#[test]
fn references_cannot_nest_without_end() {
    let mut bomb = ".l0: {k: x}\n".to_owned();
    for level in 1..10 {
        let (open, close) = ("[".repeat(95), "]".repeat(95));
        let _ = writeln!(bomb, ".l{level}: {{k: {open}!reference [.l{}, k]{close}}}", level - 1);
    }
    bomb.push_str("a: {script: !reference [.l9, k]}\n");
    let problems = problems(&bomb);
    assert!(
        problems.iter().any(|line| line.ends_with("references nest values deeper than 200 levels")),
        "{problems:?}"
    );
}

#[test]
fn a_great_many_patterns_and_wrong_names_are_bounded() {
    let rules: String = (0..2000).fold(String::new(), |mut text, n| {
        let _ = write!(text, "{{if: '$A =~ /x{n}/'}}, ");
        text
    });
    let shown = problems(&format!("a: {{script: x, rules: [{rules}]}}\n"));
    assert!(shown.iter().all(|line| line.contains("more than 200 different patterns")), "{shown:?}");
    let jobs: String = (0..5000).fold(String::new(), |mut text, n| {
        let _ = writeln!(text, "j{n}: {{scrpt: x, needs: [k{n}]}}");
        text
    });
    assert_eq!(problems(&jobs).len(), 100);
}

#[test]
fn untidy_brackets_without_end_are_refused() {
    let untidy = "k:\n  j: [\nx\n]\n".repeat(20_000);
    let _ = problems(&untidy);
    let wide = format!("{}k: [{}]\n", " ".repeat(100_000), "x,\n".repeat(100_000));
    let _ = problems(&wide);
}

#[test]
fn rules_about_a_great_many_files_cost_no_more_than_some_seconds() {
    let names: Vec<String> = (0..2000).map(|n| format!("a/{}/{n}", "b/".repeat(20))).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let rule = "{exists: ['**/c/**/d*e*f']}, ";
    let jobs: String = (0..500).fold(String::new(), |mut text, n| {
        let _ = writeln!(text, "j{n}: {{script: x, rules: [{}]}}", rule.repeat(40));
        text
    });
    let pipeline = read_with(&jobs, &files, PUSH).expect("a pipeline");
    assert!(!pipeline.jobs.is_empty(), "at last they count as matched");
}

#[test]
fn include_bombs_are_refused() {
    let keys: String = (0..60_000).fold(String::new(), |mut text, n| {
        let _ = writeln!(text, ".k{n}: 1");
        text
    });
    let names = ["a.yml", "b.yml", "c.yml", "d.yml"];
    let texts: Vec<String> = names.iter().map(|name| keys.replace(".k", &format!(".{name}"))).collect();
    let files: Vec<(&str, &str)> = names.iter().copied().zip(texts.iter().map(String::as_str)).collect();
    let yaml = format!("include: [{}]\na: {{script: x}}\n", names.join(", "));
    let problems = read_with(&yaml, &files, PUSH).expect_err("too large");
    assert!(problems.iter().any(|line| line.contains("more than 200000 values with its includes")), "{problems:?}");
}
