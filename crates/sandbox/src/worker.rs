//! The process that becomes the program, where there are no namespaces (else: init/worker.rs). It seals itself first (identity, Landlock, filter), and only then reads
//! the job: by the time it sees anything of a client, it has no right that the program will not have.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::Path,
};

use greenroom_core::{Profile, RelativePath};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{Mode, OFlags, ResolveFlags, mkdirat, openat2},
    io::Errno,
    process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit},
};

use crate::{
    fence,
    init::{Birth, WorkerEnds},
    layout::{IGNORED_SIGNALS, stack_bytes},
    message::{FileHead, JobHead, Status, send},
    rights,
    slot::Shared,
    step::{Failure, Step, take},
    sys::{self, Command},
};

/// A head longer than this is no job of ours (the gateway's body limit is far below).
const MAX_HEAD_BYTES: u32 = 64 << 20;
/// Exit status of a program that could not be started, as shells have it.
const CANNOT_EXECUTE: i32 = 126;
/// … because it is not there.
const NOT_FOUND: i32 = 127;

/// Runs in the clone.
pub(crate) fn main(birth: &Birth<'_>, ends: WorkerEnds) -> ! {
    let failure = match live(birth, ends) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    let told = send(&birth.status, &Status::Failed(failure.step, failure.errno()), &[]);
    sys::exit_now(if told.is_ok() { 1 } else { 2 })
}

enum Never {}

fn live(birth: &Birth<'_>, ends: WorkerEnds) -> Result<Never, Failure> {
    let shared = birth.shared;
    let job = File::from(seal(birth, ends)?);
    take(Step::ReadJob, || await_job(&job, &birth.status))?;
    let mut head = take(Step::ReadJob, || read_head(&job))?;
    // Not one byte more than the job's is read ahead: what follows may be the program's.
    let mut job = io::BufReader::with_capacity(64 * 1024, job.take(head.files.iter().map(|file| file.len).sum()));
    if let Some(workspace) = &birth.workspace {
        move_home(&mut head.env, workspace);
    }
    if let Some(workspaces) = &shared.workspaces {
        head.argv.iter_mut().for_each(|argument| workspaces.localize(argument));
    }
    let workspace = take(Step::WorkingDirectory, || enter_workspace(birth))?;
    for file in &head.files {
        if let Err(error) = take(Step::WriteFiles, || write_file(&workspace, file, &mut job)) {
            // The files' sizes are the client's: a full disk is an outcome, not a failure of ours.
            return Err(refuse(birth, &format!("cannot write {:?}: {}", file.path, error.source), CANNOT_EXECUTE));
        }
    }
    drop(workspace);
    let channel = head.channel.then(|| job.into_inner().into_inner());
    let command = take(Step::ReadJob, || Command::new(&head.argv, &head.env))?;
    take(Step::ResourceLimits, || set_limits(&head, shared))?;
    take(Step::AwaitGo, || await_byte(&birth.status))?;
    take(Step::Exec, || send(&birth.status, &Status::Exec(monotonic_us()), &[]))?;
    if let Some(channel) = channel {
        take(Step::Exec, || sys::put_on_channel(&channel))?;
    }
    let error = command.exec();
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_EXECUTE };
    let program = head.argv.first().map_or("", String::as_str);
    report(&format!("cannot execute {program:?}: {error}"));
    sys::exit_now(code)
}

/// Everything that can be done before a job is known. Returns the job's stream.
fn seal(birth: &Birth<'_>, ends: WorkerEnds) -> Result<OwnedFd, Failure> {
    take(Step::Stdio, || {
        rustix::thread::set_name(c"greenroom-work")?;
        rustix::process::setsid()?;
        rustix::stdio::dup2_stdin(&ends.stdin)?;
        rustix::stdio::dup2_stdout(&ends.stdout)?;
        rustix::stdio::dup2_stderr(&ends.stderr)?;
        IGNORED_SIGNALS.into_iter().try_for_each(sys::restore_signal)?;
        rustix::process::umask(Mode::from_raw_mode(0o022));
        sys::close_on_exec_from(3)
    })?;
    take(Step::SetUid, || match birth.shared.profile {
        Profile::Full => rights::take_identity(birth.uid),
        Profile::Restricted if birth.shared.own_uids => rights::take_identity(birth.uid),
        Profile::Rootless | Profile::Restricted => rights::drop_capabilities(),
    })?;
    // No namespace ends with its first process here. Init, without rights, may signal its own uid only: see `await_job`.
    take(Step::ParentDeath, || set_parent_process_death_signal(Some(Signal::KILL)))?;
    take(Step::Landlock, || fence::raise(birth))?;
    take(Step::Seccomp, || sys::install_filter(&birth.shared.filter))?;
    take(Step::Ready, || send(&birth.status, &Status::Sealed, &[]))?;
    Ok(ends.job)
}

