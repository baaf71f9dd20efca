//! The order in which compilers want translation units that need one another.

use std::collections::{BTreeSet, HashMap};

use greenroom_core::RelativePath;
use serde::Deserialize;

use crate::sources::stem;

/// The rule for the order of translation units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    /// As the caller gave them, the main file first.
    #[default]
    Given,
    /// OCaml links modules in the order named: a module stands before those that use it, an interface before its module.
    Ocaml,
    /// gfortran reads `.mod` files that it wrote for an earlier unit.
    Fortran,
}

/// A translation unit's name and text.
pub(crate) struct Text<'a> {
    pub path: &'a RelativePath,
    pub source: &'a str,
}

/// What a unit offers to others, and what it wants from them.
struct Needs {
    provides: Vec<String>,
    uses: Vec<String>,
}

/// The places of `units` in an order in which each stands behind what it uses; units that do not need one another, or that
/// need each other in a circle, keep the order given, the main file last.
pub(crate) fn sort(units: &[Text<'_>], order: Order) -> Vec<usize> {
    let needs: Vec<Needs> = match order {
        Order::Given => return (0..units.len()).collect(),
        Order::Ocaml => units.iter().map(ocaml).collect(),
        Order::Fortran => units.iter().map(|unit| fortran(unit.source)).collect(),
    };
    let mut providers: HashMap<&str, Vec<usize>> = HashMap::new();
    for (unit, needed) in needs.iter().enumerate() {
        for name in &needed.provides {
            providers.entry(name).or_default().push(unit);
        }
    }
    let wanted = |unit: usize| {
        let used = needs[unit].uses.iter().filter_map(|name| providers.get(name.as_str())).flatten().copied();
        used.filter(|&other| other != unit).collect::<BTreeSet<usize>>()
    };
    // The main file comes first in `units`, and uses the others.
    let mut left: Vec<(usize, BTreeSet<usize>)> =
        (1..units.len()).chain(0..units.len().min(1)).map(|unit| (unit, wanted(unit))).collect();
    let mut sorted = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let next = left.iter().position(|(_, waits_for)| waits_for.is_empty()).unwrap_or(0);
        let (unit, _) = left.remove(next);
        for (_, waits_for) in &mut left {
            waits_for.remove(&unit);
        }
        sorted.push(unit);
    }
    sorted
}

/// Modules are files: `point.ml` is `Point`, with `point.mli` as its interface.
fn ocaml(unit: &Text<'_>) -> Needs {
    let name = unit.path.file_name();
    let mut module = stem(name).to_owned();
    if let Some(first) = module.get(..1).map(str::to_uppercase) {
        module.replace_range(..1, &first);
    }
    let interface = format!("{module}.mli");
    let text = without_ocaml_comments(unit.source);
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '\''));
    let mut uses: Vec<String> = words.filter(|word| word.starts_with(char::is_uppercase)).map(str::to_owned).collect();
    uses.sort_unstable();
    uses.dedup();
    if name.ends_with(".mli") {
        return Needs { provides: vec![interface], uses };
    }
    let interfaces: Vec<String> = uses.iter().map(|word| format!("{word}.mli")).collect();
    uses.extend(interfaces);
    uses.push(interface);
    Needs { provides: vec![module], uses }
}

fn without_ocaml_comments(source: &str) -> String {
    let (mut text, mut depth, mut rest) = (String::with_capacity(source.len()), 0usize, source);
    while let Some(c) = rest.chars().next() {
        let step = if rest.starts_with("(*") {
            depth += 1;
            2
        } else if depth > 0 && rest.starts_with("*)") {
            depth -= 1;
            2
        } else {
            if depth == 0 {
                text.push(c);
            }
            c.len_utf8()
        };
        rest = &rest[step..];
    }
    text
}

fn fortran(source: &str) -> Needs {
    let mut needs = Needs { provides: Vec::new(), uses: Vec::new() };
    for line in source.lines() {
        let line = line.split('!').next().unwrap_or_default().to_lowercase();
        for statement in line.split(';') {
            let words: Vec<&str> =
                statement.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()).collect();
            match words[..] {
                ["module", "procedure" | "function" | "subroutine", ..] => {}
                ["module", name] => needs.provides.push(name.to_owned()),
                ["submodule", parent, ..] => needs.uses.push(parent.to_owned()),
                ["use", "intrinsic" | "non_intrinsic", name, ..] | ["use", name, ..] => needs.uses.push(name.to_owned()),
                _ => {}
            }
        }
    }
    needs
}
