//! `greenroom runtimes`: list, install, remove, test.

use std::{process::ExitCode, sync::Arc};

use anyhow::bail;
use greenroom_backends::Local;
use greenroom_core::{ExecutionId, StageKind, Stdin, Verdict};
use greenroom_runtimes::{Catalogue, Elevation, Program, ProgramFile, Runtime};

use crate::{commands::RuntimesCommand, config::Loaded, output::say, settings::Settings, start};

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
                say(format_args!("{name}: installing"))?;
                // Whoever reads the progress may leave; half an installation helps nobody.
                let runtime = catalogue.install(name, &mut |line| _ = say(format_args!("  {line}")))?;
                say(format_args!("{name}: {} is installed (a running server sees it after a restart)", runtime.version()))?;
            }
            if let Some(directory) = settings.precompiled() {
                start::data_dir(settings)?;
                catalogue.precompile(&directory, &|| false, &mut |header| _ = say(format_args!("  {header}: compiled ahead")))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        RuntimesCommand::Remove { names } => {
            for name in names {
                catalogue.remove(name, &mut |line| _ = say(format_args!("  {line}")))?;
                say(format_args!("{name}: removed (a running server offers it until it is restarted)"))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        RuntimesCommand::Test { names, base, .. } => start::block_on(test(settings, &catalogue, names, *base)),
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
        say(serde_json::to_string(&entries)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for package in packages {
        let state = if package.installed { package.version.as_str() } else { "not installed" };
        say(format_args!("{:<12} {state}", package.language))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn test(settings: &Settings, catalogue: &Catalogue, names: &[String], base: bool) -> anyhow::Result<ExitCode> {
    let installed = catalogue.installed();
    let mut chosen: Vec<Arc<Runtime>> = Vec::new();
    for name in names {
        let packaged = installed.iter().find(|runtime| runtime.language() == name).cloned();
        match packaged.or_else(|| catalogue.resolve(name, "*")) {
            Some(runtime) => chosen.push(runtime),
            None => bail!("{name} is not installed: `greenroom runtimes install {name}`"),
        }
    }
    if names.is_empty() {
        chosen.extend(installed.iter().filter(|runtime| !base || runtime.base()).cloned());
    }
    let (mut passed, mut failed) = (0, 0);
    if base {
        for package in catalogue.packages().into_iter().filter(|package| package.base && !package.installed) {
            say(format_args!("FAIL {:<12} not installed: `greenroom runtimes install {}`", package.language, package.language))?;
            failed += 1;
        }
    }
    let local = start::local(&settings.for_once(), catalogue).await?;
    let mut said = Ok(());
    for runtime in &chosen {
        let (state, how) = match self_test(settings, &local, runtime).await {
            Ok(time) => {
                passed += 1;
                ("ok  ", time)
            }
            Err(reason) => {
                failed += 1;
                ("FAIL", reason)
            }
        };
        said = say(format_args!("{state} {:<12} {:<10} {how}", runtime.language(), runtime.version()));
        if said.is_err() {
            break;
        }
    }
    local.shutdown().await;
    said?;
    say(format_args!("{passed} passed, {failed} failed"))?;
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
