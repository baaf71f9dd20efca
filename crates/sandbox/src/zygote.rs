//! Zygotes: interpreters that have initialised themselves, and are forked for every sandbox that starts with one.
//!
//! ```text
//!  runner ──clone, execve──► zygote (python3 with our main) ──vfork──► between ──fork──► child, pid 3 of a sandbox
//!                              ▲ requests with descriptors                                │ sealed: uid, Landlock, filter
//!  slot ──────────────────────┘   ◄──────────────── status socket ───────────────────────┘ reads the job, runs the program
//! ```
//!
//! All slots send into one socket per zygote; a zygote that ends is replaced, and its successor reads on where it stopped. It
//! retires by itself from time to time: what its children cannot have each of their own (hash seed, address space layout) is theirs
//! for a while only. It says so on the same socket, and serves on for the moment that its successor takes to start. A zygote is root with few capabilities, sees the template and nothing else, and reads nothing of a client.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, socketpair},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Resource, Rlimit, Signal, getrlimit, pidfd_send_signal, set_parent_process_death_signal, setrlimit},
};
use serde::{Deserialize, Serialize};

use crate::{
    filter,
    layout::{IGNORED_SIGNALS, STACK_BYTES},
    message::{Place, send_bytes},
    rights,
    step::Step,
    sys::{self, Cloned, Command},
};

/// An interpreter to keep warm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZygoteConfig {
    /// What jobs call it by: the language.
    pub name: String,
    /// The interpreter, by a path that programs see too.
    pub program: String,
    /// The environment, as its programs will have it.
    pub env: Vec<(String, String)>,
    /// Modules that it imports beside the common ones.
    pub modules: Vec<String>,
}

/// The library that makes an interpreter a zygote (zygote/python.rs).
pub(crate) const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/zygote-python.so"));
/// Where it stands, below the directory of support files.
pub(crate) const LIBRARY_PATH: &str = "zygote/python.so";

/// Room for a program's command where the kernel shows it; of more it shows a page at most.
const TITLE_BYTES: usize = 4000;
/// How long a zygote may take for a child: it may have to start first.
pub(crate) const FORK_TIMEOUT: Duration = Duration::from_secs(5);
/// A zygote that ended sooner than this after its start is not replaced at once.
const MIN_LIFE: Duration = Duration::from_secs(1);
/// oom_score_adj cannot be set where there is no /proc: a zygote has the runner's, its children set their own.
const REQUESTS_FD: i32 = 3;
const FILTER_FD: i32 = 4;

/// The requests' socket of one zygote.
pub(crate) struct Line {
    config: ZygoteConfig,
    requests: OwnedFd,
    receiver: OwnedFd,
    /// A slot writes a byte where the zygote has let it wait in vain; the runner reads it.
    complain: OwnedFd,
    complaints: OwnedFd,
}

impl Line {
    pub(crate) fn new(config: &ZygoteConfig) -> io::Result<Self> {
        let (requests, receiver) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let (complaints, complain) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self { config: config.clone(), requests, receiver, complain, complaints })
    }

    /// Asks for a child. It answers on `status`, or nobody does.
    pub(crate) fn ask(&self, birth: &Birth<'_>) -> io::Result<()> {
        let mut fds = vec![birth.status, birth.job, birth.stdin, birth.stdout, birth.stderr, birth.init];
        fds.extend(birth.rules);
        fds.extend(birth.cgroups);
        // A zygote that does not keep up has a full socket: that is an answer too.
        send_bytes(&self.requests, &birth.request()?, &fds, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    }
}

impl Line {
    /// Says that the zygote did not answer in time.
    pub(crate) fn complain(&self) {
        // A full pipe is complaint enough.
        let _heard_anyway = rustix::io::write(&self.complain, b"!");
    }

    /// Becomes readable with a complaint.
    pub(crate) fn complaints(&self) -> &OwnedFd {
        &self.complaints
    }

    /// Becomes readable when a zygote says that it retires.
    pub(crate) fn notices(&self) -> &OwnedFd {
        &self.requests
    }

    /// Whether one has said so since this was last asked.
    pub(crate) fn is_retiring(&self) -> io::Result<bool> {
        let (mut notice, mut any) = ([0; 8], false);
        loop {
            match recv(&self.requests, &mut notice, RecvFlags::DONTWAIT) {
                Err(rustix::io::Errno::AGAIN) => return Ok(any),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok((0, _)) => return Ok(any),
                Ok(_) => any = true,
            }
        }
    }

