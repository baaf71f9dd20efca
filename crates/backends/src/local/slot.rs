//! One slot: the connection to its process, the sandbox that is prepared in it, the lease of somebody who has it.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use greenroom_core::DiskLimits;
use greenroom_sandbox::message::{Counted, FromSlot, Prepare, ToSlot, receive, send};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    ExecError,
    pipes::Outputs,
    runner::{nonblocking, read, watch},
    slots::{Slots, Staying},
    stock::Kind,
};

/// The connection to a slot process.
pub(super) struct SlotConnection {
    pub(super) index: u32,
    socket: AsyncFd<OwnedFd>,
    /// What the pipes of its sandboxes are read through, one sandbox after the other.
    outputs: Outputs,
    /// Of which runner: one that has been replaced takes no new work.
    pub(super) generation: u64,
    /// Keeps that runner alive.
    _runner: Arc<AsyncFd<OwnedFd>>,
}

/// A sandbox that waits for its job.
pub(super) struct Prepared {
    pub(super) slot: SlotConnection,
    /// `None` once the stage has them.
    ends: Option<Ends>,
    uid: u32,
    remains: Remains,
    pub(super) disk: DiskLimits,
    pub(super) kind: Kind,
}

/// What outlives a sandbox's stage, where the slot hands it over ([`Prepare::hands_files_over`]).
#[derive(Default)]
struct Remains {
    /// The directory of its files.
    directory: Option<OwnedFd>,
    mount_namespace: Option<OwnedFd>,
    /// The way out of its network, if it has one.
    device: Option<OwnedFd>,
}

/// Our ends of a sandbox's pipes. Whoever has them must be the only one: a copy of `stdin` kept anywhere keeps the
/// program from seeing its end of file.
pub(super) struct Ends {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) job: OwnedFd,
}

/// What a later stage needs to go on in an earlier one's workspace.
pub(super) struct Base {
    pub(super) uid: u32,
    pub(super) mount_namespace: Option<OwnedFd>,
}

impl SlotConnection {
    /// The connection to this slot of this runner.
    ///
    /// # Errors
    /// Those of registering its socket with the reactor.
    pub(super) fn new(index: u32, socket: OwnedFd, generation: u64, runner: Arc<AsyncFd<OwnedFd>>) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        // For reading only: each message that the slot takes would wake us up, to tell that there is room for the next.
        let socket = watch(socket, Interest::READABLE)?;
        Ok(Self { index, socket, outputs: Outputs::new()?, generation, _runner: runner })
    }

    /// Through what the pipes of its sandbox are read.
    pub(super) fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// Sends a message, behind those that the slot has not read yet: a client can send signals faster than a busy slot
    /// takes them.
    pub(super) async fn send(&self, message: &ToSlot, fd: Option<&OwnedFd>) -> Result<(), ExecError> {
        let fds: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
        match send(self.socket.get_ref(), message, &fds) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return sent.map_err(|_| ExecError::RunnerLost),
        }
        // It is full, which is rare.
        let socket = self.socket.get_ref().try_clone().and_then(nonblocking).map_err(|_| ExecError::RunnerLost)?;
        loop {
            let mut ready = socket.writable().await.map_err(|_| ExecError::RunnerLost)?;
            if let Ok(sent) = ready.try_io(|socket| send(socket.get_ref(), message, &fds)) {
                return sent.map_err(|_| ExecError::RunnerLost);
            }
        }
    }

    /// The next message.
    pub(super) async fn receive(&self) -> Result<(FromSlot, Vec<OwnedFd>), ExecError> {
        match read(&self.socket, |socket| receive(socket)).await {
            Ok(Some(message)) => Ok(message),
            Ok(None) | Err(_) => Err(ExecError::RunnerLost),
        }
    }

    /// Whether there is something to read from a slot whose sandbox waits: it has nothing to say, so that it, or what it made, has ended.
    pub(super) fn has_spoken(&self) -> bool {
        let mut socket = [PollFd::new(self.socket.get_ref(), PollFlags::IN)];
        poll(&mut socket, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) != Ok(0)
    }

    /// Has a sandbox made. Where only that fails, the slot can be used again.
    pub(super) async fn prepare(self, prepare: Prepare, disk: DiskLimits, base: Option<&OwnedFd>) -> Result<Prepared, NotMade> {
        let lost = |error| NotMade { error, slot: None };
        match self.try_prepare(prepare, base).await.map_err(lost)? {
            Ok((uid, fds)) => {
                let mut fds = fds.into_iter();
                let mut next = || fds.next().ok_or_else(|| lost(ExecError::RunnerLost));
                let ends = Some(Ends { stdin: next()?, stdout: next()?, stderr: next()?, job: next()? });
                let remains = Remains { directory: fds.next(), mount_namespace: fds.next(), device: fds.next() };
                let kind = prepare.zygote.map_or(Kind::Program, Kind::Zygote);
                Ok(Prepared { slot: self, ends, uid, remains, disk, kind })
            }
            Err(error) => Err(NotMade { error, slot: Some(self) }),
        }
    }

    /// The inner error is the slot's own answer. Of a slot whose last sandbox is being removed its `Idle` comes first, if it comes at
    /// all.
    async fn try_prepare(
        &self,
        prepare: Prepare,
        base: Option<&OwnedFd>,
    ) -> Result<Result<(u32, Vec<OwnedFd>), ExecError>, ExecError> {
        self.send(&ToSlot::Prepare(prepare), base).await?;
        let mut failed = None;
        loop {
            match self.receive().await? {
                (FromSlot::Ready { uid }, fds) => return Ok(Ok((uid, fds))),
                (FromSlot::PrepareFailed { step, errno }, _) => failed = Some((step, errno)),
                (FromSlot::Idle, _) => {
                    if let Some((step, errno)) = failed {
                        return Ok(Err(ExecError::Sandbox { step: step.name(), source: io::Error::from_raw_os_error(errno) }));
                    }
                }
                (FromSlot::Ended(_) | FromSlot::Counted(_), _) => return Err(ExecError::RunnerLost),
            }
        }
    }

    /// Kills its sandbox, and waits until it is gone.
    pub(super) async fn stop(&self) -> Result<(), ExecError> {
        self.send(&ToSlot::Kill, None).await?;
        self.settle().await
    }

    /// What its sandbox has used so far; `None` where it ends.
    pub(super) async fn count(&self) -> Option<Counted> {
        self.send(&ToSlot::Count, None).await.ok()?;
        match self.receive().await.ok()? {
            (FromSlot::Counted(counted), _) => Some(counted),
            _ => None,
        }
    }

    /// Waits until what the last stage left is gone.
    pub(super) async fn settle(&self) -> Result<(), ExecError> {
        loop {
            if let (FromSlot::Idle, _) = self.receive().await? {
                return Ok(());
            }
        }
    }
}

