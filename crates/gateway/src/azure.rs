//! Azure's data plane: the sessions of a pool, below `/subscriptions/{any}/resourceGroups/{any}/sessionPools/{pool}`.
//!
//! The way of a call: [`handle`] (whose pool, may they, which version) → `execute.rs`, `files.rs`, `sessions.rs` or
//! `metadata.rs` (reads the body, then takes the session) → `refused.rs` (errors to statuses). A body is read before the
//! session is taken: a slow client holds up nobody.
//!
//! Tasks: one per asynchronous execution (`execute.rs`); it holds its session until the end and leaves its result in
//! `operations.rs`. A drain waits for them.

mod entry;
mod execute;
mod files;
mod mcp;
mod metadata;
mod operations;
mod outcome;
mod refused;
mod running;
mod sessions;
mod turn;
mod upload;

use std::{
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderName, HeaderValue, StatusCode, request::Parts},
    response::Response,
};
use greenroom_backends::LocalSessions;
use greenroom_identity::{Admitted, Permission, Target};
use greenroom_pool::{Ended, Identifier, Lease, PoolKind, PoolSpec};
use greenroom_wire::azure::{self, ApiVersion, AzureError, Call, Operation, PoolAddress, PoolType, Query, Required, Shape};
use sha2::{Digest, Sha256};

use self::{operations::Operations, refused::Refused, running::Running};
use crate::{
    address::{Scheme, base},
    body::{self, Room},
    gateway::Inner,
    reply,
};

/// The answer that tells a caller what the identifier's last session came to, where nobody has been told yet.
const SESSION_ENDED: HeaderName = HeaderName::from_static("x-greenroom-session-ended");
const ERROR_CODE: HeaderName = HeaderName::from_static("x-ms-error-code");
const SUPPORTED_VERSIONS: HeaderName = HeaderName::from_static("api-supported-versions");

/// So many uploads of the largest size may be held at once; of smaller ones, more.
const LARGEST_UPLOADS: u64 = 2;

type SessionLease = Lease<LocalSessions>;

/// What the data plane keeps beside the pools.
pub(crate) struct State {
    operations: Operations,
    running: Running,
    uploads: Room,
    metadata: metadata::Cache,
    started: SystemTime,
}

impl Default for State {
    fn default() -> Self {
        Self {
            operations: Operations::default(),
            running: Running::default(),
            uploads: Room::new(upload::UPLOAD_BYTES * LARGEST_UPLOADS),
            metadata: metadata::Cache::default(),
            started: SystemTime::now(),
        }
    }
}

impl State {
    /// Forgets what was run in a pool that is gone.
    pub(crate) fn forget(&self, pool: &str) {
        self.operations.forget(pool);
    }
}

/// A call whose pool exists, whose caller may, and whose version can be served.
struct Asked {
    gateway: Arc<Inner>,
    pool: Arc<PoolSpec>,
    address: PoolAddress,
    query: Query,
    version: ApiVersion,
    parts: Parts,
    begun: Instant,
    request_id: String,
    /// Who asks: counted among their requests for as long as something goes on, also behind the answer.
    _admitted: Option<Admitted>,
}

impl Asked {
    fn state(&self) -> &State {
        &self.gateway.azure
    }

    /// The identifier of the call.
    fn identifier(&self) -> Result<Identifier, Refused> {
        let text = azure::identifier(&self.query, &self.version)?;
        // Whatever the version allows, a pool takes.
        Identifier::new(&text).map_err(|error| AzureError::Validation(error.to_string()).into())
    }

    /// What the pool takes.
    fn pool_type(&self) -> PoolType {
        if self.pool.kind == PoolKind::Shell { PoolType::Shell } else { PoolType::CodeInterpreter }
    }

    /// The session of the identifier, in its turn.
    async fn lease(&self, identifier: &Identifier) -> Result<SessionLease, Refused> {
        let acquired = tokio::select! {
            acquired = self.gateway.pools.acquire(&self.pool.name, identifier.clone()) => acquired,
            () = self.gateway.cut.cancelled() => return Err(Refused::draining()),
        };
        acquired.map_err(|why| Refused::of_pool(&why, &self.address))
    }

    /// The pool's address as the client reached it.
    fn base(&self) -> String {
        let scheme = self.parts.extensions.get::<Scheme>().copied().unwrap_or(Scheme::Http);
        format!("{}{}", base(scheme, &self.parts.uri, &self.parts.headers), self.address.path())
    }
}

/// The label in metrics, of a path that is the data plane's.
pub(crate) fn label(method: &str, path: &str) -> Option<&'static str> {
    match Call::parse(method, path) {
        Ok(None) => None,
        Ok(Some(call)) => Some(call.operation.label()),
        Err(_) => Some("azure_unknown"),
    }
}

/// Answers a call of the data plane: one that has a [`label`].
pub(crate) async fn handle(gateway: &Arc<Inner>, request: Request, request_id: &str) -> Response {
    let begun = Instant::now();
    let (parts, body) = request.into_parts();
    let version = Query::parse(parts.uri.query()).api_version(Required::No).ok();
    let mut response = answer(gateway, parts, body, begun, request_id).await.unwrap_or_else(|refused| refused.reply(request_id));
    if let Some(version) = version.as_ref().and_then(|version| HeaderValue::from_str(version.as_str()).ok()) {
        response.headers_mut().insert(SUPPORTED_VERSIONS, version);
    }
    response
}

