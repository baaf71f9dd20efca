//! What the server says, for people.

use std::fmt::{self, Write};

use serde_json::Value;

/// A pool and what it is doing.
pub fn pool(pool: &Value) -> String {
    let now = &pool["now"];
    let totals = &now["totals"];
    let mut text = String::new();
    let mut line = |name: &str, value: fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        _ = writeln!(text, "{name:<11} {value}");
    };
    line("name", format_args!("{}", word(&pool["name"])));
    line("type", format_args!("{}", word(&pool["kind"])));
    line("endpoint", format_args!("{}", word(&pool["endpoint"])));
    line(
        "sessions",
        format_args!(
            "{} ready (of {}), {} starting, {} busy, {} cooling, {} stopping; at most {}",
            now["ready"],
            pool["ready_sessions"],
            now["starting"],
            now["busy"],
            now["cooling"],
            now["stopping"],
            pool["max_sessions"]
        ),
    );
    line("waiting", format_args!("{} calls, {} identifiers without a session", now["waiting_calls"], now["in_line"]));
    line("lifecycle", format_args!("{}", lifecycle(&pool["lifecycle"])));
    line("network", format_args!("Egress{}", word(&pool["network"])));
    line("limits", format_args!("{}", limits(&pool["limits"])));
    let warm: Vec<_> = pool["warm"].as_array().into_iter().flatten().map(word).collect();
    if !warm.is_empty() {
        line("warm", format_args!("{}", warm.join(", ")));
    }
    line(
        "calls",
        format_args!(
            "{} found their session, {} took a ready one, {} waited for one, {} denied as the pool was full, {} otherwise",
            totals["granted_existing"],
            totals["granted_warm"],
            totals["granted_cold"],
            totals["denied_full"],
            totals["denied_otherwise"]
        ),
    );
    let ended: Vec<_> = totals["ended"].as_object().into_iter().flatten().map(|(why, count)| format!("{why} {count}")).collect();
    line("made", format_args!("{} sessions, {} could not be", totals["created"], totals["create_failed"]));
    line("ended", format_args!("{}", if ended.is_empty() { "none".to_owned() } else { ended.join(", ") }));
    let usage = &pool["usage"];
    if usage.is_object() {
        let time = |ms: &Value| duration(ms.as_u64().unwrap_or_default());
        line(
            "used",
            format_args!(
                "{} sessions ({} alive) for {}, busy {}; {} executions, {} of CPU time, {} GiB s of memory",
                usage["sessions"],
                usage["alive"],
                time(&usage["allocated_ms"]),
                time(&usage["busy_ms"]),
                usage["executions"],
                duration(usage["cpu_us"].as_u64().unwrap_or_default() / 1000),
                usage["memory_byte_s"].as_u64().unwrap_or_default() >> 30
            ),
        );
    }
    for failure in now["failures"].as_array().into_iter().flatten() {
        let ago = failure["age_ms"].as_u64().map(duration).unwrap_or_default();
        line("failure", format_args!("{ago} ago, {}: {}", word(&failure["kind"]), word(&failure["reason"])));
    }
    if let Some(wait) = now["next_attempt_in_ms"].as_u64() {
        line("next try", format_args!("in {}", duration(wait)));
    }
    text
}

/// All pools, a line each.
pub fn pools(pools: &Value) -> String {
    let rows = pools.as_array().into_iter().flatten().map(|pool| {
        let now = &pool["now"];
        vec![
            word(&pool["name"]),
            word(&pool["kind"]),
            pool["max_sessions"].to_string(),
            format!("{}/{}", now["ready"], pool["ready_sessions"]),
            now["starting"].to_string(),
            now["busy"].to_string(),
            now["cooling"].to_string(),
            lifecycle(&pool["lifecycle"]),
        ]
    });
    table(&["NAME", "TYPE", "MAX", "READY", "STARTING", "BUSY", "COOLING", "LIFECYCLE"], rows.collect())
}

