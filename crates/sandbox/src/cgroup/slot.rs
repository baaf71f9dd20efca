//! The cgroups of one slot: limits in, counters out.

use std::{
    cell::Cell,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, openat, unlinkat},
    io::{Errno, pread, pwrite, write},
};

use super::{
    discover::V1,
    instance::{remove_children, subdirectory},
};
use crate::message::StageLimits;

/// Period of the CPU quota (cgroup-v2.rst: cpu.max; sched-bwc.rst: cpu.cfs_period_us), microseconds.
const PERIOD_US: u64 = 100_000;

/// No kernel has more processes (PID_MAX_LIMIT, include/linux/threads.h), nor takes a larger limit.
const MOST_PROCESSES: u64 = 4 << 20;

/// No kernel limit is smaller, bytes: what is ours in the cgroup (slot and init, half a megabyte) must not be what the
/// out-of-memory killer finds. A smaller limit is judged by the peak, after the run.
const LEAST_BYTES: u64 = 4 << 20;

/// A sandbox is made under a limit of at least this, bytes: it is ours until its program runs, and the limit of the
/// run before may have been a client's, too small for it.
const MAKING_BYTES: u64 = 64 << 20;
/// ... and of at least so many processes: init and worker.
const MAKING_PROCESSES: u32 = 2;
const CHARGE_BATCH_PAGES: u64 = 64;

/// What is in force, to write only what changes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct InForce {
    memory_bytes: u64,
    processes: u32,
    cpu_milli: u32,
}

/// Counters of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) cpu_us: u64,
    pub(crate) memory_peak_bytes: Option<u64>,
    pub(crate) out_of_memory: bool,
}

/// The cgroups of a slot. One run at a time is inside.
pub(crate) struct SlotCgroup {
    layout: Layout,
    in_force: Option<InForce>,
    /// From where on CPU time counts; `None` until a run's limits are in force.
    cpu_base_us: Option<u64>,
    oom_base: u64,
    /// What earlier runs left charged: pages of system files that they were the first to read. Not this run's.
    memory_base: u64,
    /// What each processor may keep charged ahead for whoever comes next (`MEMCG_CHARGE_BATCH`, mm/memcontrol.c), all in all.
    charged_ahead: u64,
    /// What the run may use.
    memory_allowed: u64,
}

enum Layout {
    V2(Unified),
    V1 {
        /// `cgroup.procs` of each.
        procs: V1<OwnedFd>,
        files: Box<V1Files>,
        /// In the bare v2 tree.
        unified: Option<Unified>,
    },
}

/// A slot's directory in a v2 tree, and the leaf of the run that is in it.
///
/// A leaf that was killed by `cgroup.kill` is not used again: on Linux 6.18 a process cloned into it dies at once
/// (its parent's kill count is compared with that cgroup's). Where v2 counts, every run needs fresh counters anyway.
struct Unified {
    slot: OwnedFd,
    leaf: Option<Leaf>,
}

impl Unified {
    fn new(slot: OwnedFd) -> Self {
        Self { slot, leaf: None }
    }

    fn begin(&mut self) -> io::Result<&Leaf> {
        match &mut self.leaf {
            Some(leaf) => Ok(leaf),
            none => Ok(none.insert(Leaf::open(subdirectory(&self.slot, LEAF)?)?)),
        }
    }

    fn leaf(&self) -> io::Result<&Leaf> {
        self.leaf.as_ref().ok_or_else(|| Errno::NOENT.into())
    }

    fn end(&mut self) -> io::Result<()> {
        match self.leaf.take() {
            Some(_) => Ok(unlinkat(&self.slot, LEAF, AtFlags::REMOVEDIR)?),
            None => Ok(()),
        }
    }
}

/// The name of a run's leaf.
const LEAF: &str = "run";

/// A v2 directory that runs are cloned into.
struct Leaf {
    dir: OwnedFd,
    procs: OwnedFd,
    kill: OwnedFd,
    killed: Cell<bool>,
    events: OwnedFd,
}

/// v1 files that are read or written at every run, kept open.
struct V1Files {
    cpu_usage: OwnedFd,
    memory_peak: OwnedFd,
    memory_usage: OwnedFd,
    memory_limit: OwnedFd,
    /// Absent where swap is not accounted.
    memsw_limit: Option<OwnedFd>,
    oom_control: OwnedFd,
    pids_max: OwnedFd,
    cpu_quota: OwnedFd,
}

