use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

/// A home with these files in it.
fn home(files: &[&str]) -> TempDir {
    let home = tempfile::Builder::new().prefix("home").tempdir().unwrap();
    for file in files {
        let path = home.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    home
}

/// What is shown and hidden, with `~` for the home.
fn found(home: &Path, variables: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
    let real = home.display().to_string();
    let values: BTreeMap<&str, String> = variables
        .iter()
        .map(|(name, value)| (*name, value.replace('~', &real)))
        .chain([("HOME", real.clone())])
        .collect();
    let tools = find(&|name| values.get(name).map(OsString::from), ImageTools::default());
    let short = |path: &PathBuf| path.display().to_string().replace(&real, "~");
    (tools.view.shown.iter().map(|(place, _)| short(place)).collect(), tools.view.hidden.iter().map(short).collect())
}

#[test]
fn tools_are_shown_and_their_credentials_are_not() {
    let home = home(&[
        ".cargo/bin/cargo",
        ".cargo/credentials.toml",
        ".rustup/toolchains/x",
        ".ssh/id_ed25519",
        ".aws/credentials",
        ".gitconfig",
        ".local/bin/tool",
        ".local/share/keyrings/login.keyring",
        ".pulumi/bin/pulumi",
        ".pulumi/credentials.json",
        "sdk/go1/bin/go",
        "sdk/go1/VERSION",
        "bin/mine",
        "lib/private",
    ]);
    fs::write(home.path().join(".cargo/config.toml"), "[registries.mine]\ntoken = \"x\"\n").unwrap();
    let path = "~/.cargo/bin:~/.local/bin:~/.pulumi/bin:~/sdk/go1/bin:~/bin:relative:/nowhere/bin:~";
    let (shown, hidden) = found(home.path(), &[("PATH", path)]);
    assert_eq!(shown, ["~/.cargo", "~/.local/bin", "~/.pulumi/bin", "~/.rustup", "~/bin", "~/sdk/go1"]);
    assert_eq!(hidden, ["~/.cargo/credentials.toml", "~/.cargo/config.toml"]);
}

#[test]
fn settings_without_secrets_stay() {
    let home = home(&[".cargo/bin/cargo"]);
    fs::write(home.path().join(".cargo/config.toml"), "[source.crates-io]\nreplace-with = \"mirror\"\n").unwrap();
    assert_eq!(found(home.path(), &[]).1, [""; 0]);
}

#[test]
fn variables_name_directories_but_never_the_home() {
    let home = home(&["elsewhere/rust/toolchains/x", "code/pkg/mod/x", "code/src/private/x", ".nvm/nvm.sh"]);
    let variables = [
        ("RUSTUP_HOME", "~/elsewhere/rust"),
        ("GOPATH", "~/code"),
        ("NVM_DIR", "~"),
        ("JAVA_HOME", "/"),
        ("TOKEN", "x"),
    ];
    let (shown, _) = found(home.path(), &variables);
    assert_eq!(shown, ["~/.nvm", "~/code/pkg", "~/elsewhere/rust"]);
    let env = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
    let names: Vec<String> = find(&env, ImageTools::default()).env.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["JAVA_HOME", "NVM_DIR", "RUSTUP_HOME", "GOPATH"], "nothing that was not asked for");
}

#[test]
fn links_lead_to_what_they_mean_and_to_no_more() {
    let home = home(&[
        "src/private/script.sh",
        "src/private/notes",
        "apps/one/bin/one",
        "apps/one/data/file",
        "pkgs/node_modules/a/cli.js",
        "pkgs/node_modules/b/index.js",
        ".local/bin/plain",
    ]);
    let bin = home.path().join(".local/bin");
    for (name, target) in
        [("s", "src/private/script.sh"), ("one", "apps/one/bin/one"), ("a", "pkgs/node_modules/a/cli.js")]
    {
        symlink(home.path().join(target), bin.join(name)).unwrap();
    }
    symlink("/etc/passwd", bin.join("system")).unwrap();
    symlink(home.path().join("gone"), bin.join("broken")).unwrap();
    let (shown, _) = found(home.path(), &[("PATH", "~/.local/bin")]);
    assert_eq!(shown, ["~/.local/bin", "~/apps/one", "~/pkgs/node_modules", "~/src/private/script.sh"]);
}

#[test]
fn homes_of_others_stay_closed() {
    let (own, other) = (home(&["x"]), home(&[".ssh/id", "bin/tool", ".pulumi/bin/pulumi", ".pulumi/credentials.json"]));
    let other = other.path().display().to_string();
    let (shown, _) = found(own.path(), &[("PATH", &format!("{other}/bin:{other}/.pulumi/bin")), ("JAVA_HOME", &other)]);
    assert_eq!(shown, [format!("{other}/.pulumi/bin"), format!("{other}/bin")]);
}

#[test]
fn a_tool_that_is_reached_by_a_link_is_shown_at_both_places() {
    let home = home(&["disk/pyenv/bin/pyenv"]);
    symlink(home.path().join("disk/pyenv"), home.path().join(".pyenv")).unwrap();
    assert_eq!(found(home.path(), &[("PATH", "~/.pyenv/bin")]).0, ["~/.pyenv", "~/disk/pyenv"]);
}

#[test]
fn a_home_that_is_a_part_of_the_system_is_none() {
    assert!(!is_home(Path::new("/")) && !is_home(Path::new("/usr")) && !is_home(Path::new("relative")));
    let home = home(&["x"]);
    assert!(is_home(home.path()) && !is_home(&home.path().join("missing")));
}

#[test]
fn a_program_is_a_path_or_in_the_search_path() {
    let bin = home(&["tool", "text"]);
    fs::set_permissions(bin.path().join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = Some(bin.path().as_os_str());
    for (program, is_there) in [
        ("tool", true),
        ("text", false),
        ("sh", false),
        ("--tls=false", false),
        ("", false),
        ("/bin/sh", true),
        ("/no/tool", false),
    ] {
        assert_eq!(have(program, path), is_there, "{program:?}");
    }
    assert!(have("sh", None));
}
