use super::*;
use proptest::prelude::*;

fn read(variables: &[(&str, &str)]) -> Result<PistonSettings, String> {
    environment(variables.iter().copied()).map_err(|error| error.to_string())
}

#[test]
fn an_environment_without_pistons_variables_says_nothing() {
    assert_eq!(read(&[("HOME", "/root"), ("PISTONX", "1"), ("RUN_TIMEOUT", "x")]), Ok(PistonSettings::default()));
}

#[test]
fn every_variable_is_read() {
    let settings = read(&[
        ("PISTON_LOG_LEVEL", "WARN"),
        ("PISTON_BIND_ADDRESS", "0.0.0.0:2001"),
        ("PORT", "8080"),
        ("PISTON_DATA_DIRECTORY", "/piston"),
        ("PISTON_DISABLE_NETWORKING", "true"),
        ("PISTON_OUTPUT_MAX_SIZE", "1"),
        ("PISTON_MAX_PROCESS_COUNT", "2"),
        ("PISTON_MAX_OPEN_FILES", "3"),
        ("PISTON_MAX_FILE_SIZE", "4"),
        ("PISTON_COMPILE_TIMEOUT", "5"),
        ("PISTON_RUN_TIMEOUT", "6"),
        ("PISTON_COMPILE_CPU_TIME", "7"),
        ("PISTON_RUN_CPU_TIME", "8"),
        ("PISTON_COMPILE_MEMORY_LIMIT", "9"),
        ("PISTON_RUN_MEMORY_LIMIT", "10"),
        ("PISTON_MAX_CONCURRENT_JOBS", "11"),
        ("PISTON_LIMIT_OVERRIDES", r#"{"c++":{"max_process_count":128,"run_timeout":"4s"}}"#),
    ])
    .unwrap();
    let limits = LimitOverrides {
        output_max_size: Some(1),
        max_process_count: Some(2),
        max_open_files: Some(3),
        max_file_size: Some(4),
        compile_timeout: Some(5),
        run_timeout: Some(6),
        compile_cpu_time: Some(7),
        run_cpu_time: Some(8),
        compile_memory_limit: Some(9),
        run_memory_limit: Some(10),
    };
    let cpp = LimitOverrides { max_process_count: Some(128), run_timeout: Some(4), ..LimitOverrides::default() };
    assert_eq!(
        settings,
        PistonSettings {
            log_level: Some("warn"),
            bind_address: Some("0.0.0.0:2001".into()),
            port: Some(8080),
            data_directory: Some("/piston".into()),
            disable_networking: Some(true),
            max_concurrent_jobs: Some(11),
            limits,
            limit_overrides: [("c++".to_owned(), cpp)].into(),
            ignored: vec![],
        }
    );
}

#[test]
fn numbers_are_read_as_piston_reads_them() {
    for (value, number) in [("3s", 3), (" 42", 42), ("0x10", 16), ("1500.5", 1500)] {
        assert_eq!(read(&[("PISTON_RUN_TIMEOUT", value)]).unwrap().limits.run_timeout, Some(number), "{value:?}");
    }
}

#[test]
fn what_cannot_be_understood_is_named() {
    for (variable, value, message) in [
        ("PISTON_RUN_TIMEOUT", "abc", "PISTON_RUN_TIMEOUT must be a number, and \"abc\" is not"),
        ("PISTON_MAX_OPEN_FILES", "", "PISTON_MAX_OPEN_FILES must be a number, and \"\" is not"),
        ("PORT", "x", "PORT must be a number, and \"x\" is not"),
        ("PORT", "65536", "PORT is too large: \"65536\""),
        ("PISTON_MAX_CONCURRENT_JOBS", "0", "PISTON_MAX_CONCURRENT_JOBS must be larger than 0, and \"0\" is not"),
        ("PISTON_LOG_LEVEL", "info", "PISTON_LOG_LEVEL must be DEBUG, INFO, WARN, ERROR or NONE, and \"info\" is not"),
        (
            "PISTON_BIND_ADDRESS",
            "2000",
            "PISTON_BIND_ADDRESS must be an address and a port, as in 0.0.0.0:2000, and \"2000\" is not",
        ),
        (
            "PISTON_BIND_ADDRESS",
            ":2000",
            "PISTON_BIND_ADDRESS must be an address and a port, as in 0.0.0.0:2000, and \":2000\" is not",
        ),
        ("PISTON_DISABLE_NETWORKING", "yes", "PISTON_DISABLE_NETWORKING must be true or false, and \"yes\" is not"),
        (
            "PISTON_LIMIT_OVERRIDES",
            "[]",
            "PISTON_LIMIT_OVERRIDES must be a JSON object such as {\"c++\":{\"run_timeout\":5000}}: it is none",
        ),
        ("PISTON_LIMIT_OVERRIDES", r#"{"c":5}"#, "PISTON_LIMIT_OVERRIDES: the limits of \"c\" must be a JSON object"),
        (
            "PISTON_LIMIT_OVERRIDES",
            r#"{"c":{"run_timeout":"x"}}"#,
            "PISTON_LIMIT_OVERRIDES[c].run_timeout must be a number, and \"x\" is not",
        ),
    ] {
        assert_eq!(read(&[(variable, value)]), Err(message.to_owned()), "{variable}={value}");
    }
    let unknown = read(&[("PISTON_LIMIT_OVERRIDES", r#"{"c":{"nope":1}}"#)]).unwrap_err();
    assert!(unknown.starts_with("PISTON_LIMIT_OVERRIDES: \"nope\" of \"c\" is no limit; there are output_max_size, "), "{unknown}");
}

#[test]
fn no_limit_is_no_setting_but_is_told() {
    let settings = read(&[("PISTON_RUN_MEMORY_LIMIT", "-1"), ("PISTON_LIMIT_OVERRIDES", r#"{"c":{"run_timeout":0}}"#)]).unwrap();
    assert_eq!(settings.limits, LimitOverrides::default());
    assert_eq!(settings.limit_overrides["c"], LimitOverrides::default());
    let ignored: Vec<&str> = settings.ignored.iter().map(|ignored| ignored.variable.as_str()).collect();
    assert_eq!(ignored, ["PISTON_RUN_MEMORY_LIMIT", "PISTON_LIMIT_OVERRIDES[c].run_timeout"]);
}

#[test]
fn what_has_no_meaning_here_is_told() {
    let settings = read(&[("PISTON_RUNNER_UID_MIN", "1001"), ("PISTON_REPO_URL", "http://x/index"), ("PISTON_NOPE", "1")]).unwrap();
    let ignored: Vec<&str> = settings.ignored.iter().map(|ignored| ignored.variable.as_str()).collect();
    assert_eq!(ignored, ["PISTON_RUNNER_UID_MIN", "PISTON_REPO_URL", "PISTON_NOPE"]);
}

proptest! {
    #[test]
    fn no_value_makes_it_panic(
        name in "PORT|PISTON_(LOG_LEVEL|BIND_ADDRESS|DISABLE_NETWORKING|RUN_TIMEOUT|MAX_CONCURRENT_JOBS|LIMIT_OVERRIDES|X)",
        value in prop_oneof![".{0,20}", "-?[0-9a-fx:]{0,24}", "\\{\"c\":\\{\"run_timeout\":[0-9.e-]{0,6}\\}\\}"],
    ) {
        prop_assert!(read(&[(name.as_str(), value.as_str())]).map_or_else(|message| !message.is_empty(), |_| true));
    }
}