fn open_file(dir: impl AsFd, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(openat(dir, name, flags | OFlags::CLOEXEC, Mode::empty())?)
}

impl Leaf {
    fn open(dir: OwnedFd) -> io::Result<Self> {
        let kill = open_file(&dir, "cgroup.kill", OFlags::WRONLY)?;
        let events = open_file(&dir, "cgroup.events", OFlags::RDONLY)?;
        let procs = open_file(&dir, "cgroup.procs", OFlags::WRONLY)?;
        Ok(Self { dir, procs, kill, killed: Cell::new(false), events })
    }
}

impl SlotCgroup {
    pub(super) fn v2(slot: OwnedFd) -> io::Result<Self> {
        put_text(open_file(&slot, "cgroup.subtree_control", OFlags::WRONLY)?, "+cpu +memory +pids")?;
        Ok(Self::new(Layout::V2(Unified::new(slot))))
    }

    pub(super) fn v1(dirs: V1<OwnedFd>, unified: Option<OwnedFd>) -> io::Result<Self> {
        let unified = unified.map(Unified::new);
        let files = Box::new(V1Files {
            cpu_usage: open_file(&dirs.cpuacct, "cpuacct.usage", OFlags::RDONLY)?,
            memory_peak: open_file(&dirs.memory, "memory.max_usage_in_bytes", OFlags::RDWR)?,
            memory_usage: open_file(&dirs.memory, "memory.usage_in_bytes", OFlags::RDONLY)?,
            memory_limit: open_file(&dirs.memory, "memory.limit_in_bytes", OFlags::RDWR)?,
            memsw_limit: open_file(&dirs.memory, "memory.memsw.limit_in_bytes", OFlags::RDWR).ok(),
            oom_control: open_file(&dirs.memory, "memory.oom_control", OFlags::RDONLY)?,
            pids_max: open_file(&dirs.pids, "pids.max", OFlags::WRONLY)?,
            cpu_quota: open_file(&dirs.cpu, "cpu.cfs_quota_us", OFlags::WRONLY)?,
        });
        put(open_file(&dirs.cpu, "cpu.cfs_period_us", OFlags::WRONLY)?, PERIOD_US)?;
        let procs = dirs.try_map(|dir| open_file(dir, "cgroup.procs", OFlags::WRONLY))?;
        Ok(Self::new(Layout::V1 { procs, files, unified }))
    }

