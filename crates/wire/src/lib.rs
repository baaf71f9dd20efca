//! Wire formats: what clients send and what they are answered, translated to and from the vocabulary of
//! `greenroom_core`.
//!
//! Architecture invariant: pure functions of their arguments. No axum, no tokio, no clock, no I/O; and no
//! knowledge of runtimes: the caller resolves the language between [`piston::ExecuteRequest::parse`] and
//! [`piston::ExecuteRequest::finish`], because Piston looks it up in the middle of its checks.
#![forbid(unsafe_code)]

pub mod arm;
pub mod azure;
pub mod piston;
