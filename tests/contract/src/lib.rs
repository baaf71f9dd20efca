//! What the contract suite needs to talk to a server: one to talk to, an HTTP client that sends exactly what it is told
//! to, and a WebSocket.
//!
//! The suite runs against the server at `GREENROOM_CONTRACT_URL` (`http://host:port`), or against one of its own: the
//! binary at `GREENROOM_BIN`, or the one that was built beside the suite.
#![forbid(unsafe_code)]

mod http;
mod network;
mod server;
mod socket;

pub use http::{Connection, Request, Response};
pub use network::{enter_own_network, world};
pub use server::{Server, Unavailable, binary};
pub use socket::{Frame, Socket};
