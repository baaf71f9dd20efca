//! Version ranges as npm's `semver` 7 reads them, for that is what Piston's clients write.
//!
//! The arithmetic is the crate `nodejs-semver`'s. Its parser is more lenient than npm's: it drops what it does not know
//! (`>=3.11.2 foo` is taken for `>=3.11.2`, `3.11.02` for `3.11.2`) and loses empty alternatives (`|| 1`). So the text is
//! read here by npm's grammar (internal/re.js), and handed on in its plainest form.

use nodejs_semver::{Range, Version};

/// The largest number npm accepts in a version.
const MAX_SAFE_INTEGER: u64 = 9_007_199_254_740_991;

/// The range that `text` describes. `None` where npm would call it invalid: nothing is in such a range.
pub(crate) fn parse(text: &str) -> Option<Range> {
    let sets: Vec<String> = text.split("||").map(comparator_set).collect::<Option<_>>()?;
    Range::parse(sets.join("||")).ok()
}

/// A version out of what a program says about itself: the first number, as `x.y.z`, without leading zeros.
pub(crate) fn version_in(text: &str) -> Option<Version> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let number = &text[start..];
    let end = number.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(number.len());
    let mut parts = number[..end].split('.').map_while(|part| part.parse::<u64>().ok());
    let mut next = || parts.next().unwrap_or(0).to_string();
    let (major, minor, patch) = (next(), next(), next());
    Version::parse(format!("{major}.{minor}.{patch}")).ok()
}

/// What is written for "nothing": no release is older than this.
const NOTHING: &str = "<0.0.0-0";

fn comparator_set(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if let [from, "-", to] = words[..] {
        let (from, to) = (Partial::parse(from)?, Partial::parse(to)?);
        return Some(match (from.is_any(), to.is_any()) {
            (true, true) => "*".to_owned(),
            (true, false) => format!("<={to}"),
            (false, true) => format!(">={from}"),
            (false, false) => format!("{from} - {to}"),
        });
    }
    let mut comparators = Vec::with_capacity(words.len());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        // npm allows blanks between an operator and its version, and nowhere else.
        let joined = match word {
            "<" | ">" | "<=" | ">=" | "=" | "~" | "~>" | "^" => {
                format!("{word}{}", words.next().filter(|next| starts_version(next))?)
            }
            _ => word.to_owned(),
        };
        comparators.push(comparator(&joined)?);
    }
    // An empty set is everything, and everything adds nothing to a set that says more.
    if comparators.len() > 1 {
        comparators.retain(|comparator| comparator != "*");
    }
    Some(if comparators.is_empty() { "*".to_owned() } else { comparators.join(" ") })
}

fn starts_version(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit() || matches!(c, 'v' | 'x' | 'X' | '*'))
}

fn comparator(word: &str) -> Option<String> {
    let operator = ["~>", "~", "^", "<=", ">=", "<", ">", "="].into_iter().find(|op| word.starts_with(op)).unwrap_or_default();
    let version = &word[operator.len()..];
    let plain = version.trim_start_matches(['v', '=']);
    let partial = Partial::parse(plain)?;
    let derived = matches!(operator, "~" | "~>" | "^");
    // A complete version is taken as it stands, so it may have one `v` and no second `=`; an incomplete one is rewritten.
    if !derived && partial.is_complete() && version.strip_prefix('v').unwrap_or(version) != plain {
        return None;
    }
    Some(match operator {
        "<" | ">" if partial.is_any() => NOTHING.to_owned(),
        _ if partial.is_any() => "*".to_owned(),
        "~>" => format!("~{partial}"),
        "=" => partial.to_string(),
        _ => format!("{operator}{partial}"),
    })
}

/// A version that may end early: `3`, `3.x`, `3.11.2-rc.1`.
struct Partial<'a> {
    numbers: Vec<u64>,
    prerelease: Option<&'a str>,
}

impl<'a> Partial<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim_start_matches(['v', '=']);
        let (text, build) = match text.split_once('+') {
            Some((text, build)) => (text, Some(build)),
            None => (text, None),
        };
        let (core, prerelease) = match text.split_once('-') {
            Some((core, prerelease)) => (core, Some(prerelease)),
            None => (text, None),
        };
        let parts: Vec<&str> = core.split('.').collect();
        let is_x = |part: &str| matches!(part, "x" | "X" | "*");
        let known = parts.iter().position(|part| is_x(part)).unwrap_or(parts.len());
        let in_order = parts[known..].iter().all(|part| is_x(part));
        let whole = parts.len() == 3;
        let extras_valid = prerelease.is_none_or(|text| whole && text.split('.').all(is_prerelease_part))
            && build.is_none_or(|text| whole && text.split('.').all(is_identifier));
        if parts.len() > 3 || !in_order || !extras_valid {
            return None;
        }
        let numbers = parts[..known].iter().copied().map(number).collect::<Option<Vec<_>>>()?;
        Some(Self { prerelease: prerelease.filter(|_| numbers.len() == 3), numbers })
    }

    fn is_any(&self) -> bool {
        self.numbers.is_empty()
    }

    fn is_complete(&self) -> bool {
        self.numbers.len() == 3
    }
}

impl std::fmt::Display for Partial<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<String> = self.numbers.iter().map(u64::to_string).collect();
        f.write_str(&numbers.join("."))?;
        self.prerelease.map_or(Ok(()), |prerelease| write!(f, "-{prerelease}"))
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    digits.then(|| text.parse().ok()).flatten().filter(|&number| number <= MAX_SAFE_INTEGER)
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_prerelease_part(text: &str) -> bool {
    is_identifier(text) && (text.bytes().any(|b| !b.is_ascii_digit()) || number(text).is_some())
}
