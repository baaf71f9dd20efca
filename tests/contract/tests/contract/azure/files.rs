use greenroom_contract::{Connection, Request, Server};
use serde_json::{Value, json};

use super::{FIRST_NEW, LATEST, MULTIPART, OLD, POOL, SESSIONS, Session, keys, multipart, refused, until};

crate::rows!(
    files_of_the_old_shape_are_lists_with_properties,
    files_of_the_new_shape_are_objects,
    files_of_the_legacy_shape_have_their_own_names,
    uploads_are_read_as_real_clients_send_them,
    a_mount_before_the_name_is_taken_off,
    a_path_is_relative_to_the_mount,
    a_program_and_its_callers_share_files,
    names_that_lead_elsewhere_are_refused,
    what_is_missing_is_404,
    what_is_no_regular_file_is_not_read,
    names_that_programs_chose_cannot_write_headers,
    files_can_be_seen_while_a_cell_runs,
    a_slow_upload_holds_up_nobody,
    an_upload_without_a_file_is_refused,
    an_upload_of_more_than_128_mb_is_refused,
    what_does_not_fit_into_the_session_is_refused,
    a_large_file_comes_back_as_it_was_sent,
);

fn is_moment(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == 28 && text.starts_with("20") && text.ends_with('Z'))
}

fn files_of_the_old_shape_are_lists_with_properties(server: &Server) {
    let session = Session::new(server, "files");
    let response = session.upload("/files/upload", OLD, "test1.txt", b"sixteen bytes ok");
    assert_eq!(response.status, 200, "{}", response.text());
    let answer = response.json();
    assert_eq!(keys(&answer), ["$id", "value"]);
    let item = &answer["value"][0];
    assert_eq!((&answer["$id"], &item["$id"], &item["properties"]["$id"]), (&json!("1"), &json!("2"), &json!("3")));
    assert_eq!(keys(&item["properties"]), ["$id", "filename", "size", "lastModifiedTime"]);
    assert_eq!((&item["properties"]["filename"], &item["properties"]["size"]), (&json!("test1.txt"), &json!(16)));
    assert!(is_moment(&item["properties"]["lastModifiedTime"]), "{answer}");
    assert_eq!(session.get("/files", OLD).json()["value"], answer["value"]);
    assert_eq!(session.get("/files/test1.txt", OLD).json()["value"], answer["value"]);
    for path in ["/files/content/test1.txt", "/files/content/test1.txt/content"] {
        let content = session.get(path, OLD);
        assert_eq!((content.status, content.text().as_str()), (200, "sixteen bytes ok"), "{path}");
    }
    let deleted = session.delete("/files/test1.txt", OLD);
    assert_eq!((deleted.status, deleted.json()), (200, json!({"message": "file deleted successfully"})));
    assert_eq!(session.get("/files", OLD).json()["value"], json!([]));
}

fn files_of_the_new_shape_are_objects(server: &Server) {
    let session = Session::new(server, "files");
    let response = session.upload("/files", FIRST_NEW, "cert.txt", b"content");
    assert_eq!(response.status, 200, "{}", response.text());
    let file = response.json();
    assert_eq!(keys(&file), ["name", "type", "contentType", "sizeInBytes", "lastModifiedAt"]);
    assert_eq!((&file["name"], &file["type"], &file["sizeInBytes"]), (&json!("cert.txt"), &json!("file"), &json!(7)));
    assert_eq!(file["contentType"], "text/plain; charset=utf-8");
    assert!(is_moment(&file["lastModifiedAt"]), "{file}");
    let list = session.get("/files", FIRST_NEW).json();
    assert_eq!((keys(&list), &list["value"][0], &list["nextLink"]), (vec!["value", "nextLink"], &file, &Value::Null));
    assert_eq!(session.get("/files/cert.txt", FIRST_NEW).json(), file);
    let content = session.get("/files/cert.txt/content", LATEST);
    assert_eq!((content.status, content.text().as_str()), (200, "content"));
    assert_eq!(content.header("content-type"), Some("application/octet-stream"));
    assert_eq!(session.get("/files/cert.txt", LATEST).json()["directory"], "");
    let deleted = session.delete("/files/cert.txt", SESSIONS);
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    assert_eq!(session.get("/files/cert.txt", SESSIONS).status, 404);
}

