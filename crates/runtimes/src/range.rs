//! Version ranges as npm's `semver` 7 reads them, for that is what Piston's clients write.
//!
//! The crates that port them (`nodejs-semver`, `node-semver`) were compared with npm's own over random ranges, and differ:
//! they drop what they do not know (`>=3.11.2 foo` becomes `>=3.11.2`, `3.11.02` becomes `3.11.2`), lose empty alternatives
//! (`|| 1`), and take `<3 >4` for `<3 || >4`. The crate `semver` compares versions exactly as npm does, prereleases included,
//! but reads another language (a bare `1.2.3` is `^1.2.3` to it). So the text is read here by npm's grammar
//! (internal/re.js, classes/range.js) into plain comparisons, and `semver` does the rest.

use semver::{BuildMetadata, Comparator, Op, Prerelease, Version, VersionReq};

/// The largest number npm accepts in a version.
const MAX_SAFE_INTEGER: u64 = 9_007_199_254_740_991;

/// Alternatives: a version in any of them is in the range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range(Vec<VersionReq>);

impl Range {
    /// The range that `text` describes. `None` where npm would call it invalid: nothing is in such a range.
    pub fn parse(text: &str) -> Option<Self> {
        let sets: Vec<VersionReq> = text.split("||").map(comparator_set).collect::<Option<_>>()?;
        // npm too: `* || 3.0.0-rc.1` is `*`, which has no prereleases.
        let everything = sets.iter().position(|set| set.comparators.is_empty());
        Some(Self(everything.map_or_else(|| sets.clone(), |place| vec![sets[place].clone()])))
    }

    /// Whether it contains `version`. A prerelease is only in a range that names a prerelease of the same `x.y.z`.
    pub fn contains(&self, version: &Version) -> bool {
        self.0.iter().any(|set| set.matches(version))
    }
}

/// A version out of what a program says about itself: the first number, as `x.y.z`, without leading zeros.
pub(crate) fn version_in(text: &str) -> Option<Version> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let number = &text[start..];
    let end = number.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(number.len());
    let mut parts = number[..end].split('.').map_while(|part| part.parse::<u64>().ok());
    let mut next = || parts.next().unwrap_or(0);
    Some(Version { major: next(), minor: next(), patch: next(), pre: Prerelease::EMPTY, build: BuildMetadata::EMPTY })
}

fn comparator_set(text: &str) -> Option<VersionReq> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if let [from, "-", to] = words[..] {
        let (from, to) = (Partial::parse(from)?, Partial::parse(to)?);
        let written_well = from.is_written_well() && to.is_written_well();
        let comparators = from.at_least().into_iter().chain(to.at_most()).collect();
        return written_well.then_some(VersionReq { comparators });
    }
    let mut comparators = Vec::with_capacity(words.len());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        // npm allows blanks between an operator and its version, and nowhere else.
        let joined = match word {
            "<" | ">" | "<=" | ">=" | "=" | "~" | "~>" | "^" => {
                let next = words.next().filter(|next| next.trim_start_matches(['v', '=']).starts_with(is_version_start))?;
                format!("{word}{next}")
            }
            _ => word.to_owned(),
        };
        comparators.append(&mut comparator(&joined)?);
    }
    Some(VersionReq { comparators })
}

fn is_version_start(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, 'x' | 'X' | '*')
}

fn comparator(word: &str) -> Option<Vec<Comparator>> {
    let operator = ["~>", "~", "^", "<=", ">=", "<", ">", "="].into_iter().find(|op| word.starts_with(op)).unwrap_or_default();
    let version = &word[operator.len()..];
    let partial = Partial::parse(version)?;
    match operator {
        "~" | "~>" => return Some(partial.tilde()),
        "^" => return Some(partial.caret()),
        _ => {}
    }
    if !partial.in_order || !partial.is_written_well() {
        return None;
    }
    Some(match operator {
        ">=" => partial.at_least(),
        "<=" => partial.at_most(),
        ">" => partial.above(),
        "<" => partial.below(),
        _ => partial.same(),
    })
}

/// A version that may end early: `3`, `3.x`, `3.11.2-rc.1`.
struct Partial {
    major: Option<u64>,
    minor: Option<u64>,
    patch: Option<u64>,
    prerelease: Prerelease,
    /// Nothing stands behind an `x` but another: `3.x.2` is not in order.
    in_order: bool,
    /// At most one `v` stands before it, and no `=`.
    bare: bool,
}

