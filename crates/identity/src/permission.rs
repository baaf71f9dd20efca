use std::fmt;

use serde::{Deserialize, Serialize};

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// Run code, in a session or without; see and delete one's sessions and their files.
    Execute,
    /// Make, change and delete pools; install languages; read the metrics. Running code is not part of it.
    Manage,
}

impl Permission {
    /// Its name, as in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Permission::Execute => "execute",
            Permission::Manage => "manage",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What it would be done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// The server itself, which is no pool: Piston's routes, packages, metrics, making a pool. Only a grant for all pools is one for it.
    Server,
    /// One pool.
    Pool(&'a str),
    /// Any pool at all: for lists, whose entries are then asked for one by one with [`Grants::allow`].
    SomePool,
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Server => f.write_str("on the server"),
            Target::Pool(name) => write!(f, "in pool {name:?}"),
            Target::SomePool => f.write_str("in any pool"),
        }
    }
}

/// For which pools a grant is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub enum Pools {
    /// `*`: all, also those that do not exist yet.
    All,
    /// These. Names of pools differ in more than case (they are names of Azure's resources).
    Named(Vec<String>),
}

impl From<Vec<String>> for Pools {
    fn from(names: Vec<String>) -> Self {
        if names.iter().any(|name| name == "*") { Pools::All } else { Pools::Named(names) }
    }
}

impl From<Pools> for Vec<String> {
    fn from(pools: Pools) -> Self {
        match pools {
            Pools::All => vec!["*".to_owned()],
            Pools::Named(names) => names,
        }
    }
}

/// A permission in some pools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What.
    pub permission: Permission,
    /// Where.
    pub pools: Pools,
}

/// All that somebody may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grants(pub Vec<Grant>);

impl Grants {
    /// Everything.
    pub fn all() -> Self {
        let everywhere = |permission| Grant { permission, pools: Pools::All };
        Self(vec![everywhere(Permission::Execute), everywhere(Permission::Manage)])
    }

    /// Whether this is allowed. What is not granted is not.
    pub fn allow(&self, permission: Permission, target: Target<'_>) -> bool {
        self.0.iter().filter(|grant| grant.permission == permission).any(|grant| match (&grant.pools, target) {
            (Pools::All, _) => true,
            (Pools::Named(names), Target::Pool(pool)) => names.iter().any(|name| name.eq_ignore_ascii_case(pool)),
            (Pools::Named(names), Target::SomePool) => !names.is_empty(),
            (Pools::Named(_), Target::Server) => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_pool(permission: Permission, pool: &str) -> Grants {
        Grants(vec![Grant { permission, pools: vec![pool.to_owned()].into() }])
    }

    #[test]
    fn a_grant_is_for_its_permission_only() {
        let grants = in_pool(Permission::Execute, "a");
        assert!(grants.allow(Permission::Execute, Target::Pool("a")));
        assert!(!grants.allow(Permission::Manage, Target::Pool("a")));
        assert!(!in_pool(Permission::Manage, "a").allow(Permission::Execute, Target::Pool("a")), "manage is not execute");
    }

    #[test]
    fn a_grant_is_for_its_pools_only() {
        let grants = in_pool(Permission::Execute, "a");
        assert!(grants.allow(Permission::Execute, Target::Pool("A")));
        assert!(!grants.allow(Permission::Execute, Target::Pool("b")));
        assert!(!grants.allow(Permission::Execute, Target::Pool("aa")));
        assert!(!grants.allow(Permission::Execute, Target::Pool("*")));
        assert!(!grants.allow(Permission::Execute, Target::Server));
        assert!(grants.allow(Permission::Execute, Target::SomePool));
    }

    #[test]
    fn a_star_is_for_all_pools_and_the_server() {
        let grants = in_pool(Permission::Execute, "*");
        for target in [Target::Server, Target::Pool("b"), Target::SomePool] {
            assert!(grants.allow(Permission::Execute, target));
            assert!(!grants.allow(Permission::Manage, target));
        }
    }

    #[test]
    fn who_has_no_grant_may_do_nothing() {
        for target in [Target::Server, Target::Pool("*"), Target::SomePool] {
            assert!(!Grants::default().allow(Permission::Execute, target));
            assert!(
                !Grants(vec![Grant { permission: Permission::Execute, pools: Pools::Named(vec![]) }])
                    .allow(Permission::Execute, target)
            );
        }
    }
}
