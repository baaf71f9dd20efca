//! What a job is given: what is ready, what will be in a moment, or what is made for it.

use std::{sync::Arc, time::Duration};

use greenroom_core::DiskLimits;
use greenroom_sandbox::message::Prepare;
use tokio::{sync::oneshot, time::timeout};

use super::{
    super::{
        ExecError, monotonic_us,
        slot::{Lease, Prepared},
        stock::Kind,
    },
    Slots, Table,
};

/// What is being prepared takes a millisecond or two; a fresh start is not waited for longer.
const SOON: Duration = Duration::from_millis(20);

/// What a job is given.
enum Choice {
    Ready(Box<Prepared>),
    /// It is being prepared.
    Soon(oneshot::Receiver<Prepared>),
    Make(Kind),
}

impl Slots {
    /// A sandbox for a new job: of this kind, if that can be had sooner than one for any program.
    pub(in super::super) async fn lease(self: &Arc<Self>, disk: DiskLimits, kind: Kind) -> Result<Lease, ExecError> {
        self.table().stock.lock().asked(kind, monotonic_us());
        let choice = match self.choose(disk, kind, true)? {
            Choice::Ready(prepared) => {
                let mut lease = Lease::new(self, *prepared);
                lease.was_ready = true;
                return Ok(lease);
            }
            other => other,
        };
        // In a task of its own: a caller that goes away must not tear a slot from its half-made sandbox.
        let slots = Arc::clone(self);
        let made = tokio::spawn(async move { slots.wait_or_make(choice, disk, kind).await });
        made.await.map_err(|_| ExecError::RunnerLost)?
    }

    /// `waits`: it may also be one that is not ready yet.
    fn choose(&self, disk: DiskLimits, kind: Kind, waits: bool) -> Result<Choice, ExecError> {
        let mut table = self.table();
        table.check_open()?;
        // What is prepared ahead has the quota of all.
        Ok(table.choose(disk, kind, waits && disk == self.disk))
    }

    async fn wait_or_make(self: &Arc<Self>, choice: Choice, disk: DiskLimits, kind: Kind) -> Result<Lease, ExecError> {
        let mut choice = choice;
        loop {
            match choice {
                Choice::Ready(prepared) => return Ok(Lease::new(self, *prepared)),
                Choice::Make(kind) => return self.make_or_cold(Prepare::fresh(disk), disk, kind).await,
                Choice::Soon(mut soon) => {
                    let waited = timeout(SOON, &mut soon).await;
                    // Also what was handed over just now: with it a slot would be lost.
                    soon.close();
                    let (prepared, waits) = match waited {
                        Ok(prepared) => (prepared.ok(), true),
                        Err(_) => (soon.try_recv().ok(), false),
                    };
                    match prepared {
                        Some(prepared) => return Ok(Lease::new(self, prepared)),
                        None => choice = self.choose(disk, kind, waits)?,
                    }
                }
            }
        }
    }
}

impl Table {
    /// What is there for a job that wants this kind, or what to make for it.
    fn choose(&mut self, disk: DiskLimits, kind: Kind, waits: bool) -> Choice {
        let mut take = |kind| {
            loop {
                let at = self.ready.iter().position(|prepared| prepared.disk == disk && prepared.kind == kind)?;
                let prepared = self.ready.remove(at)?;
                // Of a runner that was killed a moment ago: a job in it would fail for nothing.
                if !prepared.slot.has_spoken() {
                    return Some(Choice::Ready(Box::new(prepared)));
                }
            }
        };
        if let Some(ready) = take(kind) {
            return ready;
        }
        // What was begun earlier is there before what would be begun now.
        if waits && let Some(soon) = self.expected.expect(kind) {
            return Choice::Soon(soon);
        }
        // A fork costs a fraction of a start, but not more than a start and a wait.
        if kind != Kind::Program && (self.idle.is_empty() || !self.stock.lock().is_good(kind)) {
            return take(Kind::Program).unwrap_or(Choice::Make(Kind::Program));
        }
        Choice::Make(kind)
    }
}
