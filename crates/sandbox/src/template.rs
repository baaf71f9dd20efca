//! The read-only root that every sandbox copies: the system's `/usr`, a made-up `/etc`, a minimal `/dev`.
//!
//! It is built once, in the runner's own mount namespace, and becomes the runner's root: from then on no path of
//! the host can be named from there, and a sandbox that copies these mounts copies a dozen, not the host's hundreds.

use std::{
    ffi::OsStr,
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::{OpenOptionsExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use greenroom_core::{DATA, DATA_TOO, Profile, WORKSPACE};
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, makedev, mknodat},
    mount::{
        MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, mount_remount,
        move_mount, open_tree, unmount,
    },
    process::pivot_root,
};

use crate::{
    config::SandboxConfig,
    layout::{DISK, NETWORK_FILES},
    network::GATEWAY_ADDRESS,
    step::{Failure, Step, take},
    sys, zygote,
};

/// Files of runtimes that stand in every sandbox, below its root.
pub(crate) const SUPPORT: &str = "opt/greenroom";
/// Where the template is put together. Any directory that exists everywhere does: only this namespace sees it.
const BUILD_AT: &str = "/tmp";

/// Names below `/etc` that every system has use for.
const ETC: &[&str] = &[
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "timezone", "os-release", "debian_version",
    "services", "protocols", "mime.types", "locale.alias", "ssl/openssl.cnf", "ssl/certs/ca-certificates.crt", "ssl/cert.pem",
    "inputrc", "magic", "terminfo",
];

/// The program of every sandbox's first process (init/main.rs).
const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// Builds the template and makes it the root. `uids` are the ones that sandboxes will use. Gives the program of the first process.
pub(crate) fn enter(config: &SandboxConfig, profile: Profile, uids: std::ops::Range<u32>) -> Result<OwnedFd, Failure> {
    let init = take(Step::BuildTemplate, || build(config, profile, uids))?;
    take(Step::PivotRoot, || {
        std::env::set_current_dir(BUILD_AT)?;
        // Both arguments the same: the old root ends up under the new one, and is detached (pivot_root(2), NOTES).
        pivot_root(".", ".")?;
        unmount(".", UnmountFlags::DETACH)?;
        std::env::set_current_dir("/")?;
        mount_remount("/", MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID, "")?;
        Ok::<_, io::Error>(init)
    })
}

fn build(config: &SandboxConfig, profile: Profile, uids: std::ops::Range<u32>) -> io::Result<OwnedFd> {
    // Nothing that is mounted here may reach the host, nor the other way round.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let system = System::open(config.system_root.as_deref().unwrap_or(Path::new("/")), profile)?;
    // Before the first mount, which may hide them.
    let directories = config.directories.iter().map(|directory| Ok((directory, shared(&directory.path, profile)?)));
    let directories = directories.collect::<io::Result<Vec<_>>>()?;
    // Device nodes have to be made (or bound) while the host's /dev can be seen, and no capability makes them nosuid.
    mount("greenroom", BUILD_AT, "tmpfs", MountFlags::NOSUID, Some(c"mode=0755,size=64m"))?;
    let root = Path::new(BUILD_AT);
    for dir in
        ["usr", "etc", "dev/shm", "proc", "tmp", "run/disk", &NETWORK_FILES[1..], "var", SUPPORT, &WORKSPACE[1..], &DATA[1..]]
    {
        fs::create_dir_all(root.join(dir))?;
    }
    fs::set_permissions(root.join(&DISK[1..]), fs::Permissions::from_mode(0o700))?;
    symlink("/tmp", root.join("var/tmp"))?;
    symlink(DATA, root.join(&DATA_TOO[1..]))?;
    attach(&system.usr, &root.join("usr"))?;
    for (name, kind) in &system.top {
        match kind {
            Top::Link(target) => symlink(target, root.join(name))?,
            Top::Tree(tree) => {
                fs::create_dir_all(root.join(name))?;
                attach(tree, &root.join(name))?;
            }
        }
    }
    for name in ETC.iter().copied().chain(config.etc.iter().map(String::as_str)) {
        copy(&system.etc.join(name), &root.join("etc").join(name))?;
    }
    write_identity(&root.join("etc"), uids)?;
    write_network(&root.join(&NETWORK_FILES[1..]))?;
    for file in &config.support {
        let path = root.join(SUPPORT).join(&file.path);
        fs::create_dir_all(path.parent().unwrap_or(root))?;
        fs::write(&path, &file.content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(if file.executable { 0o755 } else { 0o644 }))?;
    }
    for (directory, tree) in directories.iter().filter_map(|(directory, tree)| Some((directory, tree.as_ref()?))) {
        let at = root.join(SUPPORT).join(&directory.at);
        fs::create_dir_all(&at)?;
        attach(tree, &at)?;
    }
    if !config.zygotes.is_empty() {
        zygote::install(&root.join(SUPPORT))?;
    }
    if profile == Profile::Rootless {
        // Without root a new /proc may be mounted only where one can be seen already (mount_namespaces(7)); each
        // sandbox mounts its own over it.
        attach(
            &open_tree(
                CWD,
                "/proc",
                OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE,
            )?,
            &root.join("proc"),
        )?;
    }
    devices(&root.join("dev"), profile)?;
    hidden_program(&root.join("init"))
}

