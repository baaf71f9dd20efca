//! A pool's MCP server (streamable HTTP, without sessions of its own): tools that run commands and Python in the pool's
//! sessions. An environment is a session, and its id the session's identifier.

mod messages;

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use greenroom_backends::{CodeExecution, ShellCommand, ShellCommandKind};
use greenroom_pool::{Identifier, PoolKind};
use greenroom_wire::azure::{AzureError, Execution, ExecutionStatus, MAX_TIMEOUT_S, Output, ShellStatus};
use http_body_util::BodyExt;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, Implementation, ListToolsResult, PaginatedRequestParams,
        ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
    transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager},
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use self::messages::Messages;
use super::{Asked, execute, refused::Refused, turn::Turn};
use crate::{body, reply};

/// The key's header.
const API_KEY: HeaderName = HeaderName::from_static("x-ms-apikey");
/// The service's name, by which clients may know it.
const SERVER_NAME: &str = "Microsoft Container Apps MCP Server";
const LAUNCH: &str = "launchShell";
/// As the tool was called before.
const LAUNCH_PYTHON: &str = "launchPythonEnvironment";
const RUN_SHELL: &str = "runShellCommandInRemoteEnvironment";
const RUN_PYTHON: &str = "runPythonCodeInRemoteEnvironment";

/// `/mcp`. `key` is the pool's, if it has an MCP server: who has it may run code in the pool, and nothing else.
pub(super) async fn serve(asked: Asked, body: Body, key: Option<String>) -> Result<Response, Refused> {
    let Some(key) = key else {
        return Err(AzureError::McpNotEnabled(asked.pool.name.clone()).into());
    };
    let given = asked.parts.headers.get(&API_KEY).map(|given| given.as_bytes());
    if !given.is_some_and(|given| is_same(given, key.as_bytes())) {
        body::discard_beside(body, &asked.parts.headers, asked.gateway.config.body_bytes, asked.gateway.config.body_timeout);
        let message = match given {
            Some(_) => "the key in 'x-ms-apikey' is not this pool's",
            None => "the header 'x-ms-apikey' is required; other credentials are not taken here",
        };
        return Err(AzureError::Unauthenticated(message.to_owned()).into());
    }
    let asked = Arc::new(asked);
    let config = &asked.gateway.config;
    let (bytes, _held) =
        body::read(body, &asked.parts.headers, config.body_bytes, config.body_timeout, &asked.gateway.bodies).await?;
    let messages = match messages::read(&asked.parts.method, bytes) {
        Ok(messages) => messages,
        Err(wrong) => return Ok(super::json(StatusCode::BAD_REQUEST, wrong.body())),
    };
    match messages {
        Messages::One(message) => Ok(ask(&asked, message).await),
        Messages::Batch(batch) => {
            let mut answers = Vec::new();
            // In their order: a client that launches something and uses it says so in this order.
            for message in batch {
                let answer = ask(&asked, message).await;
                let body = answer.into_body().collect().await.map(http_body_util::Collected::to_bytes);
                let body = body.map_err(|error| Refused::Internal { step: "answer a batch", error: error.to_string() })?;
                answers.push(body);
            }
            Ok(match messages::join(&answers) {
                Some(body) => super::json(StatusCode::OK, body),
                None => reply::empty(StatusCode::ACCEPTED),
            })
        }
    }
}

/// Has the SDK answer one message.
async fn ask(asked: &Arc<Asked>, message: Bytes) -> Response {
    let length = message.len();
    let mut request = Request::new(Body::from(message));
    *request.method_mut() = asked.parts.method.clone();
    *request.uri_mut() = asked.parts.uri.clone();
    *request.headers_mut() = asked.parts.headers.clone();
    // The SDK wants both said, as the protocol does; clients of the service do not all do so.
    let headers = request.headers_mut();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.remove(header::CONTENT_ENCODING);
    headers.remove(header::TRANSFER_ENCODING);
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        // Who knows the key may come by any name.
        .disable_allowed_hosts()
        .with_max_request_body_bytes(length.max(1));
    let tools = Tools { asked: Arc::clone(asked) };
    let service = StreamableHttpService::new(move || Ok(tools.clone()), Arc::new(NeverSessionManager::default()), config);
    service.handle(request).await.map(Body::new)
}

