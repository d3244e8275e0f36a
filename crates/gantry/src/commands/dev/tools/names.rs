//! Names by which tools and what they must not show are known. Only names: what they mean is
//! decided by who uses them.

/// Where version managers and languages keep what they install, below the home.
pub(super) const ROOTS: [&str; 62] = [
    ".asdf",
    ".bun",
    ".cargo",
    ".deno",
    ".dotnet",
    ".elan",
    ".fnm",
    ".g",
    ".gem/ruby",
    ".ghcup",
    ".goenv",
    ".gvm",
    ".jabba",
    ".jenv",
    ".juliaup",
    ".linuxbrew",
    ".local/lib",
    ".local/pipx",
    ".local/share/bob",
    ".local/share/coursier",
    ".local/share/fnm",
    ".local/share/mise",
    ".local/share/nvm",
    ".local/share/pipx",
    ".local/share/pnpm",
    ".local/share/rtx",
    ".local/share/swiftly",
    ".local/share/uv",
    ".local/share/virtualenvs",
    ".luarocks",
    ".miniconda3",
    ".mix",
    ".nimble",
    ".nodenv",
    ".nodebrew",
    ".nvm",
    ".opam",
    ".perlbrew",
    ".phpbrew",
    ".phpenv",
    ".pixi",
    ".plenv",
    ".proto",
    ".pyenv",
    ".rbenv",
    ".rokit",
    ".rustup",
    ".rvm",
    ".rye",
    ".sdkman",
    ".stack/programs",
    ".swiftenv",
    ".swiftly",
    ".tenv",
    ".tfenv",
    ".volta",
    "anaconda3",
    "mambaforge",
    "miniconda3",
    "miniforge3",
    "go/bin",
    "go/pkg",
];

/// Variables that name such a directory.
pub(super) const DIRECTORIES: [&str; 42] = [
    "ANDROID_HOME",
    "ANDROID_SDK_ROOT",
    "ANT_HOME",
    "ASDF_DATA_DIR",
    "ASDF_DIR",
    "BUN_INSTALL",
    "CARGO_HOME",
    "CONDA_PREFIX",
    "DENO_DIR",
    "DENO_INSTALL",
    "DOTNET_ROOT",
    "FNM_DIR",
    "GEM_HOME",
    "GOENV_ROOT",
    "GOROOT",
    "GRADLE_HOME",
    "JAVA_HOME",
    "JENV_ROOT",
    "KOTLIN_HOME",
    "M2_HOME",
    "MAMBA_ROOT_PREFIX",
    "MAVEN_HOME",
    "MISE_DATA_DIR",
    "NODENV_ROOT",
    "NVM_BIN",
    "NVM_DIR",
    "N_PREFIX",
    "OPAMROOT",
    "OPAM_SWITCH_PREFIX",
    "PNPM_HOME",
    "PROTO_HOME",
    "PYENV_ROOT",
    "PYENV_VIRTUAL_ENV",
    "RBENV_ROOT",
    "RUSTUP_HOME",
    "SCALA_HOME",
    "SDKMAN_DIR",
    "UV_PYTHON_INSTALL_DIR",
    "UV_TOOL_DIR",
    "VIRTUAL_ENV",
    "VOLTA_HOME",
    "ZIG_GLOBAL_CACHE_DIR",
];

/// Variables that only say which version is wanted.
pub(super) const VERSIONS: [&str; 6] =
    ["GOTOOLCHAIN", "NODENV_VERSION", "PYENV_VERSION", "RBENV_VERSION", "RUSTUP_TOOLCHAIN", "GOENV_VERSION"];

/// Lists of work spaces, of which only what was installed is shown.
pub(super) const WORKSPACES: [&str; 1] = ["GOPATH"];

/// What belongs to a directory of programs, whatever else lies beside it.
pub(super) const BESIDE_PROGRAMS: [&str; 4] = ["lib", "lib64", "libexec", "pyvenv.cfg"];

/// Names under which tools keep passwords and tokens among their own files.
pub(super) const SECRETS: [&str; 10] = [
    ".env",
    ".git-credentials",
    ".netrc",
    ".npmrc",
    ".pypirc",
    "auth.json",
    "credentials",
    "credentials.json",
    "credentials.toml",
    "settings-security.xml",
];

/// Settings that may have such things in them, and how their keys end there.
pub(super) const SETTINGS: [&str; 2] = ["config", "config.toml"];
pub(super) const SECRET_KEYS: [&str; 4] = ["token", "password", "secret-key", "secret"];

/// What tells a home from other directories.
pub(super) const IN_HOMES: [&str; 5] = [".bash_history", ".bashrc", ".config", ".profile", ".ssh"];

/// Directories at the top that every container has from the host.
pub(super) const EVERYWHERE: [&str; 12] =
    ["bin", "etc", "gnu", "lib", "lib32", "lib64", "libx32", "nix", "opt", "sbin", "usr", "var"];

/// Those that it has of its own. A home that is one of all these would hide a part of the system.
pub(super) const OWN: [&str; 6] = ["boot", "dev", "proc", "run", "sys", "tmp"];
