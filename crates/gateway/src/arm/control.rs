//! The control plane over the pools.
//!
//! A pool is known by its name alone, because that is all the data plane can tell pools apart by: its addresses have the
//! subscription and the resource group in them, and they may be anything. So a name is given once. A pool that was made here
//! belongs to the resource group in which it was made, and is found there only; one that was made by other means (`default`,
//! `greenroom pool create`) belongs nowhere and is found everywhere, until a PUT or a PATCH gives it a place.

use std::{sync::Arc, time::Duration};

use greenroom_identity::{LOCAL_TENANT, MANAGEMENT_AUDIENCES};
use greenroom_pool::{Backend, PoolError, PoolSpec, Pools, Rules, StoreError};
use greenroom_wire::arm::{
    self, ApiVersion, ArmError, Call, Offer, OperationId, OperationState, PoolDocument, PoolId, ProvisioningState, ResourceGroup,
    Response, SessionPool, Subscription, SystemData,
};
use serde_json::Value;
use tokio_util::task::TaskTracker;

use super::{
    operations::{Kind, Operations},
    record::{self, LOCATION, Record},
};

/// Most pools of a server that the control plane makes.
const MAX_POOLS: u32 = 100;
/// How often the making of a pool is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long a pool may take to its first session before that is called a failure.
const FIRST_SESSION: Duration = Duration::from_secs(60);
/// So many sessions that could not be made are no accident.
const FAILURES: u64 = 3;

/// Who is asking, as it is kept with a resource.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// A name or an id.
    pub(crate) name: String,
    /// `User`, `Application`, `ManagedIdentity` or `Key`.
    pub(crate) kind: &'static str,
}

/// What a call needs to know beside what it asks for.
pub(crate) struct Context<'a> {
    /// The server's address as the client sees it.
    pub(crate) base: &'a str,
    pub(crate) version: &'a ApiVersion,
    pub(crate) caller: &'a Caller,
    /// Whether the caller may see this pool: for lists.
    pub(crate) sees: &'a (dyn Fn(&str) -> bool + Sync),
    /// Told the name of a pool that is gone, before there is another of it.
    pub(crate) gone: &'a (dyn Fn(&str) + Sync),
}

/// What the sessions of the server can be at present: languages come and go.
pub(crate) type Offered = Box<dyn Fn() -> Offer + Send + Sync>;

/// The subscription under which `az` finds the server. All others are served, too.
const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000000";

/// The control plane. Cheap to clone.
pub(crate) struct ControlPlane<B: Backend> {
    inner: Arc<Inner<B>>,
}

struct Inner<B: Backend> {
    pools: Pools<B>,
    offer: Offered,
    operations: Operations,
    /// A pool and its record are changed together, one at a time.
    changing: tokio::sync::Mutex<()>,
    tasks: TaskTracker,
}

impl<B: Backend> Clone for ControlPlane<B> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

/// A pool as it is.
struct Found {
    /// As it is shown.
    id: PoolId,
    spec: Arc<PoolSpec>,
    record: Option<Record>,
}

impl<B: Backend> ControlPlane<B> {
    /// A control plane over these pools. What goes on after its answer is among `tasks`.
    pub(crate) fn new(pools: Pools<B>, offer: Offered, tasks: TaskTracker) -> Self {
        let (operations, changing) = (Operations::new(pools.store().clone()), tokio::sync::Mutex::default());
        Self { inner: Arc::new(Inner { pools, offer, operations, changing, tasks }) }
    }

    /// Goes on with what the server before this one had begun and not ended.
    pub(crate) async fn resume(&self) {
        for known in self.inner.operations.going_on().await {
            let id = known.operation.id;
            match (known.kind, self.inner.pools.get(&known.pool.name)) {
                // The pool was gone before that was told, and sessions do not outlive their server.
                (Kind::Delete, _) => self.inner.operations.end(&id, Ok(())).await,
                (Kind::Create, Some(spec)) => self.await_first_session(spec, id),
                (Kind::Create, None) => self.inner.operations.end(&id, Err(deleted_meanwhile())).await,
            }
        }
    }

