//! Closed loops: so many workers, each with one run in flight.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::work::{EXPECTED, NONCE, Step, WORKER, Work};

/// Latencies of single runs, and how long all of them took.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    latencies_us: Vec<u64>,
    elapsed: Duration,
}

impl Samples {
    /// Of latencies taken one after the other.
    pub fn of(mut latencies_us: Vec<u64>) -> Self {
        latencies_us.sort_unstable();
        let elapsed = Duration::from_micros(latencies_us.iter().sum());
        Self { latencies_us, elapsed }
    }

    pub fn is_empty(&self) -> bool {
        self.latencies_us.is_empty()
    }

    /// Takes in another round.
    pub fn add(&mut self, other: Samples) {
        self.latencies_us.extend(other.latencies_us);
        self.latencies_us.sort_unstable();
        self.elapsed += other.elapsed;
    }

    /// A percentile, microseconds.
    pub fn percentile_us(&self, percent: usize) -> u64 {
        let last = self.latencies_us.len().saturating_sub(1);
        self.latencies_us.get(last * percent / 100).copied().unwrap_or(0)
    }

    /// Runs per second over all workers.
    pub fn per_second(&self) -> u64 {
        let elapsed_us = u64::try_from(self.elapsed.as_micros()).unwrap_or(u64::MAX).max(1);
        self.latencies_us.len() as u64 * 1_000_000 / elapsed_us
    }
}

/// Starts processes, one after the other in each worker. `std` uses posix_spawn(3).
pub fn bare(steps: &[Step], workers: usize, runs: usize) -> Result<Samples> {
    spread(workers, runs, |worker| {
        let commands: Vec<(&Step, Vec<String>)> = steps.iter().map(|step| (step, step.argv_of(worker))).collect();
        Ok(move || {
            for (step, argv) in &commands {
                let mut command = Command::new(&argv[0]);
                command.args(&argv[1..]).current_dir(&step.directory).stdin(Stdio::null());
                let output = command.output().with_context(|| format!("{argv:?}"))?;
                ensure!(output.status.success(), "{argv:?}: {}", String::from_utf8_lossy(&output.stderr));
                ensure!(!step.prints || output.stdout == EXPECTED.as_bytes(), "{argv:?} printed {:?}", output.stdout);
            }
            Ok(())
        })
    })
}

/// Sends requests over connections that are kept alive, one per worker.
pub fn over_http(address: &str, work: &Work, workers: usize, runs: usize) -> Result<Samples> {
    spread(workers, runs, |worker| {
        let mut stream = connect(address)?;
        let path = work.request.path.replace(WORKER, &worker.to_string());
        let mut answer = Vec::new();
        let request = move |body: &str| post(address, &path, body);
        let varies = work.request.body.contains(NONCE);
        let same = request(&work.request.body);
        Ok(move || {
            let fresh = varies.then(|| request(&work.request.body.replace(NONCE, &nonce())));
            stream.write_all(fresh.as_ref().unwrap_or(&same).as_bytes())?;
            read_answer(&mut stream, &mut answer)?;
            let text = String::from_utf8_lossy(&answer);
            ensure!(text.starts_with("HTTP/1.1 200") && text.contains(work.request.expected), "answered {text}");
            Ok(())
        })
    })
}

/// A number that this run has not had yet.
pub fn nonce() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A request with a body.
pub fn post(address: &str, path: &str, body: &str) -> String {
    let len = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n\r\n{body}")
}

pub fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<()> {
    answer.clear();
    let mut piece = [0; 16 * 1024];
    loop {
        let len = stream.read(&mut piece)?;
        if len == 0 {
            bail!("the server closed the connection after {:?}", String::from_utf8_lossy(answer));
        }
        answer.extend_from_slice(&piece[..len]);
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        if head.starts_with("http/1.1 204") {
            return Ok(());
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).context("no content-length")?;
        if answer.len() >= end + 4 + length.trim().parse::<usize>()? {
            return Ok(());
        }
    }
}

/// Shares `runs` among workers; each makes its own state first, outside the measured time.
fn spread<F, R>(workers: usize, runs: usize, make: F) -> Result<Samples>
where
    F: Fn(usize) -> Result<R> + Sync,
    R: FnMut() -> Result<()>,
{
    let begin = std::sync::Barrier::new(workers + 1);
    thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|worker| {
                let (begin, make) = (&begin, &make);
                scope.spawn(move || -> Result<Vec<u64>> {
                    let made = make(worker);
                    begin.wait();
                    let mut one = made?;
                    let share = runs / workers + usize::from(worker < runs % workers);
                    let mut latencies = Vec::with_capacity(share);
                    for _ in 0..share {
                        let begun = Instant::now();
                        one()?;
                        latencies.push(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
                    }
                    Ok(latencies)
                })
            })
            .collect();
        begin.wait();
        let begun = Instant::now();
        let mut samples = Samples::default();
        for handle in handles {
            match handle.join() {
                Ok(latencies) => samples.latencies_us.extend(latencies?),
                Err(_) => bail!("a worker panicked"),
            }
        }
        samples.elapsed = begun.elapsed();
        samples.latencies_us.sort_unstable();
        Ok(samples)
    })
}
