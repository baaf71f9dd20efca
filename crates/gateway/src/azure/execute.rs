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
use greenroom_pool::{Identifier, PoolKind, RequestDigest};
use greenroom_wire::azure::{
    self, AzureError, ErrorDetail, ExecuteRequest, Execution, ExecutionStatus, ExecutionType, MAX_TIMEOUT_S, Output, Program,
    Shape, ShellStatus,
};
use tokio::sync::oneshot;
use tracing::Instrument;

use super::{
    Asked,
    entry::{self, Begun, Entry, Keep},
    json,
    operations::Manner,
    outcome,
    refused::Refused,
    tell_end,
    turn::{self, Over, Turn},
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
    let request =
        tracing::debug_span!("adapt").in_scope(|| ExecuteRequest::parse(&read.0, shape, asked.pool_type(), &asked.version))?;
    drop(read);
    let seconds = request.timeout_s.unwrap_or(MAX_TIMEOUT_S).min(MAX_TIMEOUT_S);
    let timeout_ms = Some((u64::from(seconds) * 1000).min(asked.pool.limits.execution_wall_ms));
    let output_chars = request.output_chars;
    let id = operation_id(&asked)?;
    let digest = id.is_some().then(|| entry::digest(&request));
    let command = |command, stdin: Option<String>| {
        Work::Command(ShellCommand { command, stdin: stdin.unwrap_or_default(), timeout_ms, output_chars })
    };
    let work = match request.program {
        Program::Cell(code) => Work::Cell(CodeExecution { code, timeout_ms, output_chars }),
        Program::Shell { command: line, stdin } => command(ShellCommandKind::Line(line), stdin),
        Program::Command { argv, stdin } => command(ShellCommandKind::Argv(argv), stdin),
    };
    let call = Call { id, request: digest, execution_type: request.execution_type };
    run_in(shape, asked, identifier, work, call).await
}

/// `GET /executions/{id}`.
pub(super) async fn get(asked: &Asked, id: &str) -> Result<Response, Refused> {
    let identifier = asked.identifier()?;
    let execution = entry::find(asked, &identifier, id).await?;
    Ok(answer(asked, &execution, StatusCode::OK))
}

/// What is to be run.
enum Work {
    Cell(CodeExecution),
    Command(ShellCommand),
}

impl Work {
    async fn run(self, asked: &Asked, turn: Turn, begun: Execution) -> Result<(Execution, Over), Refused> {
        match self {
            Work::Cell(cell) => run_cell(asked, turn, cell, begun).await,
            Work::Command(command) => {
                let (exit, output, over) = run_command(asked, turn, command).await?;
                let status = if exit == ShellStatus::Exited(0) { ExecutionStatus::Succeeded } else { ExecutionStatus::Failed };
                Ok((Execution { status, output: Some(output), exit: Some(exit), ..begun }, over))
            }
        }
    }
}

/// What a call says of its execution as such.
struct Call {
    /// The client's.
    id: Option<String>,
    /// Of what it runs, where the id is the client's.
    request: Option<RequestDigest>,
    execution_type: ExecutionType,
}

/// A cell or a command, in the manner of its shape: the new one knows its executions by their ids.
async fn run_in(shape: Shape, asked: Asked, identifier: Identifier, work: Work, call: Call) -> Result<Response, Refused> {
    let Call { id, execution_type, request } = call;
    let is_ours = id.is_none();
    let id = id.map_or_else(super::new_guid, Ok)?;
    let begun = Execution {
        id,
        identifier: identifier.as_str().to_owned(),
        execution_type: execution_type.as_str().to_owned(),
        status: ExecutionStatus::Running,
        output: None,
        exit: None,
        error: None,
    };
    if shape != Shape::New {
        let turn = Turn::take(&asked, &identifier).await?;
        let (execution, over) = work.run(&asked, turn, begun).await?;
        let mut response = json(StatusCode::OK, body_of(&asked, &execution, shape));
        over.tell(&asked, &mut response);
        return Ok(response);
    }
    let status = StatusCode::from_u16(asked.version.execution_status()).unwrap_or(StatusCode::OK);
    let is_beside = matches!(execution_type, ExecutionType::Asynchronous(_));
    let keep = if is_ours && !is_beside { Keep::Briefly } else { Keep::Durably(request) };
    let manner = if is_beside { Manner::Beside } else { Manner::Awaited };
    let mut entry = match Entry::begin(asked, &identifier, begun, keep, manner).await? {
        Begun::First(entry) => entry,
        Begun::Known(asked, execution) => {
            // Its clients read a number where others read how far it is.
            if asked.pool.kind == PoolKind::Shell && execution.status == ExecutionStatus::Running {
                let message = "the execution of this operation-id goes on: ask again in 1 s".to_owned();
                return Err(AzureError::Busy { message, retry_after_s: 1 }.into());
            }
            return Ok(answer(&asked, &execution, status));
        }
    };
    if is_beside {
        return run_beside(entry, identifier, work, status).await;
    }
    let asked = Arc::clone(&entry.asked);
    let turn = Turn::take(&asked, &identifier).await?;
    entry.runs();
    match work.run(&asked, turn, entry.execution()).await {
        Ok((execution, over)) => {
            let mut response = answer(&asked, &execution, status);
            entry.end(execution).await;
            over.tell(&asked, &mut response);
            Ok(response)
        }
        Err(refused) => {
            entry.end_canceled(&refused).await;
            Err(refused)
        }
    }
}