impl Partial {
    fn parse(text: &str) -> Option<Self> {
        let bare = !text.strip_prefix('v').unwrap_or(text).starts_with(['v', '=']);
        let text = text.trim_start_matches(['v', '=']);
        let text = match text.split_once('+') {
            Some((text, build)) => build.split('.').all(is_identifier).then_some(text)?,
            None => text,
        };
        let (core, prerelease) = match text.split_once('-') {
            Some((core, prerelease)) => (core, Some(prerelease)),
            None => (text, None),
        };
        let parts: Vec<&str> = core.split('.').collect();
        let prerelease_valid = prerelease.is_none_or(|text| parts.len() == 3 && text.split('.').all(is_prerelease_part));
        if parts.len() > 3 || !prerelease_valid {
            return None;
        }
        let mut numbers = [None; 3];
        for (number, part) in numbers.iter_mut().zip(&parts) {
            *number = if matches!(*part, "x" | "X" | "*") { None } else { Some(parse_number(part)?) };
        }
        let [major, minor, patch] = numbers;
        let in_order = (major.is_some() || minor.is_none()) && (minor.is_some() || patch.is_none());
        // What stands behind an `x` does not count.
        let minor = major.and(minor);
        let patch = minor.and(patch);
        let prerelease = match prerelease.filter(|_| patch.is_some()) {
            Some(text) => Prerelease::new(text).ok()?,
            None => Prerelease::EMPTY,
        };
        Some(Self { major, minor, patch, prerelease, in_order, bare })
    }

    fn is_complete(&self) -> bool {
        self.patch.is_some()
    }

    /// npm takes a complete version as it stands, and rewrites an incomplete one without what stands before it.
    fn is_written_well(&self) -> bool {
        self.bare || !self.is_complete()
    }

    /// This version, zeros for what is missing. `None` for any version.
    fn floor(&self) -> Option<(u64, u64, u64)> {
        self.major.map(|major| (major, self.minor.unwrap_or(0), self.patch.unwrap_or(0)))
    }

    /// The first version behind all that this incomplete one means.
    fn next(&self) -> Option<(u64, u64, u64)> {
        self.major.map(|major| self.minor.map_or((major + 1, 0, 0), |minor| (major, minor + 1, 0)))
    }

    /// `>=`, which says nothing of any version.
    fn at_least(&self) -> Vec<Comparator> {
        self.floor().map(|floor| compare(Op::GreaterEq, floor, self.prerelease.clone())).into_iter().collect()
    }

    fn at_most(&self) -> Vec<Comparator> {
        if self.is_complete() { self.compare_complete(Op::LessEq) } else { self.next().map(before).into_iter().collect() }
    }

    fn above(&self) -> Vec<Comparator> {
        match (self.is_complete(), self.next()) {
            (true, _) => self.compare_complete(Op::Greater),
            (false, Some(next)) => vec![compare(Op::GreaterEq, next, Prerelease::EMPTY)],
            (false, None) => vec![before((0, 0, 0))],
        }
    }

    fn below(&self) -> Vec<Comparator> {
        match (self.is_complete(), self.floor()) {
            (true, _) => self.compare_complete(Op::Less),
            (false, floor) => vec![before(floor.unwrap_or((0, 0, 0)))],
        }
    }

    fn same(&self) -> Vec<Comparator> {
        if self.is_complete() { self.compare_complete(Op::Exact) } else { self.between(self.next()) }
    }

    fn tilde(&self) -> Vec<Comparator> {
        self.between(self.next())
    }

    /// Up to the next change of the first number that is not 0.
    fn caret(&self) -> Vec<Comparator> {
        let end = match (self.major, self.minor, self.patch) {
            (Some(0), Some(0), Some(patch)) => Some((0, 0, patch + 1)),
            (Some(0), Some(minor), _) => Some((0, minor + 1, 0)),
            (Some(major), _, _) => Some((major + 1, 0, 0)),
            (None, _, _) => None,
        };
        self.between(end)
    }

    fn between(&self, end: Option<(u64, u64, u64)>) -> Vec<Comparator> {
        self.at_least().into_iter().chain(end.map(before)).collect()
    }

    fn compare_complete(&self, op: Op) -> Vec<Comparator> {
        self.floor().map(|version| compare(op, version, self.prerelease.clone())).into_iter().collect()
    }
}

fn compare(op: Op, (major, minor, patch): (u64, u64, u64), pre: Prerelease) -> Comparator {
    Comparator { op, major, minor: Some(minor), patch: Some(patch), pre }
}

/// Everything older, its own prereleases too: `<4.0.0-0`.
fn before(version: (u64, u64, u64)) -> Comparator {
    compare(Op::Less, version, Prerelease::new("0").unwrap_or_default())
}

fn parse_number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    digits.then(|| text.parse().ok()).flatten().filter(|&number| number <= MAX_SAFE_INTEGER)
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_prerelease_part(text: &str) -> bool {
    is_identifier(text) && (text.bytes().any(|b| !b.is_ascii_digit()) || text == "0" || !text.starts_with('0'))
}

#[cfg(test)]
mod tests;