/// Compares hashes, whose common prefixes say nothing about the key's.
fn is_same(given: &[u8], key: &[u8]) -> bool {
    Sha256::digest(given) == Sha256::digest(key)
}

#[derive(Clone)]
struct Tools {
    asked: Arc<Asked>,
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::new(ServerCapabilities::builder().enable_tools().build());
        info.server_info = Implementation::new(SERVER_NAME, env!("CARGO_PKG_VERSION"));
        info
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Arguments(request.arguments.unwrap_or_default());
        let called = async {
            match request.name.as_ref() {
                LAUNCH | LAUNCH_PYTHON => launch(),
                RUN_SHELL => self.shell(&arguments).await,
                RUN_PYTHON => self.python(&arguments).await,
                name => Err(Failed::Arguments(format!("there is no tool '{name}'"))),
            }
        };
        let called = tokio::select! {
            called = called => called,
            () = context.ct.cancelled() => return Err(ErrorData::internal_error("the call was cancelled", None)),
        };
        match called {
            Ok(result) => Ok(result.into()),
            Err(Failed::Arguments(message)) => Err(ErrorData::invalid_params(message, None)),
            // The model that called the tool is to see it.
            Err(Failed::Refused(refused)) => {
                let error = refused.told(&self.asked.request_id);
                Ok(CallToolResult::structured_error(json!({"error": error.detail()})).into())
            }
        }
    }
}

/// Why a call of a tool has no result.
enum Failed {
    /// The call itself is wrong.
    Arguments(String),
    Refused(Refused),
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Failed::Refused(refused)
    }
}

/// A new environment. Its session is made when something is run in it.
fn launch() -> Result<CallToolResult, Failed> {
    Ok(CallToolResult::structured(json!({"environmentId": super::new_guid()?})))
}

impl Tools {
    async fn shell(&self, arguments: &Arguments) -> Result<CallToolResult, Failed> {
        let environment = arguments.environment()?;
        let (line, argv) = (arguments.text("shellCommand")?, arguments.texts("execCommandAndArgs")?);
        let command = match (line, argv) {
            (Some(line), None) => ShellCommandKind::Line(line),
            (None, Some(argv)) if argv.first().is_some_and(|program| !program.is_empty()) => ShellCommandKind::Argv(argv),
            _ => return Err(Failed::Arguments("one of 'shellCommand' and 'execCommandAndArgs' is required".to_owned())),
        };
        match self.asked.pool.kind {
            PoolKind::Shell => self.command(&environment, command).await,
            PoolKind::PythonLts | PoolKind::NodeLts => {
                let argv = match command {
                    ShellCommandKind::Line(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line],
                    ShellCommandKind::Argv(argv) => argv,
                };
                // JSON's strings are Python's, too.
                let argv = Value::from(argv);
                let (execution, output) =
                    self.cell(&environment, format!("__import__('subprocess').run({argv}, stdin=-3).returncode")).await?;
                let exit_code = match &output.value {
                    greenroom_wire::azure::CellValue::Text(code) => code.parse::<i32>().ok(),
                    _ => None,
                };
                Ok(told(execution.status == ExecutionStatus::Succeeded, &output, json!({"exitCode": exit_code})))
            }
        }
    }

    async fn python(&self, arguments: &Arguments) -> Result<CallToolResult, Failed> {
        let environment = arguments.environment()?;
        let code = arguments.text("pythonCode")?.ok_or_else(|| Failed::Arguments("'pythonCode' is required".to_owned()))?;
        if self.asked.pool.kind == PoolKind::Shell {
            let argv = vec!["python3".to_owned(), "-c".to_owned(), code];
            return self.command(&environment, ShellCommandKind::Argv(argv)).await;
        }
        let (execution, output) = self.cell(&environment, code).await?;
        let value = serde_json::to_value(&output.value).unwrap_or_default();
        Ok(told(execution.status == ExecutionStatus::Succeeded, &output, json!({"executionResult": value})))
    }

