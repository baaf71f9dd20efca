//! What is kept ready for jobs to come, and how many of each kind: a floor for each, and beyond the floors what was asked for lately, as
//! far as a budget of memory goes. Prepared sandboxes, children of zygotes and processes that stand by share it; each kind costs what
//! one of it was measured to hold.
//!
//! No I/O and no clock of its own: whoever asks says what is there and what time it is. What holds after any sequence of calls, once what
//! [`Stock::next`] says has been done (`stock/tests.rs` tries many):
//!
//! - Beyond the floors no more bytes are held than the budget has, and none is made that would hold more.
//! - No kind is ended at or below its floor, and each is made up to it.
//! - A kind that is asked for more than its floor serves gets one before any other gets its second. One that nobody asks for any more
//!   gives all back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What something is kept ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A program of its own, of whatever language.
    Program,
    /// A child of this zygote.
    Zygote(u32),
    /// A job that a process of this number stands by for.
    Standby(u32),
}

/// Who makes and ends a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The slots for jobs.
    Sandboxes,
    /// Those for sandboxes that stay.
    Standbys,
}

impl Kind {
    pub(super) fn zygote(self) -> Option<u32> {
        match self {
            Kind::Zygote(number) => Some(number),
            Kind::Program | Kind::Standby(_) => None,
        }
    }

    fn class(self) -> Class {
        match self {
            Kind::Program | Kind::Zygote(_) => Class::Sandboxes,
            Kind::Standby(_) => Class::Standbys,
        }
    }

    /// What one holds until it has been measured, bytes: rather too much.
    fn assumed_bytes(self) -> u64 {
        match self {
            Kind::Program | Kind::Zygote(_) => 2 << 20,
            Kind::Standby(_) => 128 << 20,
        }
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Make one.
    Make(Kind),
    /// End one that waits.
    End(Kind),
}

/// What bounds the adaptive part.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    /// Memory of all that is kept beyond the floors.
    pub(super) bytes: u64,
    /// Sandboxes that may be prepared at once, those of the floors included.
    pub(super) sandboxes: usize,
    /// Processes that may stand by at once, those of the floors included.
    pub(super) standbys: usize,
}

/// So much of what was asked for before is left of its weight with each job that comes ...
const MEMORY: f64 = 0.97;
/// ... and half of it after so long, microseconds.
const HALF_LIFE_US: f64 = 60e6;
/// One that is there is worth so much more than one that would have to be made: what comes and goes in turn is not made and ended in turn.
const KEEP: f64 = 1.5;
/// Nothing holds less, bytes: a page table and a stack.
const LEAST_BYTES: u64 = 64 << 10;
/// One of so many that are made is measured, and the first.
const MEASURED: u32 = 64;
/// The longest pause of a kind that cannot be prepared, in preparations of others that are let pass by.
const LONGEST_PAUSE: u32 = 64;

#[derive(Debug)]
struct Shelf {
    kind: Kind,
    floor: usize,
    /// How many beyond the floor are worth while.
    extra: usize,
    /// Ready, or being made.
    there: usize,
    cost_bytes: u64,
    /// How many were made, and whether one was measured.
    made: u32,
    is_measured: bool,
    /// How often it was asked for, lately.
    asked: f64,
    /// Failures in a row, and how many chances it still misses for them.
    failures: u32,
    pause: u32,
}

impl Shelf {
    fn new(kind: Kind, floor: usize) -> Self {
        let cost_bytes = kind.assumed_bytes();
        Self { kind, floor, extra: 0, there: 0, cost_bytes, made: 0, is_measured: false, asked: 0.0, failures: 0, pause: 0 }
    }

    fn beyond(&self) -> usize {
        self.there.saturating_sub(self.floor)
    }

    fn held_bytes(&self) -> u64 {
        self.cost_bytes.saturating_mul(self.beyond() as u64)
    }

    /// What one more than `extra` is worth; `None` where those that are there are enough for what is asked.
    fn worth(&self) -> Option<f64> {
        let weight = if self.extra < self.beyond() { self.asked * KEEP } else { self.asked };
        let enough = (self.floor + self.extra) as f64;
        (weight >= enough + 0.5).then_some(if self.extra == 0 { f64::MAX } else { weight / (enough + 1.0) })
    }
}

