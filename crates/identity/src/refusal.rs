use crate::{key::KeyRefusal, permission::Permission, token::TokenRefusal};

/// Why a request is not served. Displayed in full: for the log. What the caller may know is [`Refusal::said`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// None was sent, and one is needed.
    #[error("no credential was sent")]
    NoCredential,
    /// More than one was sent.
    #[error("more than one credential was sent")]
    SeveralCredentials,
    /// Neither a bearer token nor a key.
    #[error("the Authorization header has neither a bearer token nor an API key")]
    UnknownScheme,
    /// Longer than any real one.
    #[error("the credential has {bytes} bytes")]
    CredentialTooLong {
        /// How long.
        bytes: usize,
    },
    /// A key, where only tokens are taken.
    #[error("an API key was sent, and API keys are not taken here (identity.mode)")]
    KeysNotTaken,
    /// A token, where only keys are taken.
    #[error("a bearer token was sent, and tokens are not taken here (identity.mode)")]
    TokensNotTaken,
    /// A key that does not hold.
    #[error(transparent)]
    Key(#[from] KeyRefusal),
    /// A token that does not hold.
    #[error(transparent)]
    Token(#[from] TokenRefusal),
    /// Known, and not allowed to do this.
    #[error("{subject} may not {permission} {target}")]
    Forbidden {
        /// Who.
        subject: String,
        /// What.
        permission: Permission,
        /// Where.
        target: String,
    },
    /// Too often.
    #[error("{subject} sends requests too fast: identity.limits.requests_per_second; next in {retry_after_s} s")]
    TooFast {
        /// Who.
        subject: String,
        /// When the next one may come, seconds.
        retry_after_s: u64,
    },
    /// Too many at once.
    #[error("{subject} has {concurrent} requests in hand already: identity.limits.concurrent")]
    TooManyAtOnce {
        /// Who.
        subject: String,
        /// How many.
        concurrent: u32,
    },
    /// The issuer's keys cannot be had.
    #[error("{reason}")]
    IssuerUnavailable {
        /// What is missing.
        reason: String,
    },
    /// Our own store of keys fails.
    #[error("the store of keys fails: {reason}")]
    Store {
        /// What it says.
        reason: String,
    },
}

impl Refusal {
    /// The HTTP status. 401: who you are is not known; 403: it is, and you may not.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::NoCredential
            | Refusal::SeveralCredentials
            | Refusal::UnknownScheme
            | Refusal::CredentialTooLong { .. }
            | Refusal::KeysNotTaken
            | Refusal::TokensNotTaken
            | Refusal::Key(_)
            | Refusal::Token(_) => 401,
            Refusal::Forbidden { .. } => 403,
            Refusal::TooFast { .. } | Refusal::TooManyAtOnce { .. } => 429,
            Refusal::Store { .. } | Refusal::IssuerUnavailable { .. } => 503,
        }
    }

    /// The name of the failed check, for metrics and for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::NoCredential => "CredentialMissing",
            Refusal::SeveralCredentials => "CredentialAmbiguous",
            Refusal::UnknownScheme | Refusal::CredentialTooLong { .. } => "CredentialInvalid",
            Refusal::KeysNotTaken | Refusal::TokensNotTaken => "CredentialNotTaken",
            Refusal::Key(_) => "KeyInvalid",
            Refusal::Token(_) => "TokenInvalid",
            Refusal::Forbidden { .. } => "Forbidden",
            Refusal::TooFast { .. } | Refusal::TooManyAtOnce { .. } => "TooManyRequests",
            Refusal::Store { .. } | Refusal::IssuerUnavailable { .. } => "IdentityUnavailable",
        }
    }

    /// What the caller is told. Of a key, not which check failed: who tries keys learns nothing about those there are.
    pub fn said(&self) -> String {
        match self {
            Refusal::Key(_) => "the API key is not valid".to_owned(),
            Refusal::Forbidden { permission, .. } => format!("you are known, and you may not {permission} here"),
            Refusal::TooFast { retry_after_s, .. } => format!("too many requests; try again in {retry_after_s} s"),
            Refusal::TooManyAtOnce { concurrent, .. } => {
                format!("you have {concurrent} requests in hand already; wait for one to end")
            }
            Refusal::Store { .. } | Refusal::IssuerUnavailable { .. } => {
                "who you are cannot be found out at present; try again".to_owned()
            }
            plain => plain.to_string(),
        }
    }

    /// The `WWW-Authenticate` header of a 401 or a 403 (RFC 9110, section 11.6.1; RFC 6750, section 3).
    pub fn www_authenticate(&self) -> Option<String> {
        match self {
            // RFC 6750: who sent nothing is told the scheme, and no error.
            Refusal::NoCredential => Some("Bearer realm=\"greenroom\"".to_owned()),
            Refusal::Forbidden { .. } => Some("Bearer realm=\"greenroom\", error=\"insufficient_scope\"".to_owned()),
            refusal if refusal.status() == 401 => {
                Some(format!("Bearer realm=\"greenroom\", error=\"invalid_token\", error_description=\"{}\"", refusal.said()))
            }
            _ => None,
        }
    }

    /// The `Retry-After` header, seconds.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Refusal::TooFast { retry_after_s, .. } => Some(*retry_after_s),
            Refusal::TooManyAtOnce { .. } | Refusal::Store { .. } | Refusal::IssuerUnavailable { .. } => Some(1),
            _ => None,
        }
    }
}
