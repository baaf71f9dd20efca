use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use rustix::{
    fs::{FlockOperation, Mode, OFlags},
    io::Errno,
};

/// How long what a run leaves may take to go.
const PATIENCE: Duration = Duration::from_secs(5);
/// Host uids of programs, as configured by default.
const UIDS: std::ops::Range<u32> = 2_000_000..2_065_536;
/// Descriptors and threads of a server come and go with its connections: this many more are no leak.
const SLACK: usize = 24;

/// Settings that a program with too many rights would reach first.
const SETTINGS: &[&str] = &[
    "kernel/core_pattern", "kernel/hostname", "kernel/sysrq", "kernel/domainname", "kernel/randomize_va_space", "kernel/modprobe",
    "vm/overcommit_memory", "vm/drop_caches", "fs/protected_hardlinks", "fs/protected_symlinks", "kernel/yama/ptrace_scope",
];
/// Files whose content and mode must stay.
const FILES: &[&str] =
    &["/etc/passwd", "/etc/shadow", "/etc/hostname", "/usr/bin/env", "/usr/lib/os-release", "/bin/sh", "/usr/bin/python3"];

/// What of the host no program may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    shared_memory: BTreeSet<String>,
    queues: BTreeSet<String>,
    system_v: String,
    mounts: usize,
    huge_pages: String,
    settings: BTreeMap<&'static str, String>,
    /// Hash of the content, mode and owner.
    files: BTreeMap<String, (u64, u32, u32)>,
}

impl Host {
    /// Looks, also at these files.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn look(also: &[&Path]) -> Result<Self> {
        let list = |dir: &str| -> Result<BTreeSet<String>> {
            Ok(fs::read_dir(dir)?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
        };
        // Without the times of last use: only what exists counts.
        let ipc = |name: &str| fs::read_to_string(Path::new("/proc/sysvipc").join(name)).unwrap_or_default();
        let ids =
            |text: String| text.lines().filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned)).collect::<String>();
        let setting = |name: &&'static str| Some((*name, fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?));
        let memory = fs::read_to_string("/proc/meminfo")?;
        let file = |path: &Path| {
            let meta = fs::metadata(path).ok()?;
            let mut hasher = DefaultHasher::new();
            fs::read(path).ok()?.hash(&mut hasher);
            Some((path.display().to_string(), (hasher.finish(), meta.mode(), meta.uid())))
        };
        Ok(Self {
            shared_memory: list("/dev/shm")?,
            queues: list("/dev/mqueue").unwrap_or_default(),
            system_v: ["msg", "sem", "shm"].map(ipc).map(ids).concat(),
            mounts: fs::read_to_string("/proc/self/mountinfo")?.lines().count(),
            huge_pages: memory.lines().filter(|line| line.starts_with("HugePages_Free")).collect(),
            settings: SETTINGS.iter().filter_map(setting).collect(),
            files: FILES.iter().map(Path::new).chain(also.iter().copied()).filter_map(file).collect(),
        })
    }

    /// H0: everything is as it was, at the latest after a few seconds.
    ///
    /// # Errors
    /// What is different.
    pub fn is_unchanged(&self, also: &[&Path]) -> Result<()> {
        within(PATIENCE, || {
            let now = Self::look(also)?;
            if now == *self { Ok(()) } else { bail!("H0: the host changed\nbefore {self:?}\nnow    {now:?}") }
        })
    }
}

/// Tries until it works or the time is up.
///
/// # Errors
/// The last attempt's.
pub fn within<T>(time: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + time;
    loop {
        match attempt() {
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => sleep(Duration::from_millis(20)),
            done => return done,
        }
    }
}

/// A process that runs a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its pid, on the host.
    pub pid: u32,
    /// Its uid, on the host.
    pub uid: u32,
    /// Its name (proc(5), /proc/pid/comm).
    pub name: String,
}

impl Program {
    /// `None` where it has just ended.
    fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, uid: uid_of(pid)?, name: name_of(pid) })
    }
}