/// How much of something there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// How many.
    pub count: u64,
    /// Memory that they hold, bytes.
    pub bytes: u64,
}

/// What is kept ready for jobs to come, or being made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StockStatus {
    /// Sandboxes for any program.
    pub programs: Held,
    /// Sandboxes with a child of a warm interpreter.
    pub children: Held,
    /// Processes that stand by.
    pub standbys: Held,
    /// Memory of what is kept beyond the floors, bytes.
    pub adaptive_bytes: u64,
    /// The most that may be, bytes.
    pub adaptive_limit_bytes: u64,
}

/// The targets.
#[derive(Debug, Default)]
pub(super) struct Stock {
    shelves: Vec<Shelf>,
    bounds: Bounds,
    faded_at_us: u64,
    next_standby: u32,
}

impl Stock {
    /// `programs` and, for each zygote, `children` are kept in any case.
    pub(super) fn new(programs: usize, zygotes: u32, children: usize, bounds: Bounds) -> Self {
        let zygotes = (0..zygotes).map(|number| Shelf::new(Kind::Zygote(number), children));
        let shelves = std::iter::once(Shelf::new(Kind::Program, programs)).chain(zygotes).collect();
        Self { shelves, bounds, ..Self::default() }
    }

    /// So many processes may stand by at once.
    pub(super) fn bound_standbys(&mut self, most: usize) {
        self.bounds.standbys = most;
    }

    /// One more kind of processes that stand by.
    pub(super) fn open(&mut self, floor: usize) -> Kind {
        let kind = Kind::Standby(self.next_standby);
        self.next_standby = self.next_standby.wrapping_add(1);
        self.shelves.push(Shelf::new(kind, floor));
        kind
    }

    /// A kind that is not kept any more.
    pub(super) fn close(&mut self, kind: Kind) {
        self.shelves.retain(|shelf| shelf.kind != kind);
    }

    fn shelf(&mut self, kind: Kind) -> Option<&mut Shelf> {
        self.shelves.iter_mut().find(|shelf| shelf.kind == kind)
    }

    /// A job wants one of this kind.
    pub(super) fn asked(&mut self, kind: Kind, now_us: u64) {
        self.fade(now_us);
        for shelf in &mut self.shelves {
            shelf.asked = shelf.asked * MEMORY + f64::from(u8::from(shelf.kind == kind));
        }
    }

    fn fade(&mut self, now_us: u64) {
        let passed_us = now_us.saturating_sub(self.faded_at_us) as f64;
        self.faded_at_us = self.faded_at_us.max(now_us);
        let left = 0.5_f64.powf(passed_us / HALF_LIFE_US);
        self.shelves.iter_mut().for_each(|shelf| shelf.asked *= left);
    }

    /// All of a class: as many of each kind as `there` says.
    pub(super) fn count(&mut self, class: Class, there: impl Fn(Kind) -> usize) {
        self.shelves.iter_mut().filter(|shelf| shelf.kind.class() == class).for_each(|shelf| shelf.there = there(shelf.kind));
    }

    /// It could be prepared, or not.
    pub(super) fn prepared(&mut self, kind: Kind, well: bool) {
        let Some(shelf) = self.shelf(kind) else { return };
        shelf.failures = if well { 0 } else { shelf.failures + 1 };
        shelf.pause = if well { 0 } else { (1 << shelf.failures.min(16)).min(LONGEST_PAUSE) };
    }

    /// Whether what has just been made is to be measured.
    pub(super) fn is_sample(&mut self, kind: Kind) -> bool {
        let Some(shelf) = self.shelf(kind) else { return false };
        shelf.made = shelf.made.wrapping_add(1);
        !shelf.is_measured || shelf.made.is_multiple_of(MEASURED)
    }

    /// One that has just been made holds so much.
    pub(super) fn measured(&mut self, kind: Kind, bytes: u64) {
        let Some(shelf) = self.shelf(kind) else { return };
        let bytes = bytes.max(LEAST_BYTES);
        // The kernel charges by batches: one measurement is not the truth.
        shelf.cost_bytes =
            if shelf.is_measured { (shelf.cost_bytes / 4).saturating_mul(3).saturating_add(bytes / 4) } else { bytes };
        shelf.is_measured = true;
    }

