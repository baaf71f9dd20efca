//! Executions: request to cell or command, result to answer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode},
    response::Response,
};
use greenroom_backends::{CodeExecution, SessionError, ShellCommand, ShellCommandKind};
use greenroom_pool::{EndReason, Identifier, PoolKind};
use greenroom_wire::azure::{
    self, AzureError, ExecuteRequest, Execution, ExecutionStatus, ExecutionType, MAX_TIMEOUT_S, Output, PoolType, Program, Shape,
    ShellExecution, ShellStatus,
};
use tokio::sync::oneshot;
use tracing::Instrument;

use super::{
    Asked, json,
    operations::{Key, NotBegun},
    outcome,
    refused::Refused,
    tell_end,
    turn::{self, Over, Turn},
    unix_ms,
};
use crate::{body, execute::since};

const OPERATION_ID: HeaderName = HeaderName::from_static("operation-id");
const OPERATION_LOCATION: HeaderName = HeaderName::from_static("operation-location");

/// An asynchronous execution that gets no session says so in its first answer, if that is known by then.
const DENIED_SOON: Duration = Duration::from_millis(500);

/// `POST /executions`, `/code/execute`, `/python/execute`. Dropped (the client is gone), it interrupts what it runs, unless
/// that is asynchronous; the session goes on.
pub(super) async fn execute(asked: Asked, shape: Shape, body: Body) -> Result<Response, Refused> {
    let identifier = asked.identifier()?;
    let config = &asked.gateway.config;
    let read = body::read(body, &asked.parts.headers, config.body_bytes, config.body_timeout, &asked.gateway.bodies).await?;
    let pool_type = if asked.pool.kind == PoolKind::Shell { PoolType::Shell } else { PoolType::CodeInterpreter };
    let request = tracing::debug_span!("adapt").in_scope(|| ExecuteRequest::parse(&read.0, shape, pool_type, &asked.version))?;
    drop(read);
    let seconds = request.timeout_s.unwrap_or(MAX_TIMEOUT_S).min(MAX_TIMEOUT_S);
    let timeout_ms = Some((u64::from(seconds) * 1000).min(asked.pool.limits.execution_wall_ms));
    let output_chars = request.output_chars;
    let (command, stdin) = match request.program {
        Program::Cell(code) => {
            let cell = CodeExecution { code, timeout_ms, output_chars };
            return cell_in(shape, asked, identifier, cell, request.execution_type).await;
        }
        Program::Shell { command, stdin } => (ShellCommandKind::Line(command), stdin),
        Program::Command { argv, stdin } => (ShellCommandKind::Argv(argv), stdin),
    };
    let command = ShellCommand { command, stdin: stdin.unwrap_or_default(), timeout_ms, output_chars };
    let (status, output, over) = run_command(&asked, &identifier, command).await?;
    let mut response = json(StatusCode::OK, ShellExecution { identifier: identifier.as_str(), status, output: &output }.body());
    over.tell(&asked, &mut response);
    Ok(response)
}

/// `GET /executions/{id}`.
pub(super) async fn get(asked: &Asked, id: &str) -> Result<Response, Refused> {
    let identifier = asked.identifier()?;
    let known = asked.state().operations.get(&Key::new(&asked.pool.name, &identifier, id));
    let execution = match known {
        Some(known) => known,
        None => lost(asked, &identifier, id).await?,
    };
    Ok(answer(asked, &execution, StatusCode::OK))
}

/// An execution of a server before this one: whatever came of it went with its session.
async fn lost(asked: &Asked, identifier: &Identifier, id: &str) -> Result<Execution, Refused> {
    let begun = asked.gateway.pools.store().operation_begun(&asked.pool.name, identifier.digest(), id).await;
    let begun = begun.map_err(|error| Refused::Internal { step: "ask the store", error: error.to_string() })?;
    if begun.is_none_or(|begun| begun >= unix_ms(asked.state().started)) {
        return Err(AzureError::NoExecution(id.to_owned()).into());
    }
    let error = AzureError::SessionEnded(format!("session ended: {}", EndReason::Restart));
    let output = Output { stdout: String::new(), stderr: error.to_string(), value: azure::CellValue::Absent, wall_ms: 0 };
    Ok(Execution {
        id: id.to_owned(),
        identifier: identifier.as_str().to_owned(),
        execution_type: "Asynchronous".to_owned(),
        status: ExecutionStatus::Canceled,
        output: Some(output),
        error: Some(error),
    })
}