/// A running server, seen from outside: its processes, its cgroups, what it holds.
#[derive(Clone, Debug)]
pub struct Footprint {
    server: u32,
    /// The name of its cgroups: `greenroom-3`.
    pub instance: String,
    /// Of its executable: what runs something else is a program.
    executable: (u64, u64),
    descriptors: usize,
    threads: usize,
    /// Itself, and all below it when this was taken.
    processes: Vec<u32>,
}

impl Footprint {
    /// Of the server with this pid, when it has prepared what it keeps prepared: when it holds the same for a while.
    ///
    /// # Errors
    /// As [`Footprint::of`], and where it does not come to rest.
    pub fn at_rest(server: u32) -> Result<Self> {
        let mut looks = Vec::new();
        for _ in 0..200 {
            let now = within(PATIENCE, || Self::of(server))?;
            looks.push(now.descriptors);
            if looks.len() >= 5 && looks[looks.len() - 5..].iter().all(|look| *look == now.descriptors) {
                return Ok(now);
            }
            sleep(Duration::from_millis(100));
        }
        bail!("the server does not come to rest: it held {looks:?} descriptors")
    }

    /// Of the server with this pid, now.
    ///
    /// # Errors
    /// Where it has no cgroups (yet).
    pub fn of(server: u32) -> Result<Self> {
        let meta = fs::metadata(format!("/proc/{server}/exe"))?;
        let mut processes = descendants(server);
        let Some(instance) = processes.iter().copied().find_map(instance_of) else {
            bail!("the server {server} has no process in a cgroup of its own");
        };
        let (descriptors, threads) = held(server)?;
        processes.push(server);
        Ok(Self { server, instance, executable: (meta.dev(), meta.ino()), descriptors, threads, processes })
    }

    /// The runner's pid.
    pub fn runner(&self) -> Option<u32> {
        children(self.server).into_iter().find(|&pid| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.split(|&byte| byte == 0).any(|word| word == b"runner"))
        })
    }

    /// Programs that run now.
    pub fn programs(&self) -> Vec<Program> {
        let is_program = |pid: &u32| {
            let ours = match instance_of(*pid) {
                Some(instance) => instance == self.instance,
                // Out of its cgroup, but with a uid of ours: worse.
                None => uid_of(*pid).is_some_and(|uid| UIDS.contains(&uid)),
            };
            // Sandboxes that wait for a job run our own executable, or a child of a warm interpreter.
            ours && self.is_foreign(*pid) && !waits_for_a_job(*pid)
        };
        pids().into_iter().filter(is_program).filter_map(Program::of).collect()
    }

    /// Of the programs that ran when this was taken, those that still run.
    pub fn programs_of_then(&self) -> Vec<(u32, String)> {
        let is_program = |pid: &&u32| **pid != self.server && self.is_foreign(**pid);
        self.processes.iter().filter(is_program).map(|&pid| (pid, name_of(pid))).collect()
    }

    /// Whether a process runs neither the server's executable nor that of the first process of its sandbox: what no program can be.
    fn is_foreign(&self, pid: u32) -> bool {
        let executable = |pid: u32| fs::metadata(format!("/proc/{pid}/exe")).map(|meta| (meta.dev(), meta.ino())).ok();
        // "2217 1": its pids, the innermost last (proc(5)).
        let is_first = |pid: u32| status_field(pid, "NSpid:").is_some_and(|pids| pids.ends_with("\t1"));
        let parent = status_field(pid, "PPid:").and_then(|parent| parent.parse().ok());
        let is_ours =
            |own| own == self.executable || parent.is_some_and(|parent| is_first(parent) && executable(parent) == Some(own));
        executable(pid).is_some_and(|own| !is_ours(own)) && !is_first(pid)
    }

    /// H0: no program is left, and the server holds no more than at first.
    ///
    /// # Errors
    /// What is left.
    pub fn is_clean(&self) -> Result<()> {
        within(PATIENCE, || {
            let programs = self.programs();
            if !programs.is_empty() {
                bail!("H0: programs are left: {programs:?}");
            }
            let (descriptors, threads) = held(self.server)?;
            if descriptors > self.descriptors + SLACK || threads > self.threads + SLACK {
                bail!(
                    "H0: the server holds {descriptors} descriptors and {threads} threads, at first {} and {}",
                    self.descriptors,
                    self.threads
                );
            }
            Ok(())
        })
    }

    /// After the server's end: nothing of it is left, neither process nor cgroup.
    ///
    /// # Errors
    /// What is left.
    pub fn is_gone(&self) -> Result<()> {
        within(PATIENCE, || {
            let left: Vec<_> = self.processes.iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).collect();
            if !left.is_empty() {
                bail!(
                    "H0: processes of {} are left: {:?}",
                    self.instance,
                    left.iter().map(|&&pid| (pid, name_of(pid))).collect::<Vec<_>>()
                );
            }
            // Another server may have taken the name by now: then it holds the lock on one of the directories.
            let dirs = cgroups(&self.instance);
            if dirs.is_empty() || dirs.iter().any(|dir| is_locked(dir)) { Ok(()) } else { bail!("H0: cgroups are left: {dirs:?}") }
        })
    }
}

