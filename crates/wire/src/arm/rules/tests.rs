use super::super::settings::{Network, Offer};
use super::*;
use serde_json::{Value, json};

fn offer() -> Offer {
    Offer { container_types: CONTAINER_TYPES.to_vec(), no_network: Some("only in isolation full".to_owned()) }
}

fn id(name: &str) -> PoolId {
    PoolId { subscription: "s".to_owned(), resource_group: "rg".to_owned(), name: name.to_owned() }
}

/// A PUT with these properties, read and checked.
fn put_over(existing: Option<&PoolDocument>, properties: Value) -> Result<PoolDocument, ArmError> {
    let body = json!({"location": "eastus", "properties": properties});
    let document = PoolDocument::from_put(body.to_string().as_bytes(), &offer())?;
    check(&id("testpool"), &document, existing)?;
    Ok(document)
}

fn put(properties: Value) -> Result<PoolDocument, ArmError> {
    put_over(None, properties)
}

/// Status, code and message.
fn refused(properties: Value) -> (u16, &'static str, String) {
    match put(properties.clone()) {
        Err(error) => (error.status(), error.code(), error.to_string()),
        Ok(document) => panic!("{properties} was taken: {document:?}"),
    }
}

#[test]
fn numbers_at_the_edges_are_taken_and_those_beyond_refused_with_the_services_codes() {
    let timed = |cooldown: u32| json!({"dynamicPoolConfiguration": {"lifecycleConfiguration": {"lifecycleType": "Timed", "cooldownPeriodInSeconds": cooldown}}});
    let sessions = |max: u32| json!({"scaleConfiguration": {"maxConcurrentSessions": max}});
    for taken in [timed(300), timed(3600), sessions(1), sessions(600)] {
        put(taken.clone()).unwrap_or_else(|error| panic!("{taken}: {error}"));
    }
    for cooldown in [0, 299, 3601] {
        assert_eq!(
            refused(timed(cooldown)),
            (
                400,
                "SessionPoolInvalidCooldownPeriod",
                format!("cooldownPeriodInSeconds is {cooldown}. Supported values should be between 300 and 3600.")
            )
        );
    }
    for max in [0, 601] {
        assert_eq!(
            refused(sessions(max)),
            (
                400,
                "SessionPoolInvalidMaxConcurrentSessions",
                format!("maxConcurrentSessions is {max}. Supported values should be between 1 and 600.")
            )
        );
    }
}

#[test]
fn what_belongs_to_custom_containers_is_refused_and_says_what_there_is_instead() {
    assert_eq!(
        refused(json!({"containerType": "CustomContainer", "environmentId": "/subscriptions/s/x"})),
        (
            400,
            "CustomContainerNotSupported",
            "This server runs no container images, so that it has no session pools of type 'CustomContainer'. Use one of [PythonLTS, NodeLTS, Shell]: their sessions take code or commands, and files.".to_owned()
        )
    );
    for (properties, what) in [
        (json!({"environmentId": "/subscriptions/s/x"}), "environmentId"),
        (json!({"customContainerTemplate": {"containers": []}}), "customContainerTemplate"),
        (
            json!({"dynamicPoolConfiguration": {"lifecycleConfiguration": {"lifecycleType": "OnContainerExit", "maxAlivePeriodInSeconds": 60}}}),
            "lifecycleType OnContainerExit",
        ),
    ] {
        let expected =
            format!("'{what}' is supported only for container type 'CustomContainer'. Remove it from a pool of type 'PythonLTS'.");
        assert_eq!(refused(properties), (400, "SessionPoolCustomContainerOnly", expected));
    }
    put(json!({"environmentId": null, "customContainerTemplate": null})).unwrap();
}

#[test]
fn types_of_container_are_told_apart_unknown_elsewhere_and_not_offered() {
    assert_eq!(put(json!({"containerType": "nodelts"})).unwrap().settings.container_type, ContainerType::NodeLts);
    let (_, code, message) = refused(json!({"containerType": "Ruby"}));
    assert_eq!(code, "SessionPoolInvalidContainerType");
    assert_eq!(
        message,
        "Session type 'Ruby' is invalid. Valid types are: [PythonLTS, CustomContainer, NodeLTS, GpuBase, CsharpLTS, Shell]"
    );
    let (_, code, message) = refused(json!({"containerType": "GpuBase"}));
    assert_eq!(code, "SessionTypeNotSupportedInRegion");
    assert_eq!(message, "Session type 'GpuBase' is not supported in region 'eastus': use one of [PythonLTS, NodeLTS, Shell].");
    let without_node = container_type("NodeLTS", "eastus", &[ContainerType::PythonLts]).unwrap_err();
    assert_eq!(without_node.to_string(), "Session type 'NodeLTS' is not supported in region 'eastus': use one of [PythonLTS].");
}