/// A cell, in the manner of its shape: the new one knows its executions by their ids.
async fn cell_in(
    shape: Shape,
    asked: Asked,
    identifier: Identifier,
    cell: CodeExecution,
    execution_type: ExecutionType,
) -> Result<Response, Refused> {
    let id = operation_id(&asked)?;
    let begun = Execution {
        id: id.clone(),
        identifier: identifier.as_str().to_owned(),
        execution_type: execution_type.as_str().to_owned(),
        status: ExecutionStatus::Running,
        output: None,
        error: None,
    };
    if shape != Shape::New {
        let (execution, over) = run_cell(&asked, Turn::take(&asked, &identifier).await?, cell, begun).await?;
        let mut response = json(StatusCode::OK, execution.body(shape, &asked.version));
        over.tell(&asked, &mut response);
        return Ok(response);
    }
    let status = StatusCode::from_u16(asked.version.execution_status()).unwrap_or(StatusCode::OK);
    let entry = match Entry::begin(Arc::new(asked), &identifier, begun.clone()) {
        Ok(entry) => entry,
        Err((asked, NotBegun::Known(execution))) => return Ok(answer(&asked, &execution, status)),
        Err((_, NotBegun::Full { running })) => {
            let message = format!("{running} executions go on already; try again in 1 s");
            return Err(AzureError::Busy { message, retry_after_s: 1 }.into());
        }
    };
    let asked = Arc::clone(&entry.asked);
    if let ExecutionType::Asynchronous(_) = execution_type {
        return run_beside(entry, identifier, cell, begun, status).await;
    }
    let (execution, over) = run_cell(&asked, Turn::take(&asked, &identifier).await?, cell, begun).await?;
    let mut response = answer(&asked, &execution, status);
    entry.end(execution);
    over.tell(&asked, &mut response);
    Ok(response)
}

/// Starts what goes on after its answer.
async fn run_beside(
    entry: Entry,
    identifier: Identifier,
    cell: CodeExecution,
    begun: Execution,
    status: StatusCode,
) -> Result<Response, Refused> {
    let asked = Arc::clone(&entry.asked);
    // Should the server end before it does, whoever asks for it is told so by the next.
    asked.gateway.pools.store().begin_operation(&asked.pool.name, identifier.digest(), &begun.id);
    let mut response = answer(&asked, &begun, status);
    let (told, granted) = oneshot::channel();
    let work = async move {
        let asked = Arc::clone(&entry.asked);
        let turn = match Turn::take(&asked, &identifier).await {
            Ok(turn) => turn,
            Err(refused) => {
                // For the client's first answer; where that has gone, for its next question.
                if let Err(Err(refused)) = told.send(Err(refused)) {
                    let error = Some(refused.told(&asked.request_id));
                    entry.end(Execution { status: ExecutionStatus::Failed, error, ..begun });
                }
                return;
            }
        };
        // Nobody listens where the session came late.
        drop(told.send(Ok(turn.lease.ended_before())));
        let execution = match run_cell(&asked, turn, cell, begun.clone()).await {
            Ok((execution, _)) => execution,
            Err(refused) => Execution { status: ExecutionStatus::Canceled, error: Some(refused.told(&asked.request_id)), ..begun },
        };
        entry.end(execution);
    };
    asked.gateway.tasks.spawn(work.in_current_span());
    match tokio::time::timeout(DENIED_SOON, granted).await {
        Ok(Ok(Err(refused))) => return Err(refused),
        Ok(Ok(Ok(ended_before))) => tell_end(&mut response, ended_before),
        // It waits for its turn, or for a session to be made.
        Ok(Err(_)) | Err(_) => {}
    }
    Ok(response)
}

