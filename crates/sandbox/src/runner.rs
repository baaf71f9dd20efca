//! The runner's own life: choose a profile, prepare what all sandboxes share, keep the slots alive, clean up.

use std::{
    fs,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};

use greenroom_core::Profile;
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{
        Pid, Signal, WaitOptions, pidfd_send_signal, set_child_subreaper, set_parent_process_death_signal, setpriority_process,
        waitpid,
    },
    thread::{CapabilitySet, UnshareFlags, remove_capability_from_bounding_set, set_no_new_privs},
};

use crate::{
    cgroup::{self, Instance},
    config::SandboxConfig,
    filter,
    host::{self, CgroupVersion, HostReport},
    layout::IGNORED_SIGNALS,
    message::{FromRunner, ToRunner, packet_pair, receive_now, send},
    network::Devices,
    rights,
    slot::{InitFiles, Shared, Slot, own_mount_namespace},
    step::{Failure, Step, take},
    sys::{self, Cloned},
    template, workspaces,
    zygote::{self, Zygote},
};

/// Uids that one slot uses in turn, so that a uid rests before it is used again.
const UIDS_PER_SLOT: u32 = 8;
/// A slot that ended sooner than this after its start is not replaced at once.
const SLOT_MIN_LIFE: Duration = Duration::from_secs(1);

/// oom_score_adj of what must not be killed for want of memory (proc_pid_oom_score_adj(5)).
const OOM_SCORE_NEVER: &str = "-1000";

/// `greenroom runner`: serves the server at the other end of standard input (a packet socket) until it is gone.
pub fn runner_main() -> ExitCode {
    match std::env::args().nth(2).as_deref() {
        Some("--crash-points") => Step::ALL.iter().for_each(|step| println!("{}", step.name())),
        Some("--filter") => print!("{}", filter::describe()),
        _ => return serve_to_the_end(),
    }
    ExitCode::SUCCESS
}

fn serve_to_the_end() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("greenroom runner: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    sys::close_inherited()?;
    rustix::thread::set_name(c"greenroom-run")?;
    let control = io::stdin().as_fd().try_clone_to_owned()?;
    let config = read_config(&control)?;
    sys::reset_signals()?;
    // What a terminal or a supervisor says is for the server, and a reader that is gone is an error, not our end.
    for signal in IGNORED_SIGNALS {
        sys::ignore_signal(signal)?;
    }
    // Programs begin with an ordinary priority in whichever way they are made, whatever the server's is.
    priority(0)?;
    // Sandboxes must not inherit a terminal.
    match rustix::process::setsid() {
        Ok(_) | Err(rustix::io::Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let null = fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    let (mut runner, report) = match Runner::start(&config) {
        Ok(started) => started,
        Err(refusal) => return send(&control, &FromRunner::Refused(refusal.to_string()), &[]),
    };
    send(&control, &FromRunner::Report(report), &[])?;
    // Every slot begins as a copy of this process.
    drop(config);
    sys::give_back_memory();
    let served = runner.serve(&control);
    let cleaned = runner.shut_down();
    served.and(cleaned)
}

/// The first packet carries a descriptor with the configuration: it may be longer than a packet.
fn read_config(control: &OwnedFd) -> io::Result<SandboxConfig> {
    let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidInput, text.to_owned());
    let not_us = "this command is started by `greenroom serve`, not by hand";
    let (_, fds) =
        crate::message::receive::<u8>(control).map_err(|_| invalid(not_us))?.ok_or_else(|| invalid("the server is gone"))?;
    let file = fds.into_iter().next().ok_or_else(|| invalid(not_us))?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    fs::File::from(file).read_to_end(&mut bytes)?;
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}

/// Why the runner does not serve.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("isolation profile {wanted} is required, but only {found} can be had: {}", reasons.join("; "))]
    TooWeak { wanted: Profile, found: Profile, reasons: Vec<String> },
    #[error("isolation profile {profile} cannot be set up, at step {failure}")]
    Step { profile: Profile, failure: Failure },
    #[error("all {0} uid blocks of the configured range are taken by running servers: enlarge isolation.uid_count")]
    NoUidBlock(u32),
    #[error(
        "isolation.uid_first is {first} and uid_count is {count}: the range must start above 0 and hold at least {needed} uids"
    )]
    UidRange { first: u32, count: u32, needed: u32 },
}

