//! What compile stages made, used again.

use greenroom_backends::{Event, Finished, Local};
use greenroom_core::{Job, JobFile, RelativePath, Reuse, StageKind, StageSpec, Verdict};
use libtest_mimic::Failed;

use super::{job, sh, text};

/// A job whose compile stage makes something else each time it runs.
fn compiled(source: &str, tenant: &str, run: &str) -> Job {
    let compile = "cat main >&2; od -An -N8 -tx8 /dev/urandom > drawn; printf '#!/bin/sh\ncat drawn\n' > a.out; chmod 755 a.out";
    let stages = vec![StageSpec { kind: StageKind::Compile, ..sh(compile) }, sh(run)];
    let file = |path| JobFile { path: RelativePath::new(path).expect("a name"), content: source.into(), executable: false };
    let reuse = Reuse { tenant: tenant.to_owned(), toolchain: "sh 1".to_owned(), made_with: vec!["/bin/sh".into()] };
    // The compile stage puts its own file in the place of this `a.out`, with another mode.
    Job { files: vec![file("main"), file("a.out")], reuse: Some(reuse), ..job(stages) }
}

fn drawn(finished: &Finished) -> String {
    let stages = &finished.outcome.stages;
    assert_eq!((stages.len(), stages[1].verdict), (2, Verdict::Ok), "{}", text(&stages[1].output.stderr));
    text(&stages[1].output.stdout)
}

pub(super) async fn what_a_compile_stage_made_is_used_again_only_for_the_same_job_of_the_same_tenant(
    local: Local,
) -> Result<(), Failed> {
    let run = |source: &'static str, tenant: &'static str| local.run(compiled(source, tenant, "./a.out"));
    // Unless it is told to, it keeps nothing.
    assert_ne!(drawn(&run("x", "a").await?), drawn(&run("x", "a").await?));
    local.keep(1 << 20);
    let (first, again) = (run("x", "a").await?, run("x", "a").await?);
    assert_eq!(drawn(&first), drawn(&again));
    let (compile, reused) = (&first.outcome.stages[0], &again.outcome.stages[0]);
    assert_eq!((reused.kind, reused.verdict, reused.exit), (compile.kind, compile.verdict, compile.exit));
    assert_eq!((text(&reused.output.stderr), reused.output == compile.output), ("x".to_owned(), true));
    // It used nothing, and says so.
    assert!(compile.usage.wall_us > 0 && compile.usage.cpu_us > 0);
    assert_eq!((reused.usage.wall_us, reused.usage.cpu_us), (0, 0));
    assert_ne!(drawn(&first), drawn(&run("y", "a").await?));
    assert_ne!(drawn(&first), drawn(&run("x", "b").await?));
    let mut longer = compiled("x", "a", "./a.out");
    longer.stages[0].limits.wall_ms += 1;
    assert_ne!(drawn(&first), drawn(&local.run(longer).await?));
    let kept = local.status().kept;
    assert_eq!((kept.hits, kept.misses, kept.entries), (1, 4, 4));
    Ok(())
}

pub(super) async fn a_streamed_job_uses_what_was_kept_and_tells_of_both_stages(local: Local) -> Result<(), Failed> {
    local.keep(1 << 20);
    let first = drawn(&local.run(compiled("x", "a", "./a.out")).await?);
    let mut execution = local.stream(compiled("x", "a", "./a.out"));
    let (mut told, mut said) = (Vec::new(), Vec::new());
    while let Some(event) = execution.events.recv().await {
        match event {
            Event::StageStarted(kind) => told.push(format!("{} starts", kind.as_str())),
            Event::StageEnded(outcome) => told.push(format!("{} {}", outcome.kind.as_str(), outcome.verdict.as_str())),
            Event::Output { stream, bytes } if !bytes.is_empty() => said.push((stream.as_str(), text(&bytes))),
            Event::Output { .. } => {}
        }
    }
    assert_eq!(told, ["compile starts", "compile ok", "run starts", "run ok"]);
    assert_eq!(said, [("stderr", "x".to_owned()), ("stdout", first)]);
    assert_eq!(execution.finished.await??.outcome.stages.len(), 2);
    assert_eq!(local.status().kept.hits, 1);
    Ok(())
}

/// What is kept was read before the program that was made ran.
pub(super) async fn what_a_program_does_to_its_own_file_is_not_kept(local: Local) -> Result<(), Failed> {
    local.keep(1 << 20);
    let run = "./a.out; echo 'echo changed' > a.out; echo changed > drawn; ln -s /etc/passwd link";
    let first = drawn(&local.run(compiled("x", "a", run)).await?);
    assert_eq!(drawn(&local.run(compiled("x", "a", run)).await?), first);
    assert_eq!(local.status().kept.hits, 1);
    Ok(())
}
