//! What server, slot, init and worker say to each other: small postcard messages with passed descriptors,
//! one per packet (`SOCK_SEQPACKET`), so that nobody has to find borders.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use greenroom_core::{DiskLimits, Limits};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{HostReport, step::Step};

/// A packet about a sandbox is at most this long. Small, because it stands on the stack of fresh clones, where
/// every page touched is a page copied.
const PACKET_BYTES: usize = 256;
/// A packet of the runner about itself is at most this long: a report in words.
const REPORT_BYTES: usize = 16 * 1024;
/// Descriptors passed with one packet at most.
const MAX_FDS: usize = 16;

/// Server to runner, after the configuration.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum ToRunner {
    /// Start one more slot, beyond those for jobs; it is announced like the others. Nothing happens where all are there.
    AddSlot,
}

/// Runner to server.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromRunner {
    /// What the host offers. The first message of a runner that can serve.
    Report(HostReport),
    /// It cannot serve; why, and what to do. The last message.
    Refused(String),
    /// A slot (new, or in place of one that ended), with its socket as the one passed descriptor.
    Slot(u32),
}

/// Server to slot.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToSlot {
    /// Make a sandbox; after [`FromSlot::Ended`] at the soonest. A passed descriptor is the mount namespace of the stage before, whose workspace it continues.
    Prepare(Prepare),
    /// The job is on its way to the worker: put these limits in force and let it go. A program that runs already goes on under them,
    /// and what it uses counts anew; the answer is [`FromSlot::Counted`], with what it had used before.
    Start(StageLimits),
    /// Signal the stage's first process.
    Signal(i32),
    /// End the stage: output limit reached, or the caller is gone.
    Kill,
    /// Tell what the stage has used so far.
    Count,
}

/// How to make a sandbox.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Prepare {
    /// Host uid and gid of the program; `None`: the slot's next.
    pub uid: Option<u32>,
    /// Quota of its files, bytes.
    pub disk_bytes: u64,
    /// Quota of its files, count.
    pub disk_inodes: u64,
    /// Whether it goes on in the workspace of the stage before. Where there are mount namespaces, that stage's is
    /// passed as a descriptor; where there are none, it must be the same slot.
    pub continues: bool,
    /// Where the program sees its files.
    pub place: Place,
    /// Which zygote its first process comes from; `None`: a program of its own.
    pub zygote: Option<u32>,
    /// Whether it has a network: a namespace of its own, whose one way out is a device that [`FromSlot::Ready`] brings.
    pub network: bool,
}

/// Where a sandbox's files stand, as its program sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// [`greenroom_core::WORKSPACE`]: a job's.
    Workspace,
    /// [`greenroom_core::DATA`]: a session's.
    Data,
}

impl Place {
    /// The path.
    pub fn path(self) -> &'static str {
        match self {
            Place::Workspace => greenroom_core::WORKSPACE,
            Place::Data => greenroom_core::DATA,
        }
    }
}

impl Prepare {
    /// A sandbox with this quota.
    pub fn fresh(disk: DiskLimits) -> Self {
        Self {
            uid: None,
            disk_bytes: disk.bytes,
            disk_inodes: disk.inodes,
            continues: false,
            place: Place::Workspace,
            zygote: None,
            network: false,
        }
    }

    /// The same, with a network or without.
    pub fn with_network(self, network: bool) -> Self {
        Self { network, ..self }
    }

    /// The same, its first process forked from this zygote.
    pub fn from_zygote(self, zygote: Option<u32>) -> Self {
        Self { zygote, ..self }
    }

    /// Whether [`FromSlot::Ready`] brings what a later stage, or a session, needs of this sandbox. A job's child of a zygote is its
    /// only stage.
    pub fn hands_files_over(&self) -> bool {
        self.zygote.is_none() || self.place == Place::Data
    }

    /// A sandbox with this quota for a session.
    pub fn session(disk: DiskLimits) -> Self {
        Self { place: Place::Data, ..Self::fresh(disk) }
    }