    /// Takes all complaints.
    fn hear(&self) -> io::Result<()> {
        let mut bytes = [0; 64];
        loop {
            match rustix::io::read(&self.complaints, &mut bytes) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A child to be born in a sandbox whose init has made everything ready.
pub(crate) struct Birth<'a> {
    pub(crate) uid: u32,
    pub(crate) place: Place,
    pub(crate) status: BorrowedFd<'a>,
    pub(crate) job: BorrowedFd<'a>,
    pub(crate) stdin: BorrowedFd<'a>,
    pub(crate) stdout: BorrowedFd<'a>,
    pub(crate) stderr: BorrowedFd<'a>,
    /// A pidfd.
    pub(crate) init: BorrowedFd<'a>,
    /// The Landlock rules, where the kernel has Landlock.
    pub(crate) rules: Option<BorrowedFd<'a>>,
    /// `cgroup.procs` of the slot's cgroups.
    pub(crate) cgroups: &'a [BorrowedFd<'a>],
}

impl Birth<'_> {
    /// Uid, place, the step to blame in a failure, whether there are rules, how many cgroups.
    fn request(&self) -> io::Result<[u8; 12]> {
        let mut request = [0; 12];
        request[..4].copy_from_slice(&self.uid.to_le_bytes());
        request[4] = u8::from(self.place == Place::Data);
        request[5] = step_byte()?;
        request[6] = u8::from(self.rules.is_some());
        request[7] = u8::try_from(self.cgroups.len()).map_err(io::Error::other)?;
        Ok(request)
    }
}

/// [`Step::Fork`] as it stands in a message.
fn step_byte() -> io::Result<u8> {
    let bytes = postcard::to_stdvec(&Step::Fork).map_err(io::Error::other)?;
    bytes.first().copied().filter(|_| bytes.len() == 1).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A zygote's process.
pub(crate) struct Zygote {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    started: Instant,
}

impl Zygote {
    /// Starts one that reads from `line`, after a pause where the one before it ended young.
    pub(crate) fn start(line: &Line, filter: &[libc::sock_filter], before: Option<&Zygote>) -> io::Result<Self> {
        let delay = before.map_or(Duration::ZERO, |before| MIN_LIFE.saturating_sub(before.started.elapsed()));
        match sys::clone(0, None)? {
            Cloned::Child => {
                std::thread::sleep(delay);
                let error = become_zygote(line, filter);
                eprintln!("greenroom runner: the zygote of {} cannot be started: {error}", line.config.name);
                sys::exit_now(1)
            }
            Cloned::Parent { pid, pidfd } => {
                let pid = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?;
                Ok(Self { pid, pidfd, started: Instant::now() })
            }
        }
    }
}

impl Zygote {
    /// Ends a zygote that lets slots wait: its end has it replaced. One that is younger than their patience was not there to answer.
    pub(crate) fn answer_for(&self, line: &Line) -> io::Result<()> {
        line.hear()?;
        if self.started.elapsed() < FORK_TIMEOUT {
            return Ok(());
        }
        eprintln!("greenroom runner: the zygote of {} does not answer and is replaced", line.config.name);
        self.kill()
    }

    pub(crate) fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns only an error.
fn become_zygote(line: &Line, filter: &[libc::sock_filter]) -> io::Error {
    match prepare(line, filter) {
        Ok(command) => command.exec(),
        Err(error) => error,
    }
}

fn prepare(line: &Line, filter: &[libc::sock_filter]) -> io::Result<Command> {
    let config = &line.config;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    rights::bequeath(rights::ZYGOTE)?;
    IGNORED_SIGNALS.into_iter().try_for_each(sys::restore_signal)?;
    // The stack of programs, which the kernel leaves room for when the interpreter starts.
    let stack = getrlimit(Resource::Stack).maximum.map_or(STACK_BYTES, |ours| STACK_BYTES.min(ours));
    setrlimit(Resource::Stack, Rlimit { current: Some(stack), maximum: getrlimit(Resource::Stack).maximum })?;
    // The same kinds of files as its programs get: the interpreter looks at them once.
    let (stdin, _) = pipe_with(PipeFlags::CLOEXEC)?;
    let (_, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::stdio::dup2_stdin(&stdin)?;
    rustix::stdio::dup2_stdout(&stdout)?;
    let memory = filter::file(filter)?;
    sys::put_on_descriptors(&[(line.receiver.as_fd(), REQUESTS_FD), (memory.as_fd(), FILTER_FD)])?;
    let mut env = config.env.clone();
    env.push(("LD_PRELOAD".to_owned(), format!("/opt/greenroom/{LIBRARY_PATH}")));
    // Else every child looks up the same functions again.
    env.push(("LD_BIND_NOW".to_owned(), "1".to_owned()));
    if !config.modules.is_empty() {
        env.push(("GREENROOM_WARM".to_owned(), config.modules.join(" ")));
    }
    // The script's name is never looked at: a program's own takes its place.
    Command::new(&[config.program.clone(), "main".repeat(TITLE_BYTES / 4)], &env)
}

/// Writes the library among the support files.
pub(crate) fn install(support: &Path) -> io::Result<()> {
    let path = support.join(LIBRARY_PATH);
    std::fs::create_dir_all(path.parent().unwrap_or(support))?;
    std::fs::write(path, LIBRARY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Status;

    /// What zygote/python.rs writes by hand.
    #[test]
    fn messages_are_as_the_library_writes_them() {
        let encoded = |status: &Status| postcard::to_stdvec(status).unwrap();
        assert_eq!(encoded(&Status::Born(3)), [5, 3]);
        assert_eq!(encoded(&Status::Exec(300)), [3, 0xac, 2]);
        assert_eq!(encoded(&Status::Failed(Step::Fork, 11)), [2, step_byte().unwrap(), 22]);
        assert_eq!(size_of::<libc::sock_filter>(), 8);
    }
}
