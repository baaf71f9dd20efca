//! An oracle that cannot fail proves nothing: each is shown what it must notice.

use std::{
    fs,
    net::TcpStream,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixStream},
    },
};

use anyhow::{Result, anyhow, ensure};
use greenroom_escape::{Canary, Footprint, Host, SECRET};

use crate::{
    server::{Server, program},
    suite::Suite,
};

/// Shows each oracle what it must notice.
pub fn notice(suite: &Suite) -> Result<()> {
    // H1. A canary of its own: this one is called.
    let canary = Canary::listen("noticed")?;
    canary.is_silent()?;
    let port = canary.port()?;
    let calls: [&dyn Fn() -> Result<()>; 3] = [
        &|| Ok(TcpStream::connect(("127.0.0.1", port)).map(drop)?),
        &|| Ok(UnixStream::connect_addr(&SocketAddr::from_abstract_name(canary.name_in("@ABSTRACT@"))?).map(drop)?),
        &|| Ok(UnixStream::connect(canary.name_in("@SOCKET@")).map(drop)?),
    ];
    for call in calls {
        call()?;
        ensure!(canary.is_silent().is_err(), "a call was not noticed");
        canary.is_silent()?;
    }
    // The secret, told by each of those who are asked: a coded row's program, one on a server of a row's own, a row's
    // only program, the first of two and the second.
    let telling = format!("echo {SECRET}");
    noticed("a coded row's program", suite.server.execute(&program("bash", &telling)))?;
    noticed("a refusal", suite.server.refuses(&program(SECRET, "")))?;
    Server::during(&[], |own| noticed("a row's own server", own.stdout_of(&program("bash", &telling))))?;
    let case = |source: &str, then: &str| toml::from_str(&format!("name = 'x'\nlanguage = 'bash'\nsource = '{source}'\n{then}"));
    noticed("a case", suite.once(&case(&telling, "")?))?;
    noticed("the first of two programs", suite.once(&case(&telling, "then = 'true'")?))?;
    noticed("the second of two programs", suite.once(&case("true", &format!("then = '{telling}'"))?))?;
    suite.once(&case("true", "then = 'true'")?)?;
    // Two at once: the second must have looked before the first has ended.
    let early = suite.once(&case("sleep 0.1", "then = 'sleep 0.3'\ntogether = true")?);
    ensure!(early.is_err(), "a second program that ran alone was not noticed");

    // A limit of processes that is not nearly met, and one that is not kept.
    ensure!(suite.once(&case("true", "processes = 64")?).is_err(), "processes that were never there were not missed");
    let many = "for i in 1 2 3 4 5 6 7 8; do sleep 0.3 & done; wait";
    ensure!(suite.once(&case(many, "processes = 4")?).is_err(), "more processes than allowed were not noticed");

    // H0. A file of the host, and a program that runs on.
    let file = canary.file();
    let before = Host::look(&[&file])?;
    fs::write(&file, "changed")?;
    ensure!(before != Host::look(&[&file])?, "a changed file was not noticed");
    let body = program("bash", "sleep 1");
    std::thread::scope(|scope| {
        let running = scope.spawn(|| suite.server.execute(&body));
        let footprint = Footprint::of(suite.server.pid()?)?;
        let seen = greenroom_escape::within(std::time::Duration::from_secs(3), || {
            if footprint.programs().is_empty() { Err(anyhow!("a running program was not noticed")) } else { Ok(()) }
        });
        running.join().map_err(|_| anyhow!("the client panicked"))??;
        seen
    })
}

/// Fails unless the secret was noticed, and nothing else.
fn noticed<T>(teller: &str, asked: Result<T>) -> Result<()> {
    let Err(error) = asked else { anyhow::bail!("the secret in the answer of {teller} was not noticed") };
    let error = format!("{error:#}");
    ensure!(error.contains("H1"), "the secret in the answer of {teller} was not noticed, but {error}");
    Ok(())
}
