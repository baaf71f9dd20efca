//! The process that becomes the program, where it does not come from a zygote: a copy of the first process. It seals itself first
//! (identity, Landlock, filter), and only then reads the job: by the time it sees anything of a client, it has no right that the
//! program will not have.
//!
//! What it does is what src/worker.rs does where there are no namespaces.

use crate::{
    Failure,
    errors::text_of,
    job::{File, Job, PATH_BYTES},
    layout::{IGNORED_SIGNALS, OWN_UIDS, WITHOUT_CGROUPS, stack_bytes, step},
    message::{Plan, Status},
    sys::{self, Errno, Text},
    take,
};
use core::fmt::{self, Write};

/// Exit status of a program that could not be started, as shells have it.
const CANNOT_EXECUTE: usize = 126;
/// … because it is not there.
const NOT_FOUND: usize = 127;

/// The slot's descriptors, in this order; the rules last, where the kernel has Landlock.
pub struct Ends {
    pub stdio: [i32; 3],
    pub job: i32,
    pub filter: i32,
    pub rules: Option<i32>,
}

/// Runs in the copy.
pub fn main(plan: &Plan, ends: &Ends, slot: i32) -> ! {
    // The first three are the program's.
    let Ok(status) = sys::move_up(slot) else { sys::exit(1) };
    let Err(failure) = live(plan, ends, status);
    let told = sys::send(status, Status::failed(failure.step, failure.errno).bytes(), &[]);
    sys::exit(if told.is_ok() { 1 } else { 2 })
}

enum Never {}

fn live(plan: &Plan, ends: &Ends, status: i32) -> Result<Never, Failure> {
    seal(plan, ends, status)?;
    let mut job = take(plan, step::READ_JOB, || Job::read(ends.job))?;
    let workspace = take(plan, step::WORKING_DIRECTORY, || {
        let place = Text::new(plan.place())?;
        let workspace = sys::open_at(sys::AT_FDCWD, place, sys::O_DIRECTORY | sys::O_NOFOLLOW)?;
        sys::go_to(workspace).map(|()| workspace)
    })?;
    let mut scratch = take(plan, step::WRITE_FILES, Scratch::new)?;
    while let Some(file) = job.next_file().map_err(|errno| Failure { step: step::READ_JOB, errno })? {
        if let Err(failure) = take(plan, step::WRITE_FILES, || write_file(workspace, &file, ends.job, &mut scratch)) {
            // The files' sizes are the client's: a full disk is an outcome, not a failure of ours.
            begin(plan, status)?;
            end(CANNOT_EXECUTE, format_args!("cannot write {:?}: ", file.path()), failure.errno);
        }
    }
    sys::close(workspace);
    let command = take(plan, step::READ_JOB, || job.command())?;
    take(plan, step::RESOURCE_LIMITS, || set_limits(&job, plan))?;
    begin(plan, status)?;
    if job.channel {
        take(plan, step::EXEC, || sys::put(ends.job, 3))?;
    }
    let errno = command.become_program();
    let code = if errno == sys::ENOENT { NOT_FOUND } else { CANNOT_EXECUTE };
    end(code, format_args!("cannot execute {:?}: ", command.name()), errno)
}

/// Waits for the limits to be in force, and says that the program begins.
fn begin(plan: &Plan, status: i32) -> Result<(), Failure> {
    take(plan, step::AWAIT_GO, || sys::read_exact(status, &mut [0]))?;
    take(plan, step::EXEC, || sys::send(status, Status::exec(sys::monotonic_us()).bytes(), &[]))
}

