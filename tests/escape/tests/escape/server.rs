//! A server of one's own, and requests to it. Whatever comes back, be it an answer or its log, is looked through for the
//! secret: there is no other way to a server in this suite, so no row can forget it.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use greenroom_contract::{Connection, Request, Response, Socket};
use greenroom_escape::{SECRET, SECRET_NAME, keeps_secret};
use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid},
};
use serde_json::{Value, json};

/// How long a server that was told to end may take: its drain, and a little.
const ENDS_WITHIN: Duration = Duration::from_secs(35);

/// A server with the secret in its environment. Ended by [`Server::stop`], or [`Server::kill`].
pub struct Server(greenroom_contract::Server);

impl Server {
    /// Starts one; the inner error says why there is none to start.
    pub fn find() -> Result<Result<Self, String>> {
        Ok(greenroom_contract::Server::own(&[], &[(SECRET_NAME, SECRET)])?.map(Self).map_err(|unavailable| unavailable.0))
    }

    /// Starts one with these arguments and this environment.
    pub fn own(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        let environment: Vec<_> = environment.iter().copied().chain([(SECRET_NAME, SECRET)]).collect();
        let started = greenroom_contract::Server::own(arguments, &environment)?;
        started.map(Self).map_err(|unavailable| anyhow!(unavailable.0))
    }

    /// Starts one with these arguments, and ends it after the test.
    pub fn during(arguments: &[&str], test: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let server = Self::own(arguments, &[])?;
        let (tested, stopped) = (test(&server), server.stop());
        tested.and(stopped)
    }

    /// `host:port`.
    pub fn host(&self) -> &str {
        self.0.host()
    }

    /// Runs `greenroom` beside it, on its data, and gives what that printed.
    pub fn beside(&self, arguments: &[&str]) -> Result<String> {
        let binary = greenroom_contract::binary().context("no binary")?;
        let directory = self.0.data_dir().context("the server is not ours")?;
        let output = std::process::Command::new(binary).args(arguments).arg("--data-dir").arg(directory).output()?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Where it keeps its data.
    pub fn data_dir(&self) -> Result<std::path::PathBuf> {
        self.0.data_dir().context("the server is not ours")
    }

    /// Its pid.
    pub fn pid(&self) -> Result<u32> {
        self.0.pid().context("the server is not ours")
    }

    /// The same, for system calls.
    pub fn process(&self) -> Result<Pid> {
        i32::try_from(self.pid()?).ok().and_then(Pid::from_raw).context("no pid")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.0.log()
    }

    /// A WebSocket to `/api/v2/connect`.
    pub fn connect(&self) -> Socket {
        self.0.connect()
    }

    /// Sends a request on a connection of its own.
    pub fn send(&self, request: &Request) -> Result<Response> {
        send(self.host(), request)
    }

    /// Runs a program, and gives the answer's body.
    pub fn execute(&self, body: &Value) -> Result<Value> {
        let response = execute(self.host(), body)?;
        ensure!(response.status == 200, "HTTP {}: {}", response.status, response.text());
        Ok(response.json())
    }

    /// Runs a program that must end well, and gives what it printed, white space at both ends aside.
    pub fn stdout_of(&self, body: &Value) -> Result<String> {
        let answer = self.execute(body)?;
        let stdout = answer["run"]["stdout"].as_str().unwrap_or_default().trim().to_owned();
        check(answer["run"]["status"].is_null(), format!("{answer:#}"))?;
        Ok(stdout)
    }

    /// Refused with a message, nothing run.
    pub fn refuses(&self, body: &Value) -> Result<()> {
        let response = execute(self.host(), body)?;
        let message = response.json()["message"].as_str().unwrap_or_default().to_owned();
        check(
            response.status == 400 && !message.is_empty(),
            format!("{body} was answered {}: {}", response.status, response.text()),
        )
    }

    /// Ends it as `kill -9` does, and waits for its end.
    pub fn kill(self) -> Result<()> {
        let clean = self.log_is_clean();
        self.0.kill().and(clean)
    }

    /// Tells it to end, and checks that it did so by itself, with exit status 0 and a clean log.
    pub fn stop(self) -> Result<()> {
        let process = self.process()?;
        match kill_process(process, Signal::TERM) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        let ended = exit_status(process);
        let clean = self.log_is_clean();
        let log = self.log();
        // Reaps it; and makes it end, if it does not.
        self.0.stop()?;
        let status = ended?;
        ensure!(status == Some(0), "the server ended with {status:?} (none: by a signal), expected 0; its log:\n{log}");
        clean
    }

    /// Fails if the log says anything that it should not.
    pub fn log_is_clean(&self) -> Result<()> {
        let log = self.log();
        keeps_secret("the log", log.as_bytes())?;
        ensure!(!log.contains("panicked"), "the server panicked:\n{log}");
        // Colours of the log's own are off where it is a file.
        ensure!(!log.contains('\u{1b}'), "an escape character is in the log");
        Ok(())
    }
}

/// Waits for a child's end, and leaves the reaping to who started it; `None` where a signal ended it.
fn exit_status(process: Pid) -> Result<Option<i32>> {
    let deadline = Instant::now() + ENDS_WITHIN;
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    loop {
        if let Some(status) = waitid(WaitId::Pid(process), look)? {
            return Ok(status.exit_status());
        }
        ensure!(Instant::now() < deadline, "the server did not end within {ENDS_WITHIN:?} after SIGTERM");
        sleep(Duration::from_millis(10));
    }
}

/// Sends a request to `host:port` on a connection of its own.
pub fn send(host: &str, request: &Request) -> Result<Response> {
    let response = Connection::open(host)?.send(request)?;
    for (name, value) in &response.headers {
        keeps_secret(name, value.as_bytes())?;
    }
    keeps_secret("an answer", &response.body)?;
    Ok(response)
}

/// `POST /api/v2/execute`.
pub fn execute(host: &str, body: &Value) -> Result<Response> {
    send(host, &Request::new("POST", "/api/v2/execute").json(body))
}

pub fn check(holds: bool, what: impl std::fmt::Display) -> Result<()> {
    if holds { Ok(()) } else { bail!(what.to_string()) }
}

pub fn program(language: &str, source: &str) -> Value {
    json!({ "language": language, "version": "*", "files": [{ "content": source }] })
}

pub fn with_files(language: &str, files: &[(&str, &str)]) -> Value {
    let files: Vec<Value> = files.iter().map(|(name, content)| json!({ "name": name, "content": content })).collect();
    json!({ "language": language, "version": "*", "files": files })
}
