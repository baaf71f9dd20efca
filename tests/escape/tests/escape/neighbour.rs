//! H2: a well-behaved client at the same time keeps its verdicts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, spawn},
};

use anyhow::{Result, anyhow, ensure};

use crate::server::{execute, program};

/// Runs of a neighbour that count as having been there.
const AT_LEAST: usize = 2;

/// A client that runs small programs, one after the other, until told to stop.
pub struct Neighbour {
    enough: Arc<AtomicBool>,
    runs: JoinHandle<Result<usize>>,
}

impl Neighbour {
    /// Moves in.
    pub fn of(host: &str) -> Self {
        let (host, enough) = (host.to_owned(), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&enough);
        let runs = spawn(move || {
            let mut done = 0;
            while done < AT_LEAST || !told.load(Ordering::Relaxed) {
                hello(&host, &format!("neighbour {done}"))?;
                done += 1;
            }
            Ok(done)
        });
        Self { enough, runs }
    }

    /// Fails if the neighbour noticed anything.
    pub fn noticed_nothing(self) -> Result<()> {
        self.enough.store(true, Ordering::Relaxed);
        let runs = self.runs.join().map_err(|_| anyhow!("the neighbour panicked"))?;
        runs.map(drop).map_err(|error| error.context("H2"))
    }
}

/// Runs a program that prints `text`, and checks that it did and nothing else.
pub fn hello(host: &str, text: &str) -> Result<()> {
    let response = execute(host, &program("python", &format!("print({text:?})")))?;
    let answer = response.text();
    ensure!(response.status == 200, "hello: HTTP {}: {answer}", response.status);
    let run = &response.json()["run"];
    ensure!(
        run["status"].is_null() && run["code"] == 0 && run["stdout"] == format!("{text}\n") && run["stderr"] == "",
        "hello: {answer}"
    );
    Ok(())
}
