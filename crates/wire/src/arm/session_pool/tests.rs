use super::super::settings::Lifecycle;
use super::*;
use proptest::prelude::*;

fn offer() -> Offer {
    Offer { container_types: vec![ContainerType::PythonLts, ContainerType::NodeLts, ContainerType::Shell], no_network: None }
}

fn put(body: &Value) -> PoolDocument {
    PoolDocument::from_put(body.to_string().as_bytes(), &offer()).unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn refused(body: &str) -> (&'static str, String) {
    match PoolDocument::from_put(body.as_bytes(), &offer()) {
        Err(error) => (error.code(), error.to_string()),
        Ok(document) => panic!("{body} was taken: {document:?}"),
    }
}

fn shown(document: PoolDocument, shape: LifecycleShape) -> Value {
    let id = PoolId { subscription: "s".to_owned(), resource_group: "rg".to_owned(), name: "testpool".to_owned() };
    let pool = SessionPool {
        id,
        document,
        provisioning_state: ProvisioningState::Succeeded,
        pool_management_endpoint: "https://127.0.0.1:8443/subscriptions/s/resourceGroups/rg/sessionPools/testpool".to_owned(),
        mcp_server_endpoint: None,
        system_data: None,
    };
    pool.body(shape)
}

/// What `az containerapp sessionpool create -n testpool -g rg --location eastus` sends (extension containerapp): its defaults, and
/// null for whatever was not asked for.
fn az_create() -> Value {
    json!({
        "location": "eastus",
        "properties": {
            "environmentId": null,
            "poolManagementType": "Dynamic",
            "containerType": "PythonLTS",
            "scaleConfiguration": {"maxConcurrentSessions": 10, "readySessionInstances": 5},
            "secrets": null,
            "dynamicPoolConfiguration": {"lifecycleConfiguration": {
                "lifecycleType": "Timed", "cooldownPeriodInSeconds": 300, "maxAlivePeriodInSeconds": null,
            }},
            "customContainerTemplate": null,
            "sessionNetworkConfiguration": {"status": "EgressDisabled"},
            "managedIdentitySettings": null,
        },
        "identity": {"type": "None", "userAssignedIdentities": null},
    })
}

/// The contract's record of a real GET, in its order (section 2.2).
#[test]
fn a_python_pool_is_shown_as_the_service_shows_it_before_2025() {
    let body = shown(put(&az_create()), LifecycleShape::Flat);
    let golden = concat!(
        r#"{"id":"/subscriptions/s/resourceGroups/rg/providers/Microsoft.App/sessionPools/testpool","name":"testpool","#,
        r#""type":"Microsoft.App/sessionPools","location":"eastus","#,
        r#""properties":{"environmentId":null,"poolManagementType":"Dynamic","containerType":"PythonLTS","#,
        r#""scaleConfiguration":{"maxConcurrentSessions":10},"#,
        r#""dynamicPoolConfiguration":{"executionType":"Timed","cooldownPeriodInSeconds":300},"#,
        r#""sessionNetworkConfiguration":{"status":"EgressDisabled"},"provisioningState":"Succeeded","#,
        r#""poolManagementEndpoint":"https://127.0.0.1:8443/subscriptions/s/resourceGroups/rg/sessionPools/testpool","#,
        r#""managedIdentitySettings":[]},"identity":{"type":"None"}}"#,
    );
    assert_eq!(body.to_string(), golden);
}

#[test]
fn newer_versions_nest_the_life_cycle() {
    let body = shown(put(&az_create()), LifecycleShape::Nested);
    assert_eq!(
        body["properties"]["dynamicPoolConfiguration"],
        json!({"lifecycleConfiguration": {"lifecycleType": "Timed", "cooldownPeriodInSeconds": 300}})
    );
}

#[test]
fn a_life_cycle_is_read_in_either_shape_whatever_the_version() {
    for (configuration, cooldown_s) in [
        (json!({"executionType": "Timed", "cooldownPeriodInSeconds": 600}), 600),
        (json!({"executionType": "timed"}), 300),
        (json!({"cooldownPeriodInSeconds": 900}), 900),
        (json!({"lifecycleConfiguration": {"cooldownPeriodInSeconds": 700}}), 700),
        (json!({"lifecycleConfiguration": {"lifecycleType": "TIMED"}}), 300),
        (
            json!({"executionType": "Timed", "cooldownPeriodInSeconds": 600, "lifecycleConfiguration": {"cooldownPeriodInSeconds": 700}}),
            700,
        ),
        (json!({}), 300),
    ] {
        let body = json!({"location": "eastus", "properties": {"dynamicPoolConfiguration": configuration}});
        assert_eq!(put(&body).settings.lifecycle, Lifecycle::Timed { cooldown_s }, "{body}");
    }
}

#[test]
fn a_body_with_a_location_alone_has_azs_defaults() {
    let document = put(&json!({"location": "East US"}));
    assert_eq!(
        document.settings,
        PoolSettings {
            container_type: ContainerType::PythonLts,
            max_concurrent_sessions: 10,
            ready_session_instances: None,
            lifecycle: Lifecycle::Timed { cooldown_s: 300 },
            network: Network::EgressDisabled,
            mcp_enabled: false,
            location: "East US".to_owned(),
            tags: Vec::new(),
        }
    );
    assert_eq!(put(&az_create()).settings.ready_session_instances, Some(5));
}

#[test]
fn more_ready_than_there_may_be_are_as_many_as_there_may_be() {
    let mut body = az_create();
    body["properties"]["scaleConfiguration"]["maxConcurrentSessions"] = 2.into();
    assert_eq!(put(&body).settings.ready_session_instances, Some(2));
}

#[test]
fn the_values_of_secrets_are_forgotten_and_never_shown() {
    let mut body = az_create();
    body["properties"]["secrets"] = json!([{"name": "token", "value": "s3cr3t"}, {"name": "other"}]);
    let document = put(&body);
    assert!(!serde_json::to_string(&document).unwrap().contains("s3cr3t"));
    let shown = shown(document, LifecycleShape::Nested);
    assert_eq!(shown["properties"]["secrets"], json!([{"name": "token"}, {"name": "other"}]));
}

#[test]
fn what_is_not_known_and_what_only_the_server_writes_is_ignored() {
    let mut body = az_create();
    body["id"] = "/subscriptions/other".into();
    body["systemData"] = json!({"createdBy": "me"});
    body["properties"]["provisioningState"] = "Failed".into();
    body["properties"]["poolManagementEndpoint"] = "https://elsewhere".into();
    body["properties"]["nodeCount"] = 7.into();
    body["properties"]["templateUpdate"] = json!({"a": 1});
    assert_eq!(put(&body), put(&az_create()));
}

#[test]
fn what_was_shown_can_be_put_again_and_changes_nothing() {
    let mut body = az_create();
    body["tags"] = json!({"b": "2", "a": "1"});
    body["identity"] = json!({"type": "SystemAssigned, UserAssigned", "userAssignedIdentities": {"/id/1": {"clientId": "x"}}});
    body["properties"]["managedIdentitySettings"] = json!([{"identity": "system", "lifecycle": "Main"}]);
    body["properties"]["mcpServerSettings"] = json!({"isMCPServerEnabled": true});
    let document = put(&body);
    for shape in [LifecycleShape::Flat, LifecycleShape::Nested] {
        let shown = shown(document.clone(), shape);
        assert_eq!(shown["identity"], json!({"type": "SystemAssigned,UserAssigned", "userAssignedIdentities": {"/id/1": {}}}));
        assert_eq!(shown["tags"].to_string(), r#"{"b":"2","a":"1"}"#);
        let again = put(&shown);
        // The service never shows how many are ready.
        let settings = PoolSettings { ready_session_instances: None, ..document.settings.clone() };
        assert_eq!(again, PoolDocument { settings, ..document.clone() });
        assert_eq!(document.patched(shown.to_string().as_bytes(), &offer()).unwrap(), document);
    }
}

#[test]
fn a_patch_changes_what_it_names_and_nothing_else() {
    let mut body = az_create();
    body["tags"] = json!({"keep": "1", "drop": "2", "change": "3"});
    let document = put(&body);
    let patched = |patch: Value| document.patched(patch.to_string().as_bytes(), &offer()).unwrap();

    assert_eq!(patched(json!({})), document);
    let tags = patched(json!({"tags": {"drop": null, "change": "4", "new": "5"}})).settings.tags;
    let tags: Vec<_> = tags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(tags, [("keep", "1"), ("change", "4"), ("new", "5")]);

    let scaled = patched(json!({"properties": {"scaleConfiguration": {"maxConcurrentSessions": 3}}})).settings;
    assert_eq!((scaled.max_concurrent_sessions, scaled.ready_session_instances), (3, Some(3)));
    assert_eq!(scaled.lifecycle, document.settings.lifecycle);

    // `az containerapp sessionpool update` sends null for what it was not told.
    let nulls =
        patched(json!({"properties": {"scaleConfiguration": null, "dynamicPoolConfiguration": {"lifecycleConfiguration": null}}}));
    assert_eq!(nulls, document);

    for cooldown in [
        json!({"executionType": "Timed", "cooldownPeriodInSeconds": 400}),
        json!({"cooldownPeriodInSeconds": 400}),
        json!({"lifecycleConfiguration": {"cooldownPeriodInSeconds": 400}}),
    ] {
        let changed = patched(json!({"properties": {"dynamicPoolConfiguration": cooldown}}));
        assert_eq!(changed.settings.lifecycle, Lifecycle::Timed { cooldown_s: 400 });
    }
    let secrets = patched(json!({"properties": {"secrets": [{"name": "new", "value": "x"}]}}));
    assert_eq!(secrets.secrets, ["new"]);
}

#[test]
fn a_user_assigned_identity_goes_where_it_is_set_to_null() {
    let mut body = az_create();
    body["identity"] = json!({"type": "UserAssigned", "userAssignedIdentities": {"/id/1": {}, "/id/2": {}}});
    let patch = json!({"identity": {"userAssignedIdentities": {"/id/1": null}}});
    let patched = put(&body).patched(patch.to_string().as_bytes(), &offer()).unwrap();
    assert_eq!(patched.identity.write(), json!({"type": "UserAssigned", "userAssignedIdentities": {"/id/2": {}}}));
    let none = json!({"identity": {"type": "None"}});
    assert_eq!(patched.patched(none.to_string().as_bytes(), &offer()).unwrap().identity, Identity::default());
}

#[test]
fn what_cannot_be_read_is_named() {
    for (body, code, message) in [
        (
            "{",
            "InvalidRequestContent",
            "The request content was invalid and could not be deserialized: 'EOF while parsing an object at line 1 column 1'.",
        ),
        ("[]", "InvalidRequestContent", "The request content was invalid: 'the body' must be an object, not an array."),
        ("{}", "LocationRequired", "The location property is required for this definition."),
        (r#"{"location": " "}"#, "LocationRequired", "The location property is required for this definition."),
        (
            r#"{"location": 1}"#,
            "InvalidRequestContent",
            "The request content was invalid: 'location' must be a string, not this number.",
        ),
        (
            r#"{"location": "eastus", "properties": {"scaleConfiguration": {"maxConcurrentSessions": -1}}}"#,
            "InvalidRequestContent",
            "The request content was invalid: 'properties.scaleConfiguration.maxConcurrentSessions' must be a whole number from 0 to 4294967295, not this number.",
        ),
        (
            r#"{"location": "eastus", "properties": {"sessionNetworkConfiguration": {"status": "On"}}}"#,
            "InvalidRequestContent",
            "The request content was invalid: 'properties.sessionNetworkConfiguration.status' is 'On'. Valid values are: [EgressEnabled, EgressDisabled]",
        ),
        (
            r#"{"location": "eastus", "properties": {"secrets": [{"value": "x"}]}}"#,
            "InvalidRequestContent",
            "The request content was invalid: 'properties.secrets[0].name' is required.",
        ),
        (
            r#"{"location": "eastus", "tags": {"a": 1}}"#,
            "InvalidRequestContent",
            "The request content was invalid: 'tags.a' must be a string, not this number.",
        ),
        (
            r#"{"location": "eastus", "properties": {"dynamicPoolConfiguration": {"executionType": "OnContainerExit"}}}"#,
            "InvalidRequestContent",
            "The request content was invalid: 'properties.dynamicPoolConfiguration.executionType' is 'OnContainerExit'. Valid values are: [Timed]",
        ),
        (
            r#"{"location": "eastus", "identity": {"type": "Mine"}}"#,
            "InvalidRequestContent",
            "The request content was invalid: 'identity.type' is 'Mine'. Valid values are: [None, SystemAssigned, UserAssigned, SystemAssigned,UserAssigned, SystemAssigned, UserAssigned]",
        ),
    ] {
        assert_eq!(refused(body), (code, message.to_owned()), "{body}");
    }
}

#[test]
fn mcp_and_who_and_when_are_shown_where_they_are_known() {
    let mut body = az_create();
    body["properties"]["mcpServerSettings"] = json!({"isMCPServerEnabled": true});
    let by = |at: &str| (String::from("alice"), String::from("User"), at.to_owned());
    let ((created_by, created_by_type, created_at), (last_modified_by, last_modified_by_type, last_modified_at)) =
        (by("2026-11-24T13:02:00Z"), by("2026-11-25T13:02:00Z"));
    let pool = SessionPool {
        id: PoolId { subscription: "s".to_owned(), resource_group: "rg".to_owned(), name: "testpool".to_owned() },
        document: put(&body),
        provisioning_state: ProvisioningState::InProgress,
        pool_management_endpoint: "http://h/p".to_owned(),
        mcp_server_endpoint: Some("http://h/p/mcp".to_owned()),
        system_data: Some(SystemData {
            created_by,
            created_by_type,
            created_at,
            last_modified_by,
            last_modified_by_type,
            last_modified_at,
        }),
    };
    let body = pool.body(LifecycleShape::Nested);
    assert_eq!(body["properties"]["mcpServerSettings"], json!({"isMCPServerEnabled": true, "mcpServerEndpoint": "http://h/p/mcp"}));
    assert_eq!(body["properties"]["provisioningState"], "InProgress");
    assert_eq!(
        body["systemData"],
        json!({
            "createdBy": "alice", "createdByType": "User", "createdAt": "2026-11-24T13:02:00Z",
            "lastModifiedBy": "alice", "lastModifiedByType": "User", "lastModifiedAt": "2026-11-25T13:02:00Z",
        })
    );
    assert_eq!(page(vec![body.clone()], None), json!({"value": [body.clone()]}));
    assert_eq!(page(Vec::new(), Some("http://h/?skip=1")), json!({"value": [], "nextLink": "http://h/?skip=1"}));
    assert_eq!(mcp_credentials("k"), json!({"apiKey": "k"}));
}

#[test]
fn a_document_is_the_same_after_it_was_stored() {
    let mut body = az_create();
    body["tags"] = json!({"z": "1", "a": "2"});
    let document = put(&body);
    let stored = serde_json::to_string(&document).unwrap();
    assert_eq!(serde_json::from_str::<PoolDocument>(&stored).unwrap(), document);
}

proptest! {
    #[test]
    fn no_body_makes_it_panic(body in ".*", patch in r#"\{("(tags|properties|identity|location)":(\{\}|null|1|"x"|\[1\]),?){0,3}\}"#) {
        drop(PoolDocument::from_put(body.as_bytes(), &offer()));
        let document = put(&az_create());
        // A patch that is taken leaves what can be put.
        for patch in [&patch, &body] {
            if let Ok(patched) = document.patched(patch.as_bytes(), &offer()) {
                prop_assert_eq!(put(&patched.write()), patched);
            }
        }
    }
}
