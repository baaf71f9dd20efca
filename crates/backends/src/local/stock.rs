//! Which kinds of sandboxes are kept prepared, and how many: a floor for each, and a share of a common rest by what was asked
//! for lately. No clock: what counts is how many jobs ago.

/// What a sandbox is prepared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A program of its own, of whatever language.
    Program,
    /// A child of this zygote.
    Zygote(u32),
}

impl Kind {
    pub(super) fn zygote(self) -> Option<u32> {
        match self {
            Kind::Program => None,
            Kind::Zygote(number) => Some(number),
        }
    }
}

/// So much of what was asked for before is left of its weight with each job that comes.
const MEMORY: f64 = 0.97;
/// The longest pause of a kind that cannot be prepared, in preparations of others that are let pass by.
const LONGEST_PAUSE: u32 = 64;

#[derive(Debug)]
struct Shelf {
    kind: Kind,
    floor: usize,
    /// How often it was asked for, lately.
    asked: f64,
    /// Failures in a row, and how many chances it still misses for them.
    failures: u32,
    pause: u32,
}

/// The targets.
#[derive(Debug, Default)]
pub(super) struct Stock {
    shelves: Vec<Shelf>,
    shared: usize,
}

impl Stock {
    /// `programs` and, for each zygote, `children` are kept in any case, `shared` beside them.
    pub(super) fn new(programs: usize, zygotes: u32, children: usize, shared: usize) -> Self {
        let shelf = |kind, floor| Shelf { kind, floor, asked: 0.0, failures: 0, pause: 0 };
        let zygotes = (0..zygotes).map(|number| shelf(Kind::Zygote(number), children));
        Self { shelves: std::iter::once(shelf(Kind::Program, programs)).chain(zygotes).collect(), shared }
    }

    /// A job wants one of this kind.
    pub(super) fn asked(&mut self, kind: Kind) {
        for shelf in &mut self.shelves {
            shelf.asked = shelf.asked * MEMORY + f64::from(u8::from(shelf.kind == kind));
        }
    }

    /// It could be prepared, or not.
    pub(super) fn prepared(&mut self, kind: Kind, well: bool) {
        for shelf in self.shelves.iter_mut().filter(|shelf| shelf.kind == kind) {
            shelf.failures = if well { 0 } else { shelf.failures + 1 };
            shelf.pause = if well { 0 } else { (1 << shelf.failures.min(16)).min(LONGEST_PAUSE) };
        }
    }

    /// Whether it is worth while to prepare this kind for somebody who waits.
    pub(super) fn is_good(&mut self, kind: Kind) -> bool {
        let Some(shelf) = self.shelves.iter_mut().find(|shelf| shelf.kind == kind) else { return false };
        let good = shelf.pause == 0;
        shelf.pause = shelf.pause.saturating_sub(1);
        good
    }

    /// What to prepare next, where so many of each kind are there or on their way: the kind that lacks most of its target.
    pub(super) fn next(&mut self, there: impl Fn(Kind) -> usize) -> Option<Kind> {
        let all: f64 = self.shelves.iter().map(|shelf| shelf.asked).sum();
        let shared = u32::try_from(self.shared).map_or(f64::from(u32::MAX), f64::from);
        let mut best: Option<(usize, Kind)> = None;
        for shelf in &mut self.shelves {
            let share = if all > 0.0 { (shared * shelf.asked / all).round() } else { 0.0 };
            let mut target = shelf.floor;
            while ((target - shelf.floor) as f64) < share {
                target += 1;
            }
            let missing = target.saturating_sub(there(shelf.kind));
            if missing > 0 && shelf.pause > 0 {
                shelf.pause -= 1;
            } else if missing > best.map_or(0, |(most, _)| most) {
                best = Some((missing, shelf.kind));
            }
        }
        best.map(|(_, kind)| kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prepares until nothing is missing.
    fn fill(stock: &mut Stock) -> (usize, usize) {
        let (mut programs, mut children) = (0, 0);
        while let Some(kind) = stock.next(|kind| if kind == Kind::Program { programs } else { children }) {
            match kind {
                Kind::Program => programs += 1,
                Kind::Zygote(_) => children += 1,
            }
            assert!(programs + children < 100, "no end");
        }
        (programs, children)
    }

    #[test]
    fn the_floor_is_kept_and_the_rest_follows_what_is_asked_for() {
        let mut stock = Stock::new(2, 1, 3, 6);
        assert_eq!(fill(&mut stock), (2, 3));
        (0..200).for_each(|_| stock.asked(Kind::Zygote(0)));
        assert_eq!(fill(&mut stock), (2, 9));
        (0..200).for_each(|_| stock.asked(Kind::Program));
        assert_eq!(fill(&mut stock), (8, 3));
    }

    #[test]
    fn a_kind_that_cannot_be_prepared_is_tried_more_and_more_rarely_and_never_given_up() {
        let mut stock = Stock::new(0, 1, 1, 0);
        let mut tries = Vec::new();
        for chance in 0..1000 {
            if stock.next(|_| 0).is_some() {
                tries.push(chance);
                stock.prepared(Kind::Zygote(0), false);
            }
        }
        assert!(tries.len() < 30, "{tries:?}");
        assert!(tries.last().is_some_and(|last| *last > 900), "{tries:?}");
        stock.prepared(Kind::Zygote(0), true);
        assert!(stock.is_good(Kind::Zygote(0)));
    }
}