async fn answer(gateway: &Arc<Inner>, parts: Parts, body: Body, begun: Instant, request_id: &str) -> Result<Response, Refused> {
    let headers = parts.headers.clone();
    let checked = async {
        let call = Call::parse(parts.method.as_str(), parts.uri.path())?.ok_or(AzureError::NotFound)?;
        // Who is asking, and may they execute in this pool? Before the pool is looked for: who may not does not learn which
        // there are. An MCP server has its pool's own key.
        let admitted = match call.operation {
            Operation::Mcp => None,
            _ => Some(gateway.guard.check(&parts.headers, Permission::Execute, Target::Pool(&call.pool.name)).await?),
        };
        if gateway.admission.is_closed() {
            return Err(Refused::draining());
        }
        let no_pool =
            || AzureError::PoolNotFound { name: call.pool.name.clone(), resource_group: call.pool.resource_group.clone() };
        // Names of pools are in lower case; a client may write them as it likes, as all names of Azure's resources.
        let pool = gateway.pools.get(&call.pool.name.to_ascii_lowercase()).ok_or_else(no_pool)?;
        let query = Query::parse(parts.uri.query());
        let version = query.api_version(needs_version(&call.operation))?;
        let asked = Asked {
            gateway: Arc::clone(gateway),
            pool,
            address: call.pool,
            query,
            version,
            parts,
            begun,
            request_id: request_id.to_owned(),
            _admitted: admitted,
        };
        if is_of_a_session(&call.operation) {
            asked.identifier()?;
        }
        Ok((asked, call.operation))
    };
    let (asked, operation) = match checked.await {
        Ok(checked) => checked,
        Err(refused) => {
            // Read on without being kept: closed at once, the connection would be reset under the answer.
            body::discard_beside(body, &headers, gateway.config.body_bytes, gateway.config.body_timeout);
            return Err(refused);
        }
    };
    match operation {
        Operation::Execute(shape) => execute::execute(asked, shape, body).await,
        Operation::GetExecution(id) => execute::get(&asked, &id).await,
        Operation::ListFiles(shape) => files::list(&asked, shape.unwrap_or(asked.version.shape())).await,
        Operation::Upload(shape) => upload::upload(&asked, shape, body).await,
        Operation::GetFile(name) => files::get(&asked, &name, asked.version.shape()).await,
        Operation::Download(name) => files::download(&asked, &name).await,
        Operation::DownloadNamed => files::download(&asked, &asked.query.file_name()?).await,
        Operation::DeleteFile(name) => files::delete(&asked, &name, asked.version.shape()).await,
        Operation::GetSession => sessions::get(&asked).await,
        Operation::DeleteSession => sessions::delete(&asked).await,
        Operation::ListSessions => sessions::list(&asked).await,
        Operation::Metadata => metadata::get(&asked).await,
        Operation::ManageGet => sessions::manage_get(&asked).await,
        Operation::ManageList => sessions::manage_list(&asked).await,
        Operation::ManageStop => sessions::manage_stop(&asked).await,
        Operation::Mcp => {
            let key = asked.gateway.control.mcp_key(&asked.pool.name).await;
            mcp::serve(asked, body, key).await
        }
    }
}

/// Clients of the legacy paths send no version.
fn needs_version(operation: &Operation) -> Required {
    match operation {
        Operation::Execute(Shape::Legacy)
        | Operation::Upload(Shape::Legacy)
        | Operation::ListFiles(Some(Shape::Legacy))
        | Operation::DownloadNamed
        | Operation::Mcp => Required::No,
        _ => Required::Yes,
    }
}

/// Whether the call needs an identifier.
fn is_of_a_session(operation: &Operation) -> bool {
    !matches!(operation, Operation::ListSessions | Operation::Metadata | Operation::ManageList | Operation::Mcp)
}

/// A JSON answer whose body is written already.
fn json(status: StatusCode, body: Vec<u8>) -> Response {
    reply::json_bytes(status, body.into())
}

/// Says in the headers what the identifier's last session came to.
fn tell_end(response: &mut Response, ended: Option<Ended>) {
    let Some(ended) = ended.filter(|ended| ended.reason.is_told()) else { return };
    if let Ok(value) = HeaderValue::from_str(&ended.to_string()) {
        response.headers_mut().insert(SESSION_ENDED, value);
    }
}

/// The id of a session, which no other has: of its pool, its identifier and the moment at which it became its.
fn session_id(pool: &str, identifier: &Identifier, created_unix_ms: u64) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{pool} {} {created_unix_ms}", identifier.digest()));
    let half = hash.finalize()[..16].iter().fold(0_u128, |bits, &byte| bits << 8 | u128::from(byte));
    guid(&format!("{half:032x}"))
}

/// A random id, as GUIDs are written (RFC 9562, version 4).
fn new_guid() -> Result<String, Refused> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Refused::Internal { step: "make an id", error: error.to_string() })?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(guid(&format!("{:032x}", u128::from_be_bytes(bytes))))
}

/// 32 hexadecimal digits with GUIDs' dashes.
fn guid(digits: &str) -> String {
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

fn unix_ms(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