struct Runner {
    shared: Rc<Shared>,
    instance: Option<Instance>,
    /// How many there are to be: one for every sandbox of a job from the start, and those of sessions when they are asked for.
    wanted_slots: u32,
    slots: Vec<SlotProcess>,
    /// One for each line.
    zygotes: Vec<Zygote>,
    /// Those that end as soon as their successors serve.
    retired: Vec<Zygote>,
    /// Uid block of an instance that has no cgroup directory to lock.
    _block: Option<OwnedFd>,
}

struct SlotProcess {
    pid: Pid,
    pidfd: OwnedFd,
    started: Instant,
}

impl Runner {
    fn start(config: &SandboxConfig) -> Result<(Self, HostReport), Refusal> {
        let mut report = host::look();
        let (profile, reasons) = host::strongest(&report);
        let root = rustix::process::geteuid().is_root();
        let wanted = config.require.unwrap_or(if root { Profile::Full } else { Profile::Restricted });
        if profile < wanted {
            return Err(Refusal::TooWeak { wanted, found: profile, reasons });
        }
        report.profile = profile;
        if profile == Profile::Restricted && report.landlock_abi == 0 {
            report.notes.push(
                "restricted without Landlock: no wall around files is left, a program can do with them what its uid may; do not run here what you do not trust"
                    .into(),
            );
        }
        report.notes.extend(reasons);
        let own_uids = root;
        let slots = config.max_sandboxes + config.max_sessions;
        let block = 1 + slots * UIDS_PER_SLOT;
        let uids_fit =
            config.uid_first > 0 && config.uid_count >= block && config.uid_first.checked_add(config.uid_count).is_some();
        if own_uids && !uids_fit {
            return Err(Refusal::UidRange { first: config.uid_first, count: config.uid_count, needed: block });
        }
        let blocks = config.uid_count / block;
        let failed = |failure| Refusal::Step { profile, failure };
        let instance = Self::claim(profile, blocks, &mut report).map_err(failed)?;
        if instance.is_none() && profile == Profile::Full {
            return Err(Refusal::NoUidBlock(blocks));
        }
        let (number, lock) = match &instance {
            Some(instance) => (instance.number, None),
            None => {
                let (number, lock) = take(Step::ClaimInstance, || workspaces::claim_block(blocks)).map_err(failed)?;
                (number, Some(lock))
            }
        };
        let init_uid = config.uid_first + number * block;
        let mut shared = Shared {
            profile,
            network: config.network,
            filter: filter::program(profile == Profile::Restricted),
            landlock_abi: report.landlock_abi,
            cgroups: instance.is_some(),
            own_uids,
            init_uid,
            first_uid: init_uid + 1,
            uids_per_slot: UIDS_PER_SLOT,
            slots,
            mount_namespace: None,
            devices: None,
            init: None,
            workspaces: None,
            oom_score: "0",
            etc: config.etc.iter().map(|name| format!("/etc/{name}")).collect(),
            zygotes: Vec::new(),
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
        };
        if profile == Profile::Full {
            let lines = config.zygotes.iter().map(zygote::Line::new).collect::<io::Result<_>>();
            // No crash point: that of this step is where a slot asks for a child.
            shared.zygotes = lines.map_err(|source| failed(Failure { step: Step::Fork, source }))?;
        }
        if let Err(failure) = enclose(config, &mut shared, &mut report) {
            if let Some(instance) = instance {
                take(Step::Sweep, || instance.remove()).map_err(failed)?;
            }
            return Err(failed(failure));
        }
        let runner = Self {
            shared: Rc::new(shared),
            instance,
            wanted_slots: config.max_sandboxes,
            slots: Vec::new(),
            zygotes: Vec::new(),
            retired: Vec::new(),
            _block: lock,
        };
        Ok((runner, report))
    }