fn is_locked(dir: &str) -> bool {
    let open = rustix::fs::open(dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    open.is_ok_and(|dir| rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK))
}

/// The cgroup directories of an instance, in every hierarchy.
pub fn cgroups(instance: &str) -> Vec<String> {
    let of_instance = instances().into_iter().filter(|(name, _)| name == instance);
    of_instance.map(|(_, dir)| dir).collect()
}

/// Instances that have cgroup directories, and nobody who holds the lock on one of them.
pub fn dead_instances() -> BTreeSet<String> {
    let all = instances();
    let alive: BTreeSet<&String> = all.iter().filter(|(_, dir)| is_locked(dir)).map(|(name, _)| name).collect();
    all.iter().map(|(name, _)| name).filter(|name| !alive.contains(name)).cloned().collect()
}

/// All instances' directories, in every hierarchy: name and path.
fn instances() -> Vec<(String, String)> {
    fn below(dir: &Path, depth: usize, found: &mut Vec<(String, String)>) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_instance(&name) {
                found.push((name, entry.path().display().to_string()));
            } else if depth > 0 {
                below(&entry.path(), depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    below(Path::new("/sys/fs/cgroup"), 6, &mut found);
    found
}

fn is_instance(name: &str) -> bool {
    name.strip_prefix("greenroom-").is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Every process below this one.
pub fn descendants(of: u32) -> Vec<u32> {
    let mut all = children(of);
    let mut at = 0;
    while let Some(&pid) = all.get(at) {
        all.extend(children(pid));
        at += 1;
    }
    all
}

fn children(of: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).collect()
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether a process is a warm interpreter's child that no job has been given to: the child of a sandbox's init, it has two
/// sockets beside its first three descriptors, and reads from one of them. With a job it has none of them any more.
fn waits_for_a_job(pid: u32) -> bool {
    let parent = status_field(pid, "PPid:").and_then(|parent| parent.parse().ok());
    if parent.is_none_or(|parent: u32| name_of(parent) != "greenroom-init") {
        return false;
    }
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let above: BTreeMap<u32, bool> = descriptors
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            Some((number, target.to_string_lossy().starts_with("socket:")))
        })
        .filter(|(number, _)| *number > 2)
        .collect();
    // "0 0x4 0x7f…": the number of read(2), and its first argument (proc(5), /proc/pid/syscall).
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let mut words = call.split_whitespace();
    let reads = words.next() == Some("0");
    let from = words.next().and_then(|word| u32::from_str_radix(word.strip_prefix("0x")?, 16).ok());
    above.len() == 2 && above.values().all(|is_socket| *is_socket) && reads && from.is_some_and(|from| above.contains_key(&from))
}

fn instance_of(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let mut parts = text.lines().flat_map(|line| line.split('/'));
    parts.find(|part| is_instance(part)).map(str::to_owned)
}

fn status_field(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
}

fn uid_of(pid: u32) -> Option<u32> {
    status_field(pid, "Uid:")?.split_whitespace().next()?.parse().ok()
}

fn name_of(pid: u32) -> String {
    status_field(pid, "Name:").unwrap_or_default()
}

/// Descriptors and threads.
fn held(pid: u32) -> Result<(usize, usize)> {
    Ok((fs::read_dir(format!("/proc/{pid}/fd"))?.count(), fs::read_dir(format!("/proc/{pid}/task"))?.count()))
}
