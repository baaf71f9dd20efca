use greenroom_pool::{CreateError, EndReason, PoolKind, SessionUsage, Store};
use serde_json::json;

use super::*;

/// Sessions that are nothing but there, and that a Node pool has none of.
struct Nothing;

impl Backend for Nothing {
    type Session = ();

    async fn create(&self, spec: &PoolSpec) -> Result<(), CreateError> {
        if spec.kind == PoolKind::NodeLts { Err(CreateError::new("node is not installed")) } else { Ok(()) }
    }

    fn check(&self, _session: &()) -> bool {
        true
    }

    async fn ended(&self, _session: &()) -> EndReason {
        std::future::pending().await
    }

    async fn destroy(&self, _session: Arc<()>) -> SessionUsage {
        SessionUsage::default()
    }
}

async fn plane(store: &Store) -> ControlPlane<Nothing> {
    let pools = Pools::open(Nothing, store.clone()).await.unwrap();
    let offer = Offer {
        container_types: vec![arm::ContainerType::PythonLts, arm::ContainerType::NodeLts, arm::ContainerType::Shell],
        no_network: Some("there is none".to_owned()),
    };
    ControlPlane::new(pools, Box::new(move || offer.clone()), TaskTracker::new())
}

const IN_RG: &str = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.App/sessionPools";

/// Status, headers and body.
async fn call(
    plane: &ControlPlane<Nothing>,
    method: &str,
    target: &str,
    body: &Value,
) -> (u16, Vec<(&'static str, String)>, Value) {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let context = Context {
        base: "http://127.0.0.1:1",
        version: &ApiVersion::of_query(query),
        caller: &Caller { name: "alice".to_owned(), kind: "User" },
        sees: &|name| name != "hidden",
        gone: &|_| {},
    };
    let call = Call::parse(method, path).unwrap().unwrap();
    let answer = match plane.answer(call, body.to_string().as_bytes(), &context).await {
        Ok(answer) => answer,
        Err(error) => Response::refused(&error),
    };
    (answer.status, answer.headers, answer.body.unwrap_or_default())
}

async fn put(plane: &ControlPlane<Nothing>, name: &str, body: Value) -> (u16, Value) {
    let (status, _, body) = call(plane, "PUT", &format!("{IN_RG}/{name}"), &body).await;
    (status, body)
}

async fn get(plane: &ControlPlane<Nothing>, target: &str) -> (u16, Value) {
    let (status, _, body) = call(plane, "GET", target, &Value::Null).await;
    (status, body)
}

