//! The table of results, with targets and whether they are met.

use std::{fmt::Write, process::Command};

use anyhow::Result;

use super::{load::Samples, server::Footprint, sessions::Crowd};
use crate::step::root;

/// What a row has to reach, at which concurrency.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// The median at most so many microseconds over the bare process'.
    OverBareUs { at: usize, us: u64 },
    /// The median at most so many thousandths of the bare process'.
    RatioPermille { at: usize, permille: u64 },
    /// The median at most so long.
    AtMostUs { at: usize, us: u64 },
    /// At least so many percent of the bare process' throughput.
    ThroughputPercent { at: usize, percent: u64 },
    /// At least so many runs a second.
    PerSecond { at: usize, runs: u64 },
}

impl Target {
    pub fn concurrency(self) -> usize {
        match self {
            Target::OverBareUs { at, .. }
            | Target::RatioPermille { at, .. }
            | Target::AtMostUs { at, .. }
            | Target::ThroughputPercent { at, .. }
            | Target::PerSecond { at, .. } => at,
        }
    }
}

/// One kind of work at one concurrency.
pub struct Row {
    pub name: &'static str,
    pub concurrency: usize,
    pub bare: Samples,
    pub bubblewrap: Samples,
    pub ours: Samples,
    pub targets: Vec<Target>,
    /// How much of the machine others used before the rounds, percent, the median.
    pub others_percent: u64,
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "**not met**" }
}

impl Row {
    /// For the terminal.
    pub fn summary(&self) -> String {
        format!(
            "   p50 bare {} us, bubblewrap {} us, greenroom {} us; a second: {}, {}, {}",
            self.bare.percentile_us(50),
            self.bubblewrap.percentile_us(50),
            self.ours.percentile_us(50),
            self.bare.per_second(),
            self.bubblewrap.per_second(),
            self.ours.per_second()
        )
    }

    fn judge(&self, target: Target) -> String {
        let (bare, ours) = (self.bare.percentile_us(50), self.ours.percentile_us(50));
        match target {
            Target::OverBareUs { us, .. } => {
                let over = ours.saturating_sub(bare);
                format!("p50 over bare {over} us, target ≤ {us}: {}", verdict(over <= us))
            }
            Target::RatioPermille { permille, .. } => {
                let ratio = ours * 1000 / bare.max(1);
                let percent = |permille: u64| format!("{}.{} %", permille / 10, permille % 10);
                format!("p50 {} of bare, target ≤ {}: {}", percent(ratio), percent(permille), verdict(ratio <= permille))
            }
            Target::AtMostUs { us, .. } => format!("p50 {ours} us, target ≤ {us} us: {}", verdict(ours <= us)),
            Target::ThroughputPercent { percent, .. } => {
                let ratio = self.ours.per_second() * 100 / self.bare.per_second().max(1);
                format!("throughput {ratio} % of bare, target ≥ {percent} %: {}", verdict(ratio >= percent))
            }
            Target::PerSecond { runs, .. } => {
                let rate = self.ours.per_second();
                format!("{rate} a second, target ≥ {runs}: {}", verdict(rate >= runs))
            }
        }
    }
}

/// The page.
pub struct Report {
    text: String,
    rows: String,
    targets: String,
}

