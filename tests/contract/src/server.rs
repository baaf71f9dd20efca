use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::http::{Connection, Request, Response};
use crate::socket::Socket;

/// How long a server may take to be ready, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// There is no server to talk to.
#[derive(Debug)]
pub struct Unavailable(pub String);

/// The server under test; one that was started for the suite is stopped by [`Server::stop`].
#[derive(Debug)]
pub struct Server {
    host: String,
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    process: Child,
    /// Holds the data directory and the log.
    directory: tempfile::TempDir,
}

impl Server {
    /// The one at `GREENROOM_CONTRACT_URL`, or one of our own.
    ///
    /// # Errors
    /// A server that does not start. The inner error: there is none to start.
    pub fn find() -> Result<Result<Self, Unavailable>> {
        if let Ok(url) = std::env::var("GREENROOM_CONTRACT_URL") {
            let host =
                url.trim_end_matches('/').strip_prefix("http://").context("GREENROOM_CONTRACT_URL must be http://host:port")?;
            return Ok(Ok(Self { host: host.to_owned(), own: None }));
        }
        match binary() {
            Some(binary) => Self::start(&binary, &[], &[]).map(Ok),
            None => {
                Ok(Err(Unavailable("no binary: build it (cargo build), or set GREENROOM_BIN or GREENROOM_CONTRACT_URL".to_owned())))
            }
        }
    }

    /// One of our own with further arguments and environment.
    ///
    /// # Errors
    /// As [`Server::find`].
    pub fn own(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Result<Self, Unavailable>> {
        match binary() {
            Some(binary) => Self::start(&binary, arguments, environment).map(Ok),
            None => Ok(Err(Unavailable("no binary: build it (cargo build), or set GREENROOM_BIN".to_owned()))),
        }
    }

    fn start(binary: &PathBuf, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let data = directory.path().join("data");
        std::fs::create_dir(&data)?;
        let log = File::create(directory.path().join("log"))?;
        let host = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let mut command = Command::new(binary);
        command.args(["serve", "--listen", &host, "--data-dir"]).arg(&data);
        // A suite starts dozens of servers: each would spend ten seconds of a processor on what is not under test.
        command.args(["--set", "compile.precompiled_headers=false"]);
        // Whoever looks at what runs wants to see what it started itself. Rows about sessions make them.
        command.args(["--set", "pools.default.ready_sessions=0", "--set", "standby.ready=0", "--set", "warm.adaptive_bytes=0"]);
        command.args(arguments);
        for (name, _) in std::env::vars_os() {
            // The defaults are under test, not this shell's settings.
            if name.to_string_lossy().starts_with("PISTON_") || name.to_string_lossy().starts_with("GREENROOM_") || name == "PORT" {
                command.env_remove(name);
            }
        }
        command.envs(environment.iter().copied());
        let process = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let process = process.with_context(|| format!("cannot start {}", binary.display()))?;
        let mut server = Self { host, own: Some(Own { process, directory }) };
        match server.await_ready() {
            Ok(()) => Ok(server),
            Err(error) => {
                let log = server.log();
                server.stop()?;
                Err(error.context(log))
            }
        }
    }

    fn await_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.own.as_mut().map(|own| own.process.try_wait()).transpose()?.flatten() {
                bail!("the server ended with {status}");
            }
            // One that asks who is asking is as ready as one that does not.
            if self.send(&Request::new("GET", "/api/v2/runtimes")).is_ok_and(|response| matches!(response.status, 200 | 401)) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the server was not ready within {PATIENCE:?}")
    }

    /// Where our own server keeps its data.
    pub fn data_dir(&self) -> Option<PathBuf> {
        self.own.as_ref().map(|own| own.directory.path().join("data"))
    }

    /// What our own server has logged.
    pub fn log(&self) -> String {
        let path = self.own.as_ref().map(|own| own.directory.path().join("log"));
        path.map_or_else(String::new, |path| std::fs::read_to_string(path).unwrap_or_default())
    }

    /// Asks our own server to end, and makes it.
    ///
    /// # Errors
    /// Where it did not end by itself: that, too, is a promise.
    pub fn stop(mut self) -> Result<()> {
        let Some(own) = &mut self.own else { return Ok(()) };
        let pid = Pid::from_child(&own.process);
        if own.process.try_wait()?.is_some() {
            return Ok(());
        }
        kill_process(pid, Signal::TERM)?;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if own.process.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        own.process.kill()?;
        own.process.wait()?;
        bail!("the server did not end within {PATIENCE:?} after SIGTERM")
    }

    /// Our own server's process.
    pub fn pid(&self) -> Option<u32> {
        self.own.as_ref().map(|own| own.process.id())
    }

    /// Ends our own server as `kill -9` does, and waits for its end (not for that of what it had started).
    ///
    /// # Errors
    /// Where it cannot be killed.
    pub fn kill(mut self) -> Result<()> {
        if let Some(own) = &mut self.own {
            own.process.kill()?;
            own.process.wait()?;
        }
        Ok(())
    }

    /// `host:port`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Sends a request on a connection of its own.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn send(&self, request: &Request) -> Result<Response> {
        Connection::open(&self.host)?.send(request)
    }

    /// `POST /api/v2/execute` with this body.
    ///
    /// # Panics
    /// Where there is no answer: the suite's tests fail by panics.
    pub fn execute(&self, body: &Value) -> Response {
        let request = Request::new("POST", "/api/v2/execute").json(body);
        self.send(&request).unwrap_or_else(|error| panic!("{error:#} for {body}"))
    }

    /// Runs one file of source with further fields, and gives back the answer's body.
    ///
    /// # Panics
    /// Where the answer is not 200.
    pub fn run(&self, language: &str, source: &str, fields: Value) -> Value {
        let mut body = json!({"language": language, "version": "*", "files": [{"content": source}]});
        if let (Some(body), Value::Object(fields)) = (body.as_object_mut(), fields) {
            body.extend(fields);
        }
        let response = self.execute(&body);
        assert_eq!(response.status, 200, "{body}: {}", response.text());
        response.json()
    }

    /// A WebSocket to `/api/v2/connect`.
    ///
    /// # Panics
    /// Where there is none.
    pub fn connect(&self) -> Socket {
        Socket::open(&self.host, "/api/v2/connect", None).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The version of an installed language.
    pub fn version_of(&self, language: &str) -> Option<String> {
        let runtimes = self.send(&Request::new("GET", "/api/v2/runtimes")).ok()?.json();
        let runtime = runtimes.as_array()?.iter().find(|runtime| runtime["language"] == language)?;
        Some(runtime["version"].as_str()?.to_owned())
    }
}

/// `GREENROOM_BIN`, or the binary in the directory above the suite's own, where cargo puts it.
pub fn binary() -> Option<PathBuf> {
    if let Some(binary) = std::env::var_os("GREENROOM_BIN") {
        return Some(binary.into());
    }
    let suite = std::env::current_exe().ok()?;
    let beside = suite.parent()?.parent()?.join("greenroom");
    beside.is_file().then_some(beside)
}