/// Starts what goes on after its answer. What it is to be told of is kept by now.
async fn run_beside(mut entry: Box<Entry>, identifier: Identifier, work: Work, status: StatusCode) -> Result<Response, Refused> {
    let asked = Arc::clone(&entry.asked);
    let begun = entry.execution();
    let mut response = answer(&asked, &begun, status);
    let (told, granted) = oneshot::channel();
    let going_on = async move {
        let asked = Arc::clone(&entry.asked);
        let turn = match Turn::take(&asked, &identifier).await {
            Ok(turn) => turn,
            Err(refused) => {
                // For the client's first answer; where that has gone, for its next question.
                match told.send(Err(refused)) {
                    Err(Err(refused)) if asked.gateway.cut.is_cancelled() => entry.end_canceled(&refused).await,
                    Err(Err(refused)) => {
                        let error = Some(ErrorDetail::from(&refused.told(&asked.request_id)));
                        entry.end(Execution { status: ExecutionStatus::Failed, error, ..begun }).await;
                    }
                    _ => {}
                }
                return;
            }
        };
        entry.runs();
        // Nobody listens where the session came late.
        drop(told.send(Ok(turn.lease.ended_before())));
        match work.run(&asked, turn, begun).await {
            Ok((execution, _)) => entry.end(execution).await,
            Err(refused) => entry.end_canceled(&refused).await,
        }
    };
    asked.gateway.tasks.spawn(going_on.in_current_span());
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
            let error = Some(ErrorDetail::from(&error));
            Ok((Execution { status: ExecutionStatus::Canceled, output: Some(output), error, ..begun }, over))
        }
    }
}

/// Runs a command in its session.
pub(super) async fn run_command(asked: &Asked, turn: Turn, command: ShellCommand) -> Result<(ShellStatus, Output, Over), Refused> {
    let (chars, timeout_ms) = (command.output_chars, command.timeout_ms.unwrap_or_default());
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

/// The id that the client gave its execution.
fn operation_id(asked: &Asked) -> Result<Option<String>, Refused> {
    let Some(given) = asked.parts.headers.get(&OPERATION_ID) else { return Ok(None) };
    match given.to_str().ok().filter(|given| azure::is_operation_id(given)) {
        Some(given) => Ok(Some(given.to_owned())),
        None => {
            let message = "the header 'operation-id' must have 1 to 128 letters, digits, '-' and '_'";
            Err(AzureError::Validation(message.to_owned()).into())
        }
    }
}

/// An execution as its pool tells it. One that goes on in a Shell pool has no form of its own there.
fn body_of(asked: &Asked, execution: &Execution, shape: Shape) -> Vec<u8> {
    if asked.pool.kind == PoolKind::Shell && execution.status != ExecutionStatus::Running {
        return execution.shell_body();
    }
    execution.body(shape, &asked.version)
}

/// An execution as a resource.
fn answer(asked: &Asked, execution: &Execution, status: StatusCode) -> Response {
    let mut response = json(status, body_of(asked, execution, Shape::New));
    let location = azure::operation_location(&asked.base(), &execution.id, &asked.version, &execution.identifier);
    for (name, value) in [(OPERATION_ID, &execution.id), (OPERATION_LOCATION, &location)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