impl Report {
    pub fn new(quick: bool) -> Result<Self> {
        let ask = |program: &str, arguments: &[&str]| -> Result<String> {
            let output = Command::new(program).args(arguments).current_dir(root()).output()?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let mut text = String::from(
            "# Results\n\nThe contestants take turns in the same run, every answer is checked. Machines differ and are noisy: read the ratios.\n\n",
        );
        let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim()))
            .unwrap_or("unknown");
        let cores = std::thread::available_parallelism()?;
        writeln!(text, "- date: {} UTC", ask("date", &["-u", "+%Y-%m-%d %H:%M"])?)?;
        writeln!(text, "- commit: {}", ask("git", &["rev-parse", "--short", "HEAD"])?)?;
        writeln!(text, "- machine: {cores} × {model}, Linux {}", ask("uname", &["-r"])?)?;
        let command = if quick { "cargo xtask bench --quick" } else { "cargo xtask bench" };
        writeln!(text, "- command: `{command}`")?;
        Ok(Self { text, rows: String::new(), targets: String::new() })
    }

    fn target(&mut self, line: &str) {
        println!("   {line}");
        self.targets.push_str("- ");
        self.targets.push_str(line);
        self.targets.push('\n');
    }

    pub fn ready(&mut self, ready_ms: u128, memory_kib: u64) {
        self.target(&format!("from start to ready {ready_ms} ms, target ≤ 300 ms: {}", verdict(ready_ms <= 300)));
        let mib = memory_kib / 1024;
        self.target(&format!(
            "idle, server with runner, slots and prepared sandboxes (PSS): {mib} MiB, target ≤ 30 MB: {}",
            verdict(memory_kib * 1024 <= 30_000_000)
        ));
    }

    pub fn row(&mut self, row: Row) {
        for target in &row.targets {
            self.target(&format!("{}, concurrency {}: {}", row.name, row.concurrency, row.judge(*target)));
        }
        let cell =
            |samples: &Samples| format!("{} / {} | {}", samples.percentile_us(50), samples.percentile_us(99), samples.per_second());
        let ratio = row.ours.percentile_us(50) * 1000 / row.bare.percentile_us(50).max(1);
        let line = format!(
            "| {} | {} | {} | {} | {} | {}.{} % | {} % |\n",
            row.name,
            row.concurrency,
            cell(&row.bare),
            if row.bubblewrap.is_empty() { "– | –".to_owned() } else { cell(&row.bubblewrap) },
            cell(&row.ours),
            ratio / 10,
            ratio % 10,
            row.others_percent
        );
        self.rows.push_str(&line);
    }

    pub fn new_sessions(&mut self, samples: &Samples) {
        let (p50, p99) = (samples.percentile_us(50), samples.percentile_us(99));
        self.target(&format!(
            "a new identifier with a ready session, call and answer: p50 {p50} us, p99 {p99} us, target ≤ 3000 us: {}",
            verdict(p50 <= 3000)
        ));
    }

    pub fn crowd(&mut self, crowd: &Crowd) {
        let Crowd { sessions, kib_each, ready_s } = crowd;
        self.target(&format!(
            "{sessions} ready Python sessions on this machine, made in {ready_s} s: {kib_each} KiB each (PSS, with slot and init), target ≤ 2.5 MB: {}",
            verdict(kib_each * 1024 <= 2_500_000)
        ));
    }

    pub fn growth(&mut self, executions: usize, before: Footprint, after: Footprint) {
        // A sixteenth of memory is noise: what the allocators keep.
        let steady = after.memory_kib <= before.memory_kib + before.memory_kib / 16 + 1024
            && after.descriptors <= before.descriptors + 4
            && after.cgroups <= before.cgroups + 4
            && after.mounts == before.mounts
            && after.processes <= before.processes + 4;
        self.target(&format!("{executions} executions, before {before:?}, after {after:?}: no growth {}", verdict(steady)));
    }

    pub fn text(&self) -> String {
        let mut page = self.text.clone();
        let mut line = |text: &str| {
            page.push_str(text);
            page.push('\n');
        };
        line("\n## Targets\n");
        line(&self.targets);
        line(
            "## Table\n\nLatency p50 / p99 in microseconds, runs a second; the ratio is Greenroom's p50 over HTTP to the bare process'.\nOthers: what else the machine was doing just before the rounds.\n",
        );
        line(
            "| work | concurrency | bare p50 / p99 | /s | bubblewrap p50 / p99 | /s | greenroom p50 / p99 | /s | ratio | others |",
        );
        line("|---|---|---|---|---|---|---|---|---|---|");
        page + &self.rows
    }
}
