use super::*;
use proptest::prelude::*;

const SUBSCRIPTION: &str = "34adfa4f-cedf-4dc0-ba29-b6d1a69ab345";
const POOL: &str =
    "/subscriptions/34adfa4f-cedf-4dc0-ba29-b6d1a69ab345/resourceGroups/rg/providers/Microsoft.App/sessionPools/testpool";
const LOCATION: &str = "/subscriptions/34adfa4f-cedf-4dc0-ba29-b6d1a69ab345/providers/Microsoft.App/locations/eastus";

fn pool() -> PoolId {
    PoolId { subscription: SUBSCRIPTION.to_owned(), resource_group: "rg".to_owned(), name: "testpool".to_owned() }
}

fn call(method: &str, path: &str) -> Call {
    Call::parse(method, path)
        .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
        .unwrap_or_else(|| panic!("{path} is not ours"))
}

fn refusal(method: &str, path: &str) -> (u16, &'static str, String) {
    match Call::parse(method, path) {
        Err(error) => (error.status(), error.code(), error.to_string()),
        Ok(call) => panic!("{method} {path} is {call:?}"),
    }
}

#[test]
fn every_call_of_the_contract_is_found() {
    let subscription = SUBSCRIPTION.to_owned();
    let operation =
        || OperationId { subscription: SUBSCRIPTION.to_owned(), location: "eastus".to_owned(), operation: "op-1".to_owned() };
    for (method, path, expected) in [
        ("PUT", POOL.to_owned(), Call::PutPool(pool())),
        ("GET", POOL.to_owned(), Call::GetPool(pool())),
        ("HEAD", POOL.to_owned(), Call::GetPool(pool())),
        ("PATCH", POOL.to_owned(), Call::PatchPool(pool())),
        ("DELETE", POOL.to_owned(), Call::DeletePool(pool())),
        ("POST", format!("{POOL}/fetchMCPServerCredentials"), Call::FetchMcpCredentials(pool())),
        ("POST", format!("{POOL}/regenerateCredentials"), Call::RegenerateMcpCredentials(pool())),
        (
            "GET",
            format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.App/sessionPools"),
            Call::ListInGroup { subscription: subscription.clone(), resource_group: "rg".to_owned() },
        ),
        (
            "GET",
            format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.App/sessionPools"),
            Call::ListInSubscription { subscription: subscription.clone() },
        ),
        ("GET", format!("{LOCATION}/sessionPoolOperationStatuses/op-1"), Call::OperationStatus(operation())),
        ("GET", format!("{LOCATION}/operationResults/op-1"), Call::OperationResult(operation())),
        (
            "GET",
            format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.App"),
            Call::Provider { subscription: subscription.clone() },
        ),
        ("GET", "/subscriptions".to_owned(), Call::ListSubscriptions),
        ("GET", format!("/subscriptions/{SUBSCRIPTION}"), Call::GetSubscription { subscription: subscription.clone() }),
        (
            "GET",
            format!("/subscriptions/{SUBSCRIPTION}/resourcegroups/rg"),
            Call::GetResourceGroup { subscription: subscription.clone(), resource_group: "rg".to_owned() },
        ),
        ("GET", "/metadata/endpoints".to_owned(), Call::CloudMetadata),
    ] {
        assert_eq!(call(method, &path), expected);
        assert_eq!(call(method, &format!("{path}/")), expected, "with a slash at the end");
        assert_eq!(call(method, &format!("/{path}")), expected, "behind a base that ends with a slash");
    }
}

#[test]
fn case_does_not_matter_and_ids_keep_the_case_they_were_sent_in() {
    let shouted = call("GET", "/SUBSCRIPTIONS/Sub/RESOURCEGROUPS/RG/PROVIDERS/MICROSOFT.APP/SESSIONPOOLS/Pool");
    let Call::GetPool(id) = &shouted else { panic!("{shouted:?}") };
    assert_eq!(id.resource_id(), "/subscriptions/Sub/resourceGroups/RG/providers/Microsoft.App/sessionPools/Pool");
    assert_eq!(id, &PoolId { subscription: "sub".to_owned(), resource_group: "rg".to_owned(), name: "pool".to_owned() });
    assert_eq!(id.key(), id.key().to_lowercase());
}