    /// Our cgroup directories; what dead instances left is swept on the way.
    fn claim(profile: Profile, blocks: u32, report: &mut HostReport) -> Result<Option<Instance>, Failure> {
        if report.cgroups == CgroupVersion::None {
            return Ok(None);
        }
        let claimed = take(Step::ClaimInstance, || Instance::claim(&cgroup::discover()?, blocks));
        match claimed {
            Ok(instance) => Ok(instance),
            Err(failure) if profile == Profile::Full => Err(failure),
            Err(failure) => {
                report.cgroups = CgroupVersion::None;
                report.notes.push(format!(
                    "cgroups cannot be used ({}): limits are per process, by rlimits; give the server a delegated cgroup (systemd: Delegate=yes)",
                    failure.source
                ));
                Ok(None)
            }
        }
    }

    /// Keeps the slots alive until the server is gone.
    fn serve(&mut self, control: &OwnedFd) -> io::Result<()> {
        // First: they need the longest to be ready.
        for line in &self.shared.zygotes {
            self.zygotes.push(Zygote::start(line, &self.shared.filter, None)?);
        }
        loop {
            while self.slots.len() < self.wanted_slots as usize {
                let index = u32::try_from(self.slots.len()).map_err(io::Error::other)?;
                let slot = self.start_slot(index, control, Duration::ZERO)?;
                self.slots.push(slot);
                if !self.obey(control)? {
                    return Ok(());
                }
            }
            let mut fds = vec![PollFd::new(control, PollFlags::IN)];
            fds.extend(self.slots.iter().map(|slot| PollFd::new(&slot.pidfd, PollFlags::IN)));
            fds.extend(self.zygotes.iter().map(|zygote| PollFd::new(&zygote.pidfd, PollFlags::IN)));
            fds.extend(self.shared.zygotes.iter().map(|line| PollFd::new(line.complaints(), PollFlags::IN)));
            fds.extend(self.shared.zygotes.iter().map(|line| PollFd::new(line.notices(), PollFlags::IN)));
            fds.extend(self.retired.iter().map(|zygote| PollFd::new(&zygote.pidfd, PollFlags::IN)));
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            let over: Vec<bool> = fds[1..].iter().map(|fd| !fd.revents().is_empty()).collect();
            let (slots, zygotes) = over.split_at(self.slots.len());
            let (zygotes, complaints) = zygotes.split_at(self.zygotes.len());
            let (complaints, notices) = complaints.split_at(self.zygotes.len());
            let (notices, retired) = notices.split_at(self.zygotes.len());
            let which = |over: &[bool]| (0..over.len()).filter(|&i| over[i]).collect::<Vec<usize>>();
            let (ended, ended_zygotes, silent) = (which(slots), which(zygotes), which(complaints));
            let (retiring, ended_retired) = (which(notices), which(retired));
            if !fds[0].revents().is_empty() && !self.obey(control)? {
                return Ok(());
            }
            for index in ended {
                self.replace_slot(index, control)?;
            }
            for index in ended_retired.into_iter().rev() {
                waitpid(Some(self.retired.swap_remove(index).pid), WaitOptions::empty())?;
            }
            for index in retiring.into_iter().filter(|index| !ended_zygotes.contains(index)) {
                if self.shared.zygotes[index].is_retiring()? {
                    let zygote = self.replace_zygote(index)?;
                    self.retired.push(zygote);
                }
            }
            for index in ended_zygotes {
                // What it may have said before it ended is not its successor's.
                self.shared.zygotes[index].is_retiring()?;
                let dead = self.replace_zygote(index)?;
                waitpid(Some(dead.pid), WaitOptions::empty())?;
            }
            for index in silent {
                // One that has retired is gone by the time that anybody complains, unless it is the one that hangs.
                self.retired.iter().try_for_each(Zygote::kill)?;
                self.zygotes[index].answer_for(&self.shared.zygotes[index])?;
            }
        }
    }

