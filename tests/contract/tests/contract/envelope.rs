use greenroom_contract::{Connection, Request, Response, Server};
use greenroom_wire::piston::etag;
use serde_json::{Value, json};

crate::rows!(
    the_root_tells_pistons_version,
    unknown_paths_and_other_methods_are_not_found,
    options_tell_what_is_allowed,
    head_is_get_without_a_body,
    writing_methods_must_send_json,
    what_starts_like_json_is_accepted_but_only_json_is_read,
    utf_16_is_decoded,
    compressed_bodies_are_inflated,
    arrays_and_empty_bodies_have_no_fields,
    invalid_utf_8_marks_and_duplicate_keys_are_taken,
    paths_may_differ_in_case_slash_query_and_prefix,
    answers_carry_express_s_headers,
    a_matching_entity_tag_is_not_modified,
    connections_stay_open,
);

fn send(server: &Server, request: Request) -> Response {
    server.send(&request).unwrap_or_else(|error| panic!("{error:#} for {request:?}"))
}

fn execute(server: &Server, content_type: &str, body: impl Into<Vec<u8>>) -> (u16, Value) {
    let response = send(server, Request::new("POST", "/api/v2/execute").header("Content-Type", content_type).body(body));
    (response.status, response.json())
}

fn message(text: &str) -> Value {
    json!({"message": text})
}

