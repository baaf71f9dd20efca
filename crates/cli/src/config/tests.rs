use greenroom_core::Limits;
use greenroom_runtimes::{Catalogue, Elevation};

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
        ("isolation.require", "strong", "expected auto, full, rootless or restricted"),
        ("isolation.network", "host", "expected none or loopback"),
        ("isolation.uid_first", "0", "at least 1000"),
        ("limits.disk.bytes", "999999999999", "must be below"),
        ("sandboxes.max", "1", "at least 2"),
        ("listen", "here", "ADDRESS:PORT"),
        ("log.format", "xml", "text or json"),
        ("packages.admin", "perhaps", "auto"),
        ("limits.run.open_files", "99999999999", "from 0 to 4294967295"),
        ("limits.run.wall_ms", "-5", "expected a whole number"),
        ("limits.run.cpu_milli", "9", "at least 10"),
        ("limits.languages.c.cpu_milli", "9", "at least 10"),
        ("isolation.uid_first", "999", "at least 1000"),
        ("isolation.uid_first", "60000", "65534"),
        ("isolation.uid_first", "4294967290", "none is above"),
        ("isolation.uid_count", "1", "a uid of its own"),
        ("log.level", "loud", "expected error, warn"),
        ("limits.languages.c.processes", "0", "must be above 0"),
        ("limits.languages.c.wall", "5", "no limit of a language"),
        ("limits.run", "5", "a section"),
        ("egress.allow", "10.0.0.0/33", "no network (10.1.0.0/16) or address"),
        ("egress.deny", "10.0.0.1/8", "the network is 10.0.0.0/8, the host 10.0.0.1"),
        ("egress.deny_tcp_ports", "25,smtp", "expected ports"),
        ("egress.deny_tcp_ports", "70000", "expected a list of ports"),
        ("egress.resolvers", "dns.example", "no ADDRESS or ADDRESS:PORT"),
        ("egress.connections", "0", "must be above 0"),
    ] {
        let error = format!("{:#}", with("", &[], &[(key, value)]).err().unwrap());
        assert!(error.contains(says) && error.contains(key), "{key}={value}: {error}");
    }
}

#[test]
fn an_error_names_the_setting_and_where_its_value_came_from() {
    for (file, says) in [
        ("[limits.run]\nwall_ms = \"x\"\n", "limits.run.wall_ms: invalid type"),
        ("[limits.run]\nwall_ms = 0\n", "limits.run.wall_ms must be above 0"),
        ("[admission]\nmax_concurrent = \"many\"\n", "admission.max_concurrent: expected a value of the right type"),
        ("listen = 3\n", "listen: invalid type"),
        ("[limits.languages.\"c++\"]\nprocesess = 1\n", "did you mean \"processes\""),
        ("[listen]\nport = 1\n", "\"listen.port\""),
        ("[limits\n", "line 1"),
    ] {
        let error = format!("{:#}", with(file, &[], &[]).err().unwrap());
        assert!(error.contains(says) && error.contains("g.toml"), "{file}: {error}");
    }
    let error = format!("{:#}", with("", &[("GREENROOM_LISTEN", "here")], &[]).err().unwrap());
    assert!(error.contains("(from environment GREENROOM_LISTEN)"), "{error}");
}

#[test]
fn the_embedded_defaults_are_the_promised_ones() {
    let settings = with("", &[], &[]).unwrap().settings;
    let cores = std::thread::available_parallelism().unwrap().get();
    let gateway = &settings.gateway;
    let run = Limits {
        wall_ms: 3000,
        cpu_ms: 3000,
        memory_bytes: 512 << 20,
        processes: 64,
        open_files: 2048,
        file_size_bytes: 10_000_000,
        output_bytes: Some(65536),
        cpu_milli: 1000,
    };
    assert_eq!(gateway.run, run);
    let cpu_milli = u32::try_from(cores * 1000).unwrap();
    assert_eq!(gateway.compile, Limits { wall_ms: 10_000, cpu_ms: 10_000, memory_bytes: 1 << 30, cpu_milli, ..run });
    assert_eq!((gateway.disk.bytes, gateway.disk.inodes), (128 << 20, 16384));
    assert_eq!((gateway.max_concurrent, gateway.queue), (cores, 256));
    assert_eq!((gateway.body_bytes, gateway.websocket_message_bytes), (16 << 20, 16 << 20));
    assert_eq!((gateway.header_timeout.as_millis(), gateway.body_timeout.as_millis()), (10_000, 30_000));
}

#[test]
fn localhost_is_an_address_too() {
    assert_eq!(with("", &[], &[("listen", "localhost:2001")]).unwrap().settings.listen.to_string(), "127.0.0.1:2001");
}

#[test]
fn what_is_shown_as_json_has_every_setting_with_value_and_origin() {
    let shown = with("", &[("PISTON_BIND_ADDRESS", "127.0.0.1:2003")], &[]).unwrap().show(true).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let listen = serde_json::json!({ "value": "127.0.0.1:2003", "origin": "environment PISTON_BIND_ADDRESS" });
    assert_eq!(shown["listen"], listen);
    assert_eq!(shown["limits.disk.inodes"]["value"], 16384);
    assert_eq!((&shown["packages.admin"]["value"], &shown["packages.admin"]["decided"]), (&"auto".into(), &"true".into()));
}