    /// Does what the server has asked for meanwhile. `false` when it is gone.
    fn obey(&mut self, control: &OwnedFd) -> io::Result<bool> {
        loop {
            match receive_now::<ToRunner>(control) {
                Ok(None) => return Ok(false),
                Ok(Some((ToRunner::AddSlot, _))) => self.wanted_slots = (self.wanted_slots + 1).min(self.shared.slots),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }

    fn start_slot(&self, index: u32, control: &OwnedFd, delay: Duration) -> io::Result<SlotProcess> {
        let cgroup = match &self.instance {
            Some(instance) => Some(take(Step::SlotCgroup, || instance.slot(index)).map_err(|failure| failure.source)?),
            None => None,
        };
        let (server, slot) = packet_pair()?;
        match sys::clone(0, None)? {
            Cloned::Child => {
                drop(server);
                std::thread::sleep(delay);
                let slot = take(Step::ParentDeath, || Slot::new(Rc::clone(&self.shared), index, cgroup, slot));
                match slot.and_then(|slot| settle(&slot).map(|()| slot)) {
                    Ok(slot) => slot.main(),
                    Err(failure) => {
                        eprintln!("greenroom runner: slot {index} cannot start: {failure}");
                        sys::exit_now(1)
                    }
                }
            }
            Cloned::Parent { pid, pidfd } => {
                match send(control, &FromRunner::Slot(index), &[server.as_fd()]) {
                    // Gone: seen at the next poll.
                    Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
                    other => other?,
                }
                let pid = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?;
                Ok(SlotProcess { pid, pidfd, started: Instant::now() })
            }
        }
    }

    /// Starts a zygote's successor, and gives back the one that it follows.
    fn replace_zygote(&mut self, index: usize) -> io::Result<Zygote> {
        let next = Zygote::start(&self.shared.zygotes[index], &self.shared.filter, Some(&self.zygotes[index]))?;
        Ok(std::mem::replace(&mut self.zygotes[index], next))
    }

    fn replace_slot(&mut self, index: usize, control: &OwnedFd) -> io::Result<()> {
        let dead = &self.slots[index];
        waitpid(Some(dead.pid), WaitOptions::empty())?;
        // Whatever ended one that young may end the next one too: do not spin.
        let delay = SLOT_MIN_LIFE.saturating_sub(dead.started.elapsed());
        self.slots[index] = self.start_slot(u32::try_from(index).map_err(io::Error::other)?, control, delay)?;
        Ok(())
    }

    /// The server is gone: end everything, leave nothing.
    fn shut_down(self) -> io::Result<()> {
        let zygotes = || self.zygotes.iter().chain(&self.retired);
        for pidfd in self.slots.iter().map(|slot| &slot.pidfd).chain(zygotes().map(|zygote| &zygote.pidfd)) {
            match pidfd_send_signal(pidfd, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for slot in &self.slots {
            waitpid(Some(slot.pid), WaitOptions::empty())?;
        }
        for zygote in zygotes() {
            waitpid(Some(zygote.pid), WaitOptions::empty())?;
        }
        if let Some(workspaces) = &self.shared.workspaces {
            workspaces.remove()?;
        }
        if let Some(instance) = self.instance {
            instance.remove()?;
        }
        Ok(())
    }
}

/// Leaves the host behind: namespaces, root, capabilities.
fn enclose(config: &SandboxConfig, shared: &mut Shared, report: &mut HostReport) -> Result<(), Failure> {
    if shared.profile == Profile::Full {
        // Programs die of memory before we do: they get a score of their own (init.rs), and we the lowest if we may.
        match fs::write("/proc/self/oom_score_adj", OOM_SCORE_NEVER) {
            Ok(()) => shared.oom_score = OOM_SCORE_NEVER,
            Err(error) => report.notes.push(format!(
                "the runner cannot be exempted from the out-of-memory killer ({error}): grant CAP_SYS_RESOURCE; programs still die first"
            )),
        }
    }
    if shared.profile == Profile::Restricted {
        shared.workspaces = Some(take(Step::BuildTemplate, || workspaces::Workspaces::new(config, shared.init_uid))?);
    } else {
        take(Step::Unshare, || {
            if shared.profile == Profile::Rootless {
                host::become_own_root()?;
            }
            sys::unshare(UnshareFlags::NEWNS)
        })?;
        let uids = match shared.profile {
            Profile::Full => shared.first_uid..shared.first_uid + shared.slots * shared.uids_per_slot,
            _ => rustix::process::geteuid().as_raw()..rustix::process::geteuid().as_raw() + 1,
        };
        shared.mount_namespace = Some(take(Step::Unshare, own_mount_namespace)?);
        if shared.profile == Profile::Full {
            match Devices::find() {
                Ok(devices) => (shared.devices, report.no_network) = (Some(devices), None),
                Err(reason) => report.no_network = Some(reason),
            }
        }
        let program = template::enter(config, shared.profile, uids)?;
        let filter = take(Step::Unshare, || filter::file(&shared.filter))?.into();
        shared.init = Some(InitFiles { program, filter });
    }
    take(Step::DropCapabilities, || {
        set_no_new_privs(true)?;
        if shared.init.is_some() {
            // Before the bounding set is emptied.
            let zygotes = if shared.zygotes.is_empty() { CapabilitySet::empty() } else { rights::ZYGOTE };
            rights::bequeath(rights::INIT | zygotes)?;
        }
        if rustix::process::geteuid().is_root() || shared.profile == Profile::Rootless {
            for capability in CapabilitySet::all().iter() {
                match remove_capability_from_bounding_set(capability) {
                    Ok(()) | Err(rustix::io::Errno::INVAL) => {} // a capability this kernel does not know
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok::<_, io::Error>(())
    })
}

/// A slot shares its cgroup's processors with the program: behind a crowd of busy processes it would notice half a
/// second too late that their time is up. What it makes has an ordinary priority again.
fn go_first() -> io::Result<()> {
    sys::reset_priority_on_fork()?;
    priority(-20)
}

/// A nice value. Without the right to it (CAP_SYS_NICE) things stay as they are: limits are kept all the same, if not as promptly.
fn priority(nice: i32) -> io::Result<()> {
    match setpriority_process(None, nice) {
        Ok(()) | Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What a slot does once: its cgroups, and the namespaces that its sandboxes are born into.
fn settle(slot: &Slot) -> Result<(), Failure> {
    take(Step::ParentDeath, || {
        rustix::thread::set_name(c"greenroom-slot")?;
        set_parent_process_death_signal(Some(Signal::KILL))
    })?;
    if slot.shared.init.is_some() {
        take(Step::DropCapabilities, || rights::bequeath(rights::INIT))?;
    }
    if let Some(cgroup) = &slot.cgroup {
        take(Step::SlotAttach, || cgroup.clear().and_then(|()| cgroup.enter()))?;
    }
    take(Step::SlotPriority, go_first)?;
    if slot.shared.profile == Profile::Restricted {
        // What a killed sandbox leaves behind becomes our child, to be found and ended.
        take(Step::ParentDeath, || set_child_subreaper(Some(rustix::process::getpid())))?;
    } else {
        // One sandbox after the other may use them, because no program can leave anything there: the network is empty, its loopback
        // down, and nobody has the right to change it; queues, semaphores and the host's name the filter refuses (a fresh IPC
        // namespace would be a fifth of what making a sandbox costs).
        take(Step::SlotNetwork, || sys::unshare(UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS))?;
        take(Step::Hostname, || rustix::system::sethostname(b"greenroom"))?;
    }
    Ok(())
}
