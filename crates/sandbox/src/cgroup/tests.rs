use std::{
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use super::{
    Instance,
    discover::{V1, discover, parse},
    slot::{Counters, SlotCgroup},
};
use crate::{
    host::CgroupVersion,
    message::StageLimits,
    sys::{self, Cloned},
};

const MOUNTS_V1: &str = "\
30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
32 30 0:28 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
33 30 0:29 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
34 30 0:30 / /sys/fs/cgroup/pids rw,relatime shared:9 - cgroup cgroup rw,pids
35 30 0:31 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

#[test]
fn v1_controllers_with_a_bare_v2_tree_beside_them_are_found() {
    let found = parse("4:memory:/a/b\n3:pids:/\n2:cpuacct:/\n1:cpu:/\n0::/\n", MOUNTS_V1);
    let v1 = found.v1.as_ref().unwrap();
    assert_eq!(v1.memory, Path::new("/sys/fs/cgroup/memory/a/b"));
    assert_eq!(v1.pids, Path::new("/sys/fs/cgroup/pids/"));
    assert_eq!(found.v2.as_deref(), Some(Path::new("/sys/fs/cgroup/unified/")));
    assert_eq!(found.version(), CgroupVersion::V1);
}

#[test]
fn a_container_sees_its_part_of_a_hierarchy_and_two_controllers_may_share_one() {
    let mounts = "\
31 30 0:27 /docker/x /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
34 30 0:30 /docker/x /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
";
    let found = parse("4:memory:/docker/x\n3:pids:/docker/x/y\n2:cpu,cpuacct:/docker/x\n", mounts);
    let v1 = found.v1.unwrap();
    assert_eq!(v1.cpu, Path::new("/sys/fs/cgroup/cpu,cpuacct/"));
    assert_eq!(v1.cpuacct, v1.cpu);
    assert_eq!(v1.pids, Path::new("/sys/fs/cgroup/pids/y"));
    assert_eq!(found.v2, None);
}

#[test]
fn a_missing_controller_means_that_v1_cannot_enforce_limits() {
    let found = parse("4:memory:/\n2:cpu:/\n0::/user.slice\n", MOUNTS_V1);
    assert_eq!(found.v1, None);
    assert_eq!(found.version(), CgroupVersion::None);
    assert_eq!(found.v2.as_deref(), Some(Path::new("/sys/fs/cgroup/unified/user.slice")));
}

/// A directory of plain files that stands for a cgroup: what is written can be read, what the kernel would
/// count is written by the test.
struct Fixture(PathBuf);

impl Fixture {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("greenroom-cgroup-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn dir(&self) -> OwnedFd {
        fs::File::open(&self.0).unwrap().into()
    }

    fn file(&self, path: &str, content: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.join(path)).unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} is left: {error}", self.0.display());
        }
    }
}

fn limits(memory_bytes: u64) -> StageLimits {
    StageLimits { wall_ms: 1, cpu_ms: 1, memory_bytes, processes: 64, open_files: 1, file_size_bytes: 1, cpu_milli: 1500 }
}

#[test]
fn on_v2_limits_are_written_to_the_leaf_and_the_verdict_is_read_from_its_counters() {
    let fixture = Fixture::new("v2");
    for (name, content) in [
        ("../cgroup.subtree_control", ""),
        ("cgroup.kill", ""),
        ("cgroup.procs", ""),
        ("cgroup.events", "populated 1\nfrozen 0\n"),
        ("memory.oom.group", ""),
        ("memory.max", ""),
        ("memory.swap.max", ""),
        ("pids.max", ""),
        ("cpu.max", ""),
        ("cpu.stat", "usage_usec 2500\nuser_usec 2000\nsystem_usec 500\n"),
        ("memory.peak", "4096000\n"),
        ("memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 3\noom_group_kill 1\n"),
    ] {
        fs::create_dir_all(fixture.0.join("run")).unwrap();
        fixture.file(&format!("run/{name}"), content);
    }
    let mut slot = SlotCgroup::v2(fixture.dir()).unwrap();
    assert_eq!(fixture.read("cgroup.subtree_control"), "+cpu +memory +pids");
    slot.begin().unwrap();
    assert!(slot.clone_into().is_some());
    slot.limit(&limits(8 << 20)).unwrap();
    assert_eq!(fixture.read("run/memory.max"), "8388608");
    assert_eq!(fixture.read("run/memory.swap.max"), "0");
    assert_eq!(fixture.read("run/memory.oom.group"), "1");
    assert_eq!(fixture.read("run/pids.max"), "65");
    assert_eq!(fixture.read("run/cpu.max"), "150000 100000");
    // What was used before the limits were in force is not the run's.
    fixture.file("run/cpu.stat", "usage_usec 4000\nuser_usec 3000\nsystem_usec 1000\n");
    let counters = Counters { cpu_us: 1500, memory_peak_bytes: Some(4_096_000), out_of_memory: true };
    assert_eq!(slot.counters().unwrap(), counters);
    assert!(slot.populated().unwrap());
    assert!(slot.kill().unwrap());
    assert_eq!(fixture.read("run/cgroup.kill"), "1");
}