    /// A sandbox for the next stage over the workspace of the one before, which has this uid.
    pub fn continuing(uid: u32, disk: DiskLimits) -> Self {
        Self { uid: Some(uid), continues: true, ..Self::fresh(disk) }
    }
}

/// [`Limits`], as they travel.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct StageLimits {
    pub(crate) wall_ms: u64,
    pub(crate) cpu_ms: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) processes: u32,
    pub(crate) open_files: u32,
    pub(crate) file_size_bytes: u64,
    pub(crate) cpu_milli: u32,
}

impl From<&Limits> for StageLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            wall_ms: limits.wall_ms,
            cpu_ms: limits.cpu_ms,
            memory_bytes: limits.memory_bytes,
            processes: limits.processes,
            open_files: limits.open_files,
            file_size_bytes: limits.file_size_bytes,
            cpu_milli: limits.cpu_milli,
        }
    }
}

/// Slot to server.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromSlot {
    /// A sandbox waits for its job. Passed: stdin to write, stdout and stderr to read, the worker's job stream and, if
    /// [`Prepare::hands_files_over`], the directory of its files and, where there are namespaces, the mount namespace to continue in; and, if
    /// [`Prepare::network`], the device that its packets come from and go to (tun.c of the kernel: IP packets, one per read or write).
    Ready {
        /// Whose the workspace is: a stage that continues in it needs the same.
        uid: u32,
    },
    /// It could not be made; the slot is free again.
    PrepareFailed {
        /// Which step.
        step: Step,
        /// The system's answer.
        errno: i32,
    },
    /// What the stage has used so far.
    Counted(Counted),
    /// The stage is over and nothing of it runs any more.
    Ended(Ended),
    /// Everything of the last sandbox is gone: the next can be made. Not said where it has been asked for already.
    Idle,
}

/// What a stage that runs has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// CPU time of all processes, microseconds.
    pub cpu_us: u64,
    /// Memory in use now, bytes.
    pub memory_bytes: Option<u64>,
    /// Peak memory, bytes.
    pub memory_peak_bytes: Option<u64>,
    /// Whether the kernel's out-of-memory killer has struck.
    pub out_of_memory: bool,
}

/// How a stage ended.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// `waitpid`'s status of the program; `None` where it was killed by us before.
    pub status: Option<i32>,
    /// Why we ended it, if we did.
    pub stopped: Option<Stopped>,
    /// Whether the kernel's out-of-memory killer struck.
    pub out_of_memory: bool,
    /// From exec to the end, microseconds. 0 where it never came to exec.
    pub wall_us: u64,
    /// CPU time of all processes, microseconds.
    pub cpu_us: u64,
    /// Peak memory, bytes.
    pub memory_peak_bytes: Option<u64>,
    /// A step that failed before the program ran.
    pub failed: Option<(Step, i32)>,
    /// Monotonic time of the exec, microseconds.
    pub exec_at_us: u64,
    /// Monotonic time of the end, microseconds.
    pub ended_at_us: u64,
}

/// Why a stage was stopped by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stopped {
    /// CPU time used up.
    Cpu,
    /// Wall-clock time used up.
    Wall,
    /// The server asked.
    Asked,
}

/// Init and worker to slot.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Status {
    /// From init: it has no right left, and only reaps. Passed, where it has forked the worker: the worker's pidfd; and by an init
    /// without mounts (see [`Status::Mounted`]) the directory of its files.
    Ready,
    /// From the worker: it has no right left that a program may not have, and waits for its job.
    Sealed,
    /// A step failed.
    Failed(Step, i32),
    /// The worker execs now (monotonic microseconds).
    Exec(u64),
    /// The worker ended.
    Exited {
        /// Its `waitpid` status.
        status: i32,
        /// CPU time of it and its descendants, as far as they were waited for: where no cgroup counts.
        cpu_us: u64,
    },
    /// From a zygote's child, its pid in the sandbox: as [`Status::Sealed`]. Passed: its pidfd.
    Born(u32),
    /// From an init with mounts: they are made, and it waits for what a worker needs, or a child's pid. Passed: the directory of the sandbox's files, the
    /// mount namespace, its /tmp and its /dev/shm.
    Mounted,
}

