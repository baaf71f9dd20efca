//! Every row of the catalogue is met: by data, by code, or by a reason why not yet.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use greenroom_escape::{Group, Languages, rows};

/// Holds the cases and the coded rows (`group::name`) against the catalogue.
pub fn of(groups: &[(&str, Group)], coded: &[&str], languages: &Languages) -> Result<()> {
    let catalogue: BTreeSet<String> = rows().map(|(group, name)| format!("{group}::{name}")).collect();
    ensure!(catalogue.len() == 243, "the catalogue has {} rows", catalogue.len());
    let mut met: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (group, of_group) in groups {
        let mut meet = |name: &str, how| met.entry(format!("{group}::{name}")).or_default().push(how);
        of_group.case.iter().for_each(|case| meet(&case.name, "case"));
        of_group.request.iter().for_each(|request| meet(&request.name, "request"));
        of_group.deferred.iter().for_each(|deferred| meet(&deferred.name, "deferred"));
        of_group.coded.iter().for_each(|name| meet(name, "announced"));
        let without_reason: Vec<_> =
            of_group.deferred.iter().filter(|deferred| deferred.reason.len() < 10).map(|d| &d.name).collect();
        ensure!(without_reason.is_empty(), "deferred without a reason: {without_reason:?}");
    }
    let cases = groups.iter().flat_map(|(_, group)| &group.case);
    let named = cases.flat_map(|case| [Some(&case.language), case.then_language.as_ref()]).flatten();
    let strange: BTreeSet<_> = named.filter(|language| !languages.has(language)).collect();
    ensure!(strange.is_empty(), "cases name languages that runtimes/ does not have: {strange:?}");
    for row in coded {
        // A row may have several coded tests: `group::name` and `group::name::variant`.
        let row = row.splitn(3, "::").take(2).collect::<Vec<_>>().join("::");
        met.entry(row).or_default().push("coded");
    }
    let silent: Vec<_> =
        met.iter().filter(|(_, how)| how.contains(&"coded") != how.contains(&"announced")).map(|(row, _)| row).collect();
    ensure!(silent.is_empty(), "the code and the lists `coded` of the groups do not agree: {silent:?}");
    let unmet: Vec<_> = catalogue.iter().filter(|row| !met.contains_key(*row)).collect();
    ensure!(unmet.is_empty(), "{} rows are neither tested nor deferred: {unmet:?}", unmet.len());
    let unknown: Vec<_> = met.keys().filter(|row| !catalogue.contains(*row)).collect();
    ensure!(unknown.is_empty(), "not in the catalogue: {unknown:?}");
    let both: Vec<_> = met.iter().filter(|(_, how)| how.contains(&"deferred") && how.len() > 1).collect();
    ensure!(both.is_empty(), "deferred and yet tested: {both:?}");
    Ok(())
}