/// Polls until the operation is over; its last answer.
async fn finish(plane: &ControlPlane<Nothing>, headers: &[(&'static str, String)], header: &str) -> (u16, Value) {
    let address = &headers.iter().find(|(name, _)| *name == header).unwrap().1;
    let target = address.strip_prefix("http://127.0.0.1:1").unwrap();
    loop {
        let (status, body) = get(plane, target).await;
        if status != 202 && body["status"] != "InProgress" {
            return (status, body);
        }
        tokio::task::yield_now().await;
    }
}

fn python() -> Value {
    json!({"location": "East US", "tags": {"team": "a"}, "properties": {"containerType": "PythonLTS"}})
}

#[tokio::test]
async fn a_pool_is_made_polled_shown_changed_and_removed() {
    let plane = plane(&Store::in_memory().unwrap()).await;
    let target = format!("{IN_RG}/testpool");
    let (status, headers, body) = call(&plane, "PUT", &target, &python()).await;
    assert_eq!((status, &body["properties"]["provisioningState"]), (201, &json!("InProgress")));
    let (status, operation) = finish(&plane, &headers, "Azure-AsyncOperation").await;
    assert_eq!((status, &operation["status"]), (200, &json!("Succeeded")));
    let (status, made) = get(&plane, &target).await;
    assert_eq!((status, &made["properties"]["provisioningState"]), (200, &json!("Succeeded")));
    assert_eq!(
        made["properties"]["poolManagementEndpoint"],
        "http://127.0.0.1:1/subscriptions/s/resourceGroups/rg/sessionPools/testpool"
    );
    assert_eq!((&made["systemData"]["createdBy"], &made["systemData"]["lastModifiedBy"]), (&json!("alice"), &json!("alice")));

    let patch = json!({"tags": {"more": "b"}, "properties": {"scaleConfiguration": {"maxConcurrentSessions": 3}}});
    let (status, _, patched) = call(&plane, "PATCH", &target, &patch).await;
    assert_eq!((status, &patched["tags"]), (200, &json!({"team": "a", "more": "b"})));
    assert_eq!(plane.inner.pools.get("testpool").unwrap().max_sessions, 3);
    assert_eq!(plane.inner.pools.get("testpool").unwrap().ready_sessions, 3);
    assert_eq!(patched["systemData"]["createdAt"], made["systemData"]["createdAt"]);

    let (status, put_again) = put(&plane, "testpool", python()).await;
    assert_eq!((status, &put_again["tags"]), (200, &json!({"team": "a"})));
    assert_eq!(plane.inner.pools.get("testpool").unwrap().max_sessions, 10, "a PUT says everything anew");
    assert_eq!(plane.inner.pools.get("testpool").unwrap().ready_sessions, 3, "but what documents do not show");

    let (status, headers, body) = call(&plane, "DELETE", &target, &Value::Null).await;
    assert_eq!((status, body), (202, Value::Null));
    assert_eq!(finish(&plane, &headers, "Location").await.0, 204);
    let (status, body) = get(&plane, &target).await;
    assert_eq!((status, &body["error"]["code"]), (404, &json!("ResourceNotFound")));
    assert_eq!(call(&plane, "DELETE", &target, &Value::Null).await.0, 204);
    assert_eq!(call(&plane, "PATCH", &target, &json!({})).await.0, 404);
}

#[tokio::test]
async fn a_document_is_the_same_after_a_restart() {
    let store = Store::in_memory().unwrap();
    let first = plane(&store).await;
    let mut body = python();
    body["identity"] = json!({"type": "SystemAssigned"});
    body["properties"]["secrets"] = json!([{"name": "token", "value": "s3cr3t"}]);
    let (status, headers, _) = call(&first, "PUT", &format!("{IN_RG}/testpool"), &body).await;
    assert_eq!(status, 201);
    finish(&first, &headers, "Azure-AsyncOperation").await;
    let before = get(&first, &format!("{IN_RG}/testpool")).await;
    first.inner.pools.shutdown().await;
    drop(first);
    let second = plane(&store).await;
    let after = get(&second, &format!("{IN_RG}/testpool")).await;
    assert_eq!(before, after);
    assert!(!after.1.to_string().contains("s3cr3t"));
}

#[tokio::test]
async fn what_was_kept_of_a_pool_is_gone_before_its_sessions_are() {
    let plane = plane(&Store::in_memory().unwrap()).await;
    let gone = std::sync::Mutex::new(Vec::new());
    put(&plane, "testpool", python()).await;
    let ended = plane.remove("testpool", &|name| gone.lock().unwrap().push(name.to_owned())).await.unwrap();
    assert_eq!(*gone.lock().unwrap(), ["testpool"]);
    assert!(Record::load(plane.inner.pools.store(), "testpool").await.unwrap().is_none());
    let (status, made) = put(&plane, "testpool", python()).await;
    assert_eq!(status, 201);
    ended.await;
    let (_, found) = get(&plane, &format!("{IN_RG}/testpool")).await;
    assert_eq!(found["systemData"], made["systemData"], "the next of its name keeps what is kept of it");
}

#[tokio::test]
async fn what_came_of_an_operation_is_told_after_a_restart() {
    let store = Store::in_memory().unwrap();
    let first = plane(&store).await;
    let node = json!({"location": "eastus", "properties": {"containerType": "NodeLTS"}});
    let (_, made, _) = call(&first, "PUT", &format!("{IN_RG}/kept"), &python()).await;
    let (_, failed, _) = call(&first, "PUT", &format!("{IN_RG}/never"), &node).await;
    let (_, removing, _) = call(&first, "DELETE", &format!("{IN_RG}/kept"), &Value::Null).await;
    let before = [
        finish(&first, &made, "Azure-AsyncOperation").await,
        finish(&first, &failed, "Azure-AsyncOperation").await,
        finish(&first, &removing, "Location").await,
    ];
    assert_eq!((&before[1].1["status"], before[2].0), (&json!("Failed"), 204), "{before:?}");
    first.inner.pools.shutdown().await;

    let second = plane(&store).await;
    second.resume().await;
    let after = [
        finish(&second, &made, "Azure-AsyncOperation").await,
        finish(&second, &failed, "Azure-AsyncOperation").await,
        finish(&second, &removing, "Location").await,
    ];
    assert_eq!(after, before);
    assert_eq!(get(&second, &format!("{IN_RG}/never")).await.1["properties"]["provisioningState"], "Failed");
}

#[tokio::test]
async fn what_an_operation_had_done_when_the_server_ended_counts() {
    let store = Store::in_memory().unwrap();
    let first = plane(&store).await;
    assert_eq!(put(&first, "kept", python()).await.0, 201);
    // As a server that is killed at once leaves them.
    let begun = async |kind, pool: &str, operation: &str| {
        let pool = PoolId { subscription: "s".to_owned(), resource_group: "rg".to_owned(), name: pool.to_owned() };
        let id = OperationId::new(&pool, "eastus", operation);
        first.inner.operations.begin(kind, &pool, id).await.removing("http://127.0.0.1:1", &ApiVersion::of_query(None)).headers
    };
    let made = begun(Kind::Create, "kept", "made").await;
    let unmade = begun(Kind::Create, "none", "unmade").await;
    let removed = begun(Kind::Delete, "gone", "removed").await;
    let second = plane(&store).await;
    second.resume().await;
    let (status, resource) = finish(&second, &made, "Location").await;
    assert_eq!((status, &resource["name"]), (200, &json!("kept")), "{resource}");
    let (status, error) = finish(&second, &unmade, "Location").await;
    assert_eq!((status, &error["error"]["code"]), (500, &json!("SessionPoolProvisioningFailed")));
    assert_eq!(finish(&second, &removed, "Location").await.0, 204);
}

#[tokio::test]
async fn a_server_that_stops_leaves_the_making_of_a_pool_to_the_next() {
    let store = Store::in_memory().unwrap();
    let first = plane(&store).await;
    let node = json!({"location": "eastus", "properties": {"containerType": "NodeLTS"}});
    let (_, headers, _) = call(&first, "PUT", &format!("{IN_RG}/never"), &node).await;
    first.inner.pools.shutdown().await;
    first.inner.tasks.close();
    first.inner.tasks.wait().await;
    let second = plane(&store).await;
    second.resume().await;
    let (_, operation) = finish(&second, &headers, "Azure-AsyncOperation").await;
    let message = operation["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("node is not installed"), "{operation}");
}

#[tokio::test]
async fn a_pool_whose_sessions_cannot_be_made_says_so_until_they_can() {
    let plane = plane(&Store::in_memory().unwrap()).await;
    let target = format!("{IN_RG}/nodepool");
    let body = json!({"location": "eastus", "properties": {"containerType": "NodeLTS"}});
    let (status, headers, _) = call(&plane, "PUT", &target, &body).await;
    assert_eq!(status, 201);
    let (_, operation) = finish(&plane, &headers, "Azure-AsyncOperation").await;
    assert_eq!((&operation["status"], &operation["error"]["code"]), (&json!("Failed"), &json!("SessionPoolProvisioningFailed")));
    let message = operation["error"]["message"].as_str().unwrap();
    assert!(message.contains("node is not installed"), "{message}");
    assert_eq!(get(&plane, &target).await.1["properties"]["provisioningState"], "Failed");
}

#[tokio::test]
async fn a_name_is_given_once_and_belongs_to_its_resource_group() {
    let plane = plane(&Store::in_memory().unwrap()).await;
    assert_eq!(put(&plane, "testpool", python()).await.0, 201);
    let elsewhere = "/subscriptions/s/resourceGroups/other/providers/Microsoft.App/sessionPools";
    let (status, _, body) = call(&plane, "PUT", &format!("{elsewhere}/testpool"), &python()).await;
    assert_eq!((status, &body["error"]["code"]), (409, &json!("SessionPoolNameNotAvailable")));
    assert!(body["error"]["message"].as_str().unwrap().contains("/resourceGroups/rg/"), "{body}");
    assert_eq!(get(&plane, &format!("{elsewhere}/testpool")).await.0, 404);
    assert_eq!(call(&plane, "DELETE", &format!("{elsewhere}/testpool"), &Value::Null).await.0, 204);
    assert_eq!(get(&plane, elsewhere).await.1, json!({"value": []}));
    assert_eq!(get(&plane, &IN_RG.to_uppercase()).await.1["value"].as_array().unwrap().len(), 1);
    let shouted = get(&plane, "/SUBSCRIPTIONS/S/RESOURCEGROUPS/RG/providers/microsoft.app/sessionpools/TESTPOOL").await;
    assert_eq!((shouted.0, &shouted.1["id"]), (200, &json!(format!("{IN_RG}/testpool"))));
}

#[tokio::test]
async fn a_pool_made_by_other_means_is_found_everywhere_until_it_is_given_a_place() {
    let plane = plane(&Store::in_memory().unwrap()).await;
    let spec = PoolSpec { max_sessions: 1000, ..PoolSpec::new("default") };
    plane.inner.pools.create(spec, &Rules::OWN).await.unwrap();
    let any = "/subscriptions/x/resourceGroups/y/providers/Microsoft.App/sessionPools/default";
    let (status, body) = get(&plane, any).await;
    assert_eq!((status, &body["id"], &body["location"]), (200, &json!(any), &json!("local")));
    assert_eq!(get(&plane, "/subscriptions/z/providers/Microsoft.App/sessionPools").await.1["value"][0]["name"], "default");
    // Its thousand sessions may stay, and a location may be given.
    let patch = json!({"location": "eastus", "tags": {"a": "b"}});
    let (status, _, body) = call(&plane, "PATCH", &format!("{IN_RG}/default"), &patch).await;
    assert_eq!((status, &body["tags"], &body["location"]), (200, &json!({"a": "b"}), &json!("eastus")));
    assert_eq!(get(&plane, any).await.0, 404);
    assert_eq!(get(&plane, &format!("{IN_RG}/default")).await.0, 200);
}

#[tokio::test]
async fn what_was_changed_by_other_means_is_shown() {
    let plane = plane(&Store::in_memory().unwrap()).await;
    put(&plane, "testpool", python()).await;
    let patch = greenroom_pool::PoolPatch { max_sessions: Some(7), ..Default::default() };
    plane.inner.pools.update("testpool", patch, &Rules::OWN).await.unwrap();
    let (_, body) = get(&plane, &format!("{IN_RG}/testpool?api-version=2024-02-02-preview")).await;
    assert_eq!(body["properties"]["scaleConfiguration"]["maxConcurrentSessions"], 7);
    assert_eq!(body["properties"]["dynamicPoolConfiguration"], json!({"executionType": "Timed", "cooldownPeriodInSeconds": 300}));
}

#[tokio::test]
async fn nothing_changes_when_a_document_is_refused() {
    let plane = plane(&Store::in_memory().unwrap()).await;
    let (status, body) =
        put(&plane, "testpool", json!({"location": "eastus", "properties": {"containerType": "CustomContainer"}})).await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("CustomContainerNotSupported")));
    assert!(plane.inner.pools.list().is_empty());
    put(&plane, "testpool", python()).await;
    let before = get(&plane, &format!("{IN_RG}/testpool")).await;
    let patch = json!({"tags": {"x": "y"}, "properties": {"scaleConfiguration": {"maxConcurrentSessions": 601}}});
    assert_eq!(call(&plane, "PATCH", &format!("{IN_RG}/testpool"), &patch).await.0, 400);
    let mut after = get(&plane, &format!("{IN_RG}/testpool")).await;
    after.1["properties"]["provisioningState"] = before.1["properties"]["provisioningState"].clone();
    assert_eq!(before, after);
}

#[tokio::test]
async fn the_key_of_an_mcp_server_stays_until_it_is_made_anew() {
    let store = Store::in_memory().unwrap();
    let first = plane(&store).await;
    let target = format!("{IN_RG}/testpool");
    put(&first, "testpool", python()).await;
    let fetch = async |plane: &ControlPlane<Nothing>, action: &str| {
        let (status, _, body) = call(plane, "POST", &format!("{target}/{action}"), &Value::Null).await;
        (status, body)
    };
    let (status, body) = fetch(&first, "fetchMCPServerCredentials").await;
    assert_eq!((status, &body["error"]["code"]), (400, &json!("SessionMCPServerNotEnabled")));
    let on = json!({"properties": {"mcpServerSettings": {"isMCPServerEnabled": true}}});
    let (_, _, shown) = call(&first, "PATCH", &target, &on).await;
    let endpoint = "http://127.0.0.1:1/subscriptions/s/resourceGroups/rg/sessionPools/testpool/mcp";
    assert_eq!(shown["properties"]["mcpServerSettings"], json!({"isMCPServerEnabled": true, "mcpServerEndpoint": endpoint}));
    let (_, key) = fetch(&first, "fetchMCPServerCredentials").await;
    assert_eq!(first.mcp_key("testpool").await.as_deref(), key["apiKey"].as_str());
    assert_eq!(key["apiKey"].as_str().unwrap().len(), 64);
    drop(first);
    let second = plane(&store).await;
    assert_eq!(fetch(&second, "fetchMCPServerCredentials").await.1, key);
    let (_, other) = fetch(&second, "regenerateCredentials").await;
    assert_ne!(other, key);
    assert_eq!(second.mcp_key("testpool").await.as_deref(), other["apiKey"].as_str());
    let off = json!({"properties": {"mcpServerSettings": {"isMCPServerEnabled": false}}});
    call(&second, "PATCH", &target, &off).await;
    assert_eq!(second.mcp_key("testpool").await, None);
}

#[tokio::test]
async fn lists_leave_out_what_the_caller_may_not_see() {
    let plane = plane(&Store::in_memory().unwrap()).await;
    put(&plane, "hidden", python()).await;
    put(&plane, "seen", python()).await;
    let (_, body) = get(&plane, IN_RG).await;
    let names: Vec<_> = body["value"].as_array().unwrap().iter().map(|pool| pool["name"].clone()).collect();
    assert_eq!(names, ["seen"]);
}

#[tokio::test]
async fn what_az_asks_first_is_answered() {
    let plane = plane(&Store::in_memory().unwrap()).await;
    assert_eq!(get(&plane, "/subscriptions?api-version=2022-12-01").await.1["value"][0]["subscriptionId"], SUBSCRIPTION);
    assert_eq!(get(&plane, "/subscriptions/other").await.1["tenantId"], LOCAL_TENANT);
    let (_, group) = get(&plane, "/subscriptions/s/resourcegroups/rg").await;
    let (_, provider) = get(&plane, "/subscriptions/s/providers/Microsoft.App").await;
    let locations = provider["resourceTypes"][0]["locations"].as_array().unwrap();
    let is_listed =
        |wanted: &str| locations.iter().any(|location| location.as_str().unwrap().replace(' ', "").to_lowercase() == wanted);
    assert!(is_listed(group["location"].as_str().unwrap()), "az puts a pool where its group is");
    assert_eq!(get(&plane, "/metadata/endpoints?api-version=2022-09-01").await.1["resourceManager"], "http://127.0.0.1:1");
}
