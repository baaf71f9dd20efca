//! A JSON value that knows where in its document it stands, so that every error can say so.

use serde_json::{Map, Value};

use super::error::{ArmError, shorten};

/// A value and its path, as `properties.scaleConfiguration`.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    value: &'a Value,
    path: String,
}

/// Bytes to JSON.
pub(super) fn parse(body: &[u8]) -> Result<Value, ArmError> {
    serde_json::from_slice(body).map_err(|error| ArmError::Json(error.to_string()))
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Value) -> Self {
        Self { value, path: String::new() }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// A field, if it is there. `null` is not there: `az` writes it for whatever was not asked for.
    ///
    /// # Errors
    /// [`ArmError::Type`]: this is no object.
    pub(super) fn get(&self, key: &str) -> Result<Option<Node<'a>>, ArmError> {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Ok(self.object()?.get(key).filter(|value| !value.is_null()).map(|value| Node { value, path }))
    }

    /// A field that has to be there.
    pub(super) fn require(&self, key: &str) -> Result<Node<'a>, ArmError> {
        self.get(key)?
            .ok_or_else(|| ArmError::Required(if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }))
    }

    pub(super) fn object(&self) -> Result<&'a Map<String, Value>, ArmError> {
        self.value.as_object().ok_or_else(|| self.wrong("an object"))
    }

    pub(super) fn elements(&self) -> Result<impl Iterator<Item = Node<'a>> + use<'a>, ArmError> {
        let elements = self.value.as_array().ok_or_else(|| self.wrong("an array"))?;
        let path = self.path.clone();
        Ok(elements.iter().enumerate().map(move |(index, value)| Node { value, path: format!("{path}[{index}]") }))
    }

    pub(super) fn string(&self) -> Result<&'a str, ArmError> {
        self.value.as_str().ok_or_else(|| self.wrong("a string"))
    }

    pub(super) fn boolean(&self) -> Result<bool, ArmError> {
        self.value.as_bool().ok_or_else(|| self.wrong("true or false"))
    }

    pub(super) fn count(&self) -> Result<u32, ArmError> {
        let number = self.value.as_u64().and_then(|number| u32::try_from(number).ok());
        number.ok_or_else(|| self.wrong("a whole number from 0 to 4294967295"))
    }

    /// One of a few words, whatever its case, as ARM compares them.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, ArmError> {
        let given = self.string()?;
        let found = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(given));
        found.map(|&(_, choice)| choice).ok_or_else(|| ArmError::Choice {
            path: self.path.clone(),
            given: shorten(given),
            choices: choices.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", "),
        })
    }

    fn wrong(&self, expected: &'static str) -> ArmError {
        let found = match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "this number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        let path = if self.path.is_empty() { "the body".to_owned() } else { self.path.clone() };
        ArmError::Type { path, expected, found }
    }
}

/// Puts `patch` over `base` (RFC 7396), with one difference: `null` removes an entry only where `removes` says so of its
/// parent's path, and elsewhere leaves what is there. A client that sends back what it once got sends nulls it does not mean.
pub(super) fn merge(base: &mut Value, patch: &Value, path: &str, removes: &dyn Fn(&str) -> bool) {
    let (Value::Object(base), Value::Object(patch)) = (&mut *base, patch) else {
        *base = patch.clone();
        return;
    };
    for (key, change) in patch {
        let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match base.get_mut(key) {
            _ if change.is_null() => {
                if removes(path) {
                    base.shift_remove(key);
                }
            }
            Some(old) => merge(old, change, &below, removes),
            None => {
                base.insert(key.clone(), change.clone());
            }
        }
    }
}
