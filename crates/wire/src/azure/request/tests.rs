use super::*;
use proptest::prelude::*;
use serde_json::json;

fn parse(shape: Shape, body: &Value) -> Result<ExecuteRequest, AzureError> {
    ExecuteRequest::parse(body.to_string().as_bytes(), shape, PoolType::CodeInterpreter, &ApiVersion::latest())
}

fn cell(code: &str) -> Program {
    Program::Cell(code.to_owned())
}

fn is_validation(result: Result<ExecuteRequest, AzureError>) -> bool {
    matches!(result, Err(AzureError::Validation(_)))
}

#[test]
fn the_bodies_of_all_shapes_are_read() {
    let old = json!({"properties": {"codeInputType": "inline", "executionType": "synchronous", "code": "print('hi')\n1+1", "timeoutInSeconds": 100, "sanitizeInput": true}});
    let request = parse(Shape::Old, &old).unwrap();
    assert_eq!((request.program, request.timeout_s, request.output_chars), (cell("print('hi')\n1+1"), Some(100), None));
    let legacy =
        json!({"properties": {"identifier": "x", "codeInputType": "inline", "executionType": "synchronous", "pythonCode": "1"}});
    assert_eq!(parse(Shape::Legacy, &legacy).unwrap().program, cell("1"));
    let new = json!({"codeInputType": "Inline", "executionType": "Synchronous", "code": "print(7*9)", "timeoutInSeconds": 60, "outputStreamsMaxLength": 100});
    let request = parse(Shape::New, &new).unwrap();
    assert_eq!((request.program, request.timeout_s, request.output_chars), (cell("print(7*9)"), Some(60), Some(100)));
}

#[test]
fn only_code_is_required_and_it_may_stand_in_either_place() {
    for body in [
        json!({"code": "1"}),
        json!({"properties": {"code": "1"}}),
        json!({"Properties": {"CODE": "1"}}),
        json!({"properties": {}, "code": "1"}),
    ] {
        for shape in [Shape::Old, Shape::New, Shape::Legacy] {
            let request = parse(shape, &body).unwrap();
            assert_eq!((&request.program, request.timeout_s), (&cell("1"), None), "{body}");
            assert_eq!(request.execution_type, ExecutionType::Synchronous("Synchronous".to_owned()));
        }
    }
    for body in [
        json!({}),
        json!({"properties": {"timeoutInSeconds": 1}}),
        json!({"properties": null, "code": null}),
        json!({"shellCommand": "ls"}),
    ] {
        assert_eq!(parse(Shape::New, &body), Err(AzureError::PropertiesMissing), "{body}");
    }
    let empty = ExecuteRequest::parse(b"", Shape::New, PoolType::CodeInterpreter, &ApiVersion::latest());
    assert_eq!(empty, Err(AzureError::PropertiesMissing));
}

#[test]
fn words_are_compared_without_case_and_repeated_as_sent() {
    let body = |kind: &str, input: &str| json!({"code": "MQ==", "executionType": kind, "codeInputType": input});
    let request = parse(Shape::New, &body("asynchronous", "INLINEBASE64")).unwrap();
    assert_eq!((request.program, request.execution_type), (cell("1"), ExecutionType::Asynchronous("asynchronous".to_owned())));
    assert_eq!(parse(Shape::New, &body("Synchronous", "inlineText")).unwrap().program, cell("MQ=="));
    assert!(is_validation(parse(Shape::New, &body("later", "inline"))));
    assert!(is_validation(parse(Shape::New, &body("synchronous", "file"))));
    assert!(matches!(parse(Shape::Old, &body("asynchronous", "inline")), Err(AzureError::NotSupported(_))));
}

#[test]
fn base64_is_code_with_or_without_padding_and_line_ends() {
    let code = |text: &str| parse(Shape::New, &json!({"code": text, "codeInputType": "InlineBase64"}));
    for text in ["cHJpbnQoMSk=", "cHJpbnQoMSk", "cHJp\r\nbnQo\nMSk="] {
        assert_eq!(code(text).unwrap().program, cell("print(1)"));
    }
    assert!(is_validation(code("!!")) && is_validation(code("/w==")));
}

#[test]
fn numbers_are_whole_and_above_0() {
    for wrong in ["-1", "0", "0.5", "\"10\"", "true", "[]", "1e309", "-9223372036854775809"] {
        for field in ["timeoutInSeconds", "outputStreamsMaxLength"] {
            let body = format!(r#"{{"code": "1", "{field}": {wrong}}}"#);
            let request = ExecuteRequest::parse(body.as_bytes(), Shape::New, PoolType::CodeInterpreter, &ApiVersion::latest());
            assert!(is_validation(request), "{body}");
        }
    }
    for (given, timeout) in [(json!(1), 1), (json!(220), 220), (json!(221), 220), (json!(u64::MAX), 220)] {
        assert_eq!(parse(Shape::New, &json!({"code": "1", "timeoutInSeconds": given})).unwrap().timeout_s, Some(timeout));
    }
}

#[test]
fn a_length_of_output_is_assumed_only_by_the_latest_version() {
    let chars = |shape, version: &str| {
        let version = ApiVersion::parse(version).unwrap();
        ExecuteRequest::parse(br#"{"code":"1"}"#, shape, PoolType::CodeInterpreter, &version).unwrap().output_chars
    };
    assert_eq!(chars(Shape::New, "2025-10-02-preview"), Some(4096));
    assert_eq!(chars(Shape::New, "2024-10-02-preview"), None);
    assert_eq!(chars(Shape::Old, "2025-10-02-preview"), None);
}

#[test]
fn what_is_no_json_object_is_refused() {
    for body in [b"[]".as_slice(), b"\"code\"", b"{", b"null", &b"[".repeat(1_000_000)] {
        let request = ExecuteRequest::parse(body, Shape::New, PoolType::CodeInterpreter, &ApiVersion::latest());
        assert!(is_validation(request), "{:?}", &body[..body.len().min(10)]);
    }
    let marked =
        ExecuteRequest::parse(b"\xef\xbb\xbf{\"code\":\"1\"}", Shape::New, PoolType::CodeInterpreter, &ApiVersion::latest());
    assert!(marked.is_ok());
    assert!(is_validation(parse(Shape::New, &json!({"code": ["1"]}))));
}

proptest! {
    #[test]
    fn any_body_is_read_or_refused_with_400(body in proptest::collection::vec(any::<u8>(), 0..60), field in "(code|properties|timeoutInSeconds|shellCommand|execCommandAndArgs|stdin)", value in "(1|-1|\"x\"|\\[\\]|\\{\\}|null|true|1e9)") {
        let some = format!("{{\"code\":\"1\",\"{field}\":{value}}}").into_bytes();
        for body in [body, some] {
            for pool in [PoolType::CodeInterpreter, PoolType::Shell] {
                match ExecuteRequest::parse(&body, Shape::New, pool, &ApiVersion::latest()) {
                    Ok(request) => prop_assert!(request.timeout_s.is_none_or(|seconds| (1..=MAX_TIMEOUT_S).contains(&seconds))),
                    Err(error) => prop_assert_eq!(error.status(), 400),
                }
            }
        }
    }
}
