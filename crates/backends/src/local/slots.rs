//! The slots: which are free, which are prepared, who waits.
//!
//! A slot's connection has one owner at a time: this table, an execution, or a task that brings it back. What
//! comes back is offered to a waiter first, then prepared ahead up to the target, else kept idle.

mod choice;
mod expected;
mod staying;

use std::{
    collections::VecDeque,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use greenroom_core::DiskLimits;
use greenroom_sandbox::message::{Prepare, ToRunner, send};
use tokio::{io::unix::AsyncFd, sync::oneshot};

use self::expected::Expected;
pub(super) use self::staying::Staying;
use super::{
    ExecError, LocalStatus, monotonic_us,
    slot::{Lease, Left, NotMade, Prepared, SlotConnection},
    stock::{Class, Kind, SharedStock, Step},
};

/// All slots of the runner.
pub(super) struct Slots {
    table: Mutex<Table>,
    disk: DiskLimits,
    me: Weak<Self>,
}

#[derive(Default)]
pub(super) struct Table {
    idle: Vec<SlotConnection>,
    ready: VecDeque<Prepared>,
    expected: Expected<Prepared>,
    stock: SharedStock,
    pub(super) busy: u32,
    waiting: VecDeque<oneshot::Sender<SlotConnection>>,
    /// Where more slots can be had.
    runner: Option<Arc<AsyncFd<OwnedFd>>>,
    /// Sandboxes of this generation that stay; those of them that wait for their slot, and will have one of whichever generation is there
    /// then; and how many slots were asked for on the account of all.
    staying: u32,
    awaited: u32,
    added: u32,
    generation: u64,
    runner_lost: bool,
    closed: bool,
}

/// What was found.
enum Found {
    Ready(Box<Prepared>),
    Idle(SlotConnection),
    Wait(oneshot::Receiver<SlotConnection>),
}

impl Slots {
    /// Prepared ahead are sandboxes with this quota, as many of each kind as `stock` says.
    pub(super) fn new(stock: SharedStock, disk: DiskLimits) -> Arc<Self> {
        Arc::new_cyclic(|me| Self { table: Mutex::new(Table { stock, ..Table::default() }), disk, me: me.clone() })
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing between lock and unlock can panic half-way through a change that matters.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a sandbox of this kind made; one for any program, where that cannot be had.
    async fn make_or_cold(self: &Arc<Self>, prepare: Prepare, disk: DiskLimits, kind: Kind) -> Result<Lease, ExecError> {
        match self.make(prepare.from_zygote(kind.zygote()), disk, None).await {
            Err(error @ ExecError::Sandbox { .. }) if kind != Kind::Program => {
                tracing::warn!(%error, "no child of a zygote can be had: the program starts cold");
                self.make(prepare, disk, None).await
            }
            made => made,
        }
    }

    /// Has a sandbox made in any slot.
    async fn make(self: &Arc<Self>, prepare: Prepare, disk: DiskLimits, base: Option<&OwnedFd>) -> Result<Lease, ExecError> {
        let made = self.any().await?.prepare(prepare, disk, base).await;
        self.table().stock.lock().prepared(prepare.zygote.map_or(Kind::Program, Kind::Zygote), made.is_ok());
        match made {
            Ok(prepared) => Ok(Lease::new(self, prepared)),
            Err(NotMade { error, slot }) => {
                slot.into_iter().for_each(|slot| self.place(slot));
                Err(error)
            }
        }
    }

    /// A sandbox that goes on in the workspace of an earlier stage, which had this uid.
    pub(super) async fn lease_continuing(
        self: &Arc<Self>,
        uid: u32,
        disk: DiskLimits,
        mount_namespace: Option<OwnedFd>,
    ) -> Result<Lease, ExecError> {
        let slots = Arc::clone(self);
        let made = tokio::spawn(async move { slots.make(Prepare::continuing(uid, disk), disk, mount_namespace.as_ref()).await });
        made.await.map_err(|_| ExecError::RunnerLost)?
    }

    /// A sandbox that stays. It has a slot of its own beyond those for jobs, which is started when the first needs it.
    pub(super) async fn lease_staying(
        self: &Arc<Self>,
        prepare: Prepare,
        disk: DiskLimits,
        kind: Kind,
    ) -> Result<Lease, ExecError> {
        let slots = Arc::clone(self);
        let made = tokio::spawn(async move {
            let mut staying = Staying::begin(&slots)?;
            let mut lease = slots.make_or_cold(prepare, disk, kind).await?;
            staying.has(lease.slot()?.generation);
            lease.staying = Some(staying);
            Ok(lease)
        });
        made.await.map_err(|_| ExecError::RunnerLost)?
    }

    async fn any(&self) -> Result<SlotConnection, ExecError> {
        loop {
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
                Found::Idle(slot) => return Ok(slot),
                Found::Ready(prepared) => {
                    let Prepared { slot, .. } = *prepared;
                    // One that is gone is replaced; there are others.
                    if slot.stop().await.is_ok() {
                        return Ok(slot);
                    }
                }
                Found::Wait(turn) => return self.wait(turn).await,
            }
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
    pub(super) fn adopt(&self, slot: SlotConnection, runner: Arc<AsyncFd<OwnedFd>>) {
        {
            let mut table = self.table();
            table.runner = Some(runner);
            if let Err(error) = table.add_slots() {
                tracing::debug!(%error, "the runner is gone before its slot came");
            }
        }
        self.place(slot);
    }

    /// Another runner has taken over: the old one's free slots are given up, its busy ones when they come back. Who waits for a slot to
    /// stay in has it of the new one.
    pub(super) fn next_generation(&self) -> u64 {
        let mut table = self.table();
        table.generation += 1;
        (table.runner, table.staying, table.added) = (None, table.awaited, 0);
        table.idle.clear();
        table.ready.clear();
        table.expected.give_up();
        table.generation
    }

    /// Has a slot make what is missing, as soon as nothing is left of its sandbox.
    pub(super) async fn turn_over(self: Arc<Self>, slot: SlotConnection, left: Left) {
        let next = if left == Left::Exited { self.next_kind(&slot) } else { None };
        match next {
            // It finds this when it is done with the other: nobody has to be woken up in between.
            Some(kind) => self.prepare_ahead(slot, kind).await,
            None => self.settle(slot, left).await,
        }
    }

    /// What to prepare in a slot that will be free in a moment, unless somebody waits for it.
    fn next_kind(&self, slot: &SlotConnection) -> Option<Kind> {
        let mut table = self.table();
        let is_free = slot.generation == table.generation && table.waiting.is_empty() && !table.is_ending();
        // What is too much is ended by those that rest.
        let Some(Step::Make(kind)) = is_free.then(|| table.next_step(true)).flatten() else { return None };
        table.expected.begin(kind);
        Some(kind)
    }

    /// Brings a slot back, as soon as nothing is left of its sandbox.
    pub(super) async fn settle(&self, slot: SlotConnection, left: Left) {
        let settled = match left {
            Left::Ended | Left::Exited => slot.settle().await,
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
        table.idle.push(slot);
        if !table.closed {
            self.restock(table);
        }
    }

    /// Has idle slots prepare what is missing.
    fn restock(&self, mut table: MutexGuard<'_, Table>) {
        let Some(slots) = self.me.upgrade() else { return };
        while let Some(step) = table.next_step(!table.idle.is_empty()) {
            match step {
                Step::Make(kind) => {
                    let Some(slot) = table.idle.pop() else { return };
                    table.expected.begin(kind);
                    tokio::spawn(Arc::clone(&slots).prepare_ahead(slot, kind));
                }
                Step::End(kind) => {
                    // Else it is one that is being prepared: it is ended when it is ready.
                    let ready = table.ready.iter().rposition(|prepared| prepared.kind == kind);
                    let Some(prepared) = ready.and_then(|at| table.ready.remove(at)) else { return };
                    let slots = Arc::clone(&slots);
                    tokio::spawn(async move {
                        let Prepared { slot, .. } = prepared;
                        slots.settle(slot, Left::Running).await;
                    });
                }
            }
        }
    }

    /// Looks whether what is ready is still worth its memory.
    pub(super) fn look_over(&self) {
        let table = self.table();
        if !table.is_ending() {
            self.restock(table);
        }
    }

    /// What one of a kind holds is measured now and then.
    async fn measure(&self, prepared: &Prepared) {
        let is_sample = self.table().stock.lock().is_sample(prepared.kind);
        if is_sample && let Some(bytes) = prepared.slot.count().await.and_then(|counted| counted.memory_bytes) {
            self.table().stock.lock().measured(prepared.kind, bytes);
        }
    }

    async fn prepare_ahead(self: Arc<Self>, slot: SlotConnection, kind: Kind) {
        let made = slot.prepare(Prepare::fresh(self.disk).from_zygote(kind.zygote()), self.disk, None).await;
        if let Ok(prepared) = &made {
            self.measure(prepared).await;
        }
        let mut table = self.table();
        table.stock.lock().prepared(kind, made.is_ok());
        let made = match made {
            Ok(prepared) if prepared.slot.generation == table.generation => match table.expected.done(kind, prepared) {
                Some(prepared) => Ok(prepared),
                None => return,
            },
            other => {
                table.expected.failed(kind);
                other
            }
        };
        match made {
            Ok(prepared) if prepared.slot.generation != table.generation => drop(table),
            Ok(prepared) => match table.waiting.pop_front() {
                // Somebody came for any slot while we prepared: rather than let it wait, start over with it.
                Some(waiter) => {
                    drop(table);
                    self.hand_over(prepared, waiter);
                }
                None => table.ready.push_back(prepared),
            },
            // At the end of the server, or of a runner, there is nothing to tell: its slots go with it.
            Err(_) if table.is_ending() => {}
            Err(NotMade { error, slot }) => {
                drop(table);
                tracing::error!(%error, ?kind, "a sandbox cannot be prepared ahead");
                slot.into_iter().for_each(|slot| self.place(slot));
            }
        }
    }

    fn hand_over(&self, prepared: Prepared, waiter: oneshot::Sender<SlotConnection>) {
        let Some(slots) = self.me.upgrade() else { return };
        tokio::spawn(async move {
            let Prepared { slot, .. } = prepared;
            if slot.stop().await.is_err() {
                // It is gone, and is replaced: who waited for it is the next.
                let mut table = slots.table();
                if !table.is_ending() {
                    table.waiting.push_front(waiter);
                }
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
        table.give_up();
    }

    pub(super) fn runner_back(&self) {
        self.table().runner_lost = false;
    }

    /// No lease any more.
    pub(super) fn close(&self) {
        let mut table = self.table();
        table.closed = true;
        table.give_up();
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

impl Table {
    /// Asks for as many slots as sandboxes stay. Before the runner is known, and while it does not keep up, that is done later: each slot
    /// that comes is another chance.
    fn add_slots(&mut self) -> io::Result<()> {
        let Some(runner) = &self.runner else { return Ok(()) };
        while self.added < self.staying {
            match send(runner.get_ref(), &ToRunner::AddSlot, &[]) {
                Ok(()) => self.added += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// There is nothing any more, and nobody who waits gets anything.
    fn give_up(&mut self) {
        self.idle.clear();
        self.ready.clear();
        self.waiting.clear();
        self.expected.give_up();
    }

    /// Whether slots end because everything does.
    fn is_ending(&self) -> bool {
        self.closed || self.runner_lost
    }

    fn next_step(&self, can_make: bool) -> Option<Step> {
        let mut stock = self.stock.lock();
        stock.count(Class::Sandboxes, |kind| {
            // What somebody waits for is gone when it is there.
            self.ready.iter().filter(|prepared| prepared.kind == kind).count() + self.expected.free(kind)
        });
        stock.next(Class::Sandboxes, monotonic_us(), |_| can_make)
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

#[cfg(test)]
mod tests;
