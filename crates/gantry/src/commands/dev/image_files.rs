//! The files of an image: unpacked from what an engine exports, and looked at for who its
//! containers are.

use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use gantry_sim_kube::Image;
use serde::Deserialize;
use tar::EntryType;

/// The image of the helper container, which has the tools of this machine: its git fetches.
pub(super) const HELPER_IMAGE: &str = "gantry-helper";

/// How long an image may take to come from its registry, and to be unpacked: gigabytes over a slow
/// line.
pub(super) const PULL: Duration = Duration::from_secs(1_800);

/// The search path of an image that names none, as engines have it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an image's author has said (OCI image specification).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ImageConfig {
    pub(super) env: Option<Vec<String>>,
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) cmd: Option<Vec<String>>,
    pub(super) user: String,
    pub(super) working_dir: String,
}

/// Unpacks an archive into a new directory. As root files keep their owners; else all are the
/// user's. Devices and pipes are left out: containers have their own `/dev`.
pub(super) fn unpack(archive: &mut impl Read, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    // The directory that it is in is the user's alone.
    fs::set_permissions(to, Permissions::from_mode(0o755))?;
    let mut archive = tar::Archive::new(archive);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(nix::unistd::geteuid().is_root());
    let mut directories = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        match entry.header().entry_type() {
            EntryType::Directory => directories.push(entry),
            EntryType::Regular | EntryType::Continuous | EntryType::Symlink | EntryType::Link => {
                entry.unpack_in(to)?;
            }
            _ => {}
        }
    }
    // Last, and from below: their modes may forbid to write to them.
    directories.sort_by(|a, b| b.path_bytes().cmp(&a.path_bytes()));
    for mut directory in directories {
        let is_root = directory.path()?.components().all(|part| part == Component::CurDir);
        if !is_root {
            directory.unpack_in(to)?;
        }
    }
    Ok(())
}

/// What containers of an unpacked image are to be.
pub(super) fn image(root: PathBuf, config: &ImageConfig) -> Image {
    let User { uid, gid, groups, home } = User::find(&root, &config.user);
    let variable = |text: &String| {
        let (name, value) = text.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    let mut env: Vec<(String, String)> = config.env.iter().flatten().filter_map(variable).collect();
    for (name, value) in [("PATH", PATH), ("HOME", &home)] {
        if env.iter().all(|(other, _)| other != name) {
            env.push((name.to_owned(), value.to_owned()));
        }
    }
    Image {
        root,
        env,
        entrypoint: config.entrypoint.clone().unwrap_or_default(),
        command: config.cmd.clone().unwrap_or_default(),
        uid,
        gid,
        groups,
        working_dir: Some(PathBuf::from(&config.working_dir)).filter(|path| path.is_absolute()),
    }
}

/// The user of an image's containers.
#[derive(Debug, PartialEq, Eq)]
struct User {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    home: String,
}

impl User {
    /// Finds `user`, `uid`, `user:group` or `uid:gid` in the files of an image. A name that is not
    /// there is root: the image was made so, and starts nowhere else.
    fn find(root: &Path, text: &str) -> Self {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let user = if user.is_empty() { "0" } else { user };
        let number: Option<u32> = user.parse().ok();
        let users = lines(root, "etc/passwd");
        let is_it = |fields: &&Vec<String>| match number {
            Some(number) => fields.get(2).and_then(|uid| uid.parse().ok()) == Some(number),
            None => fields.first().is_some_and(|name| name == user),
        };
        let found = users.iter().find(is_it);
        let field = |number: usize| found.and_then(|fields| fields.get(number));
        let uid = number.or_else(|| field(2)?.parse().ok()).unwrap_or(0);
        let all = lines(root, "etc/group");
        let id_of = |name: &str| {
            let of_name = all.iter().find(|fields| fields.first().is_some_and(|first| first == name));
            name.parse().ok().or_else(|| of_name?.get(2)?.parse().ok())
        };
        let gid = match group {
            Some(group) => id_of(group),
            None => field(3).and_then(|gid| gid.parse().ok()),
        };
        let name = field(0).map(String::as_str).unwrap_or_default();
        let has_user = |fields: &&Vec<String>| {
            !name.is_empty() && fields.get(3).is_some_and(|members| members.split(',').any(|member| member == name))
        };
        let groups = if group.is_some() {
            Vec::new()
        } else {
            all.iter().filter(has_user).filter_map(|fields| fields.get(2)?.parse().ok()).collect()
        };
        let home = field(5).filter(|home| !home.is_empty()).cloned();
        let home = home.unwrap_or_else(|| if uid == 0 { "/root" } else { "/" }.to_owned());
        Self { uid, gid: gid.unwrap_or(0), groups, home }
    }
}

/// The fields of a file such as `/etc/passwd`; none if it is a link, which may lead out of the
/// image.
fn lines(root: &Path, name: &str) -> Vec<Vec<String>> {
    let path = root.join(name);
    let is_file = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
    let text = if is_file { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
    text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive as engines export it.
    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |path: &str, kind: EntryType, mode: u32, text: &str, link: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(text.len() as u64);
            let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
            header.set_uid(uid.as_raw().into());
            header.set_gid(gid.as_raw().into());
            if link.is_empty() {
                builder.append_data(&mut header, path, text.as_bytes()).unwrap();
            } else {
                builder.append_link(&mut header, path, link).unwrap();
            }
        };
        add("etc/", EntryType::Directory, 0o755, "", "");
        add(
            "etc/passwd",
            EntryType::Regular,
            0o644,
            "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1001::/home/node:/bin/sh\n",
            "",
        );
        add("etc/group", EntryType::Regular, 0o644, "root:x:0:\nnode:x:1001:\ntools:x:50:other,node\n", "");
        add("closed/", EntryType::Directory, 0o555, "", "");
        add("closed/tool", EntryType::Regular, 0o755, "#!/bin/sh\n", "");
        add("bin/", EntryType::Directory, 0o755, "", "");
        add("bin/tool", EntryType::Symlink, 0o777, "", "/closed/tool");
        add("dev/console", EntryType::Char, 0o600, "", "");
        builder.into_inner().unwrap()
    }

    #[test]
    fn an_image_is_unpacked_and_its_user_found() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        unpack(&mut archive().as_slice(), &root).unwrap();
        let mode = |name: &str| fs::symlink_metadata(root.join(name)).map(|found| found.permissions().mode() & 0o777);
        assert_eq!((mode("closed").unwrap(), mode("closed/tool").unwrap()), (0o555, 0o755));
        assert_eq!(fs::read_link(root.join("bin/tool")).unwrap(), Path::new("/closed/tool"));
        assert!(mode("dev/console").is_err(), "a device");
        let user = |text: &str| {
            let User { uid, gid, groups, home } = User::find(&root, text);
            (uid, gid, groups, home)
        };
        assert_eq!(user(""), (0, 0, vec![], "/root".to_owned()));
        assert_eq!(user("node"), (1000, 1001, vec![50], "/home/node".to_owned()));
        assert_eq!(user("1000:tools"), (1000, 50, vec![], "/home/node".to_owned()));
        assert_eq!(user("7:8"), (7, 8, vec![], "/".to_owned()));
        let config =
            ImageConfig { env: Some(vec!["A=b=c".to_owned(), "HOME=/h".to_owned()]), ..ImageConfig::default() };
        let image = image(root, &config);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(image.env, [pair("A", "b=c"), pair("HOME", "/h"), pair("PATH", PATH)]);
    }
}