/// Everything that can be done before a job is known.
fn seal(plan: &Plan, ends: &Ends, status: i32) -> Result<(), Failure> {
    take(plan, step::STDIO, || {
        sys::set_name(c"greenroom-work")?;
        sys::new_session()?;
        // They came in this order, and descriptor 0 was open: none stands yet where one before it goes.
        for (at, fd) in (0..).zip(ends.stdio) {
            sys::put(fd, at)?;
        }
        IGNORED_SIGNALS.into_iter().try_for_each(sys::restore_signal)?;
        sys::mask(0o022);
        sys::close_on_exec_from(3)
    })?;
    take(plan, step::SET_UID, || {
        if plan.has(OWN_UIDS) {
            sys::take_identity(plan.uid())?;
        }
        sys::drop_capabilities()
    })?;
    take(plan, step::LANDLOCK, || ends.rules.map_or(Ok(()), sys::restrict))?;
    take(plan, step::SECCOMP, || sys::install_filter(ends.filter, plan.filter_len()))?;
    take(plan, step::READY, || sys::send(status, Status::sealed().bytes(), &[]))
}

/// As much of a file as is on its way at once.
const CHUNK_BYTES: usize = 1 << 16;

/// Room for the files, one after the other.
struct Scratch {
    paths: &'static mut [u8],
    chunk: &'static mut [u8],
}

impl Scratch {
    fn new() -> Result<Self, Errno> {
        let (paths, chunk) = sys::room(2 * PATH_BYTES + CHUNK_BYTES)?.split_at_mut(2 * PATH_BYTES);
        Ok(Self { paths, chunk })
    }
}

fn write_file(workspace: i32, file: &File, from: i32, scratch: &mut Scratch) -> Result<(), Errno> {
    let flags = sys::O_WRONLY | sys::O_CREAT | sys::O_TRUNC | sys::O_NOFOLLOW;
    let mut path = file.open_path(scratch.paths)?;
    while let Some((parent, name)) = path.next_directory() {
        let at = match parent {
            None => workspace,
            Some(parent) => sys::open_beneath(workspace, parent, sys::O_DIRECTORY | sys::O_PATH, 0)?,
        };
        match sys::make_directory(at, name, 0o755) {
            Ok(()) | Err(sys::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        if at != workspace {
            sys::close(at);
        }
    }
    let to = sys::open_beneath(workspace, path.whole(), flags, if file.executable { 0o755 } else { 0o644 })?;
    let mut left = file.len;
    // Not one byte more than the file's is read: what follows may be the program's.
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let len = sys::read(from, &mut scratch.chunk[..part])?;
        if len == 0 {
            return Err(sys::EPIPE);
        }
        sys::write(to, &scratch.chunk[..len])?;
        left -= len as u64;
    }
    sys::close(to);
    Ok(())
}

fn set_limits(job: &Job, plan: &Plan) -> Result<(), Errno> {
    // setrlimit(2): CPU 0, FSIZE 1, DATA 2, STACK 3, CORE 4, NPROC 6, NOFILE 7, MEMLOCK 8, SIGPENDING 11, MSGQUEUE 12, NICE 13,
    // RTPRIO 14.
    for (resource, value) in [
        (4, 0),
        (1, job.file_size_bytes),
        (7, job.open_files),
        (6, job.processes),
        (8, 64 * 1024),
        (12, 0),
        (11, 1024),
        (13, 0),
        (14, 0),
        (3, stack_bytes(job.memory_bytes, !plan.has(WITHOUT_CGROUPS))),
    ] {
        sys::limit(resource, value)?;
    }
    if plan.has(WITHOUT_CGROUPS) {
        // Writable private memory of one process, and whole seconds of CPU of one process.
        sys::limit(2, job.memory_bytes)?;
        sys::limit(0, job.cpu_ms.div_ceil(1000))?;
    }
    Ok(())
}

/// Ends as a program that could not start: an outcome that the client sees, with the reason on stderr.
fn end(code: usize, what: fmt::Arguments<'_>, errno: Errno) -> ! {
    // Nobody is left to tell if this fails; the exit status stands.
    let _written = writeln!(StandardError, "greenroom: {what}{} (os error {errno})", text_of(errno));
    sys::exit(code)
}

struct StandardError;

impl Write for StandardError {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        sys::write(2, text.as_bytes()).map_err(|_| fmt::Error)
    }
}