#[test]
fn every_automatic_setting_shows_what_was_decided() {
    let loaded = with("", &[], &[]).unwrap();
    for (key, (value, _)) in &loaded.values {
        assert!(value.as_str() != Some("auto") || loaded.settings.decided(key).is_some(), "{key}");
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

#[test]
fn limits_of_languages_that_are_none_are_told_about() {
    let file = "[limits.languages.nope]\nrun_wall_ms = 1\n[limits.languages.python]\nrun_wall_ms = 1\n";
    let settings = with(file, &[], &[]).unwrap().settings;
    let catalogue = Catalogue::discover(&settings.discovery(Elevation::Never)).unwrap();
    assert_eq!(settings.idle_overrides(&catalogue), ["limits.languages.nope does not count: there is no such language"]);
}

#[test]
fn a_port_counts_only_beside_a_variable_of_pistons() {
    let listen = |environment: &[(&str, &str)]| with("", environment, &[]).unwrap().settings.listen.to_string();
    assert_eq!(listen(&[("PORT", "3000")]), "127.0.0.1:2000");
    assert_eq!(listen(&[("PORT", "3000"), ("PISTON_RUN_TIMEOUT", "2000")]), "0.0.0.0:3000");
}

#[test]
fn pools_are_configured_by_name_and_what_is_wrong_with_one_is_named() {
    let file = "[pools.fast]\nkind = \"NodeLTS\"\nmax_sessions = 1\ncooldown_s = 5\n[pools.default]\nmax_alive_s = 60\n";
    let loaded = with(file, &[], &[("pools.fast.disk_bytes", "2000000")]).unwrap();
    let of = |name: &str| loaded.settings.pools[name].apply(crate::settings::new_pool(name)).unwrap();
    let fast = of("fast");
    assert_eq!((fast.kind.as_str(), fast.max_sessions, fast.ready_sessions), ("NodeLTS", 1, 1));
    assert_eq!((fast.lifecycle, fast.limits.disk.bytes), (greenroom_pool::Lifecycle::Timed { cooldown_s: 5 }, 2_000_000));
    assert_eq!(of("default").lifecycle, greenroom_pool::Lifecycle::OnContainerExit { max_alive_s: 60 });
    for (file, says) in [
        ("[pools.fast]\nmax_session = 1\n", "did you mean \"max_sessions\"?"),
        ("[pools]\nfast = 1\n", "is no setting of a pool"),
        (
            "[pools.fast]\nmax_sessions = 0\n",
            "pools.fast.max_sessions 0 is not in the allowed range, 1 to 10000 (from file g.toml)",
        ),
        ("[pools.fast]\ndisk_bytes = 1\n", "pools.fast.disk_bytes 1 is not in the allowed range"),
        ("[pools.fast]\nready_sessions = 11\n", "pools.fast.ready_sessions 11 is not in the allowed range, 0 to max_sessions (10)"),
        ("[pools.fast]\ncooldown_s = 1\nmax_alive_s = 1\n", "pools.fast.cooldown_s"),
        ("[pools.Fast]\nmax_sessions = 1\n", "pools.Fast"),
        ("[pools.fast]\nkind = \"Ruby\"\n", "pools.fast.kind"),
        ("[pools.fast]\nkind = \"Shell\"\nwarm = [\"x\"]\n", "pools.fast.warm"),
    ] {
        let error = format!("{:#}", with(file, &[], &[]).err().unwrap());
        assert!(error.contains(says), "{file}: {error}");
    }
}

#[test]
fn what_sessions_may_reach_is_a_list_or_a_text() {
    let file = "[egress]\nallow = [\"10.1.0.0/16\", \"fd00::1\"]\ndeny_tcp_ports = [25, 465]\n[pools.net]\nnetwork = \"Enabled\"\n";
    let loaded = with(file, &[], &[]).unwrap();
    let shown = format!("{:?}", loaded.settings.egress);
    assert!(shown.contains("allow: [10.1.0.0/16, fd00::1/128], deny: [], deny_tcp_ports: [25, 465]"), "{shown}");
    let spec = loaded.settings.pools["net"].apply(crate::settings::new_pool("net")).unwrap();
    assert_eq!(spec.network, greenroom_pool::Network::Enabled);
    let environment = [("GREENROOM_EGRESS_DENY", "9.9.9.9, 8.8.0.0/16"), ("GREENROOM_EGRESS_DENY_TCP_PORTS", "")];
    let loaded = with("", &environment, &[("egress.resolvers", "1.1.1.1,[::1]:5353")]).unwrap();
    let shown = format!("{:?}", loaded.settings.egress);
    assert!(shown.contains("deny: [9.9.9.9/32, 8.8.0.0/16], deny_tcp_ports: []"), "{shown}");
    assert!(shown.contains("resolvers: [1.1.1.1:53, [::1]:5353]"), "{shown}");
}
