//! `cargo xtask bench`: what Greenroom costs over the bare thing, measured in the same run.
//!
//! The machines are shared and noisy, so absolute times mean little: baseline, bubblewrap and Greenroom take turns
//! in short rounds, and what counts are the ratios and differences of their medians. Every answer is checked.

mod load;
mod quiet;
mod report;
mod server;
mod sessions;
mod work;

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail};

use self::{
    load::Samples,
    quiet::Patience,
    report::{Report, Row, Target},
    server::Server,
    work::{Setup, Work},
};
use crate::{
    debian,
    step::{release, root, run},
};

/// Requests in flight at once.
const CONCURRENCY: [usize; 3] = [1, 4, 16];

/// How much is measured.
struct Extent {
    /// Rounds in which the contestants take turns.
    rounds: usize,
    /// Runs per contestant and round, for the fastest work.
    runs: usize,
    /// Executions of the endurance run.
    endurance: usize,
    /// How long to wait, all in all, for others to leave the machine alone.
    patience: Duration,
}

const FULL: Extent = Extent { rounds: 5, runs: 200, endurance: 10_000, patience: Duration::from_secs(600) };
const QUICK: Extent = Extent { rounds: 2, runs: 40, endurance: 500, patience: Duration::from_secs(20) };

/// Measures and writes `bench/RESULTS.md`. With words: only the work whose name has one of them, and nothing is written.
pub fn bench(arguments: &[String]) -> Result<()> {
    let (options, words): (Vec<&String>, Vec<&String>) = arguments.iter().partition(|argument| argument.starts_with('-'));
    let quick = options.iter().any(|option| *option == "--quick");
    if let Some(unknown) = options.iter().find(|option| **option != "--quick") {
        bail!("unknown option {unknown}: there is only --quick");
    }
    let chosen = |work: &Work| words.is_empty() || words.iter().any(|word| work.name.contains(word.as_str()));
    let extent = if quick { QUICK } else { FULL };
    debian::install(&debian::base_languages()?, "the languages that are measured")?;
    debian::install(&["bubblewrap".to_owned(), "python3-numpy".to_owned()], "what we are compared with, and a library to import")?;
    run("building the release binary", release())?;
    let scratch = root().join("target/bench");
    std::fs::create_dir_all(&scratch)?;
    let mut report = Report::new(quick)?;
    let mut patience = Patience::new(extent.patience);
    patience.wait()?;
    let binary = root().join("target/release/greenroom");
    let all: Vec<Work> = work::all(&scratch)?.into_iter().filter(chosen).collect();
    for setup in Setup::ALL {
        let server = Server::start(&binary, &scratch, setup.settings())?;
        // Whatever it makes in the background at its first start is made.
        server.settle()?;
        if setup == Setup::Default {
            // Before any work: what it takes to do nothing.
            report.ready(server.ready_ms, server.memory_kib()?);
        }
        for work in all.iter().filter(|work| work.server == setup) {
            for concurrency in CONCURRENCY {
                println!("== {} at concurrency {concurrency}", work.name);
                let row = measure(work, &server, concurrency, &extent, &mut patience)
                    .with_context(|| format!("{} at concurrency {concurrency}", work.name))?;
                println!("{}", row.summary());
                report.row(row);
            }
        }
        if setup == Setup::Default && (words.is_empty() || words.iter().any(|word| "sessions".contains(word.as_str()))) {
            println!("== new identifiers");
            report.new_sessions(&sessions::new_identifiers(&server, extent.runs)?);
            if words.is_empty() {
                endure(&server, &scratch, &extent, &mut report)?;
            }
        }
        server.stop()?;
        if words.is_empty() {
            // What is measured so far is kept, whatever becomes of the rest.
            write(&report)?;
        }
    }
    if words.is_empty() || words.iter().any(|word| word.as_str() == "crowd") {
        println!("== a crowd of sessions");
        report.crowd(&sessions::crowd(&binary, &scratch)?);
    }
    if !words.is_empty() {
        return Ok(());
    }
    write(&report)
}

fn write(report: &Report) -> Result<()> {
    let path = root().join("bench/RESULTS.md");
    std::fs::create_dir_all(root().join("bench"))?;
    std::fs::write(&path, report.text())?;
    println!("written to {}", path.display());
    Ok(())
}

/// Many executions, and whether anything grows by them.
fn endure(server: &Server, scratch: &Path, extent: &Extent, report: &mut Report) -> Result<()> {
    println!("== {} executions, looking for growth", extent.endurance);
    let native = work::native(scratch)?;
    // What is filled once (pools, caches) is filled before the first look.
    load::over_http(&server.address, &native, 4, extent.endurance / 10)?;
    std::thread::sleep(Duration::from_secs(1));
    let before = server.footprint()?;
    load::over_http(&server.address, &native, 4, extent.endurance)?;
    std::thread::sleep(Duration::from_secs(1));
    report.growth(extent.endurance, before, server.footprint()?);
    Ok(())
}

fn measure(work: &Work, server: &Server, concurrency: usize, extent: &Extent, patience: &mut Patience) -> Result<Row> {
    let runs = (extent.runs / work.weight).max(4).max(concurrency);
    let (mut bare, mut bubblewrap, mut ours) = (Samples::default(), Samples::default(), Samples::default());
    // The first round warms caches and is not counted.
    let mut others = Vec::new();
    for round in 0..=extent.rounds {
        others.push(patience.wait()?);
        let turns = [
            load::bare(&work.bare, concurrency, runs)?,
            if work.bubblewrap.is_empty() { Samples::default() } else { load::bare(&work.bubblewrap, concurrency, runs)? },
            load::over_http(&server.address, work, concurrency, runs)?,
        ];
        if round > 0 {
            for (samples, turn) in [&mut bare, &mut bubblewrap, &mut ours].into_iter().zip(turns) {
                samples.add(turn);
            }
        }
    }
    let targets = work.targets.iter().filter(|target| target.concurrency() == concurrency).copied().collect::<Vec<Target>>();
    others.sort_unstable();
    let others_percent = others[others.len() / 2];
    Ok(Row { name: work.name, concurrency, bare, bubblewrap, ours, targets, others_percent })
}