fn files_of_the_legacy_shape_have_their_own_names(server: &Server) {
    let session = Session::new(server, "files");
    let target = |path: &str| format!("{POOL}/python/{path}identifier={}", session.identifier);
    let upload = Request::new("POST", &target("uploadFile?")).header("Content-Type", MULTIPART).body(multipart("a b.txt", b"x"));
    let answer = session.send(upload).json();
    assert_eq!((&answer["$values"][0]["filename"], &answer["$values"][0]["size"]), (&json!("a b.txt"), &json!(1)), "{answer}");
    assert_eq!(session.send(Request::new("GET", &target("files?"))).json(), answer);
    for name in ["filename=a%20b.txt&", "fileName=a+b.txt&", "filename=/mnt/data/a%20b.txt&"] {
        let content = session.send(Request::new("GET", &target(&format!("downloadFile?{name}"))));
        assert_eq!((content.status, content.text().as_str()), (200, "x"), "{name}");
    }
}

fn uploads_are_read_as_real_clients_send_them(server: &Server) {
    let session = Session::new(server, "upload");
    let target = session.target("/files/upload", OLD);
    let body = multipart("x.txt", b"line\r\n--the-boundar\r\nmore");
    let plain = Request::new("POST", &target).body(body.clone());
    for (what, request) in [
        ("no content type", plain.clone()),
        ("mislabelled", plain.clone().header("Content-Type", "application/json")),
        ("without its boundary", plain.clone().header("Content-Type", "multipart/form-data")),
        ("another boundary", plain.clone().header("Content-Type", "multipart/form-data; boundary=other")),
        ("in chunks", plain.clone().header("Content-Type", MULTIPART).chunked(7)),
        ("in chunks and mislabelled", plain.chunked(1)),
    ] {
        let response = session.send(request);
        assert_eq!(response.status, 200, "{what}: {}", response.text());
        assert_eq!(response.json()["value"][0]["properties"]["size"], 25, "{what}");
        assert_eq!(session.get("/files/content/x.txt", OLD).text(), "line\r\n--the-boundar\r\nmore", "{what}");
    }
    let extended = "--b\r\nContent-Disposition: form-data; name=\"identifier\"\r\n\r\nignored\r\n--b\r\nContent-Disposition: form-data; \
                    name=\"file\"; filename=\"x\"; filename*=utf-8''na%C3%AFve.csv\r\n\r\n1\r\n--b--\r\n";
    let response = session.send(Request::new("POST", &session.target("/files", LATEST)).body(extended));
    assert_eq!((response.status, &response.json()["name"]), (200, &json!("naïve.csv")), "{}", response.text());
}

fn a_mount_before_the_name_is_taken_off(server: &Server) {
    let session = Session::new(server, "mount");
    for (path, version) in [("/files/upload", OLD), ("/files", LATEST)] {
        let response = session.upload(path, version, "/mnt/data/m.txt", b"x");
        assert_eq!(response.status, 200, "{}", response.text());
        assert!(response.text().contains("\"m.txt\""), "{}", response.text());
    }
    assert_eq!(session.get("/files", OLD).json()["value"].as_array().map(Vec::len), Some(1));
    for path in ["/files/content/mnt/data/m.txt", "/files/content//mnt/data/m.txt", "/files/content/%2Fmnt%2Fdata%2Fm.txt"] {
        assert_eq!(session.get(path, OLD).text(), "x", "{path}");
    }
}

