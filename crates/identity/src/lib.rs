//! Who is asking, and what they may do.
//!
//! The way of a request: `credential.rs` (what was sent) → `guard.rs` (in which mode, to whom it belongs) → `key.rs` or
//! `token.rs` (whether it holds) → `permission.rs` (what it allows) → `limits.rs` (how much at once). The answer is an
//! [`Admitted`], to be kept as long as the request is served, or a [`Refusal`], which knows what to tell the log and what
//! to tell the caller.
//!
//! All checks are plain functions of what was sent and the time; only `jwks.rs` (an issuer's keys) and the store of keys,
//! which is the caller's, wait for anything.
//!
//! Architecture invariant: no routes, no sandboxes; nothing of a request is trusted but its credential.
#![forbid(unsafe_code)]

mod credential;
mod guard;
mod key;
mod permission;
mod refusal;
mod subject;

pub use credential::Credential;
pub use guard::{Admitted, Guard};
pub use key::{ApiKey, KEY_PREFIX, KeyRecord, KeyRefusal, KeyStore, KeyStoreError, MalformedKey};
pub use permission::{Grant, Grants, Permission, Pools, Target};
pub use refusal::Refusal;
pub use subject::Subject;
