//! The slots: which are free, which are prepared, who waits.
//!
//! A slot's connection has one owner at a time: this table, an execution, or a task that brings it back. What
//! comes back is offered to a waiter first, then prepared ahead up to the target, else kept idle.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use greenroom_core::DiskLimits;
use greenroom_sandbox::message::{FromSlot, Prepare, ToRunner, ToSlot, receive, send};
use tokio::{io::unix::AsyncFd, sync::oneshot};

use super::{ExecError, LocalStatus, runner::read};

/// The connection to a slot process.
pub(super) struct SlotConnection {
    index: u32,
    socket: AsyncFd<OwnedFd>,
    /// Of which runner: one that has been replaced takes no new work.
    generation: u64,
    /// Keeps that runner alive.
    _runner: Arc<AsyncFd<OwnedFd>>,
}

/// A sandbox that waits for its job.
pub(super) struct Prepared {
    pub(super) slot: SlotConnection,
    /// `None` once the stage has them.
    ends: Option<Ends>,
    uid: u32,
    /// The directory of its files.
    directory: OwnedFd,
    mount_namespace: Option<OwnedFd>,
    disk: DiskLimits,
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
    /// Sends a message, behind those that the slot has not read yet: a client can send signals faster than a busy slot
    /// takes them.
    pub(super) async fn send(&self, message: &ToSlot, fd: Option<&OwnedFd>) -> Result<(), ExecError> {
        loop {
            let mut ready = self.socket.writable().await.map_err(|_| ExecError::RunnerLost)?;
            let sent = ready.try_io(|socket| {
                let fds: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
                send(socket.get_ref(), message, &fds)
            });
            // Else the socket is full.
            if let Ok(sent) = sent {
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

    /// Has a sandbox made.
    pub(super) async fn prepare(self, prepare: Prepare, disk: DiskLimits, base: Option<&OwnedFd>) -> Result<Prepared, ExecError> {
        self.send(&ToSlot::Prepare(prepare), base).await?;
        let mut failed = None;
        loop {
            match self.receive().await? {
                (FromSlot::Ready { uid }, fds) => {
                    let mut fds = fds.into_iter();
                    let mut next = || fds.next().ok_or(ExecError::RunnerLost);
                    let ends = Some(Ends { stdin: next()?, stdout: next()?, stderr: next()?, job: next()? });
                    let directory = next()?;
                    return Ok(Prepared { slot: self, ends, uid, directory, mount_namespace: fds.next(), disk });
                }
                (FromSlot::PrepareFailed { step, errno }, _) => failed = Some((step, errno)),
                (FromSlot::Idle, _) => {
                    let (step, errno) = failed.ok_or(ExecError::RunnerLost)?;
                    return Err(ExecError::Sandbox { step: step.name(), source: io::Error::from_raw_os_error(errno) });
                }
                (FromSlot::Ended(_) | FromSlot::Counted(_), _) => return Err(ExecError::RunnerLost),
            }
        }
    }

    /// Kills its sandbox, and waits until it is gone.
    async fn stop(&self) -> Result<(), ExecError> {
        self.send(&ToSlot::Kill, None).await?;
        self.settle().await
    }

    /// Waits until what the last stage left is gone.
    async fn settle(&self) -> Result<(), ExecError> {
        loop {
            if let (FromSlot::Idle, _) = self.receive().await? {
                return Ok(());
            }
        }
    }
}

/// In which state a sandbox is left.
enum Left {
    /// Its stage has ended, and the slot said so.
    Ended,
    /// It has to be killed.
    Running,
}

/// A sandbox that somebody has; dropped, it goes back to the table, whatever it was doing.
pub(super) struct Lease {
    slots: Arc<Slots>,
    prepared: Option<Prepared>,
    /// Whether its stage has ended: then nothing has to be killed.
    ended: bool,
    /// Counted as one that stays, if it does.
    staying: Option<Staying>,
}

impl Lease {
    fn new(slots: &Arc<Slots>, prepared: Prepared) -> Self {
        slots.table().busy += 1;
        Self { slots: Arc::clone(slots), prepared: Some(prepared), ended: false, staying: None }
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
        let mount_namespace = prepared.mount_namespace.as_ref().map(OwnedFd::try_clone).transpose()?;
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
    pub(super) fn ended(&mut self) {
        self.ended = true;
    }

    /// The slot.
    pub(super) fn slot(&self) -> Result<&SlotConnection, ExecError> {
        Ok(&self.prepared.as_ref().ok_or(ExecError::RunnerLost)?.slot)
    }

    /// The directory of the sandbox's files, and whose they are.
    pub(super) fn files(&self) -> io::Result<(OwnedFd, u32)> {
        let prepared = self.prepared.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        Ok((prepared.directory.try_clone()?, prepared.uid))
    }

    /// Waits until nothing is left of a sandbox whose stage has ended, and gives the slot back.
    pub(super) async fn finish(mut self) {
        let Some(Prepared { slot, directory, mount_namespace, .. }) = self.prepared.take() else { return };
        // The files are charged to the sandbox until nobody holds them.
        drop((directory, mount_namespace));
        self.slots.settle(slot, Left::Ended).await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.slots.table().busy -= 1;
        let Some(Prepared { slot, .. }) = self.prepared.take() else { return };
        self.slots.recycle(slot, if self.ended { Left::Ended } else { Left::Running });
    }
}

/// All slots of the runner.
pub(super) struct Slots {
    table: Mutex<Table>,
    ready_target: usize,
    disk: DiskLimits,
    me: Weak<Self>,
}

#[derive(Default)]
struct Table {
    idle: Vec<SlotConnection>,
    ready: VecDeque<Prepared>,
    /// Being prepared ahead; counted, or a burst of returns would prepare too many.
    preparing: usize,
    busy: u32,
    waiting: VecDeque<oneshot::Sender<SlotConnection>>,
    /// Where more slots can be had.
    runner: Option<Arc<AsyncFd<OwnedFd>>>,
    /// Sandboxes of this generation that stay, and how many slots were asked for on their account.
    staying: u32,
    added: u32,
    generation: u64,
    runner_lost: bool,
    closed: bool,
}

/// What a lease found.
enum Found {
    Ready(Box<Prepared>),
    Idle(SlotConnection),
    Wait(oneshot::Receiver<SlotConnection>),
}

impl Slots {
    pub(super) fn new(ready_target: usize, disk: DiskLimits) -> Arc<Self> {
        Arc::new_cyclic(|me| Self { table: Mutex::default(), ready_target, disk, me: me.clone() })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing between lock and unlock can panic half-way through a change that matters.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sandbox for a new job.
    pub(super) async fn lease(self: &Arc<Self>, disk: DiskLimits) -> Result<Lease, ExecError> {
        let found = {
            let mut table = self.table();
            table.check_open()?;
            let fitting = table.ready.iter().position(|prepared| prepared.disk == disk);
            match fitting.and_then(|at| table.ready.remove(at)) {
                Some(prepared) => Found::Ready(Box::new(prepared)),
                None => table.idle_or_wait(),
            }
        };
        if let Found::Ready(prepared) = found {
            return Ok(Lease::new(self, *prepared));
        }
        // In a task of its own: a caller that goes away must not tear a slot from its half-made sandbox.
        let slots = Arc::clone(self);
        let made = tokio::spawn(async move {
            let slot = match found {
                Found::Idle(slot) => slot,
                Found::Ready(_) => return Err(ExecError::RunnerLost),
                Found::Wait(turn) => slots.wait(turn).await?,
            };
            slot.prepare(Prepare::fresh(disk), disk, None).await.map(|prepared| Lease::new(&slots, prepared))
        });
        made.await.map_err(|_| ExecError::RunnerLost)?
    }

    /// A sandbox that goes on in the workspace of an earlier stage, which had this uid.
    pub(super) async fn lease_continuing(
        self: &Arc<Self>,
        uid: u32,
        disk: DiskLimits,
        mount_namespace: Option<OwnedFd>,
    ) -> Result<Lease, ExecError> {
        let slots = Arc::clone(self);
        let made = tokio::spawn(async move {
            let slot = slots.any().await?;
            let prepared = slot.prepare(Prepare::continuing(uid, disk), disk, mount_namespace.as_ref()).await?;
            Ok(Lease::new(&slots, prepared))
        });
        made.await.map_err(|_| ExecError::RunnerLost)?
    }

    /// A sandbox that stays. It has a slot of its own beyond those for jobs, which is started when the first needs it.
    pub(super) async fn lease_staying(self: &Arc<Self>, prepare: Prepare, disk: DiskLimits) -> Result<Lease, ExecError> {
        let slots = Arc::clone(self);
        let made = tokio::spawn(async move {
            let staying = Staying { generation: slots.stay()?, slots: Arc::clone(&slots) };
            let slot = slots.any().await?;
            let prepared = slot.prepare(prepare, disk, None).await?;
            let mut lease = Lease::new(&slots, prepared);
            lease.staying = Some(staying);
            Ok(lease)
        });
        made.await.map_err(|_| ExecError::RunnerLost)?
    }

    /// Counts one more that stays, and sees that there is a slot for it.
    fn stay(&self) -> Result<u64, ExecError> {
        let mut table = self.table();
        table.check_open()?;
        table.staying += 1;
        if table.added < table.staying
            && let Some(runner) = &table.runner
        {
            send(runner.get_ref(), &ToRunner::AddSlot, &[]).map_err(|_| ExecError::RunnerLost)?;
            table.added += 1;
        }
        Ok(table.generation)
    }

    async fn any(&self) -> Result<SlotConnection, ExecError> {
        let found = {
            let mut table = self.table();
            table.check_open()?;
            match table.idle.pop() {
                Some(slot) => Found::Idle(slot),
                // Rather than wait, give one that is prepared for somebody a new task.
                None => match table.ready.pop_back() {
                    Some(prepared) => Found::Ready(Box::new(prepared)),
                    None => table.idle_or_wait(),
                },
            }
        };
        match found {
            Found::Idle(slot) => Ok(slot),
            Found::Ready(prepared) => {
                let Prepared { slot, .. } = *prepared;
                slot.stop().await?;
                Ok(slot)
            }
            Found::Wait(turn) => self.wait(turn).await,
        }
    }

    async fn wait(&self, turn: oneshot::Receiver<SlotConnection>) -> Result<SlotConnection, ExecError> {
        match turn.await {
            Ok(slot) => Ok(slot),
            // The sender is dropped only when everything ends.
            Err(_) => Err(if self.table().closed { ExecError::ShuttingDown } else { ExecError::RunnerLost }),
        }
    }

    /// A new slot of the runner.
    pub(super) fn adopt(&self, index: u32, socket: AsyncFd<OwnedFd>, generation: u64, runner: Arc<AsyncFd<OwnedFd>>) {
        self.table().runner = Some(Arc::clone(&runner));
        self.place(SlotConnection { index, socket, generation, _runner: runner });
    }

    /// Another runner has taken over: the old one's free slots are given up, its busy ones when they come back.
    pub(super) fn next_generation(&self) -> u64 {
        let mut table = self.table();
        table.generation += 1;
        (table.runner, table.staying, table.added) = (None, 0, 0);
        table.idle.clear();
        table.ready.clear();
        table.generation
    }

    /// Brings a slot back: waits for its `Idle` in the background.
    fn recycle(&self, slot: SlotConnection, left: Left) {
        let Some(slots) = self.me.upgrade() else { return };
        tokio::spawn(async move { slots.settle(slot, left).await });
    }

    async fn settle(&self, slot: SlotConnection, left: Left) {
        let settled = match left {
            Left::Ended => slot.settle().await,
            Left::Running => slot.stop().await,
        };
        match settled {
            Ok(()) => self.place(slot),
            // At the end of the server, or of a runner, it is no news.
            Err(_) if self.table().is_ending() => {}
            // The runner replaces a slot that died, and announces the new one.
            Err(error) => tracing::warn!(slot = slot.index, %error, "a slot is lost"),
        }
    }

    fn place(&self, slot: SlotConnection) {
        let mut slot = slot;
        let mut table = self.table();
        if slot.generation != table.generation {
            return;
        }
        while let Some(waiter) = table.waiting.pop_front() {
            match waiter.send(slot) {
                Ok(()) => return,
                Err(back) => slot = back, // it has gone away meanwhile
            }
        }
        if table.closed || table.ready.len() + table.preparing >= self.ready_target {
            table.idle.push(slot);
            return;
        }
        table.preparing += 1;
        drop(table);
        let Some(slots) = self.me.upgrade() else { return };
        tokio::spawn(async move {
            let prepared = slot.prepare(Prepare::fresh(slots.disk), slots.disk, None).await;
            let mut table = slots.table();
            table.preparing -= 1;
            match prepared {
                Ok(prepared) if prepared.slot.generation != table.generation => drop(table),
                Ok(prepared) => match table.waiting.pop_front() {
                    // Somebody came for any slot while we prepared: rather than let it wait, start over with it.
                    Some(waiter) => {
                        drop(table);
                        slots.hand_over(prepared, waiter);
                    }
                    None => table.ready.push_back(prepared),
                },
                // At the end of the server, or of a runner, there is nothing to tell: its slots go with it.
                Err(_) if table.is_ending() => {}
                Err(error) => {
                    drop(table);
                    tracing::error!(%error, "a sandbox cannot be prepared ahead");
                }
            }
        });
    }

    fn hand_over(&self, prepared: Prepared, waiter: oneshot::Sender<SlotConnection>) {
        let Some(slots) = self.me.upgrade() else { return };
        tokio::spawn(async move {
            let Prepared { slot, .. } = prepared;
            if slot.stop().await.is_err() {
                return;
            }
            if let Err(back) = waiter.send(slot) {
                slots.place(back);
            }
        });
    }

    /// The runner is gone, and all its slots with it.
    pub(super) fn runner_lost(&self) {
        let mut table = self.table();
        table.runner_lost = true;
        table.idle.clear();
        table.ready.clear();
        table.waiting.clear();
    }

    pub(super) fn runner_back(&self) {
        self.table().runner_lost = false;
    }

    /// No lease any more.
    pub(super) fn close(&self) {
        let mut table = self.table();
        table.closed = true;
        table.idle.clear();
        table.ready.clear();
        table.waiting.clear();
    }

    pub(super) fn status(&self) -> LocalStatus {
        let table = self.table();
        LocalStatus {
            ready: u32::try_from(table.ready.len()).unwrap_or(u32::MAX),
            busy: table.busy,
            runner_alive: !table.runner_lost && !table.closed,
            ..LocalStatus::default()
        }
    }
}

/// One sandbox that is counted as staying, for as long as this lives.
struct Staying {
    slots: Arc<Slots>,
    generation: u64,
}

impl Drop for Staying {
    fn drop(&mut self) {
        let mut table = self.slots.table();
        if table.generation == self.generation {
            table.staying -= 1;
        }
    }
}

impl Table {
    /// Whether slots end because everything does.
    fn is_ending(&self) -> bool {
        self.closed || self.runner_lost
    }

    fn check_open(&self) -> Result<(), ExecError> {
        if self.closed {
            Err(ExecError::ShuttingDown)
        } else if self.runner_lost {
            Err(ExecError::RunnerLost)
        } else {
            Ok(())
        }
    }

    fn idle_or_wait(&mut self) -> Found {
        match self.idle.pop() {
            Some(slot) => Found::Idle(slot),
            None => {
                let (sender, receiver) = oneshot::channel();
                self.waiting.push_back(sender);
                Found::Wait(receiver)
            }
        }
    }
}
