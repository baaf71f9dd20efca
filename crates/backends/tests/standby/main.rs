//! Cold and warm: the same programs in processes that were started for them, and in processes that stood by. All that a caller can see
//! must be the same: output, status, signal, verdict, of each stage. Needs the languages, too.

#[path = "../harness/mod.rs"]
mod harness;
mod java;
mod javascript;

use std::{cell::Cell, path::Path, process::ExitCode, time::Duration};

use greenroom_backends::{Local, StandbyStatus};
use greenroom_core::{DiskLimits, ExecutionId, Job, Limits, Outcome, Profile, RelativePath, Stdin};
use greenroom_runtimes::{Catalogue, DiscoverOptions, Program, ProgramFile};
use greenroom_sandbox::{Network, SandboxConfig, SharedDirectory, SupportFile};
use libtest_mimic::{Failed, Trial};

const DISK: DiskLimits = DiskLimits { bytes: 64 << 20, inodes: 4000 };

/// A program, and what it gets.
pub(crate) struct Case {
    files: Vec<(&'static str, &'static str)>,
    args: &'static [&'static str],
    stdin: &'static str,
    wall_ms: u64,
    /// Whether one that stands by can do it.
    warm: bool,
}

impl Case {
    pub(crate) fn new(name: &'static str, source: &'static str) -> Self {
        Self { files: vec![(name, source)], args: &[], stdin: "", wall_ms: 5000, warm: true }
    }

    pub(crate) fn with(mut self, name: &'static str, content: &'static str) -> Self {
        self.files.push((name, content));
        self
    }

    pub(crate) fn input(self, args: &'static [&'static str], stdin: &'static str) -> Self {
        Self { args, stdin, ..self }
    }

    pub(crate) fn within(self, wall_ms: u64) -> Self {
        Self { wall_ms, ..self }
    }

    pub(crate) fn cold(self) -> Self {
        Self { warm: false, ..self }
    }
}

fn config(catalogue: &Catalogue) -> SandboxConfig {
    let support = catalogue.support_files();
    SandboxConfig {
        require: Some(Profile::Full),
        network: Network::None,
        system_root: None,
        etc: catalogue.etc_names(),
        support: support.into_iter().map(|(path, content, executable)| SupportFile::new(&path, content, executable)).collect(),
        directories: Vec::new(),
        workspace_dir: std::env::temp_dir().join(format!("greenroom-test-standby-{}", std::process::id())),
        disk: DISK,
        uid_first: 3_700_000,
        uid_count: 4096,
        max_sandboxes: 4,
        max_sessions: 4,
        ready_sandboxes: 1,
        zygotes: Vec::new(),
        ready_children: 0,
        adaptive_bytes: 0,
    }
}

/// The languages, the backend in which processes stand by, and the one in which none does.
pub(crate) struct Both {
    catalogue: Catalogue,
    warm: Local,
    cold: Local,
}

impl Both {
    fn job(&self, language: &str, case: &Case) -> Result<Job, Failed> {
        let runtime = self.catalogue.resolve(language, "*").ok_or("not installed")?;
        let run = Limits {
            wall_ms: case.wall_ms,
            cpu_ms: 5000,
            memory_bytes: 256 << 20,
            processes: 128,
            open_files: 256,
            file_size_bytes: 1 << 20,
            output_bytes: Some(20_000),
            cpu_milli: 1000,
        };
        let file = |&(name, content): &(&str, &str)| {
            Ok(ProgramFile { path: RelativePath::new(name)?, content: content.into(), code: true })
        };
        let files = case.files.iter().map(file).collect::<Result<_, greenroom_core::PathError>>()?;
        Ok(runtime.plan(Program {
            id: ExecutionId::from_bits(1),
            files,
            main: 0,
            args: case.args.iter().map(|&arg| arg.to_owned()).collect(),
            stdin: Stdin::Bytes(case.stdin.into()),
            compile: Limits { wall_ms: 20_000, cpu_ms: 20_000, memory_bytes: 512 << 20, cpu_milli: 2000, ..run },
            run,
            disk: DISK,
        })?)
    }