/// The head of a job, sent over the worker's stream behind its length (u32, little-endian); the files' bytes follow.
#[derive(Debug, Serialize, Deserialize)]
pub struct JobHead {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Processes and threads (RLIMIT_NPROC, beside the cgroup's).
    pub processes: u32,
    /// RLIMIT_NOFILE.
    pub open_files: u32,
    /// RLIMIT_FSIZE.
    pub file_size_bytes: u64,
    /// Memory limit, bytes (bounds the stack).
    pub memory_bytes: u64,
    /// CPU limit, milliseconds.
    pub cpu_ms: u64,
    /// Whether the program keeps the job's stream, as descriptor 3: a session's conversation.
    pub channel: bool,
    /// What to write, in order.
    pub files: Vec<FileHead>,
}

/// A file of a job.
#[derive(Debug, Serialize, Deserialize)]
pub struct FileHead {
    /// Below the workspace.
    pub path: String,
    /// Bytes that follow.
    pub len: u64,
    /// Mode 0755 rather than 0644.
    pub executable: bool,
}

/// A pair of connected packet sockets.
///
/// # Errors
/// `socketpair(2)`'s.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// A pair of connected stream sockets.
pub(crate) fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// Sends one message with descriptors.
///
/// # Errors
/// `sendmsg(2)`'s; `EPIPE` where the peer is gone (no SIGPIPE).
pub fn send(socket: impl AsFd, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    send_bytes(socket, &bytes, fds, SendFlags::NOSIGNAL)
}

/// [`send`] for what is no such message.
pub(crate) fn send_bytes(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>], flags: SendFlags) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    rustix::io::retry_on_intr(|| sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, flags))?;
    Ok(())
}

/// Receives one message about a sandbox with its descriptors; `None` when the peer is gone.
///
/// # Errors
/// `recvmsg(2)`'s (`EAGAIN` where the socket does not block), or `InvalidData` for what is no such message.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    receive_into(socket, &mut [0; PACKET_BYTES], RecvFlags::empty())
}

/// [`receive`] for a peer that may not have sent anything yet: `WouldBlock` then.
///
/// # Errors
/// As [`receive`].
pub(crate) fn receive_now<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    receive_into(socket, &mut [0; PACKET_BYTES], RecvFlags::DONTWAIT)
}

/// Receives one message of the runner about itself.
///
/// # Errors
/// As [`receive`].
pub fn receive_report<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    receive_into(socket, &mut vec![0; REPORT_BYTES], RecvFlags::empty())
}

fn receive_into<T: DeserializeOwned>(
    socket: impl AsFd,
    bytes: &mut [u8],
    flags: RecvFlags,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let mut receive = || rustix::io::retry_on_intr(|| recvmsg(&socket, &mut [IoSliceMut::new(bytes)], &mut control, flags));
    let received = match receive() {
        // The other end was closed with something unread in it. That is said once, before what it had sent (unix(7)).
        Err(rustix::io::Errno::CONNRESET) => receive(),
        received => received,
    };
    let len = match received {
        Ok(message) => message.bytes,
        Err(rustix::io::Errno::CONNRESET) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if len == 0 {
        return Ok(None);
    }
    let message = postcard::from_bytes(&bytes[..len]).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some((message, fds)))
}

/// The body of the first packet to a runner, whose descriptor is the configuration (an empty packet would be
/// an end of file).
pub const CONFIG_FOLLOWS: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_before_the_end_is_heard_also_where_something_was_left_unread() {
        let (ours, theirs) = packet_pair().unwrap();
        send(&theirs, &Status::Failed(Step::ReadJob, 5), &[]).unwrap();
        rustix::io::write(&ours, b"g").unwrap();
        drop(theirs);
        let (heard, _) = receive::<Status>(&ours).unwrap().unwrap();
        assert!(matches!(heard, Status::Failed(Step::ReadJob, 5)), "{heard:?}");
        assert!(receive::<Status>(&ours).unwrap().is_none());
    }
}