    async fn cell(&self, environment: &Identifier, code: String) -> Result<(Execution, Output), Failed> {
        let cell = CodeExecution { code, timeout_ms: Some(timeout_ms()), output_chars: None };
        let begun = Execution {
            id: String::new(),
            identifier: environment.as_str().to_owned(),
            execution_type: "Synchronous".to_owned(),
            status: ExecutionStatus::Running,
            output: None,
            exit: None,
            error: None,
        };
        let turn = Turn::take(&self.asked, environment).await?;
        let (mut execution, _) = execute::run_cell(&self.asked, turn, cell, begun).await?;
        match execution.output.take() {
            Some(output) => Ok((execution, output)),
            None => Err(Refused::Internal { step: "read a cell's output", error: "it has none".to_owned() }.into()),
        }
    }

    async fn command(&self, environment: &Identifier, command: ShellCommandKind) -> Result<CallToolResult, Failed> {
        let command = ShellCommand { command, stdin: String::new(), timeout_ms: Some(timeout_ms()), output_chars: None };
        let turn = Turn::take(&self.asked, environment).await?;
        let (status, output, _) = execute::run_command(&self.asked, turn, command).await?;
        let exit_code = match status {
            ShellStatus::Exited(code) => Some(code),
            ShellStatus::TimedOut => None,
        };
        Ok(told(exit_code.is_some(), &output, json!({"exitCode": exit_code})))
    }
}

fn timeout_ms() -> u64 {
    u64::from(MAX_TIMEOUT_S) * 1000
}

/// A result, with what only some tools tell.
fn told(is_success: bool, output: &Output, more: Value) -> CallToolResult {
    let mut result = json!({
        "stdout": output.stdout,
        "stderr": output.stderr,
        "executionTimeInMilliseconds": output.wall_ms,
    });
    if let (Some(result), Value::Object(more)) = (result.as_object_mut(), more) {
        result.extend(more);
    }
    if is_success { CallToolResult::structured(result) } else { CallToolResult::structured_error(result) }
}

/// What a tool is called with.
struct Arguments(Map<String, Value>);

impl Arguments {
    fn environment(&self) -> Result<Identifier, Failed> {
        let wrong = || Failed::Arguments("'environmentId' must be the one that 'launchShell' gave".to_owned());
        let text = self.text("environmentId")?.ok_or_else(wrong)?;
        // As the data plane's newest version has it: the session can be reached there, too.
        if !(4..=128).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return Err(wrong());
        }
        Identifier::new(&text).map_err(|_| wrong())
    }

    fn text(&self, name: &str) -> Result<Option<String>, Failed> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.contains('\0') => Ok(Some(text.clone())),
            Some(_) => Err(Failed::Arguments(format!("'{name}' must be a string without NUL characters"))),
        }
    }

    fn texts(&self, name: &str) -> Result<Option<Vec<String>>, Failed> {
        let wrong = || Failed::Arguments(format!("'{name}' must be an array of strings without NUL characters"));
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(texts)) => {
                let text = |text: &Value| text.as_str().filter(|text| !text.contains('\0')).map(str::to_owned).ok_or_else(wrong);
                texts.iter().map(text).collect::<Result<Vec<_>, _>>().map(Some)
            }
            Some(_) => Err(wrong()),
        }
    }
}

fn tools() -> Vec<Tool> {
    let object = |properties: Value, required: &[&str]| {
        let schema = json!({"type": "object", "properties": properties, "required": required});
        Arc::new(schema.as_object().cloned().unwrap_or_default())
    };
    let environment = json!({"type": "string", "description": "The environment, as launchShell gave it."});
    let shell = json!({
        "environmentId": environment,
        "shellCommand": {"type": "string", "description": "A line for the shell. Give this or execCommandAndArgs."},
        "execCommandAndArgs": {
            "type": "array",
            "items": {"type": "string"},
            "description": "A program and its arguments, run without a shell. Give this or shellCommand.",
        },
    });
    let python = json!({
        "environmentId": environment,
        "pythonCode": {"type": "string", "description": "Python code. What it prints comes back in stdout."},
    });
    vec![
        Tool::new(
            LAUNCH,
            "Launches a new environment and gives its environmentId, which the other tools need. Call this first.",
            object(json!({}), &[]),
        ),
        Tool::new(
            RUN_SHELL,
            "Runs a shell command in an environment. Files are kept in /mnt/data as long as the environment lives.",
            object(shell, &["environmentId"]),
        ),
        Tool::new(
            RUN_PYTHON,
            "Runs Python code in an environment. Files are kept in /mnt/data as long as the environment lives.",
            object(python, &["environmentId", "pythonCode"]),
        ),
    ]
}
