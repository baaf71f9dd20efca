//! An execution among those that can be asked for by their ids.
//!
//! In memory are all of them (`operations.rs`). In the store are, beside, those that a client may ask for after a restart, because
//! it has been told their ids or has chosen them: before they run, so that no id runs twice. A cell whose answer has
//! its result, under an id of ours, costs no write.

use std::sync::Arc;

use greenroom_pool::{EndReason, Identifier, OperationClaim, OperationKey, OperationRecord, OperationState, RequestDigest};
use greenroom_wire::azure::{AzureError, CellValue, ErrorDetail, ExecuteRequest, Execution, ExecutionStatus, Output, Program};
use sha2::{Digest, Sha256};

use super::{
    Asked,
    operations::{Manner, NotBegun, Token},
    refused::Refused,
};

/// How long an execution is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// As long as this process, or less.
    Briefly,
    /// Beyond it. With the digest of what it runs, where its id is the client's.
    Durably(Option<RequestDigest>),
}

/// How an entry was begun.
pub(super) enum Begun {
    /// It is the first of its id.
    First(Box<Entry>),
    /// It is not: this is how far that one is.
    Known(Arc<Asked>, Box<Execution>),
}

/// An execution's entry, from its begin to its end. Dropped before, it never was, or it was interrupted.
pub(super) struct Entry {
    pub(super) asked: Arc<Asked>,
    key: OperationKey,
    /// As it was begun.
    execution: Execution,
    /// In the store.
    claim: Option<OperationClaim>,
    /// In memory.
    token: Option<Token>,
    is_running: bool,
    /// What came of it, when it is over.
    outcome: Option<Execution>,
}

impl Entry {
    /// The entry of a new execution, as it is told while it goes on.
    pub(super) async fn begin(
        asked: Asked,
        identifier: &Identifier,
        execution: Execution,
        keep: Keep,
        manner: Manner,
    ) -> Result<Begun, Refused> {
        let asked = Arc::new(asked);
        let key = key(&asked, identifier, &execution.id);
        let operations = &asked.state().operations;
        let Keep::Durably(request) = keep else {
            return match operations.begin(&key, execution.clone(), None, manner) {
                Ok(token) => {
                    let entry = Self { asked, key, execution, claim: None, token: Some(token), is_running: false, outcome: None };
                    Ok(Begun::First(Box::new(entry)))
                }
                Err(why) => not_begun(asked, &execution.id, why),
            };
        };
        if let Some(why) = operations.known(&key, request.as_ref()) {
            return not_begun(asked, &execution.id, why);
        }
        let claim = asked.gateway.pools.store().claim_operation();
        // Made before the store is asked: whenever its client goes away, its row goes too.
        let mut entry = Self { asked, key, execution, claim: Some(claim), token: None, is_running: false, outcome: None };
        let store = entry.asked.gateway.pools.store();
        let found = store.begin_operation(claim, entry.key.clone(), request).await.map_err(unkept)?;
        let entered = match found {
            Some(record) => match (record.request, request) {
                (Some(first), Some(again)) if first != again => Err(NotBegun::Other),
                _ => Err(NotBegun::Known(Box::new(execution_of(&entry.execution.id, identifier, record)))),
            },
            None => entry.asked.state().operations.begin(&entry.key, entry.execution.clone(), request, manner),
        };
        match entered {
            Ok(token) => {
                entry.token = Some(token);
                Ok(Begun::First(Box::new(entry)))
            }
            Err(why) => not_begun(Arc::clone(&entry.asked), &entry.execution.id, why),
        }
    }

    /// As it was begun.
    pub(super) fn execution(&self) -> Execution {
        self.execution.clone()
    }

    /// It has its session: from now on it has run, if not to its end.
    pub(super) fn runs(&mut self) {
        self.is_running = true;
    }