#[test]
fn segments_are_decoded_after_the_path_is_split() {
    let Call::GetPool(id) = call("GET", "/subscriptions/s/resource%47roups/my%28rg%29/providers/Microsoft.App/sessionPools/a%2Fb")
    else {
        panic!("no pool");
    };
    assert_eq!((id.resource_group.as_str(), id.name.as_str()), ("my(rg)", "a/b"));
    for (path, message) in [
        ("/subscriptions/a%2", "the path segment 'a%2' is not percent-encoded UTF-8: write '%25' for a percent sign"),
        ("/subscriptions/%ff", "the path segment '%ff' is not percent-encoded UTF-8: write '%25' for a percent sign"),
        ("/subscriptions/%+1", "the path segment '%+1' is not percent-encoded UTF-8: write '%25' for a percent sign"),
    ] {
        assert_eq!(refusal("GET", path), (400, "BadRequest", message.to_owned()));
    }
}

#[test]
fn the_data_plane_and_everything_else_is_left_to_others() {
    for path in [
        "/",
        "",
        "/api/v2/execute",
        "/metadata",
        "/metadata/endpoints/x",
        "/subscriptionsx",
        "/subscriptions/s/resourceGroups/g/sessionPools/p",
        "/subscriptions/s/resourcegroups/g/sessionpools/p/executions",
        "/subscriptions/s/resourceGroups/g/sessionPools/p/files/%41/content",
        "/subscriptions/s/resourceGroups/a b/sessionPools/p/metadata",
    ] {
        assert_eq!(Call::parse("GET", path), Ok(None), "{path}");
    }
}

#[test]
fn unknown_resources_are_not_found_in_arms_words() {
    for path in [
        "/subscriptions/s/providers",
        "/subscriptions/s/locations",
        "/subscriptions/s/resourceGroups",
        "/subscriptions/s/providers/Microsoft.Compute",
        "/subscriptions/s/providers/Microsoft.App/containerApps",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.App",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.App/managedEnvironments/e",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools//",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools/p/stop",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools/p/providers/Microsoft.Authorization/roleAssignments/r",
        "/subscriptions/s/providers/Microsoft.App/locations/eastus/usages/x",
        "/subscriptions/s/providers/Microsoft.App/locations/eastus",
    ] {
        let (status, code, _) = refusal("GET", path);
        assert_eq!((status, code), (404, "InvalidResourceType"), "{path}");
    }
    let (_, _, message) = refusal("GET", "/subscriptions/s/providers/Microsoft.Compute");
    assert_eq!(
        message,
        "there is no resource at '/subscriptions/s/providers/Microsoft.Compute': this server has Microsoft.App/sessionPools"
    );
}

#[test]
fn other_methods_are_told_which_are_allowed() {
    for (method, path, allow) in [
        ("POST", POOL.to_owned(), "GET, PUT, PATCH, DELETE"),
        ("get", POOL.to_owned(), "GET, PUT, PATCH, DELETE"),
        ("GET", format!("{POOL}/fetchMCPServerCredentials"), "POST"),
        ("PUT", format!("{LOCATION}/operationResults/op"), "GET"),
        ("DELETE", "/subscriptions".to_owned(), "GET"),
        ("POST", "/metadata/endpoints".to_owned(), "GET"),
    ] {
        let error = Call::parse(method, &path).unwrap_err();
        assert_eq!((error.status(), error.code()), (405, "HttpMethodNotAllowed"));
        assert_eq!(error.headers(), [("Allow", allow.to_owned())], "{method} {path}");
    }
}

