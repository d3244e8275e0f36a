//! Edits, seen as texts.

use super::*;

fn no_env(_: &str) -> Option<String> {
    None
}

fn keys(list: Vec<(&[&str], Value)>) -> Vec<KeyValue> {
    list.into_iter().map(|(path, value)| (path.iter().map(|key| (*key).to_owned()).collect(), value)).collect()
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn path(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

fn entry(name: &str) -> Vec<KeyValue> {
    keys(vec![
        (&["name"], text(name)),
        (&["url"], text("https://gitlab.example.com/")),
        (&["id"], Value::Int(42)),
        (&["token"], Value::Secret(Secret::new("glrt-secret"))),
        (&["token_obtained_at"], Value::Time("2026-01-02T03:04:05.678Z".parse().unwrap())),
        (&["executor"], text("kubernetes")),
        (&["feature_flags"], Value::Flags(BTreeMap::from([("FF_TIMESTAMPS".to_owned(), false)]))),
        (&["kubernetes", "namespace"], text("gitlab")),
        (&["kubernetes", "privileged"], Value::Bool(true)),
        (&["kubernetes", "pull_policy"], Value::List(vec!["if-not-present".to_owned()])),
        (
            &["kubernetes", "node_selector"],
            Value::Map(BTreeMap::from([("kubernetes.io/arch".to_owned(), "amd64".to_owned())])),
        ),
        (&["kubernetes", "pod_security_context", "run_as_user"], Value::Int(1000)),
    ])
}

#[test]
fn a_new_file_with_runners() {
    let mut editor = Editor::parse(&new_file(4)).unwrap();
    editor.add_runner(&entry("10.0.0.7")).unwrap();
    editor.add_runner(&entry("10.0.0.8")).unwrap();
    let file = editor.text();
    let loaded = crate::load(&file, &no_env).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.settings.runners.len(), 2);
    assert_eq!(loaded.settings.runners[1].kubernetes.pod_security_context.run_as_user, Some(1000));
    insta::assert_snapshot!(file);
}

const COMMENTED: &str = "\
# Ours.
concurrent = 2 # as many as fit

# The first one.
[[runners]]
  name = \"one\" # informational
  url = \"$GITLAB\"
  token = \"${TOKEN}\"
  surprise = [1, 2]
  [runners.kubernetes]
    namespace = \"ci\"

# The second one.
[[runners]]
  Name = \"two\"
  token = \"abc\"
  id = 0

[gantry] # our own
fleet = \"x\"
";

fn env(name: &str) -> Option<String> {
    match name {
        "TOKEN" => Some("t0ken".to_owned()),
        "GITLAB" => Some("https://gitlab.example.com".to_owned()),
        _ => None,
    }
}

#[test]
fn comments_and_references_survive() {
    let mut editor = Editor::parse(COMMENTED).unwrap();
    assert_eq!(editor.text(), COMMENTED);
    let runners = editor.runners(&env);
    assert_eq!(runners[0].token.expose(), "t0ken");
    assert_eq!(
        (runners[0].url.as_str(), runners[1].name.as_str(), runners[1].id),
        ("https://gitlab.example.com", "two", None)
    );
    editor.set(&path(&["concurrent"]), &Value::Int(5)).unwrap();
    editor.set(&path(&["listen_address"]), &text(":9100")).unwrap();
    editor.set(&path(&["session_server", "session_timeout"]), &Value::Int(1)).unwrap();
    editor.set_runner(0, &path(&["kubernetes", "namespace"]), &text("jobs")).unwrap();
    editor.set_runner(0, &path(&["kubernetes", "helper_image"]), &text("helper")).unwrap();
    editor.set_runner(1, &path(&["name"]), &text("zwei")).unwrap();
    editor.set_runner(1, &path(&["token"]), &Value::Secret(Secret::new("new"))).unwrap();
    editor.add_runner(&keys(vec![(&["name"], text("three")), (&["kubernetes", "host"], text("h"))])).unwrap();
    insta::assert_snapshot!(editor.text());
}

#[test]
fn entries_are_removed_with_their_comments() {
    let mut editor = Editor::parse(COMMENTED).unwrap();
    assert_eq!(editor.remove_runners(|runner| runner.token.expose() == "t0ken", &env), 1);
    insta::assert_snapshot!(editor.text());
    assert_eq!(editor.remove_runners(|runner| runner.name == "nobody", &env), 0);
    assert_eq!(editor.remove_runners(|_| true, &env), 1);
    assert_eq!(editor.runners(&env), []);
    editor.add_runner(&entry("again")).unwrap();
    assert_eq!(editor.runners(&env).len(), 1);
}

#[test]
fn inline_entries_can_be_added_to() {
    let mut editor = Editor::parse("runners = [{ name = \"one\", kubernetes = { host = \"h\" } }]\n").unwrap();
    editor.add_runner(&entry("two")).unwrap();
    assert_eq!(editor.runners(&no_env).iter().map(|runner| runner.name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(Editor::parse(&editor.text()).unwrap().runners(&no_env).len(), 2);
    let mut editor = Editor::parse("runners = []\n").unwrap();
    editor.add_runner(&entry("one")).unwrap();
    assert_eq!(Editor::parse(&editor.text()).unwrap().runners(&no_env).len(), 1);
}

#[test]
fn what_cannot_be_edited_is_said() {
    assert_eq!(Editor::parse("runners = 3").unwrap_err(), EditError::NotATable { path: "runners".to_owned() });
    assert!(matches!(Editor::parse("a = 1\nb = = 2\n").unwrap_err(), EditError::Syntax { line: 2, .. }));
    let mut editor = Editor::parse("gantry = 1\n").unwrap();
    assert_eq!(
        editor.set(&path(&["gantry", "fleet"]), &text("x")).unwrap_err(),
        EditError::NotATable { path: "gantry".to_owned() }
    );
    assert_eq!(editor.set_runner(0, &path(&["name"]), &text("x")).unwrap_err(), EditError::NoSuchRunner { index: 0 });
    assert!(!format!("{editor:?}").contains("gantry"));
}
