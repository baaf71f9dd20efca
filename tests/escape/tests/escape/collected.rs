//! Rows about the files of a session, which the server collects from a place that a program has in its hands.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use greenroom_contract::{Request, Response};
use serde_json::{Value, json};

use crate::{
    Coded,
    server::{Server, check},
    suite::Suite,
};

pub const ROWS: &[Coded] = &[
    ("files::result-symlink-abs", absolute_link),
    ("files::result-symlink-magic", magic_link),
    ("files::result-symlink-devzero", link_to_zeros),
    ("files::result-dir-symlink", linked_directory),
    ("files::result-symlink-loop", link_loop),
    ("files::result-symlink-race", link_race),
    ("files::result-hardlink", hardlink),
    ("files::result-fifo", fifo),
    ("files::result-socket-device", socket_and_device),
    ("files::result-many-symlinks", many_links),
    ("files::result-name-invalid-utf8", name_that_is_no_text),
    ("files::result-name-newline-ctrl", name_with_control_characters),
    ("files::result-perm-000", without_permissions),
    ("files::upload-into-symlink-dir", upload_through_a_link),
    ("api::file-op-during-run", during_a_run),
];

/// Where the pool that is there by default answers.
const POOL: &str = "/subscriptions/s/resourceGroups/g/sessionPools/default";
const VERSION: &str = "api-version=2025-10-02-preview";
/// A request that does not wait for the program: the catalogue's 100 ms, and a busy machine.
const SOON: Duration = Duration::from_secs(2);

/// A session of the default pool, stopped in the end.
struct Session<'a> {
    server: &'a Server,
    identifier: String,
}

impl Session<'_> {
    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Response> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let request = Request::new(method, &format!("{POOL}{path}{joint}{VERSION}&identifier={}", self.identifier));
        self.server.send(&match body {
            Some(body) => request.json(body),
            None => request,
        })
    }

    /// Executes a cell that must succeed; what it printed.
    fn python(&self, code: &str) -> Result<String> {
        let body = json!({ "codeInputType": "Inline", "executionType": "Synchronous", "code": code, "timeoutInSeconds": 30 });
        let answer = self.send("POST", "/executions", Some(&body))?;
        ensure!(answer.status == 200 && answer.json()["status"] == "Succeeded", "{} {}", answer.status, answer.text());
        Ok(answer.json()["result"]["stdout"].as_str().unwrap_or_default().to_owned())
    }

    fn content(&self, name: &str) -> Result<Response> {
        self.send("GET", &format!("/files/{name}/content"), None)
    }

    fn upload(&self, directory: &str, name: &str, content: &str) -> Result<Response> {
        let body =
            format!("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n{content}\r\n--b--\r\n");
        let target = format!("{POOL}/files?path={directory}&{VERSION}&identifier={}", self.identifier);
        self.server
            .send(&Request::new("POST", &target).header("Content-Type", "multipart/form-data; boundary=b").body(body.into_bytes()))
    }

    /// The names in its directory.
    fn names(&self) -> Result<Vec<String>> {
        let listed = self.send("GET", "/files", None)?;
        ensure!(listed.status == 200, "{} {}", listed.status, listed.text());
        let listed = listed.json();
        let files = listed["value"].as_array().context("no list")?;
        Ok(files.iter().filter_map(|file| file["name"].as_str()).map(str::to_owned).collect())
    }

    /// Refused as something that is not there or no file, at once, and with nothing of what it leads to.
    fn refuses(&self, name: &str) -> Result<()> {
        let begun = Instant::now();
        let answer = self.content(name)?;
        let text = answer.text();
        check((400..500).contains(&answer.status) && answer.status != 429, format!("{name}: {} {text}", answer.status))?;
        check(answer.body.len() < 2000 && !text.contains(&host_name()?), format!("{name}: {text}"))?;
        check(begun.elapsed() < SOON, format!("{name}: {:?}", begun.elapsed()))
    }
}