/// A sandbox that could not be made.
pub(super) struct NotMade {
    pub(super) error: ExecError,
    /// The slot, unless it is lost too.
    pub(super) slot: Option<SlotConnection>,
}

impl From<NotMade> for ExecError {
    fn from(not_made: NotMade) -> Self {
        not_made.error
    }
}

/// In which state a sandbox is left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// It has to be killed.
    Running,
    /// Its stage has ended, and the slot said so.
    Ended,
    /// ... by its program's own exit, so that it will soon be gone.
    Exited,
}

/// A sandbox that somebody has; dropped, it goes back to the table, whatever it was doing.
pub(super) struct Lease {
    slots: Arc<Slots>,
    prepared: Option<Prepared>,
    left: Left,
    /// Counted as one that stays, if it does.
    pub(super) staying: Option<Staying>,
    /// Whether it was there before it was asked for.
    pub(super) was_ready: bool,
}

impl Lease {
    pub(super) fn new(slots: &Arc<Slots>, prepared: Prepared) -> Self {
        slots.table().busy += 1;
        Self { slots: Arc::clone(slots), prepared: Some(prepared), left: Left::Running, staying: None, was_ready: false }
    }

    pub(super) fn kind(&self) -> Option<Kind> {
        self.prepared.as_ref().map(|prepared| prepared.kind)
    }

    /// The slot, and the pipes of its sandbox: for one stage only.
    pub(super) fn open(&mut self) -> Result<(&SlotConnection, Ends), ExecError> {
        let prepared = self.prepared.as_mut().ok_or(ExecError::RunnerLost)?;
        let ends = prepared.ends.take().ok_or(ExecError::RunnerLost)?;
        Ok((&prepared.slot, ends))
    }

    /// What a sandbox for the next stage needs of this one.
    pub(super) fn base(&self) -> io::Result<Base> {
        let prepared = self.prepared.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let mount_namespace = prepared.remains.mount_namespace.as_ref().map(OwnedFd::try_clone).transpose()?;
        Ok(Base { uid: prepared.uid, mount_namespace })
    }

    /// Makes the next stage's sandbox in the same slot, after this stage has ended.
    pub(super) async fn again(mut self, disk: DiskLimits) -> Result<Self, ExecError> {
        let slots = Arc::clone(&self.slots);
        let Prepared { slot, uid, .. } = self.prepared.take().ok_or(ExecError::RunnerLost)?;
        drop(self);
        slot.settle().await?;
        let prepared = slot.prepare(Prepare::continuing(uid, disk), disk, None).await?;
        Ok(Self::new(&slots, prepared))
    }

    /// The stage has ended.
    pub(super) fn ended(&mut self, left: Left) {
        self.left = left;
    }

    /// The slot.
    pub(super) fn slot(&self) -> Result<&SlotConnection, ExecError> {
        Ok(&self.prepared.as_ref().ok_or(ExecError::RunnerLost)?.slot)
    }

    /// The directory of the sandbox's files, and whose they are.
    pub(super) fn files(&self) -> io::Result<(OwnedFd, u32)> {
        let prepared = self.prepared.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let directory = prepared.remains.directory.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok((directory.try_clone()?, prepared.uid))
    }

    /// The way out of the sandbox's network, once: whoever has it keeps the network there.
    pub(super) fn device(&mut self) -> Option<OwnedFd> {
        self.prepared.as_mut().and_then(|prepared| prepared.remains.device.take())
    }

    /// Waits until nothing is left of a sandbox whose stage has ended, and gives the slot back.
    pub(super) async fn finish(mut self) {
        let Some(Prepared { slot, remains, .. }) = self.prepared.take() else { return };
        // The files are charged to the sandbox until nobody holds them.
        drop(remains);
        self.slots.settle(slot, Left::Ended).await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.slots.table().busy -= 1;
        let Some(Prepared { slot, remains, .. }) = self.prepared.take() else { return };
        let (slots, left) = (Arc::clone(&self.slots), self.left);
        // Later: an answer must not wait until the last of a file system is taken down.
        tokio::spawn(async move {
            drop(remains);
            slots.turn_over(slot, left).await;
        });
    }
}
