//! Landlock, the second layer: should the mounts show more than they ought to, a program still can read and run
//! the system and write its own places only, and can signal or reach by abstract socket nobody outside.

use std::{io, os::fd::OwnedFd};

use greenroom_core::Profile;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, Scope,
};

use crate::init::Birth;

/// What we ask for; a kernel that knows less gives what it has, and the host report says how much that is.
const WANTED: ABI = ABI::V6;

/// Restricts this process and all that come from it.
pub(crate) fn raise(birth: &Birth<'_>) -> io::Result<()> {
    if birth.shared.landlock_abi == 0 {
        return Ok(());
    }
    rules(birth).and_then(|rules| Ok(rules.restrict_self().map(drop)?)).map_err(io::Error::other)
}

/// The rules as a descriptor, for a process that is not ours to call them by.
pub(crate) fn for_zygote(birth: &Birth<'_>) -> io::Result<Option<OwnedFd>> {
    if birth.shared.landlock_abi == 0 { Ok(None) } else { rules(birth).map(Into::into).map_err(io::Error::other) }
}

fn rules(birth: &Birth<'_>) -> Result<RulesetCreated, Box<dyn std::error::Error + Send + Sync>> {
    let everything = AccessFs::from_all(WANTED);
    let read = AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir;
    let write = everything & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    let device = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
    let mut wanted = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(everything)?;
    wanted = wanted.scope(Scope::AbstractUnixSocket | Scope::Signal)?;
    if birth.shared.profile == Profile::Restricted {
        // No network namespace: TCP is refused here, and every internet socket by the filter.
        wanted = wanted.handle_access(AccessNet::from_all(WANTED))?;
    }
    let mut rules = wanted.create()?;
    let mut places: Vec<(&str, BitFlags<AccessFs>)> = vec![("/dev", device)];
    match &birth.workspace {
        None => places.extend([("/", read), (birth.prepare.place.path(), write), ("/tmp", write), ("/dev/shm", write)]),
        Some(workspace) => {
            places.extend(RESTRICTED_SYSTEM.iter().map(|place| (*place, read)));
            places.extend(birth.shared.etc.iter().map(|place| (place.as_str(), read)));
            places.push((workspace.to_str().ok_or("the workspace's path is not UTF-8")?, write));
        }
    }
    for (place, access) in places {
        match PathFd::new(place) {
            Ok(fd) => rules = rules.add_rule(PathBeneath::new(fd, access))?,
            // A system without it: nothing to allow.
            Err(_) if birth.workspace.is_some() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(rules)
}

/// What a program sees of the host where there are no mount namespaces.
const RESTRICTED_SYSTEM: &[&str] = &[
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/etc/ld.so.cache", "/etc/ld.so.conf",
    "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts",
    "/etc/ssl/openssl.cnf",
];
