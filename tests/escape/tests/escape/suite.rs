//! The server under test with its oracles around it.

use std::{
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use greenroom_contract::{Connection, Request, Response, Server};
use greenroom_escape::{Canary, Case, Exchange, Footprint, Host, SECRET, SECRET_NAME};
use serde_json::{Value, json};

use crate::{
    judge::{judge, shorten},
    neighbour::{Neighbour, hello},
};

/// The second of two programs starts so much after the first.
const HEAD_START: Duration = Duration::from_millis(400);

pub struct Suite {
    pub server: Server,
    pub canary: Canary,
    footprint: Footprint,
    languages: Vec<String>,
}

impl Suite {
    /// Starts the server; `None`, and why on stderr, where there is nothing to test.
    pub fn start() -> Result<Option<Self>> {
        let Some(server) = server(&[])? else { return Ok(None) };
        let health = server.send(&Request::new("GET", "/healthz"))?.json();
        if health["isolation"] != "full" || health["cgroups"] == "none" {
            eprintln!("not tested: the server isolates less than the suite expects (root and cgroups are needed): {health}");
            server.stop()?;
            return Ok(None);
        }
        let runtimes = server.send(&Request::new("GET", "/api/v2/runtimes"))?.json();
        let languages = runtimes.as_array().into_iter().flatten().filter_map(|runtime| runtime["language"].as_str());
        let languages = languages.map(str::to_owned).collect();
        let host = server.host().to_owned();
        for turn in 0..8 {
            hello(&host, &format!("warm {turn}"))?;
        }
        let footprint = Footprint::of(server.pid().context("the server is not ours")?)?;
        Ok(Some(Self { server, canary: Canary::listen("suite")?, footprint, languages }))
    }

    /// `host:port`.
    pub fn host(&self) -> &str {
        self.server.host()
    }

    /// The server's pid.
    pub fn pid(&self) -> Result<u32> {
        self.server.pid().context("the server is not ours")
    }

    /// Whether a language can be used here.
    pub fn has(&self, language: &str) -> bool {
        self.languages.iter().any(|installed| installed == language)
    }

    /// Runs one case between the oracles.
    pub fn case(&self, case: &Case) -> Result<()> {
        for language in [Some(&case.language), case.then_language.as_ref()].into_iter().flatten() {
            if !self.has(language) {
                eprintln!("not tested: {language} is not installed");
                return Ok(());
            }
        }
        self.between(|| (0..case.repeat).try_for_each(|_| self.once(case)))
    }

    /// Sends one request between the oracles.
    pub fn request(&self, exchange: &Exchange) -> Result<()> {
        self.between(|| {
            let mut request = Request::new(&exchange.method, &exchange.target);
            if !exchange.body.is_empty() && !exchange.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type")) {
                request = request.header("Content-Type", "application/json");
            }
            for (name, value) in &exchange.headers {
                request = request.header(name, value);
            }
            let response = self.send(&request.body(exchange.body.as_bytes()))?;
            let text = response.text();
            let shown = || format!("{} {}", response.status, shorten(&text));
            ensure!(exchange.status.contains(&response.status), "expected {:?}, the answer was {}", exchange.status, shown());
            for word in &exchange.has {
                ensure!(text.contains(word.as_str()), "{word:?} is not in the answer {}", shown());
            }
            for word in exchange.lacks.iter().map(String::as_str).chain([SECRET]) {
                ensure!(!text.contains(word), "{word:?} is in the answer {}", shown());
            }
            Ok(())
        })
    }

    /// Runs a coded row between the oracles.
    pub fn coded(&self, test: fn(&Self) -> Result<()>) -> Result<()> {
        self.between(|| test(self))
    }

    /// H0 and H1 around something.
    fn between(&self, act: impl FnOnce() -> Result<()>) -> Result<()> {
        let file: PathBuf = self.canary.file();
        let also: [&Path; 1] = [&file];
        let before = Host::look(&also)?;
        act()?;
        self.canary.is_silent()?;
        self.footprint.is_clean()?;
        before.is_unchanged(&also)?;
        hello(self.host(), "hello").context("H0: afterwards")
    }

    fn once(&self, case: &Case) -> Result<()> {
        let neighbour = case.neighbour.then(|| Neighbour::of(self.host()));
        let first = self.body(case, &case.language, &case.source);
        let judged = match &case.then {
            None => judge(&case.expect, &self.execute(&first)?),
            Some(then) => {
                let second = self.body(case, case.then_language.as_ref().unwrap_or(&case.language), then);
                self.both(&first, &second, case.together).and_then(|response| judge(&case.expect, &response))
            }
        };
        let noticed = neighbour.map_or(Ok(()), Neighbour::noticed_nothing);
        judged.and(noticed)
    }

    /// Runs two programs, one after the other or the second during the first; gives the second's answer.
    fn both(&self, first: &Value, second: &Value, together: bool) -> Result<Response> {
        thread::scope(|scope| {
            let one = scope.spawn(|| self.execute(first));
            if together {
                thread::sleep(HEAD_START);
            }
            let early = if together { Some(self.execute(second)?) } else { None };
            let Ok(one) = one.join() else { bail!("the first program's client panicked") };
            let one = one?;
            ensure!(one.status == 200 && one.json()["run"]["status"] != "XX", "the first program: {}", one.text());
            early.map_or_else(|| self.execute(second), Ok)
        })
    }

    fn body(&self, case: &Case, language: &str, source: &str) -> Value {
        let mut files = vec![json!({"content": self.canary.name_in(source)})];
        if let Some(name) = &case.file {
            files[0]["name"] = json!(name);
        }
        files.extend(case.files.iter().map(|(name, content)| json!({"name": name, "content": self.canary.name_in(content)})));
        let mut body = json!({
            "language": language, "version": "*", "files": files, "args": case.args, "stdin": case.stdin.repeat(case.stdin_times),
        });
        let limits = [
            ("run_timeout", case.run_timeout),
            ("run_cpu_time", case.run_cpu_time),
            ("run_memory_limit", case.run_memory_limit),
            ("compile_timeout", case.compile_timeout),
        ];
        for (name, limit) in limits {
            if let Some(limit) = limit {
                body[name] = json!(limit);
            }
        }
        body
    }

    /// `POST /api/v2/execute`.
    pub fn execute(&self, body: &Value) -> Result<Response> {
        self.send(&Request::new("POST", "/api/v2/execute").json(body))
    }

    /// Sends a request on a connection of its own.
    fn send(&self, request: &Request) -> Result<Response> {
        Connection::open(self.host())?.send(request)
    }

    /// After everything: the server is the one that was started, and its log says nothing that it should not.
    pub fn verdict(&self) -> Result<()> {
        ensure!(Path::new(&format!("/proc/{}", self.pid()?)).exists(), "the server is gone");
        let log = self.server.log();
        ensure!(!log.contains(SECRET), "the secret is in the log");
        ensure!(!log.contains("panicked"), "the server panicked:\n{log}");
        // Colours of the log's own are off where it is a file.
        ensure!(!log.contains('\u{1b}'), "an escape character is in the log");
        Ok(())
    }

    /// Ends the server, and checks that nothing is left of it.
    pub fn stop(self) -> Result<()> {
        self.server.stop()?;
        self.footprint.is_gone()
    }
}

