use std::{fmt, str::FromStr};

/// How strongly programs are isolated. Ordered: a later one is stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// No namespaces to be had (a managed container): seccomp, Landlock, rlimits, a uid of its own where
    /// we are root. No promise on total memory; CPU is approximate.
    Restricted,
    /// User namespaces without root: all namespaces, seccomp, Landlock; cgroup limits where one is delegated.
    Rootless,
    /// Root: all namespaces, a host uid of its own, cgroups, seccomp, Landlock.
    Full,
}

impl Profile {
    /// The name used in configuration, `/healthz` and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Profile::Restricted => "restricted",
            Profile::Rootless => "rootless",
            Profile::Full => "full",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is no [`Profile`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown isolation profile {0:?}: expected full, rootless or restricted")]
pub struct ProfileParseError(String);

impl FromStr for Profile {
    type Err = ProfileParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "full" => Ok(Profile::Full),
            "rootless" => Ok(Profile::Rootless),
            "restricted" => Ok(Profile::Restricted),
            _ => Err(ProfileParseError(text.to_owned())),
        }
    }
}
