use super::*;

fn contains(range: &str, version: &str) -> bool {
    let version = Version::parse(version).expect("a version");
    Range::parse(range).is_some_and(|range| range.contains(&version))
}

/// The lists of the contract (section 1.2), observed on a running Piston with python 3.11.2.
#[test]
fn the_selectors_of_the_contract_select_as_piston_does() {
    for range in [
        "*", "x", "X", " ", "||", "*.*", "3", "3.x", "3.11", "3.11.x", "3.11.2", "=3.11.2", "v3.11.2", "  3.11.2 ", "^3.0.0",
        "~3.11", "~3.11.0", ">=3", ">=3.10 <3.12", "3.0 - 3.20", "2 || 3", ">=3.11.2-0", "3.11.2+build",
    ] {
        assert!(contains(range, "3.11.2"), "{range:?} selects 3.11.2");
    }
    for range in ["3.10", ">3.11", ">3.11.2", "latest", "3.11.2-alpha", "3.11.02", "a", "3.11.2.1", "<0.0.0", ">=3.11.2 foo", "!3"]
    {
        assert!(!contains(range, "3.11.2"), "{range:?} does not select 3.11.2");
    }
}

/// Asked of npm's semver 7.8.5.
#[test]
fn odd_ranges_mean_what_they_mean_to_npm() {
    for range in [
        "", "1 || ", "|| 1", "<=*", ">=*", "=*", "^x", "~x", "v*", "~> 3.11", "^ 3", ">= 3.10", "= 3.11.2", "> =3.11", "=v=3",
        "v=3", "vv3", "~>=3", "^=3", "\u{a0}3.11", "\n3\n", "3.11.2 \t <4", "<3.12 >3.10", "3 - 4", "x - 4", "3 - x",
        "3.11.2 - 3.11.2", "3.11.2-alpha - 4", ">=3.11.2+b", "3.11.2+build.01", "<=3", "<=3.11", "* || 9", ">=3.11.2-a.b.c",
        "~3.11.2-0", "^3.11", "<4.0.0-0",
    ] {
        assert!(contains(range, "3.11.2"), "{range:?} selects 3.11.2");
    }
    for range in [
        "<4-0", "==3.11.2", ">*", "<*", "3.11.2 || foo", "3.x.2", "> = 3", "x.11.3", "v 3.11.2", "3.11.2 -", "- 3.11.2",
        "3.11.2 - ", "3.11.2-01", "*-alpha", "3-alpha", "^3-0", "3.11.2+", "9007199254740992.0.0", ">=9007199254740991", "=>3",
        "== 3", "3 -4", "3- 4", ">=3.11.2<4", "3.11.2,", "3.11.2 - 4 <5", "3 - 4 - 5", "><3", "^>3", ">=x.1", ">", "^", "3..2",
        "3.11.2\0", "３", "3.-1", "<3 >4", "99999999999999999999.0.0", "3.11.2 3.12", "=v3.11.2 - =3.12.0",
    ] {
        assert!(!contains(range, "3.11.2"), "{range:?} does not select 3.11.2");
    }
}

#[test]
fn a_caret_keeps_the_first_number_that_is_not_zero() {
    for (range, inside, outside) in [
        ("^1.2.3", "1.9.9", "2.0.0"),
        ("^0.2.3", "0.2.9", "0.3.0"),
        ("^0.0.3", "0.0.3", "0.0.4"),
        ("^0.0", "0.0.9", "0.1.0"),
        ("^0", "0.9.9", "1.0.0"),
        ("~1", "1.9.9", "2.0.0"),
        ("~1.2.3", "1.2.9", "1.3.0"),
    ] {
        assert!(contains(range, inside), "{range} {inside}");
        assert!(!contains(range, outside), "{range} {outside}");
    }
}

#[test]
fn a_prerelease_is_only_in_a_range_that_names_one_of_the_same_version() {
    let version = "3.10.0-alpha.7";
    for range in ["3.10.0-alpha.7", ">=3.10.0-alpha.1", "^3.10.0-alpha", ">=3.10.0-0", ">=3.10.0-alpha.1 <4"] {
        assert!(contains(range, version), "{range}");
    }
    for range in ["*", "", "3.x", "<3.11", ">=3.9.0-alpha", "3.10.0-alpha", ">3.10.0-alpha.7", "3.10.0", "* || 3.10.0-alpha.7"] {
        assert!(!contains(range, version), "{range}");
    }
}

#[test]
fn versions_are_found_in_what_programs_say() {
    for (text, version) in [
        ("Python 3.11.2", "3.11.2"),
        ("v20.20.2\n", "20.20.2"),
        ("openjdk version \"17.0.21.1\" 2026-11-17", "17.0.21"),
        ("NASM version 2.16.01", "2.16.1"),
        ("Welcome to Racket v8.7 [cs].", "8.7.0"),
        ("GNU bash, version 5.2.15(1)-release (x86_64-pc-linux-gnu)", "5.2.15"),
        ("ruby 3.1.2p20 (2022-04-12 revision 4491bb740a)", "3.1.2"),
        ("SBCL 2.2.9.debian", "2.2.9"),
        ("4.2.2.20221110-2", "4.2.2"),
        ("kotlin-compiler-1.3.31.jar", "1.3.31"),
        ("25", "25.0.0"),
        ("1.", "1.0.0"),
    ] {
        assert_eq!(version_in(text).map(|version| version.to_string()).as_deref(), Some(version), "{text:?}");
    }
    assert_eq!(version_in("unknown"), None);
    assert_eq!(version_in(""), None);
}