/// A server of one's own with the secret in its environment; `None`, and why on stderr, where there is none.
pub fn server(environment: &[(&str, &str)]) -> Result<Option<Server>> {
    let environment: Vec<_> = environment.iter().copied().chain([(SECRET_NAME, SECRET)]).collect();
    match Server::own(&[], &environment)? {
        Ok(server) => Ok(Some(server)),
        Err(unavailable) => {
            eprintln!("not tested: {}", unavailable.0);
            Ok(None)
        }
    }
}

/// A server of one's own with these arguments.
pub fn own(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Server> {
    Server::own(arguments, environment)?.map_err(|unavailable| anyhow!(unavailable.0))
}

pub fn check(holds: bool, what: impl std::fmt::Display) -> Result<()> {
    if holds { Ok(()) } else { Err(anyhow!(what.to_string())) }
}

pub fn program(language: &str, source: &str) -> Value {
    json!({ "language": language, "version": "*", "files": [{ "content": source }] })
}

pub fn with_files(language: &str, files: &[(&str, &str)]) -> Value {
    let files: Vec<Value> = files.iter().map(|(name, content)| json!({ "name": name, "content": content })).collect();
    json!({ "language": language, "version": "*", "files": files })
}

/// Refused with a message, nothing run.
pub fn refused(server: &Server, body: &Value) -> Result<()> {
    let response = server.send(&Request::new("POST", "/api/v2/execute").json(body))?;
    let message = response.json()["message"].as_str().unwrap_or_default().to_owned();
    check(response.status == 400 && !message.is_empty(), format!("{body} was answered {}: {}", response.status, response.text()))
}

pub fn stdout_of(server: &Server, body: &Value) -> Result<String> {
    let answer = execute(server, body)?;
    let stdout = answer["run"]["stdout"].as_str().unwrap_or_default().trim().to_owned();
    check(answer["run"]["status"].is_null(), format!("{answer:#}"))?;
    Ok(stdout)
}

/// Runs a program, and gives the answer's body.
pub fn execute(server: &Server, body: &Value) -> Result<Value> {
    let response = server.send(&Request::new("POST", "/api/v2/execute").json(body))?;
    ensure!(response.status == 200, "HTTP {}: {}", response.status, response.text());
    Ok(response.json())
}