/// Sessions, a line each.
pub fn sessions(sessions: &Value) -> String {
    let rows = sessions.as_array().into_iter().flatten().map(|session| {
        let time = |name: &str| session[name].as_u64().map(duration).unwrap_or_default();
        vec![
            word(&session["identifier"]),
            word(&session["state"]),
            word(&session["created_at"]),
            word(&session["last_accessed_at"]),
            word(&session["expires_at"]),
            time("busy_ms"),
            time("idle_ms"),
        ]
    });
    table(&["IDENTIFIER", "STATE", "CREATED", "LAST ACCESSED", "EXPIRES", "BUSY", "IDLE"], rows.collect())
}

fn lifecycle(lifecycle: &Value) -> String {
    match (lifecycle["cooldown_s"].as_u64(), lifecycle["max_alive_s"].as_u64()) {
        (Some(seconds), _) => format!("Timed, {seconds} s idle"),
        (_, Some(seconds)) => format!("OnContainerExit, {seconds} s at most"),
        _ => word(&lifecycle["type"]),
    }
}

fn limits(limits: &Value) -> String {
    let mebibytes = |value: &Value| value.as_u64().unwrap_or(0) >> 20;
    format!(
        "{} MiB memory, {} MiB files, {} processes, {} milli-CPU; an execution {}",
        mebibytes(&limits["memory_bytes"]),
        mebibytes(&limits["disk"]["bytes"]),
        limits["processes"],
        limits["cpu_milli"],
        limits["execution_wall_ms"].as_u64().map(duration).unwrap_or_default(),
    )
}

/// A text as it may stand on a terminal: what a program or a client chose has no control over it.
fn word(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    text.chars().flat_map(|letter| if letter.is_control() { letter.escape_default().collect() } else { vec![letter] }).collect()
}

fn duration(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60),
    }
}

fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut widths: Vec<_> = head.iter().map(|cell| cell.len()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let head = head.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(head).chain(rows) {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_pool::PoolSpec;
    use serde_json::json;

    fn shown() -> Value {
        let mut pool = serde_json::to_value(PoolSpec::new("default")).unwrap();
        pool["endpoint"] = "http://127.0.0.1:2000/x".into();
        pool["now"] = json!({
            "ready": 5, "starting": 1, "busy": 2, "cooling": 3, "stopping": 0, "in_line": 0, "waiting_calls": 4,
            "failures": [{"kind": "create", "reason": "no\u{1b}[31m memory", "age_ms": 61_000}],
            "next_attempt_in_ms": 1500,
            "totals": {
                "created": 11, "create_failed": 1, "granted_existing": 7, "granted_warm": 5, "granted_cold": 1,
                "denied_full": 0, "denied_otherwise": 0, "ended": {"cooldown": 2, "stopped": 1},
            },
        });
        pool
    }

    #[test]
    fn a_pool_says_what_it_is_doing() {
        let text = pool(&shown());
        for line in [
            "name        default",
            "type        PythonLTS",
            "sessions    5 ready (of 5), 1 starting, 2 busy, 3 cooling, 0 stopping; at most 10",
            "lifecycle   Timed, 300 s idle",
            "network     EgressDisabled",
            "made        11 sessions, 1 could not be",
            "ended       cooldown 2, stopped 1",
            "failure     1 min 1 s ago, create: no\\u{1b}[31m memory",
            "next try    in 1.5 s",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_pool_says_what_its_sessions_used() {
        let mut shown = shown();
        shown["usage"] = json!({
            "sessions": 7, "alive": 2, "allocated_ms": 7_380_000, "busy_ms": 61_000, "executions": 99, "cpu_us": 1_500_000,
            "memory_byte_s": 5_u64 << 30,
        });
        let text = pool(&shown);
        let line =
            "used        7 sessions (2 alive) for 2 h 3 min, busy 1 min 1 s; 99 executions, 1.5 s of CPU time, 5 GiB s of memory";
        assert!(text.lines().any(|shown| shown == line), "{text}");
    }

    #[test]
    fn tables_are_as_wide_as_what_is_in_them() {
        let text = pools(&json!([shown()]));
        assert_eq!(
            text,
            "NAME     TYPE       MAX  READY  STARTING  BUSY  COOLING  LIFECYCLE\n\
             default  PythonLTS  10   5/5    1         2     3        Timed, 300 s idle\n"
        );
        assert_eq!(sessions(&json!([])), "IDENTIFIER  STATE  CREATED  LAST ACCESSED  EXPIRES  BUSY  IDLE\n");
    }
}