fn a_path_is_relative_to_the_mount(server: &Server) {
    let session = Session::new(server, "path");
    let response = session.upload("/files?path=a/b", LATEST, "deep.txt", b"deep");
    assert_eq!((response.status, &response.json()["directory"]), (200, &json!("a/b")), "{}", response.text());
    assert_eq!(session.get("/files/deep.txt/content?path=/mnt/data/a/b", LATEST).text(), "deep");
    assert_eq!(session.get("/files/deep.txt?path=a/b", LATEST).json()["sizeInBytes"], 4);
    let names = |path: &str| {
        let list = session.get(path, LATEST).json();
        let items = list["value"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .map(|item| format!("{} {}", item["type"].as_str().unwrap_or("?"), item["name"].as_str().unwrap_or("?")))
            .collect::<Vec<_>>()
    };
    assert_eq!(names("/files"), ["directory a"]);
    assert_eq!(names("/files?path=/mnt/data"), ["directory a"]);
    assert_eq!(names("/files?path=a/b"), ["file deep.txt"]);
    let mut all = names("/files?recursive=true");
    all.sort();
    assert_eq!(all, ["directory a", "directory b", "file deep.txt"]);
    let refusal = session.get("/files?path=.ade/bin", LATEST);
    refused(&refusal, 400, "FilePathInvalid");
    let message = "File Path '/.ade/bin' is invalid because 'path cannot contain any reserved file path characters'.";
    assert_eq!(refusal.json()["error"]["message"], message);
    refused(&session.get("/files?path=nothing/here", LATEST), 404, "FileNotFound");
    assert_eq!(session.delete("/files/deep.txt?path=a/b", LATEST).status, 204);
}

fn a_program_and_its_callers_share_files(server: &Server) {
    let session = Session::new(server, "share");
    assert_eq!(session.upload("/files", LATEST, "in.txt", "grüße".as_bytes()).status, 200);
    assert_eq!(session.value("import os\nos.getcwd()"), json!("'/mnt/data'"));
    let code = "text = open('in.txt', encoding='utf-8').read()\nopen('out.txt', 'w', encoding='utf-8').write(text.upper())\ntext";
    assert_eq!(session.value(code), json!("'grüße'"));
    assert_eq!(session.get("/files/out.txt/content", LATEST).text(), "GRÜSSE");
}

fn names_that_lead_elsewhere_are_refused(server: &Server) {
    let session = Session::new(server, "names");
    for name in ["../../etc/cron.d/x", "a/../../b", "..\\\\x", "/etc/passwd", "//x", "C:\\\\x", "..", "a/", "a//b", "a:b", "<a>"] {
        refused(&session.upload("/files", LATEST, name, b"x"), 400, "FilePathInvalid");
    }
    for name in ["..foo", "a..b", "...txt", ".env", "a b (1)#%^;,=&@$.txt"] {
        assert_eq!(session.upload("/files", LATEST, name, b"x").status, 200, "{name}");
    }
    for path in ["/files/..%2F..%2Fetc%2Fpasswd/content", "/files/%2e%2e/content", "/files/content/..%2fx"] {
        refused(&session.get(path, LATEST), 400, "FilePathInvalid");
    }
}

fn what_is_missing_is_404(server: &Server) {
    let session = Session::new(server, "missing");
    for path in ["/files/no.txt", "/files/no.txt/content", "/files/content/no.txt"] {
        refused(&session.get(path, LATEST), 404, "FileNotFound");
    }
    refused(&session.delete("/files/no.txt", LATEST), 404, "FileNotFound");
}

/// The rows of the hostile catalogue about result files.
fn what_is_no_regular_file_is_not_read(server: &Server) {
    let session = Session::new(server, "links");
    let made = session.run(
        "import os, socket\nfor name, to in [('abs', '/etc/hostname'), ('magic', '/proc/self/root/etc/hostname'), ('zero', '/dev/zero'), \
         ('up', '../../etc/hostname'), ('a', 'b'), ('b', 'a'), ('d', '/etc')]:\n    os.symlink(to, name)\nos.mkfifo('fifo')\n\
         s = socket.socket(socket.AF_UNIX); s.bind('sock')\nos.mkdir('dir')",
    );
    assert_eq!(made["status"], "Succeeded", "{made}");
    for name in ["abs", "magic", "zero", "up", "a", "fifo", "sock", "dir", "d/hostname"] {
        let response = session.get(&format!("/files/{name}/content"), LATEST);
        assert!(matches!(response.status, 400 | 404), "{name}: {} {}", response.status, response.text());
        assert!(matches!(response.json()["error"]["code"].as_str(), Some("FilePathInvalid" | "FileNotFound")), "{name}");
    }
    // Written in place of the link, never through it.
    assert_eq!(session.upload("/files", LATEST, "abs", b"ours").status, 200);
    assert_eq!(session.get("/files/abs/content", LATEST).text(), "ours");
    let through = session.upload("/files?path=d", LATEST, "x", b"x");
    assert!(matches!(through.status, 400 | 404), "{}", through.text());
}

fn names_that_programs_chose_cannot_write_headers(server: &Server) {
    let session = Session::new(server, "evil");
    let made = session.run("open('a\\nb\\r\\nX-Evil: 1', 'w').close()\nopen(b'\\xc3.txt', 'w').close()");
    assert_eq!(made["status"], "Succeeded", "{made}");
    let list = session.get("/files", LATEST);
    assert_eq!((list.status, list.json()["value"].as_array().map(Vec::len)), (200, Some(2)), "{}", list.text());
    let content = session.get("/files/a%0Ab%0D%0AX-Evil%3A%201/content", LATEST);
    assert_eq!((content.status, content.header("x-evil")), (200, None), "{}", content.text());
    let disposition = content.header("content-disposition").unwrap_or_default();
    assert!(disposition.contains("filename*=UTF-8''a%0Ab%0D%0AX-Evil%3A%201"), "{disposition}");
}

fn files_can_be_seen_while_a_cell_runs(server: &Server) {
    let session = Session::new(server, "during");
    let code = "import os, time\nopen('begun', 'w').write('1')\nwhile not os.path.exists('stop'): time.sleep(0.01)\n'stopped'";
    let begun = session.post("/executions", LATEST, &json!({"executionType": "Asynchronous", "code": code})).json();
    until(|| (session.get("/files/begun", LATEST).status == 200).then_some(()));
    assert_eq!(session.upload("/files", LATEST, "stop", b"").status, 200);
    let id = begun["id"].as_str().unwrap_or_default();
    let done = until(|| {
        let execution = session.get(&format!("/executions/{id}"), LATEST).json();
        (execution["status"] != "Running").then_some(execution)
    });
    assert_eq!(done["result"]["executionResult"], "'stopped'", "{done}");
}

fn a_slow_upload_holds_up_nobody(server: &Server) {
    let session = Session::new(server, "slow");
    let mut connection = Connection::open(server.host()).unwrap_or_else(|error| panic!("{error:#}"));
    // Announced, and never sent.
    let request =
        Request::new("POST", &session.target("/files", LATEST)).header("Content-Type", MULTIPART).header("Content-Length", "1000");
    connection.begin(&request).unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(session.value("6*7"), 42);
    assert_eq!(session.upload("/files", LATEST, "quick.txt", b"x").status, 200);
    drop(connection);
}

fn an_upload_without_a_file_is_refused(server: &Server) {
    let session = Session::new(server, "nofile");
    let field = "--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nx\r\n--b--\r\n";
    for body in [field, "", "{}", "--b\r\n", "--b--\r\n"] {
        let response = session.send(
            Request::new("POST", &session.target("/files", LATEST))
                .header("Content-Type", "multipart/form-data; boundary=b")
                .body(body),
        );
        assert_eq!(response.status, 400, "{body:?}: {}", response.text());
    }
}

fn an_upload_of_more_than_128_mb_is_refused(server: &Server) {
    let session = Session::new(server, "large");
    let body = multipart("large.bin", &vec![0; (128 << 20) + 1]);
    let announced = Request::new("POST", &session.target("/files", LATEST)).header("Content-Type", MULTIPART).body(body);
    refused(&session.send(announced.clone()), 413, "RequestEntityTooLarge");
    refused(&session.send(announced.chunked(1 << 20)), 413, "RequestEntityTooLarge");
}

fn what_does_not_fit_into_the_session_is_refused(server: &Server) {
    let session = Session::new(server, "full");
    let filled = session.run("import os\nn = 0\ntry:\n    while True:\n        open(f'f{n}', 'wb').write(bytes(32 << 20)); n += 1\nexcept OSError as error:\n    print(error.errno)");
    assert_eq!((&filled["status"], &filled["result"]["stdout"]), (&json!("Succeeded"), &json!("28\n")), "{filled}");
    let response = session.upload("/files", LATEST, "more.bin", &vec![1; 33 << 20]);
    refused(&response, 507, "InsufficientStorage");
    assert_eq!(session.get("/files/more.bin", LATEST).status, 404, "nothing is left of it");
}

fn a_large_file_comes_back_as_it_was_sent(server: &Server) {
    let session = Session::new(server, "whole");
    let content: Vec<u8> = (0..8_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let response = session.upload("/files", LATEST, "numbers.bin", &content);
    assert_eq!((response.status, &response.json()["sizeInBytes"]), (200, &json!(content.len())), "{}", response.text());
    assert!(session.get("/files/numbers.bin/content", LATEST).body == content);
}
