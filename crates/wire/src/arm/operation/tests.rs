use super::super::path::PoolId;
use super::*;
use serde_json::json;

const BASE: &str = "https://127.0.0.1:8443";
const STATUSES: &str = "/subscriptions/s/providers/Microsoft.App/locations/eastus/sessionPoolOperationStatuses/op-1";

fn operation(state: OperationState) -> Operation {
    let pool = PoolId { subscription: "s".to_owned(), resource_group: "rg".to_owned(), name: "testpool".to_owned() };
    Operation {
        id: OperationId::new(&pool, "East US", "op-1"),
        ended_at: (state != OperationState::InProgress).then(|| "2026-11-24T13:02:01Z".to_owned()),
        state,
        started_at: "2026-11-24T13:02:00Z".to_owned(),
    }
}

fn version() -> ApiVersion {
    ApiVersion::of_query(Some("api-version=2025-07-01"))
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

#[test]
fn a_creation_is_polled_for_its_status_at_a_whole_address() {
    let response = operation(OperationState::InProgress).creating(BASE, &version(), json!({"name": "testpool"}));
    assert_eq!((response.status, &response.body), (201, &Some(json!({"name": "testpool"}))));
    assert_eq!(header(&response, "Azure-AsyncOperation"), Some(format!("{BASE}{STATUSES}?api-version=2025-07-01").as_str()));
    assert_eq!(header(&response, "Location"), None, "azure-core would take the result for the resource");
    assert_eq!(header(&response, "Retry-After"), Some("1"));
}

#[test]
fn a_change_has_both_addresses_and_a_removal_only_that_of_its_result() {
    let results =
        format!("{BASE}/subscriptions/s/providers/Microsoft.App/locations/eastus/operationResults/op-1?api-version=2025-07-01");
    let running = operation(OperationState::InProgress);
    let changing = running.changing(&format!("{BASE}/"), &version());
    assert_eq!((changing.status, &changing.body), (202, &None));
    assert_eq!(header(&changing, "Location"), Some(results.as_str()));
    assert_eq!(header(&changing, "Azure-AsyncOperation"), Some(format!("{BASE}{STATUSES}?api-version=2025-07-01").as_str()));
    let removing = running.removing(BASE, &version());
    assert_eq!((removing.status, &removing.body), (202, &None));
    assert_eq!(header(&removing, "Location"), Some(results.as_str()));
    assert_eq!(header(&removing, "Azure-AsyncOperation"), None);
}

#[test]
fn the_status_says_how_far_it_is_and_what_ended_it() {
    let running = operation(OperationState::InProgress).status();
    assert_eq!(
        running.body,
        Some(json!({"id": STATUSES, "name": "op-1", "status": "InProgress", "startTime": "2026-11-24T13:02:00Z"}))
    );
    assert_eq!((running.status, header(&running, "Retry-After")), (200, Some("1")));
    let done = operation(OperationState::Succeeded).status();
    assert_eq!(
        done.body,
        Some(json!({
            "id": STATUSES, "name": "op-1", "status": "Succeeded",
            "startTime": "2026-11-24T13:02:00Z", "endTime": "2026-11-24T13:02:01Z",
        }))
    );
    let failed = operation(OperationState::Failed(ArmError::Provisioning("python3 is not installed".to_owned()))).status();
    assert_eq!(failed.status, 200, "the operation failed, not the question");
    let body = failed.body.unwrap();
    assert_eq!(body["status"], "Failed");
    assert_eq!(
        body["error"],
        json!({
            "code": "SessionPoolProvisioningFailed",
            "message": "The session pool could not be provisioned: python3 is not installed",
        })
    );
}

#[test]
fn the_result_is_202_until_it_is_the_resource_or_nothing_or_the_error() {
    let result = |state, resource| operation(state).result(BASE, &version(), resource);
    let running = result(OperationState::InProgress, Some(json!({"name": "testpool"})));
    assert_eq!((running.status, &running.body), (202, &None));
    assert!(header(&running, "Location").is_some_and(|location| location.contains("/operationResults/op-1?")));
    let changed = result(OperationState::Succeeded, Some(json!({"name": "testpool"})));
    assert_eq!((changed.status, changed.body), (200, Some(json!({"name": "testpool"}))));
    let removed = result(OperationState::Succeeded, None);
    assert_eq!((removed.status, removed.body), (204, None));
    let failed = result(OperationState::Failed(ArmError::Provisioning("no memory".to_owned())), None);
    assert_eq!(failed.status, 500);
    assert_eq!(failed.body.unwrap()["error"]["code"], "SessionPoolProvisioningFailed");
}

#[test]
fn a_refusal_has_arms_envelope_and_the_errors_headers() {
    let refused = Response::refused(&ArmError::Authentication("The 'Authorization' header is missing.".to_owned()));
    assert_eq!(refused.status, 401);
    assert_eq!(header(&refused, "WWW-Authenticate"), Some("Bearer"));
    assert_eq!(
        refused.body,
        Some(json!({"error": {
            "code": "AuthenticationFailed",
            "message": "Authentication failed. The 'Authorization' header is missing.",
        }}))
    );
}
