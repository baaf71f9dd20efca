use super::*;

fn check(change: impl FnOnce(&mut PoolSpec)) -> Result<(), SpecError> {
    let mut spec = PoolSpec::new("default");
    change(&mut spec);
    spec.check(&Rules::OWN)
}

fn message(change: impl FnOnce(&mut PoolSpec)) -> String {
    check(change).unwrap_err().to_string()
}

#[test]
fn a_pool_needs_only_a_name_and_is_azures_default() {
    let spec: PoolSpec = serde_json::from_str(r#"{"name":"default"}"#).unwrap();
    assert_eq!(spec, PoolSpec::new("default"));
    assert_eq!((spec.max_sessions, spec.ready_sessions), (10, 5));
    assert_eq!(spec.lifecycle, Lifecycle::Timed { cooldown_s: 300 });
    assert_eq!((spec.kind, spec.network), (PoolKind::PythonLts, Network::Disabled));
    assert_eq!(spec.check(&Rules::OWN), Ok(()));
    assert_eq!(spec.check(&Rules::AZURE), Ok(()));
}

#[test]
fn a_specification_survives_json() {
    let mut spec = PoolSpec::new("calc");
    spec.kind = PoolKind::NodeLts;
    spec.lifecycle = Lifecycle::OnContainerExit { max_alive_s: 7 };
    spec.network = Network::Enabled;
    spec.warm = vec!["node:fs".into(), "@scope/name".into()];
    let text = serde_json::to_string(&spec).unwrap();
    assert!(text.contains(r#""kind":"NodeLTS""#), "{text}");
    assert_eq!(serde_json::from_str::<PoolSpec>(&text).unwrap(), spec);
}

#[test]
fn unknown_fields_are_refused_by_name() {
    let error = serde_json::from_str::<PoolSpec>(r#"{"name":"default","maxSessions":3}"#).unwrap_err().to_string();
    assert!(error.contains("maxSessions"), "{error}");
    let error = serde_json::from_str::<PoolPatch>(r#"{"name":"other"}"#).unwrap_err().to_string();
    assert!(error.contains("name"), "{error}");
    assert!(serde_json::from_str::<PoolSpec>(r#"{"name":"abc","kind":"CustomContainer"}"#).is_err());
}

#[test]
fn each_number_is_refused_with_its_field_and_range() {
    assert_eq!(message(|s| s.max_sessions = 0), "max_sessions: 0 is not in the allowed range, 1 to 10000");
    assert_eq!(message(|s| s.ready_sessions = 11), "ready_sessions: 11 is not in the allowed range, 0 to max_sessions (10)");
    assert_eq!(
        message(|s| s.lifecycle = Lifecycle::Timed { cooldown_s: 0 }),
        "cooldown_s: 0 is not in the allowed range, 1 to 604800"
    );
    assert_eq!(
        message(|s| s.lifecycle = Lifecycle::OnContainerExit { max_alive_s: 0 }),
        "max_alive_s: 0 is not in the allowed range, 1 to 604800"
    );
    assert!(message(|s| s.limits.memory_bytes = 1).starts_with("limits.memory_bytes: 1 "));
    assert!(message(|s| s.limits.disk.inodes = 1).starts_with("limits.disk.inodes: 1 "));
}

#[test]
fn azures_rules_are_narrower_than_ours() {
    let mut spec = PoolSpec::new("default");
    spec.lifecycle = Lifecycle::Timed { cooldown_s: 299 };
    assert_eq!(spec.check(&Rules::OWN), Ok(()));
    assert_eq!(spec.check(&Rules::AZURE).unwrap_err().to_string(), "cooldown_s: 299 is not in the allowed range, 300 to 3600");
    spec.lifecycle = Lifecycle::OnContainerExit { max_alive_s: 3600 };
    let refused = spec.check(&Rules::AZURE).unwrap_err().to_string();
    assert_eq!(refused, "lifecycle: OnContainerExit is not allowed here, only Timed is");
    spec.lifecycle = Lifecycle::default();
    spec.max_sessions = 601;
    assert_eq!(spec.check(&Rules::OWN), Ok(()));
    assert!(spec.check(&Rules::AZURE).is_err());
}

#[test]
fn names_are_azures() {
    for name in ["abc", "default", "a-1", &"a".repeat(63)] {
        assert_eq!(check(|s| s.name = name.into()), Ok(()), "{name}");
    }
    for name in ["", "ab", "1bc", "-bc", "Abc", "a_c", "a/c", "äbc", &"a".repeat(64)] {
        assert!(matches!(check(|s| s.name = name.into()), Err(SpecError::Name { .. })), "{name}");
    }
}

#[test]
fn a_warm_set_names_modules_of_the_pools_language() {
    let warm = |kind, modules: &[&str]| {
        check(|s| {
            s.kind = kind;
            s.warm = modules.iter().map(|&m| m.to_owned()).collect();
        })
    };
    assert_eq!(warm(PoolKind::PythonLts, &["numpy", "xml.etree", "_thread"]), Ok(()));
    for bad in ["", ".", "a.", "os;import x", "../x", "a-b", "1a", "a b"] {
        assert!(matches!(warm(PoolKind::PythonLts, &[bad]), Err(SpecError::WarmName { index: 0, .. })), "{bad}");
    }
    assert_eq!(warm(PoolKind::NodeLts, &["node:fs", "lodash", "@scope/a.b-c", "fs/promises"]), Ok(()));
    for bad in ["", "/etc/x", "../x", "./x", "a//b", "a/../b", "x'"] {
        assert!(matches!(warm(PoolKind::NodeLts, &[bad]), Err(SpecError::WarmName { .. })), "{bad}");
    }
    assert_eq!(warm(PoolKind::Shell, &["a"]), Err(SpecError::WarmShell));
    assert_eq!(warm(PoolKind::PythonLts, &["a", "b", "a"]), Err(SpecError::WarmTwice { index: 2, module: "a".into() }));
}

#[test]
fn a_patch_changes_what_it_names_and_nothing_else() {
    let spec = PoolSpec::new("default");
    assert_eq!(PoolPatch::default().apply(&spec, &Rules::OWN), Ok(spec.clone()));
    let patch: PoolPatch = serde_json::from_str(r#"{"max_sessions":20,"lifecycle":{"cooldown_s":600}}"#).unwrap();
    let changed = patch.apply(&spec, &Rules::OWN).unwrap();
    let expected = PoolSpec { max_sessions: 20, lifecycle: Lifecycle::Timed { cooldown_s: 600 }, ..spec };
    assert_eq!(changed, expected);
}

#[test]
fn a_patch_is_checked_as_a_whole() {
    let spec = PoolSpec::new("default");
    let lower = PoolPatch { max_sessions: Some(3), ..PoolPatch::default() };
    assert_eq!(lower.apply(&spec, &Rules::OWN), Err(SpecError::ReadyAboveMax { ready: 5, max: 3 }));
    let both = PoolPatch { ready_sessions: Some(1), ..lower };
    assert!(both.apply(&spec, &Rules::OWN).is_ok());
}

#[test]
fn a_lifecycle_patch_keeps_the_kind_unless_it_names_one() {
    let timed = Lifecycle::Timed { cooldown_s: 500 };
    let patch = LifecyclePatch { kind: Some(LifecycleKind::OnContainerExit), ..LifecyclePatch::default() };
    assert_eq!(patch.apply(timed), Ok(Lifecycle::OnContainerExit { max_alive_s: 3600 }));
    let patch = LifecyclePatch { max_alive_s: Some(60), ..LifecyclePatch::default() };
    let refused = patch.apply(timed).unwrap_err().to_string();
    assert_eq!(refused, "max_alive_s: goes with the lifecycle OnContainerExit, and the pool's is Timed");
    assert_eq!(LifecyclePatch::default().apply(timed), Ok(timed));
}

#[test]
fn an_executions_limits_are_the_sessions() {
    let limits = SessionLimits::default();
    let execution = limits.of_execution();
    assert_eq!((execution.wall_ms, execution.memory_bytes), (limits.execution_wall_ms, limits.memory_bytes));
    assert_eq!(execution.output_bytes, Some(limits.execution_output_bytes));
}