#[test]
fn on_v1_counters_are_differences_since_the_run_began() {
    let fixture = Fixture::new("v1");
    for (name, content) in [
        ("cpuacct.usage", "5000000"),
        ("memory.max_usage_in_bytes", "777"),
        ("memory.usage_in_bytes", "100005000"),
        ("memory.limit_in_bytes", "9223372036854771712"),
        ("memory.memsw.limit_in_bytes", "9223372036854771712"),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"),
        ("pids.max", ""),
        ("cpu.cfs_quota_us", ""),
        ("cpu.cfs_period_us", ""),
        ("cgroup.procs", ""),
    ] {
        fixture.file(name, content);
    }
    let dirs = V1 { memory: fixture.dir(), pids: fixture.dir(), cpu: fixture.dir(), cpuacct: fixture.dir() };
    let mut slot = SlotCgroup::v1(dirs, None).unwrap();
    slot.enter().unwrap();
    assert_eq!(fixture.read("cgroup.procs"), "0");
    slot.begin().unwrap();
    slot.limit(&limits(8 << 20)).unwrap();
    assert!(fixture.read("memory.limit_in_bytes").starts_with("8388608"));
    assert!(fixture.read("pids.max").starts_with("66"));
    assert!(fixture.read("cpu.cfs_quota_us").starts_with("150000"));
    assert!(fixture.read("memory.max_usage_in_bytes").starts_with('0'));
    fixture.file("memory.max_usage_in_bytes", "100007000");
    fixture.file("cpuacct.usage", "9000000");
    assert!(!slot.counters().unwrap().out_of_memory);
    fixture.file("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n");
    let counters = slot.counters().unwrap();
    assert!(counters.out_of_memory);
    assert_eq!(counters.cpu_us, 4000);
    // What each processor had charged ahead for the slot's processes is the run's as well.
    let ahead = std::thread::available_parallelism().unwrap().get() * 64 * rustix::param::page_size();
    assert_eq!(counters.memory_peak_bytes, Some(2000 + ahead as u64));
    fixture.file("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n");
    slot.begin().unwrap();
    assert!(fixture.read("memory.limit_in_bytes").starts_with("67108864"), "a sandbox is not made under a client's limit");
    slot.limit(&limits(1500)).unwrap();
    assert!(fixture.read("memory.limit_in_bytes").starts_with("4194304"), "what is ours in the cgroup must have room");
    fixture.file("memory.max_usage_in_bytes", "100007000");
    assert!(slot.counters().unwrap().out_of_memory, "a limit smaller than that is judged by the peak");
    assert!(!slot.kill().unwrap(), "without a v2 tree there is no kill by cgroup");
}

/// Needs rights on a cgroup v2 tree; says so where they are missing, and fails with `GREENROOM_MUST_WORK=1`.
#[test]
fn a_slot_that_died_after_a_kill_leaves_no_leaf_in_which_its_successors_sandboxes_die() {
    let instance = match discover().and_then(|found| Instance::claim(&found, 64)) {
        Ok(instance) => instance.unwrap(),
        Err(why) => {
            assert!(std::env::var_os("GREENROOM_MUST_WORK").is_none(), "no cgroups: {why}");
            return eprintln!("not tested: no cgroups: {why}");
        }
    };
    let mut dies = instance.slot(0).unwrap();
    dies.begin().unwrap();
    let kills = dies.kill().unwrap();
    drop(dies);
    let mut successor = instance.slot(0).unwrap();
    successor.clear().unwrap();
    successor.begin().unwrap();
    // Without a v2 tree there is no leaf, and nothing to show.
    let (pid, _pidfd) = match sys::clone(0, successor.clone_into()).unwrap() {
        Cloned::Child => sys::exit_now(7),
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    let pid = rustix::process::Pid::from_raw(pid);
    let (_, status) = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty()).unwrap().unwrap();
    drop(successor);
    instance.remove().unwrap();
    assert_eq!(status.exit_status(), Some(7), "a process of the slot's next sandbox was killed (there was a kill: {kills})");
}