/// A file of the template that has no name there: no program sees it.
fn hidden_program(at: &Path) -> io::Result<OwnedFd> {
    fs::write(at, INIT)?;
    fs::set_permissions(at, fs::Permissions::from_mode(0o500))?;
    let program = rustix::fs::open(at, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    fs::remove_file(at)?;
    Ok(program)
}

/// The system that programs see, held by descriptors.
struct System {
    usr: OwnedFd,
    /// `/bin`, `/lib64` and the like: links into `/usr` on today's systems, directories on older ones.
    top: Vec<(&'static str, Top)>,
    etc: PathBuf,
    /// Keeps `etc` valid: it is a path through this descriptor.
    _root: OwnedFd,
}

enum Top {
    Link(PathBuf),
    Tree(OwnedFd),
}

impl System {
    fn open(path: &Path, profile: Profile) -> io::Result<Self> {
        let context = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let root = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| context(e.into()))?;
        let usr = clone_tree(&root, "usr", profile).map_err(context)?;
        let mut top = Vec::new();
        for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            match fs::symlink_metadata(path.join(name)) {
                Ok(meta) if meta.is_symlink() => top.push((name, Top::Link(fs::read_link(path.join(name))?))),
                Ok(meta) if meta.is_dir() => top.push((name, Top::Tree(clone_tree(&root, name, profile)?))),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { usr, top, etc: PathBuf::from(format!("/proc/self/fd/{}/etc", root.as_raw_fd())), _root: root })
    }
}

/// A directory of the host to be seen by programs; `None` where there is none.
fn shared(path: &Path, profile: Profile) -> io::Result<Option<OwnedFd>> {
    match clone_tree(CWD, path, profile) {
        Ok(tree) => Ok(Some(tree)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
    }
}

/// A detached read-only copy of a directory's mount.
fn clone_tree(at: impl AsFd, path: impl rustix::path::Arg, profile: Profile) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(at, path, flags)?;
    // Set-user-id programs and device nodes below /usr are plain files to a sandbox.
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    match sys::mount_setattr_recursive(tree.as_fd(), attributes) {
        // Mounts that the host's owner locked (a container's) already have what may not be changed.
        Err(error) if profile == Profile::Rootless && error.raw_os_error() == Some(libc::EPERM) => {
            sys::mount_setattr_recursive(tree.as_fd(), libc::MOUNT_ATTR_RDONLY)?;
        }
        other => other?,
    }
    Ok(tree)
}

fn attach(tree: &OwnedFd, at: &Path) -> io::Result<()> {
    Ok(move_mount(tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Copies a file, link or directory of the system's `/etc`, as far as it exists and all may read it: what only
/// root can read (`shadow`, keys) is not for programs.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let meta = match fs::symlink_metadata(from) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    if fs::symlink_metadata(to).is_ok_and(|there| !there.is_dir()) {
        return Ok(());
    }
    if meta.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    let for_all = meta.permissions().mode() & 0o004 != 0;
    if meta.is_dir() && for_all {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else if meta.is_file() && for_all {
        fs::copy(from, to)?;
    }
    Ok(())
}

/// Who and where a program is: a name for its uid, and no name of the host.
fn write_identity(etc: &Path, uids: std::ops::Range<u32>) -> io::Result<()> {
    use std::fmt::Write as _;
    let mut passwd = String::from("root:x:0:0:root:/root:/usr/sbin/nologin\n");
    let mut group = String::from("root:x:0:\n");
    for uid in uids {
        writeln!(passwd, "runner:x:{uid}:{uid}:runner:/tmp:/bin/sh").map_err(io::Error::other)?;
        writeln!(group, "runner:x:{uid}:").map_err(io::Error::other)?;
    }
    passwd.push_str("nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n");
    group.push_str("nogroup:x:65534:\n");
    for (name, content) in [
        ("passwd", passwd.as_str()),
        ("group", group.as_str()),
        ("hostname", "greenroom\n"),
        ("hosts", "127.0.0.1 localhost greenroom\n::1 localhost\n"),
        ("host.conf", "multi on\n"),
        ("resolv.conf", "# no network\n"),
        ("nsswitch.conf", NAME_SERVICES),
        ("shells", "/bin/sh\n/bin/bash\n"),
    ] {
        let path = etc.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::write(path, content)?,
        }
    }
    Ok(())
}

/// How names are looked up by programs that have a network: init shows these in place of the ones in `/etc`.
fn write_network(at: &Path) -> io::Result<()> {
    fs::write(at.join("resolv.conf"), format!("nameserver {GATEWAY_ADDRESS}\n"))?;
    fs::write(at.join("nsswitch.conf"), NAME_SERVICES.replace("hosts: files", "hosts: files dns"))
}

/// nsswitch.conf(5).
const NAME_SERVICES: &str = "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n";

const DEVICES: &[(&str, u32, u32)] = &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9)];

fn devices(dev: &Path, profile: Profile) -> io::Result<()> {
    for &(name, major, minor) in DEVICES {
        let path = dev.join(name);
        if profile == Profile::Full {
            mknodat(CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(major, minor))?;
            // The umask took bits away.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        } else {
            // Without root no device can be made, but the host's can be shown.
            fs::OpenOptions::new().write(true).create_new(true).mode(0o666).open(&path)?;
            let host = open_tree(
                CWD,
                Path::new("/dev").join(OsStr::new(name)),
                OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
            )?;
            attach(&host, &path)?;
        }
    }
    for (name, target) in
        [("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")]
    {
        symlink(target, dev.join(name))?;
    }
    Ok(())
}
