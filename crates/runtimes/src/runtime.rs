use std::sync::Arc;

use greenroom_core::RelativePath;
use semver::Version;

use crate::definition::{Definition, LimitOverrides};

/// A language at a version, installed on the system that programs see.
#[derive(Debug)]
pub struct Runtime {
    definition: Arc<Definition>,
    version: Version,
    version_text: String,
}

impl Runtime {
    pub(crate) fn new(definition: Arc<Definition>, version: Version) -> Self {
        Self { definition, version_text: version.to_string(), version }
    }

    pub(crate) fn definition(&self) -> &Definition {
        &self.definition
    }

    pub(crate) fn semver(&self) -> &Version {
        &self.version
    }

    /// The canonical name, Piston's where Piston has the language.
    pub fn language(&self) -> &str {
        &self.definition.language
    }

    /// `x.y.z`.
    pub fn version(&self) -> &str {
        &self.version_text
    }

    /// Other names it answers to.
    pub fn aliases(&self) -> &[String] {
        &self.definition.aliases
    }

    /// The value of Piston's key `runtime`: what provides the language, where that provides several (`gcc`, `node`, `mono`).
    pub fn package(&self) -> Option<&str> {
        self.definition.runtime.as_deref()
    }

    /// Whether it has a compile stage.
    pub fn compiled(&self) -> bool {
        self.definition.compile.is_some()
    }

    /// Limits that it needs different from the configured ones.
    pub fn limit_overrides(&self) -> LimitOverrides {
        self.definition.limits
    }

    /// Whether it belongs to the set that a fresh installation gets.
    pub fn base(&self) -> bool {
        self.definition.base
    }

    /// A program that prints `OK` and ends with status 0: its file's name and its bytes.
    pub fn self_test(&self) -> (&RelativePath, &[u8]) {
        (&self.definition.self_test.name, &self.definition.self_test.source)
    }
}