    /// Ends the operation `id` when the pool has its first session, or cannot have one.
    fn await_first_session(&self, spec: Arc<PoolSpec>, id: OperationId) {
        let this = Arc::clone(&self.inner);
        self.inner.tasks.spawn(async move {
            // Without an answer the next server goes on with it.
            if let Some(result) = this.first_session(&spec).await {
                this.operations.end(&id, result).await;
            }
        });
    }

    /// Takes a pool away, and what was kept of it, wherever it is. `gone` is called when it is gone for good. Returns then, too; what it
    /// returns resolves when nothing is left of its sessions.
    pub(crate) async fn remove(
        &self,
        name: &str,
        gone: &(dyn Fn(&str) + Sync),
    ) -> Result<impl Future<Output = ()> + Send + use<B>, PoolError> {
        let _alone = self.inner.changing.lock().await;
        let ended = self.inner.pools.remove(name).await?;
        gone(name);
        if let Err(error) = Record::forget(self.inner.pools.store(), name).await {
            tracing::error!(pool = name, %error, "what the control plane kept of a pool cannot be forgotten");
        }
        Ok(ended)
    }

    /// Whether there is a pool of this name, wherever.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.inner.pools.get(&name.to_lowercase()).is_some()
    }

    /// Does what is asked for.
    pub(crate) async fn answer(&self, call: Call, body: &[u8], context: &Context<'_>) -> Result<Response, ArmError> {
        let inner = &self.inner;
        Ok(match call {
            Call::PutPool(id) => self.put(id, body, context).await?,
            Call::PatchPool(id) => self.patch(id, body, context).await?,
            Call::GetPool(id) => {
                let found = inner.found(&id).await?;
                Response::ok(inner.body(&found, context).await)
            }
            Call::DeletePool(id) => self.delete(id, context).await?,
            Call::ListInGroup { subscription, resource_group } => inner.list(&subscription, Some(&resource_group), context).await?,
            Call::ListInSubscription { subscription } => inner.list(&subscription, None, context).await?,
            Call::OperationStatus(id) => inner.operations.find(&id).await?.operation.status(),
            Call::OperationResult(id) => inner.result(&id, context).await?,
            Call::FetchMcpCredentials(id) => inner.mcp_credentials(&id, Keep::Kept).await?,
            Call::RegenerateMcpCredentials(id) => inner.mcp_credentials(&id, Keep::Anew).await?,
            Call::Provider { subscription } => {
                let locations: Vec<_> = arm::LOCATIONS.into_iter().chain(["Local"]).collect();
                Response::ok(arm::provider(&subscription, &locations))
            }
            Call::ListSubscriptions => Response::ok(arm::subscriptions(&[subscription_of(SUBSCRIPTION)])),
            Call::GetSubscription { subscription } => Response::ok(subscription_of(&subscription).body()),
            Call::GetResourceGroup { subscription, resource_group } => {
                Response::ok(ResourceGroup { subscription, name: resource_group, location: LOCATION.to_owned() }.body())
            }
            Call::CloudMetadata => Response::ok(cloud(context)),
        })
    }

    /// The key of a pool's MCP server, if the pool has one.
    pub(crate) async fn mcp_key(&self, pool: &str) -> Option<String> {
        let record = Record::load(self.inner.pools.store(), pool).await.ok().flatten()?;
        if record.document.settings.mcp_enabled { record.mcp_key } else { None }
    }

    async fn put(&self, id: PoolId, body: &[u8], context: &Context<'_>) -> Result<Response, ArmError> {
        let inner = &self.inner;
        let document = PoolDocument::from_put(body, &(inner.offer)())?;
        let _alone = inner.changing.lock().await;
        let found = inner.find(&id).await?;
        if found.is_none() {
            arm::check_quota(u32::try_from(inner.pools.list().len()).unwrap_or(u32::MAX), MAX_POOLS)?;
        }
        let (found, is_new) = inner.change(id, found, document, context).await?;
        let mut body = inner.body(&found, context).await;
        if !is_new {
            return Ok(Response::ok(body));
        }
        let operation = self.begin(Kind::Create, &found).await;
        body["properties"]["provisioningState"] = ProvisioningState::InProgress.as_str().into();
        self.await_first_session(Arc::clone(&found.spec), operation.id.clone());
        Ok(operation.creating(context.base, context.version, body))
    }

    async fn patch(&self, id: PoolId, body: &[u8], context: &Context<'_>) -> Result<Response, ArmError> {
        let inner = &self.inner;
        let _alone = inner.changing.lock().await;
        let found = inner.found(&id).await?;
        let document = record::document(&found.spec, found.record.as_ref()).patched(body, &(inner.offer)())?;
        let (found, _) = inner.change(id, Some(found), document, context).await?;
        Ok(Response::ok(inner.body(&found, context).await))
    }

    async fn delete(&self, id: PoolId, context: &Context<'_>) -> Result<Response, ArmError> {
        let inner = &self.inner;
        let _alone = inner.changing.lock().await;
        let found = match inner.find(&id).await {
            Ok(Some(found)) => found,
            Ok(None) | Err(ArmError::NameTaken { .. }) => return Ok(Response::removed()),
            Err(error) => return Err(error),
        };
        Record::forget(inner.pools.store(), &found.spec.name).await.map_err(stored)?;
        // For good, before it is told: whatever happens now, what is left to do is to end sessions.
        let ended = match inner.pools.remove(&found.spec.name).await {
            Ok(ended) => ended,
            // Somebody else was faster.
            Err(PoolError::NotFound { .. }) => return Ok(Response::removed()),
            Err(error) => return Err(pool_error(error, &found.id)),
        };
        (context.gone)(&found.spec.name);
        let operation = self.begin(Kind::Delete, &found).await;
        let (this, id) = (Arc::clone(inner), operation.id.clone());
        inner.tasks.spawn(async move {
            ended.await;
            this.operations.end(&id, Ok(())).await;
        });
        Ok(operation.removing(context.base, context.version))
    }

    async fn begin(&self, kind: Kind, found: &Found) -> arm::Operation {
        let location = record::document(&found.spec, found.record.as_ref()).settings.location;
        let id = OperationId::new(&found.id, &location, crate::Gateway::new_id().to_string());
        self.inner.operations.begin(kind, &found.id, id).await
    }
}