    fn new(layout: Layout) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let charged_ahead = cpus * CHARGE_BATCH_PAGES * rustix::param::page_size() as u64;
        Self { layout, in_force: None, cpu_base_us: None, oom_base: 0, memory_base: 0, charged_ahead, memory_allowed: u64::MAX }
    }

    /// Removes what a slot that died left here. Its leaf may have been killed: then no sandbox could ever be born in it.
    pub(crate) fn clear(&self) -> io::Result<()> {
        match &self.layout {
            Layout::V2(unified) | Layout::V1 { unified: Some(unified), .. } => remove_children(&unified.slot),
            Layout::V1 { unified: None, .. } => Ok(()),
        }
    }

    /// Moves the calling process into the v1 cgroups; its children are born there. Nothing to do on v2.
    pub(crate) fn enter(&self) -> io::Result<()> {
        if let Layout::V1 { procs, .. } = &self.layout {
            procs.each().into_iter().try_for_each(|file| put(file, 0))?;
        }
        Ok(())
    }

    /// `cgroup.procs` of every directory that a process of the run has to be in.
    pub(crate) fn procs(&self) -> Vec<BorrowedFd<'_>> {
        let v1: &[&OwnedFd] = match &self.layout {
            Layout::V1 { procs, .. } => &procs.each(),
            Layout::V2(_) => &[],
        };
        v1.iter().copied().chain(self.leaf().map(|leaf| &leaf.procs)).map(AsFd::as_fd).collect()
    }

    /// Makes room for a run: a fresh leaf on v2, fresh counters on v1.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        match &mut self.layout {
            Layout::V2(unified) => {
                let fresh = unified.begin()?;
                // Out of memory ends the whole run: a half-killed one only computes nonsense until its time is up.
                put_at(&fresh.dir, "memory.oom.group", 1)?;
                self.in_force = None;
                self.oom_base = 0;
            }
            Layout::V1 { files, unified, .. } => {
                unified.as_mut().map(Unified::begin).transpose()?;
                if let Some(before) = &mut self.in_force {
                    if before.memory_bytes < MAKING_BYTES {
                        files.limit_memory(MAKING_BYTES)?;
                        before.memory_bytes = MAKING_BYTES;
                    }
                    if before.processes < MAKING_PROCESSES {
                        files.limit_processes(MAKING_PROCESSES)?;
                        before.processes = MAKING_PROCESSES;
                    }
                }
                self.oom_base = keyed(&files.oom_control, "oom_kill")?;
                // Now, while nothing of the run exists: later its own first process would be taken for an earlier run's.
                // What is charged ahead this run will use.
                self.memory_base = number(&files.memory_usage)?.saturating_sub(self.charged_ahead);
            }
        }
        self.cpu_base_us = None;
        Ok(())
    }

    /// The directory to clone the first process into.
    pub(crate) fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.leaf().map(|leaf| leaf.dir.as_fd())
    }

    fn leaf(&self) -> Option<&Leaf> {
        match &self.layout {
            Layout::V2(unified) => unified.leaf.as_ref(),
            Layout::V1 { unified, .. } => unified.as_ref().and_then(|unified| unified.leaf.as_ref()),
        }
    }

    /// Puts a run's limits in force. From here on CPU time counts.
    ///
    /// `EBUSY` where the memory in use already is above the limit.
    pub(crate) fn limit(&mut self, limits: &StageLimits) -> io::Result<()> {
        let memory_bytes = limits.memory_bytes.max(LEAST_BYTES);
        self.memory_allowed = limits.memory_bytes;
        let wanted = InForce { memory_bytes, processes: limits.processes, cpu_milli: limits.cpu_milli };
        let quota_us = u64::from(limits.cpu_milli) * PERIOD_US / 1000;
        let before = self.in_force.replace(wanted);
        match &self.layout {
            Layout::V2(unified) => {
                let dir = &unified.leaf()?.dir;
                put_at(dir, "memory.max", memory_bytes)?;
                match put_at(dir, "memory.swap.max", 0) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {} // a kernel without swap
                    other => other?,
                }
                // Init is one more.
                put_at(dir, "pids.max", (u64::from(limits.processes) + 1).min(MOST_PROCESSES))?;
                put_text(open_file(dir, "cpu.max", OFlags::WRONLY)?, &format!("{quota_us} {PERIOD_US}"))?;
                self.cpu_base_us = Some(keyed(open_file(dir, "cpu.stat", OFlags::RDONLY)?, "usage_usec")?);
            }
            Layout::V1 { files, .. } => {
                if before.is_none_or(|b| b.memory_bytes != wanted.memory_bytes) {
                    self.in_force = None;
                    files.limit_memory(memory_bytes)?;
                }
                if before.is_none_or(|b| b.processes != wanted.processes) {
                    files.limit_processes(limits.processes)?;
                }
                if before.is_none_or(|b| b.cpu_milli != wanted.cpu_milli) {
                    put(&files.cpu_quota, quota_us)?;
                }
                self.in_force = Some(wanted);
                put(&files.memory_peak, 0)?;
                self.cpu_base_us = Some(number(&files.cpu_usage)? / 1000);
            }
        }
        Ok(())
    }

    /// CPU time used by the run so far, microseconds.
    pub(crate) fn cpu_us(&self) -> io::Result<u64> {
        let Some(base_us) = self.cpu_base_us else { return Ok(0) };
        let total = match &self.layout {
            Layout::V2(unified) => match &unified.leaf {
                Some(leaf) => keyed(open_file(&leaf.dir, "cpu.stat", OFlags::RDONLY)?, "usage_usec")?,
                None => 0,
            },
            Layout::V1 { files, .. } => number(&files.cpu_usage)? / 1000,
        };
        Ok(total.saturating_sub(base_us))
    }

    /// What the run has used, and whether the out-of-memory killer struck.
    pub(crate) fn counters(&self) -> io::Result<Counters> {
        let (memory_peak_bytes, oom) = match &self.layout {
            Layout::V2(unified) => match &unified.leaf {
                Some(leaf) => {
                    // memory.peak is there since Linux 5.19.
                    let peak = open_file(&leaf.dir, "memory.peak", OFlags::RDONLY).and_then(number).ok();
                    (peak, keyed(open_file(&leaf.dir, "memory.events", OFlags::RDONLY)?, "oom_kill")?)
                }
                None => (None, 0),
            },
            Layout::V1 { files, .. } => {
                (Some(number(&files.memory_peak)?.saturating_sub(self.memory_base)), keyed(&files.oom_control, "oom_kill")?)
            }
        };
        let above_least = memory_peak_bytes.is_some_and(|peak| self.memory_allowed < LEAST_BYTES && peak > self.memory_allowed);
        Ok(Counters { cpu_us: self.cpu_us()?, memory_peak_bytes, out_of_memory: oom > self.oom_base || above_least })
    }

    /// Memory in use now, without what earlier runs left charged, bytes.
    pub(crate) fn memory_bytes(&self) -> io::Result<Option<u64>> {
        match &self.layout {
            Layout::V2(unified) => match &unified.leaf {
                Some(leaf) => Ok(Some(number(open_file(&leaf.dir, "memory.current", OFlags::RDONLY)?)?)),
                None => Ok(None),
            },
            Layout::V1 { files, .. } => Ok(Some(number(&files.memory_usage)?.saturating_sub(self.memory_base))),
        }
    }

    /// Kills every process of the run at once (`cgroup.kill`, Linux 5.14). Without a v2 tree the pid namespace's
    /// first process has to be killed instead, which ends all the others.
    pub(crate) fn kill(&self) -> io::Result<bool> {
        match self.leaf() {
            Some(leaf) => {
                leaf.killed.set(true);
                put(&leaf.kill, 1).map(|()| true)
            }
            None => Ok(false),
        }
    }

    /// Whether a process of the run is left (`cgroup.events`; `pids.current` would count our own zombies).
    pub(crate) fn populated(&self) -> io::Result<bool> {
        self.leaf().map_or(Ok(false), |leaf| Ok(keyed(&leaf.events, "populated")? > 0))
    }

    /// Removes what [`SlotCgroup::begin`] made.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        match &mut self.layout {
            Layout::V1 { unified: Some(Unified { leaf: Some(leaf), .. }), .. } if !leaf.killed.get() => Ok(()),
            Layout::V2(unified) | Layout::V1 { unified: Some(unified), .. } => unified.end(),
            Layout::V1 { unified: None, .. } => Ok(()),
        }
    }
}