/// What no answer may contain. A name that is too short is in any text.
fn host_name() -> Result<String> {
    let name = std::fs::read_to_string("/etc/hostname")?.trim().to_owned();
    Ok(if name.len() > 4 { name } else { "root:x:0".to_owned() })
}

fn in_session(suite: &Suite, test: impl FnOnce(&Session<'_>) -> Result<()>) -> Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let identifier = format!("collected-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let session = Session { server: &suite.server, identifier };
    let tested = test(&session);
    let stopped = session.send("DELETE", "/session", None)?;
    tested?;
    ensure!(stopped.status == 204, "the session was not stopped: {} {}", stopped.status, stopped.text());
    Ok(())
}

fn refused_after(suite: &Suite, code: &str, names: &[&str]) -> Result<()> {
    in_session(suite, |session| {
        session.python(&format!("import os\n{code}"))?;
        names.iter().try_for_each(|name| session.refuses(name))
    })
}

fn absolute_link(suite: &Suite) -> Result<()> {
    refused_after(suite, "os.symlink('/etc/hostname', 'out.txt')", &["out.txt"])
}

fn magic_link(suite: &Suite) -> Result<()> {
    refused_after(suite, "os.symlink('/proc/self/root/etc/hostname', 'out.txt')", &["out.txt"])
}

fn link_to_zeros(suite: &Suite) -> Result<()> {
    refused_after(suite, "os.symlink('/dev/zero', 'out.txt')", &["out.txt"])
}

fn linked_directory(suite: &Suite) -> Result<()> {
    in_session(suite, |session| {
        session.python("import os; os.symlink('/etc', 'd')")?;
        for target in ["/files/hostname/content?path=d", "/files/hostname?path=d", "/files?path=d"] {
            let answer = session.send("GET", target, None)?;
            check((400..500).contains(&answer.status), format!("{target}: {} {}", answer.status, answer.text()))?;
        }
        session.refuses("d%2Fhostname")
    })
}

fn link_loop(suite: &Suite) -> Result<()> {
    refused_after(suite, "os.symlink('a', 'b'); os.symlink('b', 'a')", &["a", "b"])
}

fn link_race(suite: &Suite) -> Result<()> {
    in_session(suite, |session| {
        session.python(
            "import os, threading\nopen('real', 'w').write('inside'); os.symlink('/etc/passwd', 'link')\n\
             def swap():\n while True:\n  for name in ('real', 'link'):\n   os.rename(name, 'out.txt'); os.rename('out.txt', name)\n\
             threading.Thread(target=swap, daemon=True).start()",
        )?;
        let mut met = 0;
        for _ in 0..1000 {
            let answer = session.content("out.txt")?;
            let inside = answer.status == 200 && answer.body == b"inside";
            met += u32::from(inside);
            check(inside || (400..500).contains(&answer.status), format!("{} {}", answer.status, answer.text()))?;
        }
        check(met > 0, "the file itself was never met")
    })
}

fn hardlink(suite: &Suite) -> Result<()> {
    in_session(suite, |session| {
        let refused = session.python("!ln /usr/bin/env out 2>/dev/null || ln /etc/passwd out 2>/dev/null || echo refused")?;
        check(refused == "refused\n", refused)?;
        session.refuses("out")
    })
}

fn fifo(suite: &Suite) -> Result<()> {
    refused_after(suite, "os.mkfifo('out.txt')", &["out.txt"])
}

fn socket_and_device(suite: &Suite) -> Result<()> {
    let make = "import socket; s = socket.socket(socket.AF_UNIX); s.bind('out')\ntry: os.mknod('dev', 0o20666, os.makedev(1, 5))\nexcept OSError: pass";
    refused_after(suite, make, &["out", "dev"])
}

fn many_links(suite: &Suite) -> Result<()> {
    in_session(suite, |session| {
        session.python("import os\nopen('big', 'wb').write(bytes(32 << 20))\nfor i in range(100): os.symlink('big', 'l%d' % i)")?;
        let begun = Instant::now();
        check(session.names()? == ["big"], "links are listed")?;
        check(begun.elapsed() < SOON, format!("{:?}", begun.elapsed()))?;
        check(session.content("big")?.body.len() == 32 << 20, "the file is not whole")?;
        session.refuses("l1")
    })
}

fn name_that_is_no_text(suite: &Suite) -> Result<()> {
    in_session(suite, |session| {
        session.python("open(b'\\xc3.txt', 'w'); open('plain', 'w')")?;
        check(session.names()?.contains(&"plain".to_owned()), "the list is not complete")?;
        session.refuses("%C3.txt")
    })
}

fn name_with_control_characters(suite: &Suite) -> Result<()> {
    in_session(suite, |session| {
        session.python("open('a\\nb\\r\\nX-Evil: 1', 'w').write('x')")?;
        check(session.names()?.len() == 1, "it is not listed")?;
        let answer = session.content("a%0Ab%0D%0AX-Evil:%201")?;
        check(answer.status < 500 && answer.header("X-Evil").is_none(), format!("{:?}", answer.headers))
    })
}

fn without_permissions(suite: &Suite) -> Result<()> {
    in_session(suite, |session| {
        session.python("import os; open('out', 'w').write('mine'); os.chmod('out', 0)")?;
        check(session.content("out")?.body == b"mine", "it cannot be read")?;
        check(session.send("DELETE", "/files/out", None)?.status == 204, "it cannot be deleted")
    })
}

fn upload_through_a_link(suite: &Suite) -> Result<()> {
    in_session(suite, |session| {
        session.python("import os; os.mkdir('/tmp/other'); os.symlink('/tmp/other', 'd'); os.symlink('/tmp/other/y', 'y')")?;
        let answer = session.upload("d", "x", "through")?;
        check((400..500).contains(&answer.status), format!("{} {}", answer.status, answer.text()))?;
        // A link in the file's place is replaced, not followed.
        check(session.upload("", "y", "in place")?.status == 200, "the upload failed")?;
        check(session.content("y")?.body == b"in place", "not what was uploaded")?;
        let other = session.python("print(os.listdir('/tmp/other'), os.path.islink('y'))")?;
        check(other == "[] False\n", other)
    })
}

/// The program writes while its files are listed, fetched and written: each answer is one that a file at rest would have, or says
/// that the file was changed. Nothing waits for the program, and the program for nothing.
fn during_a_run(suite: &Suite) -> Result<()> {
    in_session(suite, |session| {
        let code = "import os\nopen('begun', 'w').close()\nn = 0\nwhile not os.path.exists('stop'):\n    n += 1\n    \
                    open('out', 'w').write(str(n) * 1000)\n    open(f'f{n % 50}', 'w').close()\nprint('stopped')";
        let body = json!({ "executionType": "Asynchronous", "code": code });
        let begun = session.send("POST", "/executions", Some(&body))?;
        ensure!(begun.status == 200, "{} {}", begun.status, begun.text());
        let deadline = Instant::now() + Duration::from_secs(20);
        while session.content("begun")?.status != 200 {
            ensure!(Instant::now() < deadline, "it did not begin");
        }
        for round in 0..100 {
            let asked = Instant::now();
            check(!session.names()?.is_empty(), "nothing is listed".to_owned())?;
            // Cut short under its reader, it breaks the connection off.
            if let Ok(content) = session.content("out") {
                check(matches!(content.status, 200 | 404 | 503), format!("{} {}", content.status, content.text()))?;
            }
            let written = session.upload("", &format!("up{round}"), "x")?;
            check(written.status == 200, format!("{} {}", written.status, written.text()))?;
            check(asked.elapsed() < SOON * 3, format!("round {round} took {:?}", asked.elapsed()))?;
        }
        session.upload("", "stop", "")?;
        let id = begun.json()["id"].as_str().context("no id")?.to_owned();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let now = session.send("GET", &format!("/executions/{id}"), None)?.json();
            if now["status"] != "Running" {
                return check(now["result"]["stdout"] == "stopped\n", now.to_string());
            }
            ensure!(Instant::now() < deadline, "it goes on: {now}");
        }
    })
}
