//! Any text as a config file: to be run with, and to be edited.

use gantry_config::edit::Editor;

/// The target.
pub fn target(text: &str) {
    if let Err(problems) = gantry_config::load(text, &|_| None) {
        let _ = problems.to_string();
    }
    if let Ok(editor) = Editor::parse(text) {
        let _ = editor.runners(&|_| None);
        let kept = editor.text();
        let again = Editor::parse(&kept).expect("what was written can be read");
        assert_eq!(again.text(), kept, "nothing was changed");
    }
}
