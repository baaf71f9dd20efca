//! The network of sessions.
//!
//! ```text
//!  program ── socket ── kernel of the sandbox's namespace ── device net0
//!                                                              │ IP packets, over a descriptor
//!  host's socket ◄── flow ◄── TCP of our own (smoltcp) ◄── task of the session
//! ```
//!
//! A task per session reads the packets that its programs send. Where one begins something new, the [`Policy`] is asked, and an
//! ordinary socket of the host is connected; only then is the program answered, as its far end would. Nothing of the host's network is
//! changed, no packet of a program ever leaves, and two sessions have nothing in common but the world outside.
//!
//! | module | what it is |
//! |---|---|
//! | `policy` | what may be reached: pure |
//! | `route` | whether an address is the host's own: the kernel says |
//! | `packet` | packets, read and written: pure |
//! | `bucket` | how often something may happen: pure |
//! | `count` | what was done and refused, for the operator |
//! | `names` | whom the host asks for names |
//! | `device` | where packets come from and go to |
//! | `stream`, `datagram` | TCP and UDP, to the host's sockets |
//! | `session` | the task |
//!
//! **Must stay true**
//! - What a program can make us hold is bounded: connections, peers, bytes of each, packets in hand.
//! - What is connected is the address that was checked.
//! - With the task ends everything that it made.
#![forbid(unsafe_code)]

mod bucket;
mod count;
mod datagram;
mod device;
mod names;
mod packet;
mod policy;
mod route;
mod session;
mod stream;

pub use count::EgressStatus;
pub use policy::{Policy, Protocol, Refusal};
pub use session::{Bounds, Egress, Running};
