//! An execution: request to job, job to outcome, outcome to answer.

use std::{sync::Arc, time::Instant};

use axum::{
    http::{HeaderValue, StatusCode},
    response::Response,
};
use greenroom_backends::{Finished, Timings};
use greenroom_core::{Job, Stdin};
use greenroom_identity::Subject;
use greenroom_runtimes::{Program, ProgramFile, Runtime};
use greenroom_wire::piston::{ExecuteRequest, ExecuteResponse, ResolvedRuntime};
use serde_json::Value;
use tracing::Instrument;

use crate::{
    admission::Denied,
    gateway::{Gateway, Inner},
    metrics::Hops,
    reply::{self, Refused},
};

/// `POST /api/v2/execute`. Dropped (the client is gone), it gives up its place in the queue, or kills its job.
pub(crate) async fn execute(gateway: &Inner, subject: &Subject, body: Value, begun: Instant) -> Result<Response, Refused> {
    let (runtime, job) =
        tracing::debug_span!("adapt").in_scope(|| adapt(gateway, subject, ExecuteRequest::parse(body)?, Input::Request))?;
    let mut hops = Hops { adapt_us: since(begun), ..Hops::default() };
    let asked = Instant::now();
    let place = gateway.admission.admit(subject).instrument(tracing::debug_span!("admit")).await?;
    hops.admit_us = since(asked);
    let finished = tokio::select! {
        finished = gateway.local.run(job).instrument(tracing::debug_span!("run")) => finished,
        () = gateway.cut.cancelled() => return Err(Denied::Draining { retry_after_s: 1 }.into()),
    };
    drop(place);
    let finished = finished.inspect_err(|error| gateway.metrics.failure(error.blame()))?;
    settle(gateway, &runtime, &finished, &mut hops);
    let answer = ExecuteResponse::new(runtime.language(), runtime.version(), &finished.outcome);
    let mut response = reply::json(StatusCode::OK, &answer);
    if let Ok(value) = HeaderValue::from_str(&hops.server_timing()) {
        response.headers_mut().insert("server-timing", value);
    }
    Ok(response)
}

/// Where a run stage's input comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// The request's `stdin`; output is kept up to a limit.
    Request,
    /// A connected client; output is streamed.
    Client,
}

/// From a request that has passed its first checks to a job. The order of the checks is the contract's.
pub(crate) fn adapt(
    gateway: &Inner,
    subject: &Subject,
    request: ExecuteRequest,
    input: Input,
) -> Result<(Arc<Runtime>, Job), Refused> {
    let runtime = gateway
        .catalogue
        .resolve(request.language(), request.version())
        .ok_or_else(|| Refused::Invalid(request.unknown_runtime()))?;
    let (mut compile, mut run) = gateway.config.limits_of(&runtime);
    if input == Input::Client {
        (compile.output_bytes, run.output_bytes) = (None, None);
    }
    let is_file_language = runtime.language() == "file";
    let submission = request.finish(&ResolvedRuntime { is_file_language, compile, run })?;
    submission.fits(&gateway.config.disk)?;
    let files =
        submission.files.into_iter().map(|file| ProgramFile { path: file.path, content: file.content, code: file.code }).collect();
    let stdin = match input {
        Input::Request => Stdin::Bytes(submission.stdin),
        Input::Client => Stdin::Interactive,
    };
    let mut job = runtime.plan(Program {
        id: Gateway::new_id(),
        files,
        main: submission.main,
        args: submission.args,
        stdin,
        compile: submission.compile,
        run: submission.run,
        disk: gateway.config.disk,
    })?;
    // What one subject compiled is nobody else's: how long a compilation takes would tell what others compile.
    if let Some(reuse) = job.reuse.as_mut().filter(|_| *subject != Subject::Anonymous) {
        reuse.tenant = subject.to_string();
    }
    if input == Input::Client {
        // As on Piston, what a client sends while a stage runs, input or signal, is for that stage.
        job.stages.iter_mut().for_each(|stage| stage.stdin = Stdin::Interactive);
    }
    Ok((runtime, job))
}

/// Counts what happened.
pub(crate) fn settle(gateway: &Inner, runtime: &Runtime, finished: &Finished, hops: &mut Hops) {
    let Timings { lease_us, turn_us, sandbox_us, run_us, settle_us } = finished.timings;
    *hops = Hops { admit_us: hops.admit_us + turn_us, lease_us, sandbox_us, run_us, settle_us, ..*hops };
    gateway.metrics.hops(hops);
    let Hops { adapt_us, admit_us, .. } = *hops;
    tracing::debug!(adapt_us, admit_us, lease_us, sandbox_us, run_us, settle_us, "execution ended");
    gateway.metrics.start(runtime.language(), finished.start);
    for stage in &finished.outcome.stages {
        gateway.metrics.stage(runtime.language(), stage);
        tracing::info!(
            runtime = runtime.language(),
            stage = stage.kind.as_str(),
            verdict = stage.verdict.as_str(),
            wall_us = stage.usage.wall_us,
            cpu_us = stage.usage.cpu_us,
            "stage ended"
        );
    }
}

pub(crate) fn since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
}
