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
use greenroom_escape::{Canary, Expect, Footprint, Host, SECRET};
use serde_json::json;

use crate::{
    judge::judge,
    suite::{Suite, program},
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
    let told = suite.execute(&program("bash", &format!("echo {SECRET}")))?;
    ensure!(judge(&Expect::default(), &told).is_err(), "the secret in an answer was not noticed");

    // H0. A file of the host, and a program that runs on.
    let file = canary.file();
    let before = Host::look(&[&file])?;
    fs::write(&file, "changed")?;
    ensure!(before != Host::look(&[&file])?, "a changed file was not noticed");
    let body = json!({"language": "bash", "version": "*", "files": [{"content": "sleep 1"}]});
    std::thread::scope(|scope| {
        let running = scope.spawn(|| suite.execute(&body));
        let footprint = Footprint::of(suite.pid()?)?;
        let seen = greenroom_escape::within(std::time::Duration::from_secs(3), || {
            if footprint.programs().is_empty() { Err(anyhow!("a running program was not noticed")) } else { Ok(()) }
        });
        running.join().map_err(|_| anyhow!("the client panicked"))??;
        seen
    })
}