/// Whether a key that exists goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Kept,
    Anew,
}

impl<B: Backend> Inner<B> {
    /// The pool of this id. `None`: there is none of this name.
    ///
    /// # Errors
    /// [`ArmError::NameTaken`]: there is, in another resource group.
    async fn find(&self, id: &PoolId) -> Result<Option<Found>, ArmError> {
        // Ids are compared without their case, and names of pools have none.
        let name = id.name.to_lowercase();
        let Some(spec) = self.pools.get(&name) else { return Ok(None) };
        let record = Record::load(self.pools.store(), &name).await.map_err(stored)?;
        let shown = record.as_ref().map_or_else(|| PoolId { name, ..id.clone() }, |record| record.id.clone());
        if shown != *id {
            return Err(ArmError::NameTaken { name: id.name.clone(), holder: shown.resource_id() });
        }
        Ok(Some(Found { id: shown, spec, record }))
    }

    async fn found(&self, id: &PoolId) -> Result<Found, ArmError> {
        match self.find(id).await {
            Ok(Some(found)) => Ok(found),
            Ok(None) | Err(ArmError::NameTaken { .. }) => Err(id.not_found()),
            Err(error) => Err(error),
        }
    }

    /// Makes the pool be as `document` says, and keeps what it says. Whether it was made.
    async fn change(
        &self,
        id: PoolId,
        found: Option<Found>,
        mut document: PoolDocument,
        context: &Context<'_>,
    ) -> Result<(Found, bool), ArmError> {
        let (existing, old) = match found {
            Some(Found { spec, record, .. }) => (Some(spec), record),
            None => (None, None),
        };
        let mut before = existing.as_ref().map(|spec| record::document(spec, old.as_ref()));
        if let (Some(before), None) = (&mut before, &old) {
            // It is somewhere from now on.
            before.settings.location.clone_from(&document.settings.location);
        }
        arm::check(&id, &document, before.as_ref())?;
        let spec = record::spec(&id.name, &document, existing.as_deref());
        let id = PoolId { name: spec.name.clone(), ..old.as_ref().map_or(id, |old| old.id.clone()) };
        document.settings.ready_session_instances = Some(spec.ready_sessions);
        // The service's rules have been checked; numbers that a pool got by other means may stay.
        let is_new = self.pools.put(spec, &Rules::OWN).await.map_err(|error| pool_error(error, &id))?;
        let now = super::now();
        let system_data = match &old {
            Some(old) => SystemData {
                last_modified_by: context.caller.name.clone(),
                last_modified_by_type: context.caller.kind.to_owned(),
                last_modified_at: now,
                ..old.system_data.clone()
            },
            None => SystemData {
                created_by: context.caller.name.clone(),
                created_by_type: context.caller.kind.to_owned(),
                created_at: now.clone(),
                last_modified_by: context.caller.name.clone(),
                last_modified_by_type: context.caller.kind.to_owned(),
                last_modified_at: now,
            },
        };
        let mcp_key = match old.and_then(|old| old.mcp_key) {
            None if document.settings.mcp_enabled => Some(new_key()?),
            key => key,
        };
        let record = Record { id: id.clone(), document, system_data, mcp_key };
        record.save(self.pools.store(), &id.name).await.map_err(stored)?;
        let spec = self.pools.get(&id.name).ok_or_else(|| id.not_found())?;
        Ok((Found { id, spec, record: Some(record) }, is_new))
    }

