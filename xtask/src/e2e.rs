//! `cargo xtask e2e`: clients as they are published, unmodified, against the real binary.
//!
//! They come from PyPI, in the versions that tests/e2e/requirements.txt names, into a virtual environment below target.
//! Every script beside that file is run against one server with a data directory of its own, and says what it found.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    debian, read,
    server::Process,
    step::{cargo, root, run},
};

/// Where scripts and requirements are.
const SCRIPTS: &str = "tests/e2e";
/// What the others import.
const SHARED: &str = "expect.py";
/// As an operator would write it: who may come in is asked, and there is a Shell pool beside the default one.
const CONFIGURATION: &str = "\
[identity]
mode = \"keys+oidc\"
local_issuer = true

[tls]
listen = \"127.0.0.1:0\"
self_signed = true

[compile]
precompiled_headers = false

[log]
level = \"warn\"

[pools.shell]
kind = \"Shell\"
";

/// Runs all scripts, or those whose names have one of these words in them.
pub fn e2e(words: &[String]) -> Result<()> {
    debian::install(&["python3-venv".to_owned()], "the clients under test are Python's")?;
    let python = environment()?;
    run("building the server", cargo(&["build", "--package", "greenroom"]))?;
    let scratch = root().join(format!("target/e2e/run-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let ended = Server::start(&scratch).and_then(|server| {
        let failed = scripts(words)?.into_iter().filter(|script| !passes(&python, script, &server)).collect::<Vec<_>>();
        server.process.stop()?;
        ensure!(
            failed.is_empty(),
            "{} failed",
            failed.iter().map(|script| script.display().to_string()).collect::<Vec<_>>().join(", ")
        );
        Ok(())
    });
    fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
    ended
}

fn scripts(words: &[String]) -> Result<Vec<PathBuf>> {
    let mut scripts = Vec::new();
    for entry in fs::read_dir(root().join(SCRIPTS))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let wanted = words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
        if name.ends_with(".py") && name != SHARED && wanted {
            scripts.push(path);
        }
    }
    ensure!(!scripts.is_empty(), "no script in {SCRIPTS} is called {words:?}");
    scripts.sort();
    Ok(scripts)
}

fn passes(python: &Path, script: &Path, server: &Server) -> bool {
    let mut command = Command::new(python);
    command.arg("-W").arg("ignore::DeprecationWarning").arg(script).envs(server.environment.iter().cloned());
    let name = script.file_name().unwrap_or_default().to_string_lossy().into_owned();
    run(&name, command).inspect_err(|error| eprintln!("{error:#}")).is_ok()
}

/// The virtual environment's interpreter. Installed anew when the requirements have changed.
fn environment() -> Result<PathBuf> {
    let directory = root().join("target/e2e/python");
    let (python, stamp) = (directory.join("bin/python"), directory.join("requirements.txt"));
    let requirements = Path::new(SCRIPTS).join("requirements.txt");
    let wanted = read(&requirements)?;
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(&directory);
    run("making a virtual environment for the clients", make)?;
    let mut install = Command::new(&python);
    install
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(root().join(requirements));
    run("installing the clients from PyPI", install)?;
    fs::write(stamp, wanted)?;
    Ok(python)
}

/// A server on ports of its own choosing.
struct Server {
    process: Process,
    /// What the scripts are told.
    environment: Vec<(String, String)>,
}

impl Server {
    fn start(scratch: &Path) -> Result<Self> {
        let (configuration, data) = (scratch.join("config.toml"), scratch.join("data"));
        fs::write(&configuration, CONFIGURATION)?;
        let binary = root().join("target/debug/greenroom");
        let mut command = Command::new(&binary);
        command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(&configuration).arg("--data-dir").arg(&data);
        let (process, line) = Process::start(&mut command)?;
        let mut server = Self { process, environment: Vec::new() };
        let address = |scheme: &str| line.split_whitespace().find(|word| word.starts_with(scheme)).map(str::to_owned);
        let (Some(http), Some(https)) = (address("http://"), address("https://")) else { bail!("the server said {line:?}") };
        print!("{line}");
        let certificate = data.join("tls/certificate.pem").display().to_string();
        server.environment = vec![
            ("GREENROOM_E2E_HTTP".to_owned(), http),
            ("GREENROOM_E2E_HTTPS".to_owned(), https),
            ("REQUESTS_CA_BUNDLE".to_owned(), certificate.clone()),
            ("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()),
            ("SSL_CERT_FILE".to_owned(), certificate),
        ];
        let mut token = Command::new(&binary);
        token.args(["token", "--env", "--config"]).arg(&configuration).arg("--data-dir").arg(&data);
        let said = token.output().context("greenroom token cannot be started")?;
        ensure!(said.status.success(), "greenroom token: {}", String::from_utf8_lossy(&said.stderr));
        // For a shell: `export NAME=VALUE NAME=VALUE`.
        let said = String::from_utf8(said.stdout)?;
        let pairs = said.split_whitespace().filter_map(|word| word.split_once('='));
        server.environment.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        Ok(server)
    }
}