fn the_root_tells_pistons_version(server: &Server) {
    let response = send(server, Request::new("GET", "/"));
    assert_eq!((response.status, response.text().as_str()), (200, r#"{"message":"Piston v3.1.1"}"#));
}

fn unknown_paths_and_other_methods_are_not_found(server: &Server) {
    for (method, path) in [
        ("GET", "/nope"),
        ("POST", "/nope"),
        ("GET", "/api/v2"),
        ("GET", "/api/v2/nope"),
        ("GET", "/api/v2/execute"),
        ("PUT", "/api/v2/execute"),
        ("DELETE", "/api/v2/runtimes"),
        ("GET", "/api/v2/connect"),
        ("POST", "/api/v2/connect"),
        ("POST", "/api/v1/execute"),
        ("OPTIONS", "/api/v2/nope"),
    ] {
        let mut request = Request::new(method, path);
        if matches!(method, "POST" | "PUT" | "DELETE") {
            request = request.json(&json!({}));
        }
        let response = send(server, request);
        assert_eq!((response.status, response.text().as_str()), (404, r#"{"message":"Not Found"}"#), "{method} {path}");
        assert_eq!(response.header("content-type"), Some("application/json; charset=utf-8"), "{method} {path}");
    }
}

fn options_tell_what_is_allowed(server: &Server) {
    for (path, allow) in [
        ("/api/v2/execute", "POST"),
        ("/api/v2/runtimes", "GET,HEAD"),
        ("/api/v2/packages", "GET,HEAD,POST,DELETE"),
        ("/api/v2/piston/execute", "POST"),
    ] {
        let response = send(server, Request::new("OPTIONS", path));
        assert_eq!((response.status, response.text().as_str(), response.header("allow")), (200, allow, Some(allow)), "{path}");
        assert!(response.header("content-type").is_some_and(|value| value.starts_with("text/html")), "{path} {response:?}");
    }
}

fn head_is_get_without_a_body(server: &Server) {
    for path in ["/", "/api/v2/runtimes", "/api/v2/packages"] {
        let (get, head) = (send(server, Request::new("GET", path)), send(server, Request::new("HEAD", path)));
        assert_eq!((get.status, head.status), (200, 200), "{path}");
        for name in ["content-type", "content-length", "etag"] {
            assert!(head.header(name).is_some(), "{path} {name}");
            assert_eq!(head.header(name), get.header(name), "{path} {name}");
        }
    }
    assert_eq!(send(server, Request::new("HEAD", "/api/v2/execute")).status, 404);
}

fn writing_methods_must_send_json(server: &Server) {
    let refused = (415, message("requests must be of type application/json"));
    for content_type in ["Application/JSON", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        assert_eq!(execute(server, content_type, "{}"), refused, "{content_type}");
    }
    for (method, path) in [
        ("POST", "/api/v2/execute"),
        ("POST", "/api/v2/nope"),
        ("PUT", "/api/v2/runtimes"),
        ("DELETE", "/api/v2/packages"),
        ("PATCH", "/api/v2"),
    ] {
        let response = send(server, Request::new(method, path));
        assert_eq!((response.status, response.json()), refused, "{method} {path}");
    }
}

fn what_starts_like_json_is_accepted_but_only_json_is_read(server: &Server) {
    let body = r#"{"language":"x"}"#;
    for (content_type, text) in [
        ("application/json", "version is required as a string"),
        ("application/json; charset=utf-8", "version is required as a string"),
        ("application/json;charset=UTF-8", "version is required as a string"),
        ("application/jsonx", "language is required as a string"),
        ("application/json-patch+json", "language is required as a string"),
    ] {
        assert_eq!(execute(server, content_type, body), (400, message(text)), "{content_type}");
    }
}

fn utf_16_is_decoded(server: &Server) {
    let body: Vec<u8> = r#"{"language":"é","version":"😀","files":[]}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(execute(server, "application/json; charset=utf-16", body), (400, message("é-😀 runtime is unknown")));
}

fn compressed_bodies_are_inflated(server: &Server) {
    /// `{"language":"x"}`
    const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xabV\xcaI\xccK/MLOU\xb2R\xaaP\xaa\x05\0\xb1\x7dv\xa4\x10\0\0\0";
    const ZLIB: &[u8] = b"x\x9c\xabV\xcaI\xccK/MLOU\xb2R\xaaP\xaa\x05\0\x30\xbd\x05w";
    for (encoding, body) in [("gzip", GZIP), ("deflate", ZLIB)] {
        let request =
            Request::new("POST", "/api/v2/execute").header("Content-Type", "application/json").header("Content-Encoding", encoding);
        let response = send(server, request.body(body));
        assert_eq!((response.status, response.json()), (400, message("version is required as a string")), "{encoding}");
    }
}

fn arrays_and_empty_bodies_have_no_fields(server: &Server) {
    for body in ["[]", "[1]", ""] {
        assert_eq!(execute(server, "application/json", body), (400, message("language is required as a string")), "{body:?}");
    }
    let without = send(server, Request::new("POST", "/api/v2/execute").header("Content-Type", "application/json"));
    assert_eq!((without.status, without.json()), (400, message("language is required as a string")));
}

fn invalid_utf_8_marks_and_duplicate_keys_are_taken(server: &Server) {
    for (body, text) in [
        (b"{\"language\":\"\xff\",\"version\":\"1\",\"files\":[]}".as_slice(), "\u{fffd}-1 runtime is unknown"),
        (b"\xef\xbb\xbf{\"language\":\"a\"}", "version is required as a string"),
        (b"{\"language\":\"a\",\"version\":\"1\",\"files\":[],\"language\":\"b\"}", "b-1 runtime is unknown"),
        (b"{\"__proto__\":{\"language\":\"a\"}}", "language is required as a string"),
        (b"{\"unknown\":{},\"language\":\"a\"}", "version is required as a string"),
    ] {
        assert_eq!(execute(server, "application/json", body), (400, message(text)), "{}", String::from_utf8_lossy(body));
    }
}

fn paths_may_differ_in_case_slash_query_and_prefix(server: &Server) {
    let runtimes = send(server, Request::new("GET", "/api/v2/runtimes"));
    for path in
        ["/API/V2/Runtimes", "/api/v2/runtimes/", "/api/v2/runtimes?x=1", "/api/v2/runtimes/?x=1", "/api/v2/piston/runtimes"]
    {
        let response = send(server, Request::new("GET", path));
        assert_eq!((response.status, response.text()), (200, runtimes.text()), "{path}");
    }
    let response = send(server, Request::new("POST", "/API/v2/PISTON/Execute/?a").json(&json!({})));
    assert_eq!((response.status, response.json()), (400, message("language is required as a string")));
}

fn answers_carry_express_s_headers(server: &Server) {
    for (request, status) in [
        (Request::new("GET", "/api/v2/runtimes"), 200),
        (Request::new("GET", "/nope"), 404),
        (Request::new("POST", "/api/v2/execute").json(&json!({})), 400),
        (Request::new("POST", "/api/v2/execute"), 415),
    ] {
        let response = send(server, request);
        assert_eq!(response.status, status);
        assert_eq!(response.header("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(response.header("content-length"), Some(response.body.len().to_string().as_str()));
        assert_eq!(response.header("etag"), Some(etag(&response.body).as_str()), "{}", response.text());
        assert!(response.header("date").is_some());
        assert!(response.headers.iter().all(|(name, _)| !name.to_ascii_lowercase().starts_with("access-control-")));
    }
}

fn a_matching_entity_tag_is_not_modified(server: &Server) {
    let tag = etag(&send(server, Request::new("GET", "/api/v2/runtimes")).body);
    for method in ["GET", "HEAD"] {
        for tags in [tag.as_str(), "*", &format!("\"x\", {tag}")] {
            let response = send(server, Request::new(method, "/api/v2/runtimes").header("If-None-Match", tags));
            assert_eq!((response.status, response.body.len()), (304, 0), "{method} {tags}");
            assert_eq!(response.header("etag"), Some(tag.as_str()));
        }
        let response = send(server, Request::new(method, "/api/v2/runtimes").header("If-None-Match", "W/\"0-x\""));
        assert_eq!(response.status, 200);
    }
}

fn connections_stay_open(server: &Server) {
    let mut connection = Connection::open(server.host()).expect("a connection");
    for request in [
        Request::new("GET", "/api/v2/runtimes"),
        Request::new("POST", "/api/v2/execute").header("Content-Type", "text/plain").body("x"),
        Request::new("HEAD", "/api/v2/runtimes"),
        Request::new("GET", "/nope"),
        Request::new("GET", "/"),
    ] {
        let response = connection.send(&request).unwrap_or_else(|error| panic!("{error:#} for {request:?}"));
        assert!(response.status < 500, "{response:?}");
    }
}