impl V1Files {
    fn limit_processes(&self, processes: u32) -> io::Result<()> {
        // The slot itself and init are two more.
        put(&self.pids_max, (u64::from(processes) + 2).min(MOST_PROCESSES))
    }

    /// The limit without swap must never be above the one with swap, so the order depends on the direction.
    fn limit_memory(&self, bytes: u64) -> io::Result<()> {
        let raise = number(&self.memory_limit)? < bytes;
        let with_swap = || self.memsw_limit.as_ref().map_or(Ok(()), |file| put(file, bytes));
        if raise {
            with_swap()?;
        }
        put(&self.memory_limit, bytes)?;
        if raise { Ok(()) } else { with_swap() }
    }
}

fn put(file: impl AsFd, value: u64) -> io::Result<()> {
    put_text(file, &value.to_string())
}

fn put_at(dir: impl AsFd, name: &str, value: u64) -> io::Result<()> {
    put(open_file(dir, name, OFlags::WRONLY)?, value)
}

fn put_text(file: impl AsFd, text: &str) -> io::Result<()> {
    // Files of a cgroup take one value per write; a pwrite at 0 leaves the position alone for the next.
    match pwrite(&file, text.as_bytes(), 0) {
        Err(Errno::SPIPE) => write(&file, text.as_bytes())?,
        other => other?,
    };
    Ok(())
}

fn text(file: impl AsFd, buffer: &mut [u8; 1024]) -> io::Result<&str> {
    let len = pread(file, &mut buffer[..], 0)?;
    std::str::from_utf8(&buffer[..len]).map_err(io::Error::other)
}

/// The one number in a file.
fn number(file: impl AsFd) -> io::Result<u64> {
    let mut buffer = [0; 1024];
    text(file, &mut buffer)?.trim().parse().map_err(io::Error::other)
}

/// The number behind a key, in a file of `key value` lines. 0 where there is no such key.
fn keyed(file: impl AsFd, key: &str) -> io::Result<u64> {
    let mut buffer = [0; 1024];
    let text = text(file, &mut buffer)?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    value.map_or(Ok(0), |value| value.trim().parse().map_err(io::Error::other))
}
