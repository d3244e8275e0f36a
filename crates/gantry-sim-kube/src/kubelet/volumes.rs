//! Volumes as directories of the host: made before the pod's containers start, removed with the
//! pod.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::env;
use crate::{
    auth::tokens::{AUDIENCE, Bound, Grant},
    cluster::Cluster,
    kubelet_state::PodHandle,
    resources,
    store::{
        Key,
        object::{self, at, items, text},
    },
};

/// How long a projected token lives that does not say.
const TOKEN_SECONDS: i64 = 3_600;

/// Makes all volumes of a pod. The error is kubelet's message for `FailedMount`.
pub(crate) fn make(cluster: &Cluster, handle: &PodHandle, pod: &Value) -> Result<(), String> {
    for volume in items(pod, &["spec", "volumes"]) {
        let name = text(volume, &["name"]);
        one(cluster, handle, pod, volume)
            .map_err(|why| format!("MountVolume.SetUp failed for volume {name:?} : {why}"))?;
    }
    Ok(())
}

/// Writes the files of projected volumes, Secrets and `ConfigMap`s anew, as kubelet does now and
/// then.
pub(crate) fn refresh(cluster: &Cluster, handle: &PodHandle, pod: &Value) -> Result<(), String> {
    let fixed = |volume: &&Value| volume.get("emptyDir").is_none() && volume.get("hostPath").is_none();
    items(pod, &["spec", "volumes"]).iter().filter(fixed).try_for_each(|volume| one(cluster, handle, pod, volume))
}

/// Where a volume is on the host.
pub(crate) fn path(handle: &PodHandle, volume: &Value) -> PathBuf {
    match at(volume, &["hostPath", "path"]).and_then(Value::as_str) {
        Some(path) => PathBuf::from(path),
        None => handle.directory.join("volumes").join(text(volume, &["name"])),
    }
}

fn one(cluster: &Cluster, handle: &PodHandle, pod: &Value, volume: &Value) -> Result<(), String> {
    let path = path(handle, volume);
    if let Some(source) = volume.get("hostPath") {
        return host_path(&path, text(source, &["type"]));
    }
    let made = |error: io::Error| format!("{}: {error}", path.display());
    fs::create_dir_all(&path).map_err(made)?;
    let group = at(pod, &["spec", "securityContext", "fsGroup"]).and_then(Value::as_u64);
    let group = group.and_then(|group| u32::try_from(group).ok());
    if volume.get("emptyDir").is_some() {
        let mode = if group.is_some() { 0o2777 } else { 0o777 };
        give(&path, group);
        return fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(made);
    }
    for file in files(cluster, handle, pod, volume)? {
        write(&path, &file, group).map_err(made)?;
    }
    Ok(())
}

/// Gives a file to a group. As an ordinary user this is not possible, and not needed: all files are
/// that user's.
fn give(path: &Path, group: Option<u32>) {
    if group.is_some() {
        let _ = chown(path, None, group);
    }
}

fn host_path(path: &Path, kind: &str) -> Result<(), String> {
    let made = |error: io::Error| error.to_string();
    match kind {
        "DirectoryOrCreate" => fs::create_dir_all(path).map_err(made),
        "FileOrCreate" if !path.exists() => fs::File::create(path).map(drop).map_err(made),
        "Directory" if !path.is_dir() => Err("hostPath type check failed: is not a directory".to_owned()),
        "File" if !path.is_file() => Err("hostPath type check failed: is not a file".to_owned()),
        "Socket" if !path.exists() => Err("hostPath type check failed: is not a socket file".to_owned()),
        // A container runtime makes a directory where nothing is.
        "" if !path.exists() => fs::create_dir_all(path).map_err(made),
        _ => Ok(()),
    }
}

/// A file of a volume.
struct File {
    path: String,
    content: Vec<u8>,
    mode: u32,
}

fn files(cluster: &Cluster, handle: &PodHandle, pod: &Value, volume: &Value) -> Result<Vec<File>, String> {
    if let Some(source) = volume.get("configMap") {
        return chosen(cluster, pod, "configmaps", source, mode(source, 0o644));
    }
    if let Some(source) = volume.get("secret") {
        return chosen(cluster, pod, "secrets", source, mode(source, 0o644));
    }
    if let Some(source) = volume.get("downwardAPI") {
        return downward(cluster, pod, source, mode(source, 0o644));
    }
    if let Some(projected) = volume.get("projected") {
        let mode = mode(projected, 0o644);
        let mut all = Vec::new();
        for source in items(projected, &["sources"]) {
            if let Some(source) = source.get("configMap") {
                all.extend(chosen(cluster, pod, "configmaps", source, mode)?);
            } else if let Some(source) = source.get("secret") {
                all.extend(chosen(cluster, pod, "secrets", source, mode)?);
            } else if let Some(source) = source.get("downwardAPI") {
                all.extend(downward(cluster, pod, source, mode)?);
            } else if let Some(source) = source.get("serviceAccountToken") {
                all.push(token(cluster, handle, pod, source, mode)?);
            }
        }
        return Ok(all);
    }
    Err("this kind of volume is not supported by the simulated cluster".to_owned())
}

fn mode(source: &Value, otherwise: u32) -> u32 {
    let mode = source.get("defaultMode").or_else(|| source.get("mode")).and_then(Value::as_u64);
    mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(otherwise) & 0o777
}

