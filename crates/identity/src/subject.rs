use std::fmt;

/// Who is asking, once it is known. Displayed, it is a name for the log, for usage and for limits: it is no secret, and two
/// subjects never have the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Nobody was asked who they are.
    Anonymous,
    /// The holder of a key.
    Key {
        /// The key's identifier: unique, never used again.
        id: String,
        /// The name that the operator gave it.
        name: String,
    },
    /// A principal that an issuer vouches for.
    Principal {
        /// The tenant, or the issuer where there is none.
        tenant: String,
        /// Its object id, or its subject where there is none.
        id: String,
    },
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Anonymous => f.write_str("anonymous"),
            // The name is the operator's, the id keeps two keys of one name apart.
            Subject::Key { id, name } => write!(f, "key:{}:{id}", name.escape_debug()),
            Subject::Principal { tenant, id } => write!(f, "principal:{}:{}", tenant.escape_debug(), id.escape_debug()),
        }
    }
}
