//! Landlock, the second layer: should the mounts show more than they ought to, a program still can read and run
//! the system and write its own places only, and can signal or reach by abstract socket nobody outside.

use std::{io, os::fd::OwnedFd};

use greenroom_core::Profile;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, Scope,
};

use crate::{init::Birth, workspaces::Workspaces};

/// What we ask for; a kernel that knows less gives what it has, and the host report says how much that is.
const WANTED: ABI = ABI::V6;

/// Restricts this process and all that come from it.
pub(crate) fn raise(birth: &Birth<'_>) -> io::Result<()> {
    if birth.shared.landlock_abi == 0 {
        return Ok(());
    }
    rules(birth).and_then(|rules| Ok(rules.restrict_self().map(drop)?)).map_err(io::Error::other)
}

/// The rules as a descriptor, for a process that is a program of its own. The three places are a sandbox's own; all else is
/// the template's and the same in every sandbox.
pub(crate) fn for_sandbox(abi: u32, files: &OwnedFd, tmp: &OwnedFd, shm: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    if abi == 0 {
        return Ok(None);
    }
    let rules = || -> Result<RulesetCreated, Box<dyn std::error::Error + Send + Sync>> {
        let mut rules = wanted()?.create()?;
        for (place, access) in [("/dev", device()), ("/", read())] {
            rules = rules.add_rule(PathBeneath::new(PathFd::new(place)?, access))?;
        }
        for place in [files, tmp, shm] {
            rules = rules.add_rule(PathBeneath::new(place, write()))?;
        }
        Ok(rules)
    };
    rules().map(Into::into).map_err(io::Error::other)
}

fn everything() -> BitFlags<AccessFs> {
    AccessFs::from_all(WANTED)
}

fn read() -> BitFlags<AccessFs> {
    AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir
}

fn write() -> BitFlags<AccessFs> {
    everything() & !(AccessFs::MakeChar | AccessFs::MakeBlock)
}

fn device() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev
}

fn wanted() -> Result<Ruleset, landlock::RulesetError> {
    let wanted = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(everything())?;
    wanted.scope(Scope::AbstractUnixSocket | Scope::Signal)
}

fn rules(birth: &Birth<'_>) -> Result<RulesetCreated, Box<dyn std::error::Error + Send + Sync>> {
    let mut wanted = wanted()?;
    if birth.shared.profile == Profile::Restricted {
        // No network namespace: TCP is refused here, and every internet socket by the filter.
        wanted = wanted.handle_access(AccessNet::from_all(WANTED))?;
    }
    let mut rules = wanted.create()?;
    let support = birth.shared.workspaces.as_ref().map(Workspaces::support);
    let mut places: Vec<(&str, BitFlags<AccessFs>)> = vec![("/dev", device())];
    match &birth.workspace {
        None => places.extend([("/", read()), (birth.prepare.place.path(), write()), ("/tmp", write()), ("/dev/shm", write())]),
        Some(workspace) => {
            places.extend(RESTRICTED_SYSTEM.iter().map(|place| (*place, read())));
            places.extend(birth.shared.etc.iter().map(|place| (place.as_str(), read())));
            if let Some(support) = &support {
                places.push((support.to_str().ok_or("the data directory's path is not UTF-8")?, read()));
            }
            places.push((workspace.to_str().ok_or("the workspace's path is not UTF-8")?, write()));
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