    /// It is over, and this came of it. Returns when that is kept.
    pub(super) async fn end(mut self, execution: Execution) {
        let told = self.outcome.insert(execution);
        if let Some(claim) = self.claim {
            let store = self.asked.gateway.pools.store();
            let kept = store.end_operation(claim, told.status.as_str(), told.to_kept()).await;
            if let Err(error) = kept {
                tracing::error!(%error, id = told.id, "what came of an execution cannot be kept beyond this process");
            }
        }
        // In memory it is when this is dropped, and not before: what a client has been told is true after a restart, too. If the client
        // goes away meanwhile, so does this, and what came of it is on its way to the store.
    }

    /// It came to no end of its own.
    pub(super) async fn end_canceled(self, refused: &Refused) {
        let error = match refused.told(&self.asked.request_id) {
            // Whoever asks for it asks the next server: there is nothing to try again, for its id has been used.
            AzureError::Unavailable { .. } if self.asked.gateway.cut.is_cancelled() => session_ended(EndReason::Shutdown),
            error => error,
        };
        let execution = without_result(self.execution(), ExecutionStatus::Canceled, &error);
        self.end(execution).await;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let (operations, store) = (&self.asked.state().operations, self.asked.gateway.pools.store());
        let outcome = self.outcome.take().or_else(|| {
            // The client may come again with its id, and it has run.
            let claim = self.claim.filter(|_| self.is_running)?;
            let execution = without_result(self.execution.clone(), ExecutionStatus::Canceled, &AzureError::Interrupted);
            store.end_operation_soon(claim, execution.status.as_str(), execution.to_kept());
            Some(execution)
        });
        match (outcome, self.token) {
            (Some(outcome), Some(token)) => operations.end(&self.key, token, outcome),
            // Nothing runs that is not there.
            (Some(_), None) => {}
            (None, token) => {
                if let Some(token) = token {
                    operations.withdraw(&self.key, token);
                }
                // Nothing happens where the row is another's.
                if let Some(claim) = self.claim {
                    store.withdraw_operation(claim);
                }
            }
        }
    }
}

fn not_begun(asked: Arc<Asked>, id: &str, why: NotBegun) -> Result<Begun, Refused> {
    match why {
        NotBegun::Known(execution) => Ok(Begun::Known(asked, execution)),
        NotBegun::Other => {
            let message = format!("the operation-id '{id}' was used for another request: choose a new one for each");
            Err(AzureError::Validation(message).into())
        }
        NotBegun::Full { running } => {
            let message = format!("{running} executions go on already; try again in 1 s");
            Err(AzureError::Busy { message, retry_after_s: 1 }.into())
        }
    }
}

/// The execution of this id, of this server or one before it.
pub(super) async fn find(asked: &Asked, identifier: &Identifier, id: &str) -> Result<Execution, Refused> {
    let key = key(asked, identifier, id);
    if let Some(known) = asked.state().operations.get(&key) {
        return Ok(known);
    }
    let record = asked.gateway.pools.store().operation(key).await;
    let record = record.map_err(|error| Refused::Internal { step: "ask the store", error: error.to_string() })?;
    let record = record.ok_or_else(|| AzureError::NoExecution(id.to_owned()))?;
    Ok(execution_of(id, identifier, record))
}

/// What the store knows of an execution, as it is told.
fn execution_of(id: &str, identifier: &Identifier, record: OperationRecord) -> Execution {
    let begun = Execution {
        id: id.to_owned(),
        identifier: identifier.as_str().to_owned(),
        execution_type: "Asynchronous".to_owned(),
        status: ExecutionStatus::Running,
        output: None,
        exit: None,
        error: None,
    };
    match record.state {
        OperationState::Begun => begun,
        OperationState::Lost => without_result(begun, ExecutionStatus::Canceled, &session_ended(EndReason::Restart)),
        OperationState::Ended { status, outcome } => {
            let status = ExecutionStatus::of_word(&status).unwrap_or(ExecutionStatus::Failed);
            let kept = outcome.and_then(|outcome| Execution::of_kept(id, identifier.as_str(), status, &outcome));
            kept.unwrap_or_else(|| without_result(begun, status, &AzureError::ResultForgotten))
        }
    }
}

