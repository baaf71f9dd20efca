//! The server under test with its oracles around it.

use std::{
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use greenroom_contract::{Request, Response};
use greenroom_escape::{Canary, Case, Exchange, Footprint, Host, Languages, NotTested, within};
use serde_json::{Value, json};

use crate::{
    crowd::Crowd,
    judge::{judge, shorten},
    neighbour::{Neighbour, hello},
    server::{Server, execute},
};

/// The second of two programs starts so much after the first was seen to run.
const HEAD_START: Duration = Duration::from_millis(400);
/// A program is seen to run within this.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// Where programs find what is installed on the host.
const PATH: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

pub struct Suite {
    pub server: Server,
    pub canary: Canary,
    pub footprint: Footprint,
    languages: Languages,
    installed: Vec<String>,
}

impl Suite {
    /// Starts the server; the inner error says why there is nothing to test.
    pub fn start() -> Result<Result<Self, String>> {
        let server = match Server::find()? {
            Ok(server) => server,
            Err(why) => return Ok(Err(why)),
        };
        let health = server.send(&Request::new("GET", "/healthz"))?.json();
        if health["isolation"] != "full" || health["cgroups"] == "none" {
            server.stop()?;
            return Ok(Err(format!("the server isolates less than the suite expects (root and cgroups are needed): {health}")));
        }
        let runtimes = server.send(&Request::new("GET", "/api/v2/runtimes"))?.json();
        let installed = runtimes.as_array().into_iter().flatten().filter_map(|runtime| runtime["language"].as_str());
        let installed: Vec<String> = installed.map(str::to_owned).collect();
        if !installed.iter().any(|language| language == "python") {
            server.stop()?;
            return Ok(Err("python, which the oracles use, is not installed".to_owned()));
        }
        let host = server.host().to_owned();
        for turn in 0..8 {
            hello(&host, &format!("warm {turn}"))?;
        }
        let footprint = Footprint::at_rest(server.pid()?)?;
        Ok(Ok(Self { server, canary: Canary::listen("suite")?, footprint, languages: Languages::read()?, installed }))
    }

    /// `host:port`.
    pub fn host(&self) -> &str {
        self.server.host()
    }

    /// Goes on where a language can be used here.
    pub fn needs(&self, language: &str) -> Result<()> {
        self.languages.need(language, &self.installed)
    }

    /// Goes on where a program of the system can be used here.
    fn needs_program(name: &str) -> Result<()> {
        let found = PATH.iter().any(|dir| Path::new(dir).join(name).is_file());
        if found { Ok(()) } else { Err(NotTested(format!("{name} is not installed")).into()) }
    }

    /// Runs one case between the oracles.
    pub fn case(&self, case: &Case) -> Result<()> {
        [Some(&case.language), case.then_language.as_ref()].into_iter().flatten().try_for_each(|language| self.needs(language))?;
        case.needs.iter().try_for_each(|name| Self::needs_program(name))?;
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
            let response = self.server.send(&request.body(exchange.body.as_bytes()))?;
            let text = response.text();
            let shown = || format!("{} {}", response.status, shorten(&text));
            ensure!(exchange.status.contains(&response.status), "expected {:?}, the answer was {}", exchange.status, shown());
            for word in &exchange.has {
                ensure!(text.contains(word.as_str()), "{word:?} is not in the answer {}", shown());
            }
            for word in &exchange.lacks {
                ensure!(!text.contains(word.as_str()), "{word:?} is in the answer {}", shown());
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

    /// Runs one case once, without H0 and H1 around it.
    pub fn once(&self, case: &Case) -> Result<()> {
        let neighbour = case.neighbour.then(|| Neighbour::of(self.host()));
        let crowd = case.processes.map(|limit| Crowd::of(&self.footprint.instance, limit));
        let first = self.body(case, &case.language, &case.source);
        let judged = match &case.then {
            None => execute(self.host(), &first).and_then(|response| judge(&case.expect, &response)),
            Some(then) => {
                let second = self.body(case, case.then_language.as_ref().unwrap_or(&case.language), then);
                self.both(case, &first, &second)
            }
        };
        let counted = crowd.map_or(Ok(()), Crowd::kept_its_limit);
        let noticed = neighbour.map_or(Ok(()), Neighbour::noticed_nothing);
        judged.and(counted).and(noticed)
    }

    /// Runs two programs, one after the other or the second during the first, and judges both.
    fn both(&self, case: &Case, first: &Value, second: &Value) -> Result<()> {
        thread::scope(|scope| {
            let one = scope.spawn(|| execute(self.host(), first));
            let during = if case.together { Some(self.meanwhile(second, || one.is_finished())) } else { None };
            let Ok(one) = one.join() else { bail!("the first program's client panicked") };
            one.and_then(|one| judge(&case.first, &one)).context("the first program")?;
            judge(&case.expect, &during.unwrap_or_else(|| execute(self.host(), second))?)
        })
    }

    /// Runs a program when another is seen to run; it must have ended before that one has.
    fn meanwhile(&self, second: &Value, has_ended: impl Fn() -> bool) -> Result<Response> {
        within(
            SEEN_WITHIN,
            || if self.footprint.programs().is_empty() { bail!("the first program was not seen") } else { Ok(()) },
        )?;
        thread::sleep(HEAD_START);
        let response = execute(self.host(), second)?;
        ensure!(!has_ended(), "the first program had ended before the second had looked for it");
        Ok(response)
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

    /// After everything: the server is the one that was started, and its log says nothing that it should not.
    pub fn verdict(&self) -> Result<()> {
        ensure!(Path::new(&format!("/proc/{}", self.server.pid()?)).exists(), "the server is gone");
        self.server.log_is_clean()
    }

    /// Ends the server, and checks that nothing is left of it.
    pub fn stop(self) -> Result<()> {
        self.server.stop()?;
        self.footprint.is_gone()
    }
}