#[test]
fn what_the_service_has_one_of_is_refused_otherwise() {
    assert_eq!(
        refused(json!({"poolManagementType": "Manual"})),
        (
            400,
            "SessionPoolInvalidPoolManagementType",
            "The pool management type 'Manual' is not supported. Supported values: Dynamic.".to_owned()
        )
    );
    assert_eq!(
        refused(json!({"sessionNetworkConfiguration": {"status": "EgressEnabled"}})).1,
        "SessionPoolInvalidNetworkConfiguration"
    );
    let subnet = json!({"sessionNetworkConfiguration": {"status": "EgressDisabled", "outboundVnetSubnetId": "/subscriptions/s/x"}});
    assert_eq!(refused(subnet).1, "SessionPoolInvalidNetworkConfiguration");
    let (_, code, message) = refused(json!({"containerType": "NodeLTS", "mcpServerSettings": {"isMCPServerEnabled": true}}));
    assert_eq!(code, "SessionPoolInvalidMCPServerSettings");
    assert_eq!(
        message,
        "The session pool's MCP server is supported only for container types 'PythonLTS' and 'Shell', not 'NodeLTS'."
    );
}

#[test]
fn a_server_with_a_network_takes_egress() {
    let offer = Offer { no_network: None, ..offer() };
    let body = br#"{"location": "eastus", "properties": {"sessionNetworkConfiguration": {"status": "egressenabled"}}}"#;
    assert_eq!(PoolDocument::from_put(body, &offer).unwrap().settings.network, Network::EgressEnabled);
}

#[test]
fn a_period_of_the_other_life_cycle_is_refused_where_it_stands() {
    let (_, code, message) = refused(
        json!({"dynamicPoolConfiguration": {"lifecycleConfiguration": {"lifecycleType": "Timed", "maxAlivePeriodInSeconds": 60}}}),
    );
    assert_eq!(code, "SessionPoolInvalidLifecycleConfiguration");
    assert_eq!(
        message,
        "'properties.dynamicPoolConfiguration.lifecycleConfiguration.maxAlivePeriodInSeconds' can only be set when lifecycleType is \
         'OnContainerExit'. Remove it, or set lifecycleType to 'OnContainerExit'."
    );
}

#[test]
fn names_have_3_to_63_lower_case_letters_digits_and_inner_hyphens() {
    let document = put(json!({})).unwrap();
    for name in ["abc", "a-1", "pool2", &"a".repeat(63)] {
        assert_eq!(check(&id(name), &document, None), Ok(()), "{name}");
    }
    for name in ["ab", "1ab", "-ab", "ab-", "Abc", "a_b", "a.b", "äbc", "a/b", &"a".repeat(64)] {
        assert_eq!(check(&id(name), &document, None).unwrap_err().code(), "SessionPoolInvalidName", "{name}");
    }
    assert_eq!(check(&id("Kept-"), &document, Some(&document)), Ok(()), "a pool that exists has its name already");
}

#[test]
fn location_and_type_are_set_once() {
    let existing = put(json!({})).unwrap();
    let other_type = put_over(Some(&existing), json!({"containerType": "Shell"})).unwrap_err();
    assert_eq!((other_type.status(), other_type.code()), (400, "PropertyChangeNotAllowed"));
    assert_eq!(
        other_type.to_string(),
        "The property 'properties.containerType' cannot be changed from 'PythonLTS' to 'Shell'. Delete the session pool and create it anew, or choose another name."
    );
    let elsewhere = |location: &str| {
        let body = json!({"location": location}).to_string();
        check(&id("testpool"), &PoolDocument::from_put(body.as_bytes(), &offer()).unwrap(), Some(&existing))
    };
    assert_eq!(elsewhere("East US"), Ok(()));
    let error = elsewhere("westus").unwrap_err();
    assert_eq!((error.status(), error.code()), (409, "InvalidResourceLocation"));
    assert_eq!(
        error.to_string(),
        "The resource 'testpool' already exists in location 'eastus' in resource group 'rg'. A resource with the same name cannot be created in location 'westus'. Please select a new resource name."
    );
}

#[test]
fn numbers_that_a_pool_got_by_other_means_may_stay_but_not_come() {
    let mut existing = put(json!({})).unwrap();
    existing.settings.lifecycle = Lifecycle::OnContainerExit { max_alive_s: 60 };
    existing.settings.max_concurrent_sessions = 5000;
    let patched = |body: Value| {
        let document = existing.patched(body.to_string().as_bytes(), &offer())?;
        check(&id("testpool"), &document, Some(&existing)).map(|()| document)
    };
    assert_eq!(patched(json!({"tags": {"a": "b"}})).unwrap().settings.max_concurrent_sessions, 5000);
    assert!(patched(json!({"properties": {"scaleConfiguration": {"maxConcurrentSessions": 5001}}})).is_err());
    let longer = json!({"properties": {"dynamicPoolConfiguration": {"lifecycleConfiguration": {"maxAlivePeriodInSeconds": 61}}}});
    assert_eq!(patched(longer).unwrap_err().code(), "SessionPoolCustomContainerOnly");
    let timed = json!({"properties": {"dynamicPoolConfiguration": {"lifecycleConfiguration": {"cooldownPeriodInSeconds": 300}}}});
    assert_eq!(patched(timed).unwrap().settings.lifecycle, Lifecycle::Timed { cooldown_s: 300 });
}

#[test]
fn the_quota_is_the_number_that_may_be() {
    assert_eq!(check_quota(0, 1), Ok(()));
    let error = check_quota(1, 1).unwrap_err();
    assert_eq!((error.status(), error.code()), (400, "QuotaExceeded"));
}
