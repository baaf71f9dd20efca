//! The gateway: HTTP and WebSocket in front of a backend. Who is asking, may they, how much; every wire request
//! becomes one [`Job`](greenroom_core::Job), every outcome a wire answer.
//!
//! The way of an execution, each step a hop with its name in the histograms and in `Server-Timing`:
//! `execute.rs`: **adapt** (body to request to job) → `admission.rs`: **admit** (a free place, or a place in the
//! queue) → the backend: **lease**, **sandbox**, **run**, **settle** → `execute.rs`: the answer.
//!
//! Tasks: one per connection (`serve.rs`), which ends with its client, and takes its job along.
//!
//! Architecture invariant: no knowledge of namespaces, of a cluster; of Azure only in `azure` and `arm`.
#![forbid(unsafe_code)]

mod address;
mod admission;
mod arm;
mod azure;
mod body;
mod config;
mod connect;
mod execute;
mod gateway;
mod issuer;
mod metrics;
mod own;
mod packages;
mod peer;
mod piston;
mod pools;
mod reply;
mod serve;

pub use config::{GatewayConfig, LimitOverrides};
pub use gateway::{Gateway, Reload};
pub use own::openapi;
pub use piston::router;
pub use serve::{Listener, serve};
