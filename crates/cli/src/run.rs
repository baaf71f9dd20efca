//! `greenroom run`: a program in the same sandbox, without a server.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, bail};
use greenroom_backends::{Control, Event, Execution, Local};
use greenroom_core::{
    ExecutionId, Exit, Job, Limits, Outcome, RelativePath, StageKind, StageOutcome, Stdin, Stream, Verdict, signal,
};
use greenroom_runtimes::{Catalogue, Elevation, Program, ProgramFile, Runtime};
use tokio::sync::{mpsc, oneshot};

use crate::{
    commands::RunArguments,
    config::Loaded,
    output::{OutputError, pass, say},
    settings::LEAST_CPU_MILLI,
    start,
};

/// Standard input is passed on in pieces of this size.
const PIECE_BYTES: usize = 64 * 1024;

/// Runs it, passes its exit status on (128 + N for a signal), and ends with a line of what it used.
pub async fn run(loaded: &Loaded, arguments: &RunArguments) -> anyhow::Result<ExitCode> {
    let settings = &loaded.settings;
    let catalogue = start::catalogue(settings, Elevation::Never)?;
    let runtime = choose(&catalogue, arguments)?;
    let (mut compile, mut run) = settings.gateway.limits_of(&runtime);
    for limit in &arguments.limits {
        set_limit(limit, &mut compile, &mut run)?;
    }
    if !arguments.json {
        (compile.output_bytes, run.output_bytes) = (None, None);
    }
    let files = read_files(&arguments.files)?;
    let stdin = match (&arguments.stdin, arguments.json) {
        (Some(path), true) if path.as_os_str() == "-" => {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
            Stdin::Bytes(bytes)
        }
        (Some(path), false) if path.as_os_str() == "-" => Stdin::Interactive,
        (Some(path), _) => Stdin::Bytes(std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?),
        (None, true) => Stdin::Bytes(Vec::new()),
        (None, false) => Stdin::Interactive,
    };
    let job = runtime.plan(Program {
        id: ExecutionId::from_bits(std::process::id().into()),
        files,
        main: 0,
        args: arguments.args.clone(),
        stdin,
        compile,
        run,
        disk: settings.gateway.disk,
    })?;
    let local = start::local(&settings.for_once(), &catalogue).await?;
    let ended = tokio::select! {
        ended = execute(&local, job, arguments.json) => ended,
        // Dropping the job kills it.
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| None).map_err(Into::into),
    };
    local.shutdown().await;
    let Some(outcome) = ended? else { return Ok(ExitCode::from(130)) };
    let last = outcome.stages.last().context("no stage ran")?;
    if arguments.json {
        print_json(&runtime, &outcome)?;
    } else {
        eprintln!("{}", summary(last));
    }
    Ok(exit_code(last))
}

fn choose(catalogue: &Catalogue, arguments: &RunArguments) -> anyhow::Result<Arc<Runtime>> {
    let named = match (&arguments.language, arguments.files.first()) {
        (Some(language), _) => language.clone(),
        (None, Some(file)) => guess(file)?.to_owned(),
        (None, None) => bail!("name a file to run"),
    };
    // The last @ parts them; a language's own name has none.
    let (language, range) = named.rsplit_once('@').unwrap_or((&named, "*"));
    catalogue.resolve(language, range).with_context(|| {
        format!("{language} ({range}) is not installed: `greenroom runtimes list` shows what is, `greenroom runtimes install {language}` may add it")
    })
}

/// The language that a file's extension stands for.
fn guess(file: &Path) -> anyhow::Result<&'static str> {
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    Ok(match extension {
        "py" => "python",
        "js" | "mjs" | "cjs" => "javascript",
        "ts" => "typescript",
        "c" => "c",
        "cc" | "cpp" | "cxx" | "C" => "c++",
        "java" => "java",
        "go" => "go",
        "rs" => "rust",
        "rb" => "ruby",
        "pl" => "perl",
        "php" => "php",
        "lua" => "lua",
        "sh" | "bash" => "bash",
        "sql" => "sqlite3",
        "hs" => "haskell",
        "ml" => "ocaml",
        "pas" | "pp" => "pascal",
        "f90" | "f95" | "f03" => "fortran",
        "r" | "R" => "rscript",
        "awk" => "awk",
        "cs" => "csharp",
        "erl" => "erlang",
        "ex" | "exs" => "elixir",
        "lisp" | "lsp" => "lisp",
        "asm" | "nasm" => "nasm64",
        "cob" | "cbl" => "cobol",
        "d" => "d",
        "m" => "octave",
        "tcl" => "tcl",
        "rkt" => "racket",
        "kt" => "kotlin",
        "scala" => "scala",
        "clj" => "clojure",
        "groovy" => "groovy",
        "pro" => "prolog",
        _ => bail!("cannot tell the language of {}: name it with --language", file.display()),
    })
}