    /// Resolves when the pool has, or has had, a session, or cannot have one. `None`: the server ends first.
    async fn first_session(&self, spec: &PoolSpec) -> Option<Result<(), ArmError>> {
        if spec.ready_sessions == 0 {
            return Some(Ok(()));
        }
        let failed = |reason: String| Some(Err(ArmError::Provisioning(reason)));
        let begun = tokio::time::Instant::now();
        loop {
            let Ok(snapshot) = self.pools.snapshot(&spec.name).await else {
                return self.pools.get(&spec.name).is_none().then(|| Err(deleted_meanwhile()));
            };
            if snapshot.totals.created > 0 {
                return Some(Ok(()));
            }
            let reason = snapshot.failures.first().map(|failure| failure.reason.clone());
            match reason {
                Some(reason) if snapshot.totals.create_failed >= FAILURES => return failed(reason),
                reason if begun.elapsed() >= FIRST_SESSION => {
                    return failed(reason.unwrap_or_else(|| format!("no session was ready after {} s", FIRST_SESSION.as_secs())));
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// The resource as it is shown.
    async fn body(&self, found: &Found, context: &Context<'_>) -> Value {
        let PoolId { subscription, resource_group, name } = &found.id;
        let endpoint = format!("{}/subscriptions/{subscription}/resourceGroups/{resource_group}/sessionPools/{name}", context.base);
        let pool = SessionPool {
            id: found.id.clone(),
            document: record::document(&found.spec, found.record.as_ref()),
            provisioning_state: self.state(name).await,
            mcp_server_endpoint: Some(format!("{endpoint}/mcp")),
            pool_management_endpoint: endpoint,
            system_data: found.record.as_ref().map(|record| record.system_data.clone()),
        };
        pool.body(context.version.lifecycle_shape())
    }

    async fn state(&self, name: &str) -> ProvisioningState {
        match self.operations.creation_of(name).await {
            Some(OperationState::InProgress) => ProvisioningState::InProgress,
            // What failed at first may have been mended.
            Some(OperationState::Failed(_)) => match self.pools.snapshot(name).await {
                Ok(snapshot) if snapshot.totals.created > 0 => ProvisioningState::Succeeded,
                _ => ProvisioningState::Failed,
            },
            Some(OperationState::Succeeded) | None => ProvisioningState::Succeeded,
        }
    }

    async fn list(&self, subscription: &str, resource_group: Option<&str>, context: &Context<'_>) -> Result<Response, ArmError> {
        let mut records = Record::load_all(self.pools.store()).await.map_err(stored)?;
        let mut bodies = Vec::new();
        for spec in self.pools.list() {
            if !(context.sees)(&spec.name) {
                continue;
            }
            let record = records.iter().position(|(name, _)| *name == spec.name).map(|at| records.swap_remove(at).1);
            let id = match &record {
                Some(record) => record.id.clone(),
                None => PoolId {
                    subscription: subscription.to_owned(),
                    resource_group: resource_group.unwrap_or("default").to_owned(),
                    name: spec.name.clone(),
                },
            };
            let is_here = id.subscription.eq_ignore_ascii_case(subscription)
                && resource_group.is_none_or(|group| group.to_lowercase() == id.resource_group.to_lowercase());
            if is_here {
                bodies.push(self.body(&Found { id, spec, record }, context).await);
            }
        }
        Ok(Response::ok(arm::page(bodies, None)))
    }

    async fn result(&self, id: &OperationId, context: &Context<'_>) -> Result<Response, ArmError> {
        let known = self.operations.find(id).await?;
        let resource = match known.kind {
            Kind::Delete => None,
            Kind::Create => match self.find(&known.pool).await.ok().flatten() {
                Some(found) => Some(self.body(&found, context).await),
                None => None,
            },
        };
        Ok(known.operation.result(context.base, context.version, resource))
    }

    async fn mcp_credentials(&self, id: &PoolId, keep: Keep) -> Result<Response, ArmError> {
        let _alone = self.changing.lock().await;
        let found = self.found(id).await?;
        let not_enabled = || ArmError::McpNotEnabled(found.id.name.clone());
        let mut record = found.record.filter(|record| record.document.settings.mcp_enabled).ok_or_else(not_enabled)?;
        let key = match record.mcp_key.clone().filter(|_| keep == Keep::Kept) {
            Some(key) => key,
            None => {
                let key = new_key()?;
                record.mcp_key = Some(key.clone());
                record.save(self.pools.store(), &found.id.name).await.map_err(stored)?;
                key
            }
        };
        Ok(Response::ok(arm::mcp_credentials(&key)))
    }
}

fn deleted_meanwhile() -> ArmError {
    ArmError::Provisioning("it was deleted meanwhile".to_owned())
}

/// All belong to the tenant of the issuer of this machine.
fn subscription_of(id: &str) -> Subscription {
    Subscription { id: id.to_owned(), display_name: "Greenroom".to_owned(), tenant_id: LOCAL_TENANT.to_owned() }
}

fn cloud(context: &Context<'_>) -> Value {
    let cloud = arm::CloudMetadata {
        name: "Greenroom".to_owned(),
        resource_manager: context.base.to_owned(),
        login_endpoint: format!("{}/", context.base),
        tenant: LOCAL_TENANT.to_owned(),
        // `az` asks for tokens for the first, and with a slash.
        audiences: MANAGEMENT_AUDIENCES.iter().rev().map(|audience| format!("{audience}/")).collect(),
    };
    cloud.body(context.version)
}

/// 256 random bits, hexadecimal.
fn new_key() -> Result<String, ArmError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "the system gives no random numbers");
        ArmError::Internal
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn stored(error: StoreError) -> ArmError {
    tracing::error!(%error, "the control plane's store");
    ArmError::Internal
}

fn pool_error(error: PoolError, id: &PoolId) -> ArmError {
    match error {
        PoolError::NotFound { .. } => id.not_found(),
        PoolError::Closed => ArmError::ShuttingDown,
        PoolError::Store(error) => stored(error),
        // Of a pool that came to be between the look and the change, by other means.
        PoolError::Exists { .. } | PoolError::Kind { .. } => ArmError::InProgress(id.name.clone()),
        PoolError::Spec(error) => ArmError::Specification(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