/// The files of a `ConfigMap` or Secret: all keys, or those that `items` names.
fn chosen(cluster: &Cluster, pod: &Value, plural: &str, source: &Value, mode: u32) -> Result<Vec<File>, String> {
    let Some(object) = env::referenced(cluster, pod, plural, source)? else { return Ok(Vec::new()) };
    let data = env::data(plural, &object);
    let wanted = items(source, &["items"]);
    if wanted.is_empty() {
        return Ok(data.into_iter().map(|(path, content)| File { path, content, mode }).collect());
    }
    let mut files = Vec::new();
    for item in wanted {
        let key = text(item, &["key"]);
        match data.iter().find(|(name, _)| name == key) {
            Some((_, content)) => files.push(File {
                path: text(item, &["path"]).to_owned(),
                content: content.clone(),
                mode: self::mode(item, mode),
            }),
            None if source["optional"] == Value::Bool(true) => {}
            None => {
                let kind = resources::core(plural).singular;
                return Err(format!("references non-existent {kind} key: {key}"));
            }
        }
    }
    Ok(files)
}

fn downward(cluster: &Cluster, pod: &Value, source: &Value, mode: u32) -> Result<Vec<File>, String> {
    let mut files = Vec::new();
    for item in items(source, &["items"]) {
        let field = text(item, &["fieldRef", "fieldPath"]);
        let content = env::field(cluster, pod, field).ok_or(format!("unsupported fieldPath: {field}"))?;
        files.push(File {
            path: text(item, &["path"]).to_owned(),
            content: content.into_bytes(),
            mode: self::mode(item, mode),
        });
    }
    Ok(files)
}

fn token(cluster: &Cluster, handle: &PodHandle, pod: &Value, source: &Value, mode: u32) -> Result<File, String> {
    let account = text(pod, &["spec", "serviceAccountName"]);
    let key = Key::new(resources::core("serviceaccounts"), object::namespace(pod), account);
    let found = cluster.store.get(&key).ok_or(format!("serviceaccounts {account:?} not found"))?;
    let now = cluster.clock.now().as_second();
    let seconds = source["expirationSeconds"].as_i64().unwrap_or(TOKEN_SECONDS);
    let audience = match text(source, &["audience"]) {
        "" => AUDIENCE,
        audience => audience,
    };
    let grant = Grant {
        namespace: key.namespace.clone(),
        account: account.to_owned(),
        account_uid: object::uid(&found).to_owned(),
        bound: Some(Bound { plural: "pods", name: handle.key.name.clone(), uid: handle.uid.clone() }),
        audiences: vec![audience.to_owned()],
        expires: Some(now.saturating_add(seconds)),
    };
    let token = cluster.tokens.issue(grant, now);
    Ok(File { path: text(source, &["path"]).to_owned(), content: token.into_bytes(), mode })
}

/// Writes a file so that a reader sees the old or the new content, never half of one.
fn write(root: &Path, file: &File, group: Option<u32>) -> io::Result<()> {
    // Paths come from a pod's specification; none may lead out of the volume.
    if file.path.is_empty() || file.path.starts_with('/') || file.path.split('/').any(|part| part == "..") {
        return Err(io::Error::other(format!("the path {:?} is not inside the volume", file.path)));
    }
    let target = root.join(&file.path);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    let fresh = target.with_extension("gantry-new");
    fs::write(&fresh, &file.content)?;
    give(&fresh, group);
    let mode = if group.is_some() { file.mode | 0o040 } else { file.mode };
    fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))?;
    fs::rename(fresh, target)
}

/// Makes the directory of a `subPath` and returns it. As kubelet does it, every directory that is
/// missing gets the mode of the volume's root whatever the umask is, and its group only where that
/// mode hands it down; what is there already stays as it is.
pub(crate) fn sub_path(root: &Path, sub: &str) -> io::Result<PathBuf> {
    let mode = fs::metadata(root)?.permissions();
    let mut path = root.to_owned();
    for part in sub.split('/').filter(|part| !part.is_empty() && *part != "." && *part != "..") {
        path.push(part);
        match fs::symlink_metadata(&path) {
            // Following a link that a container made would lead out of the volume.
            Ok(found) if found.is_symlink() => {
                return Err(io::Error::other("a subPath must not lead through a symbolic link"));
            }
            Ok(_) => {}
            Err(_) => {
                fs::create_dir(&path)?;
                fs::set_permissions(&path, mode.clone())?;
            }
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stay_in_their_volume() {
        let directory = tempfile::tempdir().unwrap();
        let file = |path: &str| File { path: path.to_owned(), content: b"x".to_vec(), mode: 0o640 };
        write(directory.path(), &file("a/b"), None).unwrap();
        let mode = fs::metadata(directory.path().join("a/b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert!(write(directory.path(), &file("../x"), None).is_err());
        assert!(write(directory.path(), &file("/x"), None).is_err());
    }

    #[test]
    fn a_sub_path_has_the_mode_of_its_volume() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o2777)).unwrap();
        fs::create_dir(directory.path().join("there")).unwrap();
        fs::set_permissions(directory.path().join("there"), fs::Permissions::from_mode(0o700)).unwrap();
        sub_path(directory.path(), "there/a/b").unwrap();
        let mode = |path: &str| fs::metadata(directory.path().join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!([mode("there"), mode("there/a"), mode("there/a/b")], [0o700, 0o2777, 0o2777]);
        std::os::unix::fs::symlink("/", directory.path().join("l")).unwrap();
        assert!(sub_path(directory.path(), "l/etc").is_err());
    }
}
