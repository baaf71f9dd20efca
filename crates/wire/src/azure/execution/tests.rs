use super::*;
use serde_json::{Value, json};

fn version(text: &str) -> ApiVersion {
    ApiVersion::parse(text).unwrap()
}

fn execution(status: ExecutionStatus, output: Option<Output>) -> Execution {
    Execution {
        id: "8148371f-0000-4000-8000-000000000000".into(),
        identifier: "testidentifier000003".into(),
        execution_type: "synchronous".into(),
        status,
        output,
        exit: None,
        error: None,
    }
}

fn output(stdout: &str, stderr: &str, value: CellValue, wall_ms: u64) -> Option<Output> {
    Some(Output { stdout: stdout.into(), stderr: stderr.into(), value, wall_ms })
}

fn text(body: Vec<u8>) -> String {
    String::from_utf8(body).unwrap()
}

/// The contract's example, with the key that other servers write beside.
#[test]
fn the_old_shape_is_the_contracts() {
    let done = execution(ExecutionStatus::Succeeded, output("hi\n", "", CellValue::Text("2".into()), 33));
    assert_eq!(
        text(done.body(Shape::Old, &version("2024-02-02-preview"))),
        r#"{"$id":"1","properties":{"$id":"2","status":"Success","stdout":"hi\n","stderr":"","result":2,"executionResult":2,"executionTimeInMilliseconds":33}}"#
    );
}

#[test]
fn the_legacy_shape_is_flat() {
    let raised = execution(ExecutionStatus::Failed, output("", "ValueError: x", CellValue::Absent, 4));
    assert_eq!(
        text(raised.body(Shape::Legacy, &version("2023-08-01-preview"))),
        r#"{"$id":"1","status":"Failure","stdout":"","stderr":"ValueError: x","result":"","executionResult":"","executionTimeInMilliseconds":4}"#
    );
}

/// The exchange recorded of the real service on 11 Nov 2024 (the contract, section 1.4).
#[test]
fn the_new_shape_is_the_recorded_one() {
    let done = execution(ExecutionStatus::Succeeded, output("Hello world\n", "", CellValue::Absent, 7));
    assert_eq!(
        text(done.body(Shape::New, &version("2024-10-02-preview"))),
        r#"{"$id":"1","id":"8148371f-0000-4000-8000-000000000000","identifier":"testidentifier000003","executionType":"synchronous","status":"Succeeded","result":{"$id":"2","stdout":"Hello world\n","stderr":"","executionResult":"","executionTimeInMilliseconds":7}}"#
    );
    assert_eq!(
        text(done.body(Shape::New, &version("2025-10-02-preview"))),
        r#"{"id":"8148371f-0000-4000-8000-000000000000","identifier":"testidentifier000003","executionType":"synchronous","status":"Succeeded","result":{"stdout":"Hello world\n","stderr":"","executionResult":"","executionTimeInMilliseconds":7}}"#
    );
}

#[test]
fn what_goes_on_has_no_result_yet() {
    let body = execution(ExecutionStatus::Running, None).body(Shape::New, &ApiVersion::latest());
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["status"], body.get("result"), body.get("error")), (&json!("Running"), None, None));
}

#[test]
fn what_was_not_the_programs_doing_is_told_beside() {
    let mut ended = execution(ExecutionStatus::Canceled, output("", "", CellValue::Absent, 0));
    ended.error = Some(ErrorDetail::from(&crate::azure::AzureError::SessionEnded("session ended: it was stopped".into())));
    let body: Value = serde_json::from_slice(&ended.body(Shape::New, &ApiVersion::latest())).unwrap();
    assert_eq!(body["error"], json!({"code": "SessionEnded", "message": "session ended: it was stopped"}));
    assert_eq!(body["status"], "Canceled");
}

#[test]
fn streams_are_cut_between_characters() {
    let mut output = output("äöü", "abc", CellValue::Text("äöü".into()), 0).unwrap();
    output.cut(Some(2));
    assert_eq!((output.stdout.as_str(), output.stderr.as_str(), &output.value), ("äö", "ab", &CellValue::Text("äöü".into())));
    output.cut(None);
    assert_eq!(output.stdout, "äö");
}

#[test]
fn times_are_decimal_milliseconds() {
    let timing = headers::Timing {
        allocation_us: 108_729,
        execution_us: 7_900,
        request_us: 7_950,
        session: "6f055fe5".into(),
        ..headers::Timing::default()
    };
    let all = timing.headers();
    let of = |name: &str| all.iter().find(|(header, _)| *header == name).map(|(_, value)| value.as_str());
    assert_eq!(of("x-ms-allocation-time"), Some("108.729"));
    assert_eq!(of("x-ms-container-execution-duration"), Some("7"));
    assert_eq!(of("x-ms-execution-request-time"), Some("7.950"));
    assert_eq!(of("x-ms-new-allocation"), Some("false"));
    assert_eq!(of("x-ms-session-guid"), Some("6f055fe5"));
}
