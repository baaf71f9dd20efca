use greenroom_sandbox::message::{packet_pair, receive};
use tokio::io::Interest;

use super::*;

/// The first sessions of a server are asked for before its runner's first slot is there.
#[tokio::test]
async fn what_stays_has_its_slot_also_when_it_was_asked_for_before_the_runner_was_known() {
    let slots = Slots::new(SharedStock::default(), DiskLimits { bytes: 0, inodes: 0 });
    for _ in 0..3 {
        slots.stay().unwrap();
    }
    let ((runner, far_runner), (slot, _far_slot)) = (packet_pair().unwrap(), packet_pair().unwrap());
    let runner = Arc::new(crate::local::runner::watch(runner, Interest::READABLE).unwrap());
    slots.adopt(SlotConnection::new(0, slot, 0, Arc::clone(&runner)).unwrap(), Arc::clone(&runner));
    slots.stay().unwrap();
    rustix::io::ioctl_fionbio(&far_runner, true).unwrap();
    let asked = std::iter::from_fn(|| receive::<ToRunner>(&far_runner).ok().flatten()).count();
    assert_eq!(asked, 4);
}
