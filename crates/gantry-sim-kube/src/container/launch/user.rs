//! Who the command is and what it may do. Whatever is given up here stays given up through
//! `execve`.

use std::fs;

use nix::{
    sched::{CloneFlags, unshare},
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};
use rustix::{
    io::Errno,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
        set_capabilities,
    },
};

use super::super::{
    error::{Failure, Step},
    spec::{Capabilities, ContainerSpec, Privilege},
};

/// What container engines leave to root in a container, without `MKNOD` (see
/// [`Capabilities::Default`]).
const DEFAULT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Maps one user and one group of this process's new user namespace, given as (inside, outside).
pub(super) fn map(uid: (u32, u32), gid: (u32, u32)) -> Result<(), Failure> {
    let write =
        |file: &str, text: String| fs::write(format!("/proc/self/{file}"), text).step(|| format!("write {file}"));
    write("uid_map", format!("{} {} 1", uid.0, uid.1))?;
    // The kernel lets an ordinary user map a group only after giving up setgroups for good.
    write("setgroups", "deny".to_owned())?;
    write("gid_map", format!("{} {} 1", gid.0, gid.1))
}

fn ids(spec: &ContainerSpec) -> (u32, u32) {
    (spec.uid.unwrap_or(0), spec.gid.unwrap_or(0))
}

/// Whether the container's user lives in a second user namespace.
fn is_nested(privilege: Privilege, spec: &ContainerSpec) -> bool {
    privilege == Privilege::UserNamespace && ids(spec) != (0, 0)
}

/// For the keeper of an exec that has entered the namespaces: does now what its child could not do,
/// since a program that is not root in its user namespace starts without the right to give up
/// rights.
pub(super) fn prepare_exec(privilege: Privilege, spec: &ContainerSpec) -> Result<(), Failure> {
    if is_nested(privilege, spec) { limit_capabilities(spec.capabilities) } else { Ok(()) }
}

/// Becomes the container's user, with its capabilities. Returns whether a further user namespace
/// was made for that. `exec`: the container exists and its namespaces have been entered.
pub(super) fn switch(privilege: Privilege, spec: &ContainerSpec, exec: bool) -> Result<bool, Failure> {
    let (uid, gid) = ids(spec);
    let nested = is_nested(privilege, spec);
    if nested && !exec {
        unshare(CloneFlags::CLONE_NEWUSER).step(|| "make a user namespace for the container's user".to_owned())?;
        map((uid, 0), (gid, 0))?;
    }
    if !(nested && exec) {
        limit_capabilities(spec.capabilities)?;
    }
    if privilege == Privilege::Root {
        let groups: Vec<Gid> =
            std::iter::once(gid).chain(spec.supplemental_groups.iter().copied()).map(Gid::from_raw).collect();
        setgroups(&groups).step(|| "set the groups".to_owned())?;
    }
    if privilege == Privilege::Root || nested {
        let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
        setresgid(group, group, group).step(|| format!("become group {gid}"))?;
        setresuid(user, user, user).step(|| format!("become user {uid}"))?;
    }
    if spec.no_new_privileges {
        nix::sys::prctl::set_no_new_privs().step(|| "give up new privileges".to_owned())?;
    }
    Ok(nested)
}

/// Takes capabilities out of the bounding and the inheritable set. `execve` of uid 0 gives what is
/// left in the bounding set, that of another user nothing, so the sets of this process itself need
/// no care; setting the user still needs them.
fn limit_capabilities(wanted: Capabilities) -> Result<(), Failure> {
    let keep = match wanted {
        Capabilities::All => return Ok(()),
        Capabilities::Default => DEFAULT,
        Capabilities::None => CapabilitySet::empty(),
    };
    let _ = clear_ambient_capability_set();
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if keep.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // Beyond the last one that this kernel knows.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(Failure::setup("give up capabilities", error)),
        }
    }
    let now = capabilities(None).step(|| "read the capabilities".to_owned())?;
    set_capabilities(None, CapabilitySets { inheritable: CapabilitySet::empty(), ..now })
        .step(|| "give up inheritable capabilities".to_owned())
}
