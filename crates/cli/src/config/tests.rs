use super::*;

fn with(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> anyhow::Result<Loaded> {
    let file = (!file.is_empty()).then(|| (PathBuf::from("g.toml"), file.to_owned()));
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let flags: Vec<Flag> =
        flags.iter().map(|(key, value)| Flag { key: (*key).into(), value: (*value).into(), name: "--set".into() }).collect();
    merge(file, environment, &flags)
}

fn wall(loaded: &Loaded) -> (u64, String) {
    (loaded.settings.gateway.run.wall_ms, loaded.values["limits.run.wall_ms"].1.to_string())
}

#[test]
fn the_embedded_defaults_are_valid_and_every_one_says_so() {
    let loaded = with("", &[], &[]).unwrap();
    assert_eq!(wall(&loaded), (3000, "default".into()));
    assert_eq!(loaded.settings.listen.to_string(), "127.0.0.1:2000");
    assert!(loaded.values.values().all(|(_, origin)| *origin == Origin::Default));
}

#[test]
fn a_later_layer_wins_and_is_named() {
    let file = "[limits.run]\nwall_ms = 1\n";
    let piston = ("PISTON_RUN_TIMEOUT", "2");
    let ours = ("GREENROOM_LIMITS_RUN_WALL_MS", "3");
    let flag = ("limits.run.wall_ms", "4");
    assert_eq!(wall(&with(file, &[], &[]).unwrap()), (1, "file g.toml".into()));
    assert_eq!(wall(&with(file, &[piston], &[]).unwrap()), (2, "environment PISTON_RUN_TIMEOUT".into()));
    assert_eq!(wall(&with(file, &[piston, ours], &[]).unwrap()), (3, "environment GREENROOM_LIMITS_RUN_WALL_MS".into()));
    assert_eq!(wall(&with(file, &[piston, ours], &[flag]).unwrap()), (4, "flag --set".into()));
}

#[test]
fn unknown_names_are_refused_with_the_nearest_known_one() {
    for (file, environment, flag, near) in [
        ("[limits.run]\nwal_ms = 1\n", None, None, "limits.run.wall_ms"),
        ("", Some(("GREENROOM_LISTN", "x")), None, "GREENROOM_LISTEN"),
        ("", None, Some(("log.levle", "info")), "log.level"),
    ] {
        let environment: Vec<_> = environment.into_iter().collect();
        let flags: Vec<_> = flag.into_iter().collect();
        let error = format!("{:#}", with(file, &environment, &flags).err().unwrap());
        assert!(error.contains("unknown") && error.contains(near), "{error}");
    }
}

#[test]
fn values_that_cannot_be_are_refused_by_name_and_origin() {
    for (key, value, says) in [
        ("limits.run.wall_ms", "0", "must be above 0"),
        ("limits.run.wall_ms", "soon", "whole number"),
        ("isolation.require", "strong", "unknown isolation profile"),
        ("isolation.network", "host", "expected none or loopback"),
        ("isolation.uid_first", "0", "must be above 0"),
        ("limits.disk.bytes", "999999999999", "must be below"),
        ("sandboxes.max", "1", "at least 2"),
        ("listen", "here", "ADDRESS:PORT"),
        ("log.format", "xml", "text or json"),
        ("packages.admin", "perhaps", "auto"),
    ] {
        let error = format!("{:#}", with("", &[], &[(key, value)]).err().unwrap());
        assert!(error.contains(says), "{key}={value}: {error}");
    }
}

#[test]
fn a_language_may_have_limits_of_its_own_whatever_its_name() {
    let file = "[limits.languages.\"c#.net\"]\nprocesses = 128\n";
    let loaded = with(file, &[("PISTON_LIMIT_OVERRIDES", r#"{"c++":{"run_timeout":2000}}"#)], &[]).unwrap();
    let languages = &loaded.settings.gateway.languages;
    assert_eq!(languages["c#.net"].processes, Some(128));
    assert_eq!(languages["c++"].run_wall_ms, Some(2000));
    assert!(with("[limits.languages.c]\nprocesess = 1\n", &[], &[]).is_err());
}

#[test]
fn package_administration_is_off_where_others_can_reach_the_server() {
    assert!(with("", &[], &[]).unwrap().settings.gateway.package_admin);
    assert!(!with("", &[], &[("listen", "0.0.0.0:2000")]).unwrap().settings.gateway.package_admin);
    assert!(with("", &[], &[("listen", "0.0.0.0:2000"), ("packages.admin", "true")]).unwrap().settings.gateway.package_admin);
}
