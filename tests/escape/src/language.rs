use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, bail};

/// A row that cannot be tested here, and why. It is told, and is no failure.
#[derive(Debug)]
pub struct NotTested(pub String);

impl std::fmt::Display for NotTested {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "not tested: {}", self.0)
    }
}

impl std::error::Error for NotTested {}

/// Whether what everybody can have must be there: `GREENROOM_MUST_WORK`.
pub fn must_work() -> bool {
    std::env::var_os("GREENROOM_MUST_WORK").is_some()
}

/// The languages of the catalogue, and whether each is in the base set, which every machine that tests has.
#[derive(Debug)]
pub struct Languages(BTreeMap<String, bool>);

impl Languages {
    /// Reads `runtimes/*/runtime.toml`.
    ///
    /// # Errors
    /// A file that cannot be read, or has no `language`.
    pub fn read() -> Result<Self> {
        let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../runtimes"));
        let mut languages = BTreeMap::new();
        for entry in fs::read_dir(directory).context("cannot list runtimes/")? {
            let path = entry?.path().join("runtime.toml");
            if !path.is_file() {
                continue;
            }
            let definition: toml::Table = fs::read_to_string(&path)?.parse().with_context(|| format!("in {}", path.display()))?;
            let name = definition.get("language").and_then(toml::Value::as_str);
            let name = name.with_context(|| format!("no language in {}", path.display()))?;
            languages.insert(name.to_owned(), definition.get("base").and_then(toml::Value::as_bool) == Some(true));
        }
        Ok(Self(languages))
    }

    /// Whether there is a language of this name, installed or not.
    pub fn has(&self, language: &str) -> bool {
        self.0.contains_key(language)
    }

    /// What it means that a language is not `installed`.
    ///
    /// # Errors
    /// [`NotTested`] where it is optional; another where it is in the base set and everything must work, or where there is
    /// no such language at all.
    pub fn need(&self, language: &str, installed: &[String]) -> Result<()> {
        match self.0.get(language) {
            None => bail!("there is no language {language}: the row names one that runtimes/ does not have"),
            Some(_) if installed.iter().any(|name| name == language) => Ok(()),
            Some(true) if must_work() => {
                bail!(
                    "{language} is in the base set and not installed, and GREENROOM_MUST_WORK is set: cargo xtask test installs it"
                )
            }
            Some(_) => Err(NotTested(format!("{language} is not installed")).into()),
        }
    }
}
