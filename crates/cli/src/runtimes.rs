//! `greenroom runtimes`: list, install, remove, test.

use std::{process::ExitCode, sync::Arc};

use anyhow::bail;
use greenroom_backends::Local;
use greenroom_core::{ExecutionId, StageKind, Stdin, Verdict};
use greenroom_runtimes::{Catalogue, Elevation, Program, ProgramFile, Runtime};

use crate::{commands::RuntimesCommand, config::Loaded, settings::Settings, start};

/// What a self-test prints.
const EXPECTED: &str = "OK";

/// Runs the command.
pub fn runtimes(loaded: &Loaded, command: &RuntimesCommand) -> anyhow::Result<ExitCode> {
    let settings = &loaded.settings;
    let catalogue = start::catalogue(settings, Elevation::Sudo)?;
    match command {
        RuntimesCommand::List { all, json } => list(&catalogue, *all, *json),
        RuntimesCommand::Install { names } => {
            for name in names {
                println!("{name}: installing");
                let runtime = catalogue.install(name, &mut |line| println!("  {line}"))?;
                println!("{name}: {} is installed (a running server sees it after a restart)", runtime.version());
            }
            Ok(ExitCode::SUCCESS)
        }
        RuntimesCommand::Remove { names } => {
            for name in names {
                catalogue.remove(name, &mut |line| println!("  {line}"))?;
                println!("{name}: removed");
            }
            Ok(ExitCode::SUCCESS)
        }
        RuntimesCommand::Test { names, base } => start::runtime()?.block_on(test(settings, &catalogue, names, *base)),
    }
}

fn list(catalogue: &Catalogue, all: bool, json: bool) -> anyhow::Result<ExitCode> {
    let packages: Vec<_> = catalogue.packages().into_iter().filter(|package| all || package.installed).collect();
    if json {
        let entries: Vec<_> = packages
            .iter()
            .map(|package| {
                serde_json::json!({ "language": package.language, "version": package.version, "installed": package.installed, "base": package.base })
            })
            .collect();
        println!("{}", serde_json::to_string(&entries)?);
        return Ok(ExitCode::SUCCESS);
    }
    for package in packages {
        let state = if package.installed { package.version.as_str() } else { "not installed" };
        println!("{:<12} {state}", package.language);
    }
    Ok(ExitCode::SUCCESS)
}

async fn test(settings: &Settings, catalogue: &Catalogue, names: &[String], base: bool) -> anyhow::Result<ExitCode> {
    let mut chosen: Vec<Arc<Runtime>> = Vec::new();
    let mut failed = 0;
    if base {
        for package in catalogue.packages().into_iter().filter(|package| package.base && !package.installed) {
            println!("FAIL {:<12} not installed: `greenroom runtimes install {}`", package.language, package.language);
            failed += 1;
        }
    }
    for name in names {
        match catalogue.resolve(name, "*") {
            Some(runtime) => chosen.push(runtime),
            None => bail!("{name} is not installed: `greenroom runtimes install {name}`"),
        }
    }
    if names.is_empty() {
        chosen.extend(catalogue.installed().iter().filter(|runtime| !base || runtime.base()).cloned());
    }
    let local = start::local(settings, catalogue).await?;
    for runtime in &chosen {
        match self_test(settings, &local, runtime).await {
            Ok(time) => println!("ok   {:<12} {:<10} {time}", runtime.language(), runtime.version()),
            Err(reason) => {
                failed += 1;
                println!("FAIL {:<12} {:<10} {reason}", runtime.language(), runtime.version());
            }
        }
    }
    local.shutdown().await;
    println!("{} passed, {failed} failed", chosen.len() - failed.min(chosen.len()));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a runtime's own program in the sandbox. Gives the time it took, or what went wrong.
async fn self_test(settings: &Settings, local: &Local, runtime: &Runtime) -> Result<String, String> {
    let (path, source) = runtime.self_test();
    let (compile, run) = settings.gateway.limits_of(runtime);
    let file = ProgramFile { path: path.clone(), content: source.to_vec(), code: true };
    let program = Program {
        id: ExecutionId::from_bits(0),
        files: vec![file],
        main: 0,
        args: Vec::new(),
        stdin: Stdin::Bytes(b"\n".to_vec()),
        compile,
        run,
        disk: settings.gateway.disk,
    };
    let job = runtime.plan(program).map_err(|error| error.to_string())?;
    let finished = local.run(job).await.map_err(|error| error.to_string())?;
    let outcome = finished.outcome;
    let last = outcome.stages.last().ok_or("no stage ran")?;
    let (out, err) = (String::from_utf8_lossy(&last.output.stdout), String::from_utf8_lossy(&last.output.stderr));
    if last.kind == StageKind::Run && last.verdict == Verdict::Ok && out.contains(EXPECTED) {
        let ms: Vec<String> =
            outcome.stages.iter().map(|stage| format!("{} {} ms", stage.kind.as_str(), stage.usage.wall_us / 1000)).collect();
        return Ok(ms.join(", "));
    }
    Err(format!("{} stage: {}; stdout {out:?}, stderr {err:?}", last.kind.as_str(), last.verdict.as_str()))
}
