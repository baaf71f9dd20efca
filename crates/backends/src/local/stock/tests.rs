use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const MB: u64 = 1 << 20;

fn bounds(bytes: u64) -> Bounds {
    Bounds { bytes, sandboxes: 40, standbys: 40 }
}

/// Does what the stock says until it says nothing, and looks at each step.
struct World {
    stock: Stock,
    floors: HashMap<Kind, usize>,
    costs: HashMap<Kind, u64>,
    there: HashMap<Kind, usize>,
    bounds: Bounds,
    now_us: u64,
    ended: usize,
}

impl World {
    fn new(programs: usize, children: usize, standby_floors: &[usize], bounds: Bounds) -> Self {
        let mut stock = Stock::new(programs, 1, children, bounds);
        let mut floors = HashMap::from([(Kind::Program, programs), (Kind::Zygote(0), children)]);
        floors.extend(standby_floors.iter().map(|&floor| (stock.open(floor), floor)));
        let costs = floors.keys().map(|&kind| (kind, kind.assumed_bytes())).collect();
        Self { stock, floors, costs, there: HashMap::new(), bounds, now_us: 0, ended: 0 }
    }

    fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = self.floors.keys().copied().collect();
        kinds.sort();
        kinds
    }

    fn there(&self, kind: Kind) -> usize {
        self.there.get(&kind).copied().unwrap_or(0)
    }

    fn beyond(&self, kind: Kind) -> usize {
        self.there(kind).saturating_sub(self.floors[&kind])
    }

    fn adaptive_bytes(&self) -> u64 {
        self.kinds().into_iter().map(|kind| self.beyond(kind) as u64 * self.costs[&kind]).sum()
    }

    /// A job comes, and takes what is ready for it.
    fn ask(&mut self, kind: Kind) {
        self.stock.asked(kind, self.now_us);
        let left = self.there(kind).saturating_sub(1);
        self.there.insert(kind, left);
    }

    fn measure(&mut self, kind: Kind, bytes: u64) {
        self.stock.measured(kind, bytes);
        let shelf = self.stock.shelf(kind).unwrap();
        self.costs.insert(kind, shelf.cost_bytes);
    }

    fn work(&mut self) {
        // Each maker knows only its own; what the other has is as it was when it looked last.
        for round in 0.. {
            assert!(round < 10, "no end");
            let mut rests = true;
            for class in [Class::Sandboxes, Class::Standbys] {
                let there = self.there.clone();
                self.stock.count(class, |kind| there.get(&kind).copied().unwrap_or(0));
                let mut steps = 0;
                while let Some(step) = self.stock.next(class, self.now_us, |_| true) {
                    (rests, steps) = (false, steps + 1);
                    assert!(steps < 500, "no end");
                    self.step(step, class);
                }
            }
            if rests {
                break;
            }
        }
        self.check();
    }

    fn step(&mut self, step: Step, class: Class) {
        match step {
            Step::Make(kind) => {
                assert_eq!(kind.class(), class);
                let before = self.adaptive_bytes();
                *self.there.entry(kind).or_default() += 1;
                let after = self.adaptive_bytes();
                assert!(after == before || after <= self.bounds.bytes, "{kind:?} does not fit: {after}");
            }
            Step::End(kind) => {
                assert_eq!(kind.class(), class);
                assert!(self.beyond(kind) > 0, "{kind:?} has no more than its floor");
                *self.there.entry(kind).or_default() -= 1;
                self.ended += 1;
            }
        }
    }

    /// The invariants, when nothing is left to be done.
    fn check(&self) {
        assert!(self.adaptive_bytes() <= self.bounds.bytes, "{:?} {:?}", self.there, self.costs);
        let sum = |class: Class| -> usize {
            self.kinds().into_iter().filter(|kind| kind.class() == class).map(|kind| self.there(kind)).sum()
        };
        let floors = |class: Class| -> usize {
            self.kinds().into_iter().filter(|kind| kind.class() == class).map(|kind| self.floors[&kind]).sum()
        };
        assert!(sum(Class::Sandboxes) <= self.bounds.sandboxes.max(floors(Class::Sandboxes)));
        assert!(sum(Class::Standbys) <= self.bounds.standbys.max(floors(Class::Standbys)));
        for kind in self.kinds() {
            assert!(self.there(kind) >= self.floors[&kind], "{kind:?} is below its floor");
        }
        let status = self.stock.status();
        assert_eq!((status.adaptive_bytes, status.adaptive_limit_bytes), (self.adaptive_bytes(), self.bounds.bytes));
        assert_eq!(status.programs.count, self.there(Kind::Program) as u64);
    }
}

