//! Which cgroup hierarchies this process is in, and where they are mounted (cgroups(7)).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::host::CgroupVersion;

/// Directories of the cgroups this process is in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    /// The v2 tree, with or without controllers.
    pub(crate) v2: Option<PathBuf>,
    /// Whether the v2 tree has the cpu, memory and pids controllers.
    pub(crate) v2_controllers: bool,
    /// v1 memory, pids, cpu, cpuacct: all or none.
    pub(crate) v1: Option<V1<PathBuf>>,
}

/// One thing for each v1 controller that we use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct V1<T> {
    pub(crate) memory: T,
    pub(crate) pids: T,
    pub(crate) cpu: T,
    pub(crate) cpuacct: T,
}

impl<T> V1<T> {
    pub(crate) fn try_map<U, E>(&self, mut f: impl FnMut(&T) -> Result<U, E>) -> Result<V1<U>, E> {
        Ok(V1 { memory: f(&self.memory)?, pids: f(&self.pids)?, cpu: f(&self.cpu)?, cpuacct: f(&self.cpuacct)? })
    }

    pub(crate) fn each(&self) -> [&T; 4] {
        [&self.memory, &self.pids, &self.cpu, &self.cpuacct]
    }
}

impl Hierarchies {
    /// Which version can enforce limits.
    pub(crate) fn version(&self) -> CgroupVersion {
        match (&self.v1, self.v2_controllers) {
            (_, true) => CgroupVersion::V2,
            (Some(_), false) => CgroupVersion::V1,
            (None, false) => CgroupVersion::None,
        }
    }
}

/// Reads `/proc/self/cgroup` and `/proc/self/mountinfo`.
pub(crate) fn discover() -> io::Result<Hierarchies> {
    let membership = fs::read_to_string("/proc/self/cgroup")?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mut found = parse(&membership, &mounts);
    if let Some(v2) = &found.v2 {
        let controllers = fs::read_to_string(v2.join("cgroup.controllers")).unwrap_or_default();
        found.v2_controllers = ["cpu", "memory", "pids"].iter().all(|name| controllers.split_whitespace().any(|c| c == *name));
    }
    Ok(found)
}

/// The pure part: texts in, directories out.
pub(crate) fn parse(membership: &str, mountinfo: &str) -> Hierarchies {
    let mut v1: Vec<(String, PathBuf)> = Vec::new();
    let mut found = Hierarchies::default();
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        if controllers.is_empty() {
            found.v2 = mount_of(mountinfo, "cgroup2", None).and_then(|mount| below(&mount, path));
        } else {
            for controller in controllers.split(',') {
                if let Some(dir) = mount_of(mountinfo, "cgroup", Some(controller)).and_then(|mount| below(&mount, path)) {
                    v1.push((controller.to_owned(), dir));
                }
            }
        }
    }
    let find = |name: &str| v1.iter().find(|(controller, _)| controller == name).map(|(_, dir)| dir.clone()).ok_or(());
    let names = V1 { memory: "memory", pids: "pids", cpu: "cpu", cpuacct: "cpuacct" };
    found.v1 = names.try_map(|name| find(name)).ok();
    found
}

/// A mount of a cgroup file system: which of its directories is mounted, and where.
struct Mount {
    root: String,
    point: PathBuf,
}

/// The first mount of this type (and with this v1 controller) in mountinfo (proc_pid_mountinfo(5)).
fn mount_of(mountinfo: &str, fs_type: &str, controller: Option<&str>) -> Option<Mount> {
    mountinfo.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ').skip(3);
        let (root, point) = (front.next()?, front.next()?);
        let mut back = back.split(' ');
        let (kind, options) = (back.next()?, back.nth(1)?);
        let controls = controller.is_none_or(|name| options.split(',').any(|option| option == name));
        (kind == fs_type && controls).then(|| Mount { root: root.to_owned(), point: PathBuf::from(point) })
    })
}

/// The directory of a cgroup path, seen through a mount that may show a part of the hierarchy only (a container's).
fn below(mount: &Mount, path: &str) -> Option<PathBuf> {
    let inside = Path::new(path).strip_prefix(&mount.root).ok()?;
    Some(mount.point.join(inside))
}