    /// Waits until one stands by.
    async fn await_ready(&self) -> Result<(), Failed> {
        for _ in 0..600 {
            if self.warm.status().standby.ready > 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err("nothing stands by".into())
    }

    /// Runs every case both ways.
    async fn compare(&self, language: &str, cases: &[Case]) -> Result<(), Failed> {
        if self.catalogue.resolve(language, "*").is_none() {
            return harness::skipped(&format!("{language} is not installed"));
        }
        // The first has them started.
        self.warm.run(self.job(language, &cases[0])?).await?;
        let mut different = Vec::new();
        for case in cases {
            self.await_ready().await?;
            let before = self.warm.status().standby.used;
            let warm = self.warm.run(self.job(language, case)?).await?;
            let StandbyStatus { used, .. } = self.warm.status().standby;
            assert_eq!(used - before, u64::from(case.warm), "{:?} was not done as it should be", case.files);
            let cold = self.cold.run(self.job(language, case)?).await?;
            assert_eq!(self.cold.status().standby, StandbyStatus::default());
            if seen(&warm.outcome) != seen(&cold.outcome) {
                different.push(format!("{:?}\n  warm {:?}\n  cold {:?}", case.files, seen(&warm.outcome), seen(&cold.outcome)));
            }
        }
        if different.is_empty() { Ok(()) } else { Err(different.join("\n").into()) }
    }
}

/// All that a caller sees but times and memory.
fn seen(
    outcome: &Outcome,
) -> Vec<(greenroom_core::StageKind, greenroom_core::Verdict, Option<greenroom_core::Exit>, String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let stages = outcome.stages.iter();
    stages.map(|stage| (stage.kind, stage.verdict, stage.exit, text(&stage.output.stdout), text(&stage.output.stderr))).collect()
}

fn main() -> ExitCode {
    harness::main(|| {
        vec![
            Trial::test("javascript_is_the_same_cold_and_warm", || run("javascript", javascript::cases, false)),
            Trial::test("java_is_the_same_cold_and_warm", || run("java", java::cases, true)),
            Trial::test("java_stands_by_without_what_is_made_ahead_too", || run("java", few_of_java, false)),
            Trial::test("where_many_come_more_stand_by_as_far_as_the_memory_goes", more_stand_by),
        ]
    })
}

fn few_of_java() -> Vec<Case> {
    java::cases().into_iter().skip(1).take(4).collect()
}

fn run(language: &'static str, cases: fn() -> Vec<Case>, ahead: bool) -> Result<(), Failed> {
    with_both(0, ahead, async |both| both.compare(language, &cases()).await)
}

/// Has made what Java's processes come from, and nothing else.
fn make_ahead(catalogue: &Catalogue, directory: &Path) -> Result<(), Failed> {
    let made = Cell::new(false);
    catalogue.precompile(directory, &|| made.get(), &mut |what| made.set(what == "java"))?;
    if made.get() || catalogue.resolve("java", "*").is_none() { Ok(()) } else { Err("nothing was made ahead".into()) }
}

/// Beyond the floor of one there is memory for a few processes of Node, whose program is shared memory.
const ADAPTIVE_BYTES: u64 = 128 << 20;

fn more_stand_by() -> Result<(), Failed> {
    with_both(ADAPTIVE_BYTES, false, async |both| {
        if both.catalogue.resolve("javascript", "*").is_none() {
            return both.compare("javascript", &[]).await;
        }
        let case = Case::new("main.js", "console.log(1)");
        for _ in 0..10 {
            both.warm.run(both.job("javascript", &case)?).await?;
        }
        for _ in 0..600 {
            let stock = both.warm.status().stock;
            assert!(stock.adaptive_bytes <= ADAPTIVE_BYTES, "{stock:?}");
            assert_eq!(stock.adaptive_limit_bytes, ADAPTIVE_BYTES);
            let standbys = stock.standbys;
            if both.warm.status().standby.ready > 1 && standbys.count > 1 {
                let each = standbys.bytes / standbys.count;
                assert!((2 << 20..64 << 20).contains(&each), "a process of Node holds {each} bytes?");
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(format!("no more than the floor stands by: {:?}", both.warm.status()).into())
    })
}

fn with_both(adaptive_bytes: u64, ahead: bool, test: impl AsyncFnOnce(&Both) -> Result<(), Failed>) -> Result<(), Failed> {
    let catalogue = Catalogue::discover(&DiscoverOptions::default())?;
    let place = tempfile::tempdir()?;
    if ahead {
        make_ahead(&catalogue, place.path())?;
    }
    let directories = vec![SharedDirectory { path: place.path().to_owned(), at: Catalogue::PRECOMPILED_AT.to_owned() }];
    let config = SandboxConfig { adaptive_bytes, directories, ..config(&catalogue) };
    harness::run(config.clone(), 2, Duration::from_secs(600), async |warm| {
        warm.stand_by(1, 4);
        let both = Both { catalogue, warm, cold: Local::start(config, 2).await? };
        let result = test(&both).await;
        both.cold.shutdown().await;
        result
    })
}