#[derive(Clone, Debug)]
enum Event {
    Ask(usize, u8),
    Measure(usize, u64),
    Later(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0usize..4, 1u8..40).prop_map(|(kind, times)| Event::Ask(kind, times)),
        1 => (0usize..4, 0u64..(300 * MB)).prop_map(|(kind, bytes)| Event::Measure(kind, bytes)),
        2 => (0u64..90_000_000).prop_map(Event::Later),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_comes_the_budget_is_not_exceeded_and_the_floors_are_kept(
        programs in 0usize..4,
        children in 0usize..6,
        standbys in 0usize..3,
        bytes in 0u64..(1024 * MB),
        sandboxes in 0usize..30,
        events in proptest::collection::vec(event(), 1..60),
    ) {
        let mut world = World::new(programs, children, &[standbys, standbys], Bounds { bytes, sandboxes, standbys: 8 });
        world.work();
        let kinds = world.kinds();
        for event in events {
            match event {
                Event::Ask(kind, times) => (0..times).for_each(|_| world.ask(kinds[kind])),
                Event::Measure(kind, bytes) => world.measure(kinds[kind], bytes),
                Event::Later(us) => world.now_us += us,
            }
            world.work();
        }
        // Nobody asks for anything any more.
        world.now_us += 3_600_000_000;
        world.work();
        prop_assert_eq!(world.adaptive_bytes(), 0);
    }

    #[test]
    fn what_is_asked_for_gets_some_and_what_is_not_any_more_gives_it_back(
        arrivals in proptest::collection::vec(0usize..4, 100..300),
        costs in proptest::collection::vec((64u64 << 10)..(120 * MB), 4),
    ) {
        // One of each fits.
        let mut world = World::new(1, 1, &[1, 1], bounds(480 * MB));
        let kinds = world.kinds();
        for (&kind, &cost) in kinds.iter().zip(&costs) {
            world.measure(kind, cost);
        }
        for &arrival in &arrivals {
            world.ask(kinds[arrival]);
            world.work();
        }
        for (at, &kind) in kinds.iter().enumerate() {
            if arrivals[arrivals.len() - 20..].iter().filter(|arrival| **arrival == at).count() > 2 {
                prop_assert!(world.beyond(kind) > 0, "{:?} was asked for and has none: {:?}", kind, world.there);
            }
        }
        for _ in 0..400 {
            world.ask(kinds[0]);
            world.work();
        }
        for &kind in &kinds[1..] {
            prop_assert_eq!(world.beyond(kind), 0, "{:?}", kind);
        }
        prop_assert!(world.beyond(kinds[0]) > 0);
    }

    #[test]
    fn kinds_that_come_in_turn_are_not_made_and_ended_in_turn(order in proptest::collection::vec(0usize..2, 400)) {
        let mut world = World::new(0, 0, &[1, 1], bounds(400 * MB));
        let standbys = [Kind::Standby(0), Kind::Standby(1)];
        (0..100).for_each(|n| { world.ask(standbys[n % 2]); world.work(); });
        world.ended = 0;
        for at in order {
            world.ask(standbys[at]);
            world.work();
        }
        prop_assert!(world.ended < 40, "{} of 400 were made for nothing", world.ended);
    }
}

#[test]
fn the_floor_is_kept_and_the_rest_follows_what_is_asked_for() {
    let mut world = World::new(2, 3, &[], bounds(12 * MB));
    world.work();
    assert_eq!((world.there(Kind::Program), world.there(Kind::Zygote(0))), (2, 3));
    (0..200).for_each(|_| world.ask(Kind::Zygote(0)));
    world.work();
    assert_eq!((world.there(Kind::Program), world.there(Kind::Zygote(0))), (2, 9));
    (0..200).for_each(|_| world.ask(Kind::Program));
    world.work();
    assert_eq!((world.there(Kind::Program), world.there(Kind::Zygote(0))), (8, 3));
}

#[test]
fn what_costs_less_than_was_thought_is_kept_in_greater_number() {
    let mut world = World::new(0, 0, &[1], bounds(256 * MB));
    let node = Kind::Standby(0);
    (0..100).for_each(|_| world.ask(node));
    world.work();
    assert_eq!(world.there(node), 3);
    world.measure(node, 40 * MB);
    world.work();
    assert_eq!(world.there(node), 7);
    assert_eq!(world.stock.status().standbys, Held { count: 7, bytes: 280 * MB });
}

#[test]
fn the_first_is_measured_and_then_one_of_many() {
    let mut stock = Stock::new(1, 0, 0, bounds(0));
    let mut samples = 0;
    for _ in 0..640 {
        if stock.is_sample(Kind::Program) {
            samples += 1;
            stock.measured(Kind::Program, MB);
        }
    }
    assert_eq!(samples, 11);
}

#[test]
fn a_kind_that_cannot_be_prepared_is_tried_more_and_more_rarely_and_never_given_up() {
    let mut stock = Stock::new(0, 1, 1, bounds(0));
    let mut tries = Vec::new();
    for chance in 0..1000 {
        stock.count(Class::Sandboxes, |_| 0);
        if stock.next(Class::Sandboxes, 0, |_| true).is_some() {
            tries.push(chance);
            stock.prepared(Kind::Zygote(0), false);
        }
    }
    assert!(tries.len() < 30, "{tries:?}");
    assert!(tries.last().is_some_and(|last| *last > 900), "{tries:?}");
    stock.prepared(Kind::Zygote(0), true);
    assert!(stock.is_good(Kind::Zygote(0)));
}
