use super::*;
use proptest::prelude::*;
use serde_json::json;

fn read(content_type: &str, body: &[u8]) -> Result<Value, String> {
    ContentType::of(Some(content_type)).read(body).map_err(|error| error.to_string())
}

fn read_json(body: &[u8]) -> Result<Value, String> {
    read("application/json", body)
}

#[test]
fn the_api_takes_what_starts_with_the_exact_text_and_express_reads_what_is_json() {
    let body = br#"{"a":1}"#;
    let (read_it, left_it) = (Ok(json!({"a": 1})), Ok(json!({})));
    for (header, is_accepted, value) in [
        ("application/json", true, &read_it),
        ("application/json; charset=utf-8", true, &read_it),
        ("application/json;charset=UTF-8", true, &read_it),
        ("application/json; charset=\"utf-8\"", true, &read_it),
        ("application/json; a=b; charset=utf-8", true, &read_it),
        ("application/json ; charset=utf-8", true, &read_it),
        ("application/jsonx", true, &left_it),
        ("application/json-patch+json", true, &left_it),
        ("application/json; nonsense", true, &left_it),
        ("application/json; charset=", true, &left_it),
        ("application/json; charset=\"utf-8\" x", true, &left_it),
        ("Application/JSON", false, &read_it),
        ("text/plain", false, &left_it),
        ("application/x-www-form-urlencoded", false, &left_it),
        ("", false, &left_it),
    ] {
        let content_type = ContentType::of(Some(header));
        assert_eq!(content_type.is_accepted(), is_accepted, "{header:?}");
        assert_eq!(&content_type.read(body).map_err(|error| error.to_string()), value, "{header:?}");
    }
    assert!(!ContentType::of(None).is_accepted());
    assert_eq!(ContentType::of(None).read(b"no json"), Ok(json!({})));
}

#[test]
fn charsets_are_those_of_unicode() {
    let text = "{\"a\":\"é😀\"}";
    let value = Ok(json!({"a": "é😀"}));
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert_eq!(read("application/json; charset=utf-16", &little), value);
    assert_eq!(read("application/json; charset=utf-16", &big), value);
    assert_eq!(read("application/json; charset=utf-16", &[b"\xff\xfe", little.as_slice()].concat()), value);
    assert_eq!(read("application/json; charset=utf-16", &[b"\xfe\xff", big.as_slice()].concat()), value);
    assert_eq!(read("application/json; charset=UTF-16LE", &little), value);
    assert_eq!(read("application/json; charset=utf-16be", &big), value);
    assert_eq!(
        read("application/json; charset=iso-8859-1", b"{}"),
        Err("unsupported charset \"ISO-8859-1\": send JSON as UTF-8".to_owned())
    );
    assert_eq!(read("application/json; charset=utf8", b"{}"), Err("unsupported charset \"UTF8\": send JSON as UTF-8".to_owned()));
}

#[test]
fn invalid_bytes_are_replaced_a_byte_order_mark_is_skipped_and_the_last_of_two_keys_counts() {
    for (body, value) in [
        (b"{\"a\":\"\xff\xe2\x82x\"}".as_slice(), json!({"a": "\u{fffd}\u{fffd}x"})),
        (b"\xef\xbb\xbf{\"a\":1}", json!({"a": 1})),
        (b"{\"a\":1,\"b\":2,\"a\":3}", json!({"a": 3, "b": 2})),
        (b"", json!({})),
        (b"\xef\xbb\xbf", json!({})),
        (b" \r\n\t{\"__proto__\":{\"language\":\"x\"}}", json!({"__proto__": {"language": "x"}})),
        (b"[1]", json!([1])),
    ] {
        assert_eq!(read_json(body), Ok(value), "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn what_is_no_json_object_is_refused_with_a_reason() {
    for body in ["null", "\"x\"", "1", "true", " 1 "] {
        assert_eq!(read_json(body.as_bytes()), Err("the request body must be a JSON object".to_owned()), "{body}");
    }
    for (body, reason) in [
        ("{", "EOF while parsing an object at line 1 column 1"),
        ("{\"a\":}", "expected value at line 1 column 6"),
        ("{} x", "trailing characters at line 1 column 4"),
        ("nope", "expected ident at line 1 column 2"),
        (" ", "EOF while parsing a value at line 1 column 1"),
    ] {
        assert_eq!(read_json(body.as_bytes()), Err(format!("the request body is not valid JSON: {reason}")), "{body}");
    }
}

#[test]
fn deep_nesting_is_refused_and_does_not_use_up_the_stack() {
    for (open, count) in [("[", 1_000_000), ("{\"a\":", 1_000_000), ("[", 128)] {
        let message = read_json(open.repeat(count).as_bytes()).unwrap_err();
        assert!(message.contains("recursion limit exceeded"), "{message}");
    }
}

#[test]
fn half_a_surrogate_pair_becomes_a_replacement_character() {
    for (text, string) in [
        (r#"{"a":"\ud800"}"#, "\u{fffd}"),
        (r#"{"a":"\uDC00x"}"#, "\u{fffd}x"),
        (r#"{"a":"\ud83d\ude00"}"#, "😀"),
        (r#"{"a":"\ud800\ud83d\ude00"}"#, "\u{fffd}😀"),
        (r#"{"a":"\ude00\ud83d"}"#, "\u{fffd}\u{fffd}"),
        (r#"{"a":"\ud800\n\ud800é"}"#, "\u{fffd}\n\u{fffd}é"),
        (r#"{"a":"\\ud800"}"#, "\\ud800"),
        (r#"{"a":"\\\ud800"}"#, "\\\u{fffd}"),
        (r#"{"a":"A\u00e9"}"#, "Aé"),
    ] {
        assert_eq!(read_json(text.as_bytes()), Ok(json!({"a": string})), "{text}");
    }
}

#[test]
fn a_body_that_is_too_large_is_the_only_413() {
    assert_eq!(BodyError::TooLarge { limit: 5 }.status(), 413);
    assert_eq!(BodyError::TooLarge { limit: 5 }.to_string(), "the request body is larger than the configured limit of 5 bytes");
    assert_eq!(BodyError::NotAnObject.status(), 400);
    assert_eq!(
        BodyError::ContentEncoding("foo".into()).to_string(),
        "unsupported content encoding \"foo\": send gzip, deflate or none"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..64), header in ".{0,40}") {
        for header in [header.as_str(), "application/json", "application/json; charset=utf-16"] {
            // Whatever comes out, it is no panic.
            prop_assert!(ContentType::of(Some(header)).read(&body).map_or_else(|error| error.status() == 400, |value| !value.is_null()));
        }
    }

    #[test]
    fn the_rewriting_of_escapes_leaves_every_valid_text_as_it_means(text in any::<String>()) {
        let json = serde_json::to_string(&text).unwrap();
        let escaped: String = json.chars().map(|c| if c.is_ascii() { c.to_string() } else {
            c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
        }).collect();
        prop_assert_eq!(parse(&format!("[{escaped}]")), Ok(json!([text])));
    }

    #[test]
    fn backslashes_and_digits_in_any_order_do_not_make_it_panic(text in "(\\\\|u|d8|dc|00|é|\"|n){0,24}") {
        let rewritten = replace_lone_surrogates(&text).into_owned();
        prop_assert!(rewritten.len() >= text.len());
    }
}