/// Runs a cell in its session. One whose session is stopped under it is canceled, which is a result.
pub(super) async fn run_cell(
    asked: &Asked,
    turn: Turn,
    cell: CodeExecution,
    begun: Execution,
) -> Result<(Execution, Over), Refused> {
    let (chars, told) = (cell.output_chars, turn.told());
    let sent = Instant::now();
    let result = tokio::select! {
        result = turn.lease.execute(cell).instrument(tracing::debug_span!("run")) => result,
        () = asked.gateway.cut.cancelled() => return Err(Refused::draining()),
    };
    let request_us = since(sent);
    match result {
        Ok(result) => {
            let (label, execution_us) = (turn::label(result.status), result.duration_us);
            let (status, output) = outcome::of_cell(result, chars, told.as_deref());
            let over = turn.over(asked, label, request_us, execution_us);
            Ok((Execution { status, output: Some(output), ..begun }, over))
        }
        Err(error @ SessionError::WrongKind(_)) => Err(Refused::of_session(&error, None)),
        Err(error) => {
            let error = Refused::of_session(&error, turn.lease.end_reason()).told(&asked.request_id);
            let (stderr, wall_ms) = (error.to_string(), request_us / 1000);
            let output = Output { stdout: String::new(), stderr, value: azure::CellValue::Absent, wall_ms };
            let over = turn.over(asked, "canceled", request_us, request_us);
            Ok((Execution { status: ExecutionStatus::Canceled, output: Some(output), error: Some(error), ..begun }, over))
        }
    }
}

/// Runs a command in its session.
pub(super) async fn run_command(
    asked: &Asked,
    identifier: &Identifier,
    command: ShellCommand,
) -> Result<(ShellStatus, Output, Over), Refused> {
    let (chars, timeout_ms) = (command.output_chars, command.timeout_ms.unwrap_or_default());
    let turn = Turn::take(asked, identifier).await?;
    let told = turn.told();
    let sent = Instant::now();
    let result = tokio::select! {
        result = turn.lease.run(command).instrument(tracing::debug_span!("run")) => result,
        () = asked.gateway.cut.cancelled() => return Err(Refused::draining()),
    };
    let request_us = since(sent);
    let result = result.map_err(|error| Refused::of_session(&error, turn.lease.end_reason()))?;
    let over = turn.over(asked, turn::label(result.status), request_us, result.duration_us);
    let (status, output) = outcome::of_command(result, chars, timeout_ms, told.as_deref());
    Ok((status, output, over))
}

/// The id of a new execution: the client's, or one that nobody can guess.
fn operation_id(asked: &Asked) -> Result<String, Refused> {
    let Some(given) = asked.parts.headers.get(&OPERATION_ID) else { return super::new_guid() };
    match given.to_str().ok().filter(|given| azure::is_operation_id(given)) {
        Some(given) => Ok(given.to_owned()),
        None => {
            let message = "the header 'operation-id' must have 1 to 128 letters, digits, '-' and '_'";
            Err(AzureError::Validation(message.to_owned()).into())
        }
    }
}

/// An execution as a resource.
fn answer(asked: &Asked, execution: &Execution, status: StatusCode) -> Response {
    let mut response = json(status, execution.body(Shape::New, &asked.version));
    let location = azure::operation_location(&asked.base(), &execution.id, &asked.version, &execution.identifier);
    for (name, value) in [(OPERATION_ID, &execution.id), (OPERATION_LOCATION, &location)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// An execution among those that can be asked for; dropped before its end, it never was.
struct Entry {
    asked: Arc<Asked>,
    key: Key,
    is_over: bool,
}

impl Entry {
    fn begin(asked: Arc<Asked>, identifier: &Identifier, execution: Execution) -> Result<Self, (Arc<Asked>, NotBegun)> {
        let key = Key::new(&asked.pool.name, identifier, &execution.id);
        match asked.state().operations.begin(&key, execution) {
            Ok(()) => Ok(Self { asked, key, is_over: false }),
            Err(why) => Err((asked, why)),
        }
    }

    fn end(mut self, execution: Execution) {
        self.is_over = true;
        self.asked.state().operations.end(&self.key, execution);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.is_over {
            self.asked.state().operations.withdraw(&self.key);
        }
    }
}