fn read_files(paths: &[PathBuf]) -> anyhow::Result<Vec<ProgramFile>> {
    let beside = paths.first().and_then(|main| main.parent()).unwrap_or(Path::new(""));
    let mut files: Vec<ProgramFile> = Vec::with_capacity(paths.len());
    for path in paths {
        let content = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let place = place(path, beside)?;
        if files.iter().any(|file| file.path == place) {
            bail!(
                "{} would stand where another file is, at {place}: go to a directory above both and name them from there",
                path.display()
            );
        }
        let code = std::str::from_utf8(&content).is_ok();
        files.push(ProgramFile { path: place, content, code });
    }
    Ok(files)
}

/// Where a file stands in the sandbox. Below the current directory it keeps its place; from elsewhere, the one it has
/// beside the main file, or its name only.
fn place(path: &Path, beside: &Path) -> anyhow::Result<RelativePath> {
    let relative = |path: &Path| path.to_str().and_then(|text| RelativePath::new(text).ok());
    relative(path)
        .or_else(|| relative(path.strip_prefix(beside).ok()?))
        .or_else(|| relative(Path::new(path.file_name()?)))
        .with_context(|| format!("{} is no file name that can be used: it has to be UTF-8", path.display()))
}

fn set_limit(text: &str, compile: &mut Limits, run: &mut Limits) -> anyhow::Result<()> {
    let (name, value) = text.split_once('=').with_context(|| format!("--limit {text}: expected NAME=VALUE"))?;
    let (limits, name) = match name.strip_prefix("compile.") {
        Some(name) => (compile, name),
        None => (run, name.strip_prefix("run.").unwrap_or(name)),
    };
    let number: u64 = value.parse().with_context(|| format!("--limit {text}: {value:?} is no whole number"))?;
    if number == 0 {
        bail!("--limit {text}: must be above 0");
    }
    let small = || u32::try_from(number).with_context(|| format!("--limit {text}: too large"));
    match name {
        "wall_ms" => limits.wall_ms = number,
        "cpu_ms" => limits.cpu_ms = number,
        "memory_bytes" => limits.memory_bytes = number,
        "processes" => limits.processes = small()?,
        "open_files" => limits.open_files = small()?,
        "file_size_bytes" => limits.file_size_bytes = number,
        "output_bytes" => limits.output_bytes = Some(number),
        "cpu_milli" if number < u64::from(LEAST_CPU_MILLI) => bail!("--limit {text}: must be at least {LEAST_CPU_MILLI}"),
        "cpu_milli" => limits.cpu_milli = small()?,
        other => bail!(
            "--limit {other}: unknown; expected wall_ms, cpu_ms, memory_bytes, processes, open_files, file_size_bytes, output_bytes or cpu_milli"
        ),
    }
    Ok(())
}

async fn execute(local: &Local, job: Job, keep: bool) -> anyhow::Result<Option<Outcome>> {
    if keep {
        return Ok(Some(local.run(job).await?.outcome));
    }
    let interactive = job.stages.iter().any(|stage| stage.stdin == Stdin::Interactive);
    let Execution { events, control, finished } = local.stream(job);
    let (begun, began) = oneshot::channel();
    let feeding = interactive.then(|| tokio::spawn(feed(began, control)));
    // On a thread of its own: whoever reads our output may stop reading, and an interrupt must get through then.
    let stages = tokio::task::spawn_blocking(move || pass_on(events, begun)).await??;
    if let Some(feeding) = feeding {
        feeding.abort();
    }
    finished.await.context("the job broke off")??;
    Ok(Some(Outcome { stages }))
}

/// Passes our standard input on once the program runs: what a compile stage does not read is gone with it.
async fn feed(began: oneshot::Receiver<()>, control: mpsc::Sender<Control>) {
    if began.await.is_err() {
        return;
    }
    let mut input = standard_input();
    while let Some(bytes) = input.recv().await {
        if control.send(Control::Stdin(bytes)).await.is_err() {
            return;
        }
    }
    // A job that is over needs no end of file.
    let _over = control.send(Control::StdinEof).await;
}

/// Passes the program's output on, raw, and says when its run stage began. Gives the stages as they ended.
fn pass_on(mut events: mpsc::Receiver<Event>, begun: oneshot::Sender<()>) -> Result<Vec<StageOutcome>, OutputError> {
    let mut stages = Vec::new();
    let mut begun = Some(begun);
    while let Some(event) = events.blocking_recv() {
        match event {
            // Nobody listens where the input is no stream.
            Event::StageStarted(StageKind::Run) => _ = begun.take().map(|begun| begun.send(())),
            Event::StageStarted(StageKind::Compile) => {}
            Event::Output { stream: Stream::Stdout, bytes } => pass(io::stdout().lock(), &bytes)?,
            Event::Output { stream: Stream::Stderr, bytes } => pass(io::stderr().lock(), &bytes)?,
            Event::StageEnded(stage) => stages.push(stage),
        }
    }
    Ok(stages)
}