#[test]
fn what_could_not_stand_in_an_id_is_refused() {
    for (path, code) in [
        ("/subscriptions//resourceGroups/g", "InvalidSubscriptionId"),
        ("/subscriptions/..", "InvalidSubscriptionId"),
        ("/subscriptions/a%0d%0ab", "InvalidSubscriptionId"),
        ("/subscriptions/a%2Fb", "InvalidSubscriptionId"),
        ("/subscriptions/s/resourceGroups/a%20b", "InvalidResourceGroup"),
        ("/subscriptions/s/resourceGroups/g.", "InvalidResourceGroup"),
        ("/subscriptions/s/resourceGroups//providers/Microsoft.App/sessionPools", "InvalidResourceGroup"),
        ("/subscriptions/s/providers/Microsoft.App/locations/x/operationResults/a%0db", "OperationNotFound"),
        ("/subscriptions/s/providers/Microsoft.App/locations/a%22b/operationResults/a", "OperationNotFound"),
    ] {
        assert_eq!(refusal("GET", path).1, code, "{path}");
    }
}

#[test]
fn locations_are_the_same_however_they_are_spelled() {
    for (given, normal) in [("East US", "eastus"), ("eastus", "eastus"), ("East US 2 (Stage)", "eastus2stage")] {
        assert_eq!(normal_location(given), normal);
        assert_eq!(OperationId::new(&pool(), given, "op").location, normal);
    }
    assert_eq!(OperationId::new(&pool(), "somewhere/else", "op").location, "local");
}

#[test]
fn only_changing_calls_and_secrets_need_more_than_reading() {
    assert_eq!(call("PUT", POOL).action(), Some("Microsoft.App/sessionPools/write"));
    assert_eq!(call("GET", POOL).action(), Some("Microsoft.App/sessionPools/read"));
    assert_eq!(call("DELETE", POOL).action(), Some("Microsoft.App/sessionPools/delete"));
    assert_eq!(
        call("POST", &format!("{POOL}/fetchmcpservercredentials")).action(),
        Some("Microsoft.App/sessionPools/fetchMCPServerCredentials/action")
    );
    assert_eq!(call("GET", "/subscriptions").action(), None);
    assert_eq!(call("PATCH", POOL).pool(), Some(&pool()));
    assert_eq!(call("GET", "/subscriptions").pool(), None);
}

proptest! {
    #[test]
    fn no_path_makes_it_panic(method in "GET|PUT|POST|.*", path in ".*") {
        drop(Call::parse(&method, &path));
    }

    #[test]
    fn no_path_that_is_almost_right_makes_it_panic(
        segments in prop::collection::vec(
            prop_oneof![
                Just("subscriptions".to_owned()), Just("resourceGroups".to_owned()), Just("providers".to_owned()),
                Just("Microsoft.App".to_owned()), Just("sessionPools".to_owned()), Just("locations".to_owned()),
                Just("operationResults".to_owned()), Just("g".to_owned()), "[a-z%0-9é ]{0,6}",
            ],
            0..10,
        ),
    ) {
        let path = format!("/subscriptions/{}", segments.join("/"));
        // Ids go into headers.
        if let Ok(Some(Call::OperationStatus(id) | Call::OperationResult(id))) = Call::parse("GET", &path) {
            prop_assert!(id.path("x").bytes().all(|byte| (b'!'..=b'~').contains(&byte)));
        }
    }

    #[test]
    fn a_pool_is_found_again_by_the_id_it_is_answered_with(
        subscription in "[A-Za-z0-9-]{1,36}", group in "[A-Za-z0-9_()-]{1,20}", name in "[a-z][a-z0-9-]{2,30}",
    ) {
        let id = PoolId { subscription, resource_group: group, name };
        prop_assert_eq!(Call::parse("GET", &id.resource_id()), Ok(Some(Call::GetPool(id.clone()))));
    }
}