/// Waits for the job, or for the slot's end: a copy of the runner that waits on would hold what the next runner has to sweep.
fn await_job(job: &File, status: &OwnedFd) -> io::Result<()> {
    loop {
        let mut fds = [PollFd::new(job, PollFlags::IN), PollFd::new(status, PollFlags::empty())];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        if !fds[0].revents().is_empty() {
            return Ok(());
        }
        if !fds[1].revents().is_empty() {
            return Err(Errno::PIPE.into());
        }
    }
}

fn read_head(mut job: impl Read) -> io::Result<JobHead> {
    let mut len = [0; 4];
    job.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len);
    if len > MAX_HEAD_BYTES {
        return Err(Errno::MSGSIZE.into());
    }
    let mut bytes = Vec::new();
    job.take(u64::from(len)).read_to_end(&mut bytes)?;
    postcard::from_bytes(&bytes).map_err(|_| Errno::BADMSG.into())
}

/// Without a /tmp of its own, a program's temporary files stand in its workspace.
fn move_home(env: &mut Vec<(String, String)>, workspace: &Path) {
    let place = workspace.to_string_lossy().into_owned();
    env.retain(|(name, _)| !matches!(name.as_str(), "HOME" | "TMPDIR" | "PWD"));
    env.extend(["HOME", "TMPDIR", "PWD"].map(|name| (name.to_owned(), place.clone())));
}

/// Goes to the workspace, and gives a descriptor on it to write files beneath.
fn enter_workspace(birth: &Birth<'_>) -> io::Result<OwnedFd> {
    let path = birth.workspace.as_deref().unwrap_or(Path::new(birth.prepare.place.path()));
    let workspace = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?;
    rustix::process::fchdir(&workspace)?;
    Ok(workspace)
}

/// Beneath the workspace and through no link: an earlier stage was the client's and may have left some.
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_XDEV);

fn write_file(workspace: &OwnedFd, file: &FileHead, content: &mut impl Read) -> io::Result<()> {
    let path = RelativePath::new(&file.path).map_err(|_| Errno::INVAL)?;
    let mut made = String::new();
    for part in path.parent().split('/').filter(|part| !part.is_empty()) {
        let parent = match made.as_str() {
            "" => workspace.try_clone()?,
            made => openat2(workspace, made, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH, Mode::empty(), BENEATH)?,
        };
        match mkdirat(&parent, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        if !made.is_empty() {
            made.push('/');
        }
        made.push_str(part);
    }
    let mode = Mode::from_raw_mode(if file.executable { 0o755 } else { 0o644 });
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let to = openat2(workspace, path.as_str(), flags, mode, BENEATH)?;
    let copied = io::copy(&mut content.take(file.len), &mut File::from(to))?;
    if copied == file.len { Ok(()) } else { Err(Errno::PIPE.into()) }
}

fn set_limits(head: &JobHead, shared: &Shared) -> io::Result<()> {
    let hard = |resource, value: u64| {
        // Above what we have ourselves nobody can go.
        let value = getrlimit(resource).maximum.map_or(value, |ours| value.min(ours));
        setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
    };
    hard(Resource::Core, 0)?;
    hard(Resource::Fsize, head.file_size_bytes)?;
    hard(Resource::Nofile, u64::from(head.open_files))?;
    hard(Resource::Nproc, u64::from(head.processes))?;
    hard(Resource::Memlock, 64 * 1024)?;
    hard(Resource::Msgqueue, 0)?;
    hard(Resource::Sigpending, 1024)?;
    hard(Resource::Nice, 0)?;
    hard(Resource::Rtprio, 0)?;
    hard(Resource::Stack, stack_bytes(head.memory_bytes, shared.cgroups))?;
    if !shared.cgroups {
        // Without cgroups: writable private memory of one process, and whole seconds of CPU of one process.
        hard(Resource::Data, head.memory_bytes)?;
        hard(Resource::Cpu, head.cpu_ms.div_ceil(1000))?;
    }
    Ok(())
}

fn await_byte(status: &OwnedFd) -> io::Result<()> {
    let mut byte = [0];
    match rustix::io::retry_on_intr(|| rustix::io::read(status, &mut byte))? {
        0 => Err(Errno::PIPE.into()),
        _ => Ok(()),
    }
}

/// Ends as a program that could not start: an outcome that the client sees, with the reason on stderr.
fn refuse(birth: &Birth<'_>, reason: &str, code: i32) -> Failure {
    let waited = await_byte(&birth.status).and_then(|()| send(&birth.status, &Status::Exec(monotonic_us()), &[]));
    if let Err(source) = waited {
        return Failure { step: Step::AwaitGo, source };
    }
    report(reason);
    sys::exit_now(code)
}

fn report(reason: &str) {
    // Nobody is left to tell if this fails; the exit status stands.
    let _written = io::stderr().write_all(format!("greenroom: {reason}\n").as_bytes());
}

/// CLOCK_MONOTONIC, microseconds.
pub(crate) fn monotonic_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}
