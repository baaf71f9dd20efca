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

mod certificate;
mod credential;
mod fetch;
mod guard;
mod issuer;
mod jwk;
mod jwks;
mod key;
mod limits;
mod local;
mod managed;
mod permission;
mod refusal;
mod roles;
mod secret;
mod subject;
mod token;

pub use certificate::{Certificate, CertificateError};
pub use credential::Credential;
pub use fetch::{FetchError, KeysAt};
pub use guard::{Admitted, Guard, GuardConfig};
pub use issuer::{Audiences, Issuer, MANAGEMENT_AUDIENCES, SESSION_AUDIENCES};
pub use jwks::KeyTimes;
pub use key::{ApiKey, KEY_PREFIX, KeyRecord, KeyRefusal, KeyStore, KeyStoreError, MalformedKey, Stored};
pub use limits::SubjectLimits;
pub use local::{LOCAL_APPLICATION, LOCAL_OBJECT, LOCAL_TENANT, LocalIssuer, LocalIssuerError, Minted};
pub use managed::{ManagedForm, ManagedRefusal};
pub use permission::{Grant, Grants, Permission, Pools, Target};
pub use refusal::Refusal;
pub use roles::{RoleClaim, RoleRule};
pub use secret::SecretError;
pub use subject::Subject;
pub use token::TokenRefusal;

/// Makes `ring` the process's cryptography for TLS. More than once is as good as once.
pub fn install_crypto() {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::trace!("the cryptography for TLS is chosen already");
    }
}