/// Our standard input in pieces, read by a thread of its own: a read of a terminal cannot be given up.
fn standard_input() -> mpsc::Receiver<Vec<u8>> {
    let (tell, told) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut bytes = vec![0; PIECE_BYTES];
        while let Ok(len @ 1..) = io::stdin().lock().read(&mut bytes) {
            if tell.blocking_send(bytes[..len].to_vec()).is_err() {
                return;
            }
        }
    });
    told
}

fn summary(stage: &StageOutcome) -> String {
    let how = match (stage.verdict, stage.exit) {
        (Verdict::Ok, _) => "ok".to_owned(),
        (Verdict::ExitStatus, Some(Exit::Code(code))) => format!("exit status {code}"),
        (Verdict::Signal, Some(Exit::Signal(number))) => signal::name(number).unwrap_or_else(|| format!("signal {number}")),
        (Verdict::WallTime, _) => "wall-clock time used up".to_owned(),
        (Verdict::CpuTime, _) => "CPU time used up".to_owned(),
        (Verdict::Memory, _) => "memory used up".to_owned(),
        (verdict, _) => verdict.as_str().to_owned(),
    };
    let ms = |us: u64| format!("{}.{:03} ms", us / 1000, us % 1000);
    let memory = stage.usage.memory_peak_bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{} KiB", bytes / 1024));
    format!("[{}: {how}; wall {}, cpu {}, memory {memory}]", stage.kind.as_str(), ms(stage.usage.wall_us), ms(stage.usage.cpu_us))
}

fn print_json(runtime: &Runtime, outcome: &Outcome) -> anyhow::Result<()> {
    let stages: Vec<_> = outcome
        .stages
        .iter()
        .map(|stage| {
            let (code, signal) = match stage.exit {
                Some(Exit::Code(code)) => (Some(code), None),
                Some(Exit::Signal(number)) => (None, signal::name(number)),
                None => (None, None),
            };
            serde_json::json!({
                "stage": stage.kind,
                "verdict": stage.verdict,
                "code": code,
                "signal": signal,
                "stdout": String::from_utf8_lossy(&stage.output.stdout),
                "stderr": String::from_utf8_lossy(&stage.output.stderr),
                "usage": stage.usage,
            })
        })
        .collect();
    let all = serde_json::json!({ "language": runtime.language(), "version": runtime.version(), "stages": stages });
    say(serde_json::to_string(&all)?)?;
    Ok(())
}

/// As a shell has it: the status, 128 + N for signal N; 124 (as timeout(1)) for time, 137 for memory.
fn exit_code(stage: &StageOutcome) -> ExitCode {
    let code = match (stage.verdict, stage.exit) {
        (Verdict::Ok | Verdict::ExitStatus, Some(Exit::Code(code))) => code,
        (Verdict::Signal, Some(Exit::Signal(number))) => 128 + number,
        (Verdict::WallTime | Verdict::CpuTime, _) => 124,
        (Verdict::Memory, _) => 137,
        _ => 1,
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_keep_their_place_below_the_current_directory_or_beside_the_main_file() {
        for (path, beside, stands) in [
            ("main.c", "", "main.c"),
            ("src/main.c", "src", "src/main.c"),
            ("/p/main.c", "/p", "main.c"),
            ("/p/lib/x.h", "/p", "lib/x.h"),
            ("../q/main.c", "../q", "main.c"),
            ("../r/x.h", "../q", "x.h"),
        ] {
            let found = place(Path::new(path), Path::new(beside)).map(|place| place.to_string()).ok();
            assert_eq!(found.as_deref(), Some(stands), "{path}");
        }
    }

    #[test]
    fn a_limit_is_set_where_it_is_named_and_refused_where_it_cannot_be() {
        let limits = Limits {
            wall_ms: 1,
            cpu_ms: 1,
            memory_bytes: 1,
            processes: 1,
            open_files: 1,
            file_size_bytes: 1,
            output_bytes: None,
            cpu_milli: 1,
        };
        let (mut compile, mut run) = (limits, limits);
        for text in ["wall_ms=5", "run.cpu_ms=6", "compile.processes=7"] {
            assert!(set_limit(text, &mut compile, &mut run).is_ok(), "{text}");
        }
        assert_eq!((run.wall_ms, run.cpu_ms, compile.processes, compile.wall_ms), (5, 6, 7, 1));
        for text in ["wall_ms", "wall_ms=x", "wall_ms=0", "nope=1", "processes=99999999999", "cpu_milli=9"] {
            assert!(set_limit(text, &mut compile, &mut run).is_err(), "{text}");
        }
    }
}
