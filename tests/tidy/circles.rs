//! Modules beside each other that know each other in a circle: none can be read, tested or moved
//! without all the others. A module and those below it are one thing here: that a parent names its
//! children, and they it, is how Rust is written. An import counts, and so does a path in the code.

use std::collections::{BTreeMap, BTreeSet};

use crate::assert_none;
use crate::project::{File, rust_files};

/// A module's path from its crate's root; empty for the root itself.
type Path = Vec<String>;

/// Which modules a module imports from.
type Graph = BTreeMap<Path, BTreeSet<Path>>;

/// The module that a file below `src` is.
fn module(path: &str) -> Path {
    let mut parts: Path = path.trim_end_matches(".rs").split('/').map(ToOwned::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// The paths that the tree of a `use` item names.
fn leaves(tree: &str) -> Vec<Path> {
    let parts =
        |path: &str| path.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let Some((head, rest)) = tree.trim().split_once('{') else {
        return vec![parts(tree.split(" as ").next().unwrap_or_default())];
    };
    let head: Path = parts(head);
    let inner = rest.strip_suffix('}').unwrap_or(rest);
    let mut depth = 0_i32;
    let branches = inner.split(|letter: char| {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        letter == ',' && depth == 0
    });
    let branches: Vec<&str> = branches.filter(|branch| !branch.trim().is_empty()).collect();
    branches.into_iter().flat_map(leaves).map(|leaf| [head.clone(), leaf].concat()).collect()
}

/// What a file imports from its own crate. What it only passes on (`pub use`) is not its own need.
fn imports(own: &Path, file: &File) -> Vec<Path> {
    let code: Vec<&str> = file.production().iter().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = format!("\n{}", code.join("\n"));
    let mut found = in_place(&code);
    for (at, begin) in code.match_indices("\nuse ") {
        let tree = code[at + begin.len()..].split(';').next().unwrap_or_default();
        for path in leaves(tree) {
            let supers = path.iter().take_while(|part| *part == "super").count();
            let above = own.len().saturating_sub(supers);
            match path.first().map(String::as_str) {
                Some("crate") => found.push(path[1..].to_vec()),
                Some("self") => found.push([own, &path[1..]].concat()),
                Some("super") => found.push([&own[..above], &path[supers..]].concat()),
                _ => {}
            }
        }
    }
    found
}

/// The paths from the crate's root that stand in the code itself.
fn in_place(code: &str) -> Vec<Path> {
    let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    let is_own = |at: &usize| !code[..*at].ends_with(is_name);
    let is_import = |at: usize| {
        let line = code[..at].rsplit('\n').next().unwrap_or_default();
        line.split_whitespace().last() == Some("use")
    };
    let places = code.match_indices("crate::").map(|(at, _)| at).filter(is_own).filter(|at| !is_import(*at));
    places
        .map(|at| {
            let path = code[at..].split(|letter| !is_name(letter) && letter != ':').next().unwrap_or_default();
            path.split("::").skip(1).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        })
        .collect()
}

/// What modules beside each other import from each other, in one crate: an import from deep in one
/// to deep in the other counts for both.
fn graph(files: &[(Path, &File)]) -> Graph {
    let modules: BTreeSet<&Path> = files.iter().map(|(module, _)| module).collect();
    let mut graph = Graph::new();
    for (own, file) in files {
        for mut path in imports(own, file) {
            while !path.is_empty() && !modules.contains(&path) {
                path.pop();
            }
            let common = own.iter().zip(&path).take_while(|(a, b)| a == b).count();
            if common < own.len() && common < path.len() {
                graph.entry(own[..=common].to_vec()).or_default().insert(path[..=common].to_vec());
            }
        }
    }
    graph
}

/// Everything that can be reached from a module.
fn reach(graph: &Graph, from: &Path) -> BTreeSet<Path> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(module) = next.pop() {
        for other in graph.get(module).into_iter().flatten() {
            if reached.insert(other.clone()) {
                next.push(other);
            }
        }
    }
    reached
}

/// Each circle, as the names of the modules in it.
fn circles(graph: &Graph) -> BTreeSet<Vec<String>> {
    let reach: BTreeMap<&Path, BTreeSet<Path>> = graph.keys().map(|module| (module, reach(graph, module))).collect();
    let knows = |a: &Path, b: &Path| reach.get(a).is_some_and(|reached| reached.contains(b));
    let mut found = BTreeSet::new();
    for module in graph.keys().filter(|module| knows(module, module)) {
        let members = graph.keys().filter(|other| knows(module, other) && knows(other, module));
        found.insert(members.map(|member| member.join("::")).collect());
    }
    found
}

#[test]
fn modules_do_not_know_each_other_in_circles() {
    let files = rust_files();
    let mut crates: BTreeMap<&str, Vec<(Path, &File)>> = BTreeMap::new();
    for file in files.iter().filter(|file| !file.is_test()) {
        let inside = file.path.strip_prefix("crates/").and_then(|path| path.split_once("/src/"));
        if let Some((name, path)) = inside {
            crates.entry(name).or_default().push((module(path), file));
        }
    }
    let circles = crates.iter().flat_map(|(name, files)| {
        circles(&graph(files)).into_iter().map(move |circle| format!("{name}: {}", circle.join(", ")))
    });
    let problems: Vec<String> = circles.collect();
    assert_none("circles of modules", &problems);
}

#[test]
fn imports_are_read_from_any_shape_of_use() {
    let text = "use std::fs;\nuse crate::a::{B, c::{D, E as F}};\npub use crate::passed::On;\nuse super::{G, h::I};\n\
        // use crate::nothing;\n\
        fn f(x: crate::in_place::X) { mycrate::not::this() }\n#[cfg(test)]\nmod tests {\nuse crate::tested::It;\n}\n";
    let file = File { path: "crates/x/src/one/two.rs".into(), text: text.into() };
    let own = module("one/two.rs");
    let found: Vec<String> = imports(&own, &file).iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["in_place::X", "a::B", "a::c::D", "a::c::E", "one::G", "one::h::I"]);
}

#[test]
fn a_circle_is_found_between_modules_and_not_between_a_parent_and_its_child() {
    let file = |path: &str, text: &str| File { path: format!("crates/x/src/{path}"), text: text.into() };
    let files = [
        file("a.rs", "use crate::b::deep::B;\n"),
        file("b/mod.rs", "use self::deep::B;\n"),
        file("b/deep.rs", "use super::Top;\nuse crate::c::C;\n"),
        file("c.rs", "use crate::a::A;\n"),
        file("d.rs", "use crate::a::A;\n"),
    ];
    let files: Vec<(Path, &File)> =
        files.iter().map(|file| (module(file.path.trim_start_matches("crates/x/src/")), file)).collect();
    assert_eq!(circles(&graph(&files)), BTreeSet::from([["a", "b", "c"].map(str::to_owned).to_vec()]));
}
