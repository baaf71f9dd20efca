use greenroom_sandbox::message::{packet_pair, receive};
use tokio::io::Interest;

use super::*;

/// What a runner hears that has one slot.
struct Runner {
    far: OwnedFd,
    _slot: OwnedFd,
}

impl Runner {
    fn adopted(slots: &Slots, generation: u64) -> Self {
        let ((runner, far), (slot, far_slot)) = (packet_pair().unwrap(), packet_pair().unwrap());
        let runner = Arc::new(crate::local::runner::watch(runner, Interest::READABLE).unwrap());
        slots.adopt(SlotConnection::new(0, slot, generation, Arc::clone(&runner)).unwrap(), Arc::clone(&runner));
        rustix::io::ioctl_fionbio(&far, true).unwrap();
        Self { far, _slot: far_slot }
    }

    /// How many slots it was asked for.
    fn asked(&self) -> usize {
        std::iter::from_fn(|| receive::<ToRunner>(&self.far).ok().flatten()).count()
    }
}

/// The first sessions of a server are asked for before its runner's first slot is there.
#[tokio::test]
async fn what_stays_has_its_slot_also_when_it_was_asked_for_before_the_runner_was_known() {
    let slots = Slots::new(SharedStock::default(), DiskLimits { bytes: 0, inodes: 0 });
    let _first: Vec<_> = (0..3).map(|_| Staying::begin(&slots).unwrap()).collect();
    let runner = Runner::adopted(&slots, 0);
    let _fourth = Staying::begin(&slots).unwrap();
    assert_eq!(runner.asked(), 4);
}

#[tokio::test]
async fn what_waits_when_another_runner_takes_over_is_counted_there_once() {
    let slots = Slots::new(SharedStock::default(), DiskLimits { bytes: 0, inodes: 0 });
    let old = Runner::adopted(&slots, 0);
    let begin = || Staying::begin(&slots).unwrap();
    let (mut there, mut late, mut waits, gone) = (begin(), begin(), begin(), begin());
    assert_eq!(old.asked(), 4);
    there.has(0);
    drop(gone);
    slots.next_generation();
    // Its slot of the old one was on its way.
    late.has(0);
    let new = Runner::adopted(&slots, 1);
    assert_eq!((new.asked(), slots.table().staying), (1, 1));
    waits.has(1);
    let counted = |table: &super::Table| (table.staying, table.awaited);
    assert_eq!(counted(&slots.table()), (1, 0));
    drop((there, late));
    assert_eq!(slots.table().staying, 1);
    drop(waits);
    assert_eq!(slots.table().staying, 0);
}