    /// Whether it is worth while to prepare this kind for somebody who waits.
    pub(super) fn is_good(&mut self, kind: Kind) -> bool {
        let Some(shelf) = self.shelf(kind) else { return false };
        let good = shelf.pause == 0;
        shelf.pause = shelf.pause.saturating_sub(1);
        good
    }

    /// What its maker is to do next: make the kind that lacks most, of those that it can make now; else end what is too much. It is
    /// taken for done; where it could not be, [`Stock::count`] says so.
    pub(super) fn next(&mut self, class: Class, now_us: u64, can_make: impl Fn(Kind) -> bool) -> Option<Step> {
        self.fade(now_us);
        self.allot();
        let held: u64 = self.shelves.iter().map(Shelf::held_bytes).fold(0, u64::saturating_add);
        let mut best: Option<(usize, usize)> = None;
        for (at, shelf) in self.shelves.iter_mut().enumerate() {
            if shelf.kind.class() != class || !can_make(shelf.kind) {
                continue;
            }
            let missing = (shelf.floor + shelf.extra).saturating_sub(shelf.there);
            let fits = shelf.there < shelf.floor || held.saturating_add(shelf.cost_bytes) <= self.bounds.bytes;
            if missing > 0 && shelf.pause > 0 {
                shelf.pause -= 1;
            } else if fits && missing > best.map_or(0, |(most, _)| most) {
                best = Some((missing, at));
            }
        }
        if let Some((_, at)) = best {
            self.shelves[at].there += 1;
            return Some(Step::Make(self.shelves[at].kind));
        }
        let is_surplus = |shelf: &&mut Shelf| shelf.kind.class() == class && shelf.there > shelf.floor + shelf.extra;
        let surplus = self.shelves.iter_mut().find(is_surplus)?;
        surplus.there -= 1;
        Some(Step::End(surplus.kind))
    }

    /// Shares the budget out, one after the other to where one more is worth most.
    fn allot(&mut self) {
        let floors =
            |class| -> usize { self.shelves.iter().filter(|shelf| shelf.kind.class() == class).map(|shelf| shelf.floor).sum() };
        let mut sandboxes = self.bounds.sandboxes.saturating_sub(floors(Class::Sandboxes));
        let mut standbys = self.bounds.standbys.saturating_sub(floors(Class::Standbys));
        let mut bytes = self.bounds.bytes;
        self.shelves.iter_mut().for_each(|shelf| shelf.extra = 0);
        loop {
            let mut best: Option<(f64, f64, &mut Shelf)> = None;
            for shelf in &mut self.shelves {
                let room = if shelf.kind.class() == Class::Sandboxes { sandboxes } else { standbys };
                let Some(worth) = shelf.worth().filter(|_| room > 0 && shelf.cost_bytes <= bytes) else { continue };
                let asked = shelf.asked;
                if best.as_ref().is_none_or(|(most, often, _)| (worth, asked) > (*most, *often)) {
                    best = Some((worth, asked, shelf));
                }
            }
            let Some((_, _, shelf)) = best else { return };
            shelf.extra += 1;
            bytes -= shelf.cost_bytes;
            match shelf.kind.class() {
                Class::Sandboxes => sandboxes -= 1,
                Class::Standbys => standbys -= 1,
            }
        }
    }

    pub(super) fn status(&self) -> StockStatus {
        let held = |is: fn(Kind) -> bool| {
            self.shelves.iter().filter(|shelf| is(shelf.kind)).fold(Held::default(), |sum, shelf| Held {
                count: sum.count + shelf.there as u64,
                bytes: sum.bytes.saturating_add(shelf.cost_bytes.saturating_mul(shelf.there as u64)),
            })
        };
        StockStatus {
            programs: held(|kind| kind == Kind::Program),
            children: held(|kind| matches!(kind, Kind::Zygote(_))),
            standbys: held(|kind| matches!(kind, Kind::Standby(_))),
            adaptive_bytes: self.shelves.iter().map(Shelf::held_bytes).fold(0, u64::saturating_add),
            adaptive_limit_bytes: self.bounds.bytes,
        }
    }
}

/// The stock of all that make. Its lock is the innermost: nothing else is locked while it is held.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedStock(Arc<Mutex<Stock>>);

impl SharedStock {
    pub(super) fn new(stock: Stock) -> Self {
        Self(Arc::new(Mutex::new(stock)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Stock> {
        // Nothing in there panics half-way through a change that matters.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