fn session_ended(reason: EndReason) -> AzureError {
    AzureError::SessionEnded(format!("session ended: {reason}"))
}

/// An execution that is over, of which no more is known than why. Clients that read nothing else see it in `stderr`.
fn without_result(begun: Execution, status: ExecutionStatus, why: &AzureError) -> Execution {
    let output = Output { stdout: String::new(), stderr: why.to_string(), value: CellValue::Absent, wall_ms: 0 };
    Execution { status, output: Some(output), error: Some(ErrorDetail::from(why)), ..begun }
}

/// What a request asks to run. Every field counts, in the order and length in which it stands here: digests outlive the version.
pub(super) fn digest(request: &ExecuteRequest) -> RequestDigest {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(request.execution_type.as_str().to_ascii_lowercase().as_bytes());
    part(request.timeout_s.map(|seconds| seconds.to_string()).unwrap_or_default().as_bytes());
    part(request.output_chars.map(|chars| chars.to_string()).unwrap_or_default().as_bytes());
    match &request.program {
        Program::Cell(code) => {
            part(b"cell");
            part(code.as_bytes());
        }
        Program::Shell { command, stdin } => {
            part(b"shell");
            part(stdin.as_deref().unwrap_or_default().as_bytes());
            part(command.as_bytes());
        }
        Program::Command { argv, stdin } => {
            part(b"command");
            part(stdin.as_deref().unwrap_or_default().as_bytes());
            argv.iter().for_each(|argument| part(argument.as_bytes()));
        }
    }
    hash.finalize().into()
}

fn key(asked: &Asked, identifier: &Identifier, id: &str) -> OperationKey {
    OperationKey { pool: asked.pool.name.clone(), identifier: identifier.digest(), id: id.to_owned() }
}

/// Nothing has run: a disk that is full now may not be so later.
fn unkept(error: greenroom_pool::StoreError) -> Refused {
    tracing::error!(%error, "an execution cannot be kept, and is not begun");
    let message = "executions with an id cannot be kept at present; try again in 5 s".to_owned();
    AzureError::Unavailable { message, retry_after_s: 5 }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_wire::azure::ExecutionType;

    #[test]
    fn a_request_is_known_by_all_that_it_asks_for() {
        let cell = |code: &str| ExecuteRequest {
            program: Program::Cell(code.to_owned()),
            execution_type: ExecutionType::Asynchronous("Asynchronous".to_owned()),
            timeout_s: Some(6),
            output_chars: Some(4096),
        };
        let command = |argv: &[&str]| ExecuteRequest {
            program: Program::Command { argv: argv.iter().map(|&text| text.to_owned()).collect(), stdin: None },
            ..cell("")
        };
        let spelled = ExecuteRequest { execution_type: ExecutionType::Asynchronous("asynchronous".to_owned()), ..cell("1") };
        assert_eq!(digest(&cell("1")), digest(&spelled));
        let all = [
            cell("1"),
            cell("2"),
            ExecuteRequest { execution_type: ExecutionType::Synchronous("Synchronous".to_owned()), ..cell("1") },
            ExecuteRequest { timeout_s: Some(64), ..cell("1") },
            ExecuteRequest { timeout_s: None, output_chars: Some(64096), ..cell("1") },
            ExecuteRequest { program: Program::Shell { command: "1".to_owned(), stdin: None }, ..cell("1") },
            ExecuteRequest { program: Program::Shell { command: "1".to_owned(), stdin: Some("1".to_owned()) }, ..cell("1") },
            command(&["a", "b"]),
            command(&["ab"]),
        ];
        let digests: std::collections::HashSet<_> = all.iter().map(digest).collect();
        assert_eq!(digests.len(), all.len());
    }
}
