//! Azure's control plane, as management clients call it.

use std::time::{Duration, Instant};

use greenroom_contract::{Request, Response, Server};
use serde_json::{Value, json};

crate::rows!(
    a_pool_is_made_polled_changed_listed_and_removed,
    a_python_pool_is_shown_as_the_service_shows_it,
    a_pool_of_every_kind_gets_a_session_that_answers,
    the_version_chooses_the_shape_of_the_life_cycle,
    what_the_service_refuses_is_refused_with_its_codes,
    what_this_server_has_not_is_refused_and_said_so,
    a_pool_with_network_is_made_where_the_host_has_one,
    a_pool_that_is_not_there_is_not_found,
    a_body_that_is_no_json_changes_nothing,
    secrets_can_be_written_only,
    addresses_are_those_that_the_client_used,
    a_name_belongs_to_one_resource_group,
    the_default_pool_is_in_every_resource_group,
    an_operation_that_never_was_is_not_found,
    credentials_of_an_mcp_server_are_fetched_and_made_anew,
    what_az_asks_first_is_answered,
);

const GROUP: &str = "/subscriptions/34adfa4f-cedf-4dc0-ba29-b6d1a69ab345/resourceGroups/rg/providers/Microsoft.App/sessionPools";
const VERSION: &str = "api-version=2025-07-01";
/// For a pool to have its first session, or to be gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends what a management client sends.
fn send(server: &Server, method: &str, target: &str, body: Option<&Value>) -> Response {
    let separator = if target.contains('?') { '&' } else { '?' };
    let target = if target.contains("api-version") { target.to_owned() } else { format!("{target}{separator}{VERSION}") };
    let request = Request::new(method, &target);
    let request = match body {
        Some(body) => request.json(body),
        None => request,
    };
    server.send(&request).unwrap_or_else(|error| panic!("{error:#} for {method} {target}"))
}

fn get(server: &Server, target: &str) -> Response {
    send(server, "GET", target, None)
}

fn code(response: &Response) -> String {
    response.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

/// Polls the address in this header as clients do: until the status object is final, or the answer is another than 202.
fn poll(server: &Server, started: &Response, header: &str) -> Response {
    let address = started.header(header).unwrap_or_else(|| panic!("no {header} in {started:?}"));
    let host = format!("http://{}", server.host());
    let target = address.strip_prefix(&host).unwrap_or_else(|| panic!("{address} is not at {host}"));
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let response = get(server, target);
        let goes_on = response.status == 202 || (header == "Azure-AsyncOperation" && response.json()["status"] == "InProgress");
        if !goes_on {
            return response;
        }
        assert!(response.header("Retry-After").is_some(), "{response:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the operation at {address} does not end")
}

/// Makes a pool and waits until it is there; its document.
fn make(server: &Server, name: &str, body: &Value) -> Value {
    let target = format!("{GROUP}/{name}");
    let made = send(server, "PUT", &target, Some(body));
    assert_eq!(made.status, 201, "{}", made.text());
    let operation = poll(server, &made, "Azure-AsyncOperation").json();
    assert_eq!(operation["status"], "Succeeded", "{operation}");
    get(server, &target).json()
}

fn remove(server: &Server, name: &str) {
    let removed = send(server, "DELETE", &format!("{GROUP}/{name}"), None);
    assert_eq!((removed.status, removed.body.len()), (202, 0), "{removed:?}");
    assert_eq!(poll(server, &removed, "Location").status, 204);
}

/// One session ready: rows should not fill the machine.
fn python() -> Value {
    json!({"location": "eastus", "properties": {
        "containerType": "PythonLTS", "scaleConfiguration": {"maxConcurrentSessions": 10, "readySessionInstances": 1},
    }})
}

fn a_pool_is_made_polled_changed_listed_and_removed(server: &Server) {
    let target = format!("{GROUP}/arm-life");
    let mut body = python();
    body["tags"] = json!({"team": "a"});
    let made = send(server, "PUT", &target, Some(&body));
    assert_eq!((made.status, made.header("content-type")), (201, Some("application/json; charset=utf-8")), "{}", made.text());
    assert!(made.header("Retry-After").is_some_and(|seconds| seconds != "0"), "{made:?}");
    let operation = poll(server, &made, "Azure-AsyncOperation");
    assert_eq!((operation.status, &operation.json()["status"]), (200, &json!("Succeeded")), "{}", operation.text());
    let shown = get(server, &target).json();
    assert_eq!(shown["properties"]["provisioningState"], "Succeeded");
    assert_eq!(
        (&shown["type"], &shown["name"], &shown["id"]),
        (&json!("Microsoft.App/sessionPools"), &json!("arm-life"), &json!(target))
    );

    let patch = json!({"tags": {"team": null, "more": "b"}, "properties": {"scaleConfiguration": {"maxConcurrentSessions": 7}}});
    let patched = send(server, "PATCH", &target, Some(&patch));
    assert_eq!((patched.status, &patched.json()["tags"]), (200, &json!({"more": "b"})), "{}", patched.text());
    assert_eq!(patched.json()["properties"]["scaleConfiguration"], json!({"maxConcurrentSessions": 7}));
    let again = send(server, "PUT", &target, Some(&body));
    assert_eq!((again.status, &again.json()["tags"]), (200, &json!({"team": "a"})));
    assert_eq!(again.json()["systemData"]["createdAt"], shown["systemData"]["createdAt"]);

    for list in [GROUP, "/subscriptions/34adfa4f-cedf-4dc0-ba29-b6d1a69ab345/providers/Microsoft.App/sessionPools"] {
        let listed = get(server, list).json();
        let found = listed["value"].as_array().expect("an array").iter().find(|pool| pool["name"] == "arm-life");
        assert_eq!(found, Some(&get(server, &target).json()), "in {list}");
    }
    remove(server, "arm-life");
    assert_eq!(get(server, &target).status, 404);
    assert_eq!(send(server, "DELETE", &target, None).status, 204);
}

/// The contract's record of a real GET (section 2.2).
fn a_python_pool_is_shown_as_the_service_shows_it(server: &Server) {
    make(server, "arm-golden", &python());
    let shown = get(server, &format!("{GROUP}/arm-golden?api-version=2024-02-02-preview")).json();
    let host = server.host();
    let endpoint =
        format!("http://{host}/subscriptions/34adfa4f-cedf-4dc0-ba29-b6d1a69ab345/resourceGroups/rg/sessionPools/arm-golden");
    let expected = json!({
        "environmentId": null, "poolManagementType": "Dynamic", "containerType": "PythonLTS",
        "scaleConfiguration": {"maxConcurrentSessions": 10},
        "dynamicPoolConfiguration": {"executionType": "Timed", "cooldownPeriodInSeconds": 300},
        "sessionNetworkConfiguration": {"status": "EgressDisabled"},
        "provisioningState": "Succeeded", "poolManagementEndpoint": endpoint, "managedIdentitySettings": [],
    });
    assert_eq!(shown["properties"], expected);
    assert_eq!(shown["identity"], json!({"type": "None"}));
    remove(server, "arm-golden");
}

fn a_pool_of_every_kind_gets_a_session_that_answers(server: &Server) {
    for (kind, language, body, pointer, expected) in [
        ("PythonLTS", "python", json!({"code": "6 * 7"}), "/result/executionResult", json!(42)),
        ("NodeLTS", "javascript", json!({"code": "6 * 7"}), "/result/executionResult", json!(42)),
        ("Shell", "bash", json!({"shellCommand": "echo $((6 * 7))"}), "/result/stdout", json!("42\n")),
    ] {
        let name = format!("arm-{}", kind.to_lowercase());
        if !crate::has(server, language) {
            continue;
        }
        let mut document = python();
        document["properties"]["containerType"] = kind.into();
        let shown = make(server, &name, &document);
        assert_eq!(shown["properties"]["containerType"], kind);
        let endpoint = shown["properties"]["poolManagementEndpoint"].as_str().expect("an endpoint");
        let target = endpoint.strip_prefix(&format!("http://{}", server.host())).expect("an address of the server");
        let executed = send(
            server,
            "POST",
            &format!("{target}/executions?api-version=2025-10-02-preview&identifier=of-every-kind"),
            Some(&body),
        );
        assert_eq!(executed.status, 200, "{kind}: {}", executed.text());
        assert_eq!(executed.json().pointer(pointer), Some(&expected), "{kind}: {}", executed.text());
        remove(server, &name);
    }
}

fn the_version_chooses_the_shape_of_the_life_cycle(server: &Server) {
    let mut body = python();
    body["properties"]["dynamicPoolConfiguration"] = json!({"executionType": "Timed", "cooldownPeriodInSeconds": 600});
    make(server, "arm-shape", &body);
    let flat = json!({"executionType": "Timed", "cooldownPeriodInSeconds": 600});
    let nested = json!({"lifecycleConfiguration": {"lifecycleType": "Timed", "cooldownPeriodInSeconds": 600}});
    for (query, shape) in [
        ("api-version=2023-08-01-preview", &flat),
        ("api-version=2024-10-02-preview", &flat),
        ("api-version=2025-01-01", &nested),
        ("api-version=2026-07-01", &nested),
        ("x=api-version", &nested),
    ] {
        let shown = get(server, &format!("{GROUP}/arm-shape?{query}")).json();
        assert_eq!(&shown["properties"]["dynamicPoolConfiguration"], shape, "{query}");
    }
    remove(server, "arm-shape");
}

fn what_the_service_refuses_is_refused_with_its_codes(server: &Server) {
    let timed = |cooldown: u32| json!({"lifecycleConfiguration": {"lifecycleType": "Timed", "cooldownPeriodInSeconds": cooldown}});
    let exit = json!({"lifecycleConfiguration": {"lifecycleType": "OnContainerExit", "maxAlivePeriodInSeconds": 600}});
    for (properties, refused) in [
        (json!({"dynamicPoolConfiguration": timed(299)}), "SessionPoolInvalidCooldownPeriod"),
        (json!({"dynamicPoolConfiguration": timed(3601)}), "SessionPoolInvalidCooldownPeriod"),
        (json!({"dynamicPoolConfiguration": exit}), "SessionPoolCustomContainerOnly"),
        (json!({"scaleConfiguration": {"maxConcurrentSessions": 0}}), "SessionPoolInvalidMaxConcurrentSessions"),
        (json!({"scaleConfiguration": {"maxConcurrentSessions": 601}}), "SessionPoolInvalidMaxConcurrentSessions"),
        (json!({"scaleConfiguration": {"maxConcurrentSessions": "10"}}), "InvalidRequestContent"),
        (json!({"poolManagementType": "Manual"}), "SessionPoolInvalidPoolManagementType"),
        (json!({"containerType": "GpuBase"}), "SessionTypeNotSupportedInRegion"),
        (json!({"containerType": "Ruby"}), "SessionPoolInvalidContainerType"),
        (json!({"environmentId": "/subscriptions/s/x"}), "SessionPoolCustomContainerOnly"),
    ] {
        let body = json!({"location": "eastus", "properties": properties});
        let response = send(server, "PUT", &format!("{GROUP}/arm-refused"), Some(&body));
        assert_eq!((response.status, code(&response)), (400, refused.to_owned()), "{properties}: {}", response.text());
    }
    for name in ["ab", "1abc", "Abc", "a_b"] {
        let response = send(server, "PUT", &format!("{GROUP}/{name}"), Some(&python()));
        assert_eq!((response.status, code(&response)), (400, "SessionPoolInvalidName".to_owned()), "{name}");
    }
    let response = send(server, "PUT", &format!("{GROUP}/arm-refused"), Some(&json!({"properties": {}})));
    assert_eq!((response.status, code(&response)), (400, "LocationRequired".to_owned()));
    assert_eq!(get(server, &format!("{GROUP}/arm-refused")).status, 404, "nothing of it was made");
}

fn what_this_server_has_not_is_refused_and_said_so(server: &Server) {
    for (properties, refused, said) in [
        (json!({"containerType": "CustomContainer"}), "CustomContainerNotSupported", "Use one of [PythonLTS"),
        (
            json!({"sessionNetworkConfiguration": {"status": "EgressEnabled", "outboundVnetSubnetId": "/subscriptions/s/x"}}),
            "SessionPoolInvalidNetworkConfiguration",
            "outboundVnetSubnetId",
        ),
    ] {
        let body = json!({"location": "eastus", "properties": properties});
        let response = send(server, "PUT", &format!("{GROUP}/arm-not-here"), Some(&body));
        assert_eq!((response.status, code(&response)), (400, refused.to_owned()));
        assert!(response.text().contains(said), "{}", response.text());
    }
}

fn a_pool_with_network_is_made_where_the_host_has_one(server: &Server) {
    let mut document = python();
    document["properties"]["sessionNetworkConfiguration"] = json!({"status": "EgressEnabled"});
    let made = send(server, "PUT", &format!("{GROUP}/arm-network"), Some(&document));
    if made.status == 400 {
        // Where it has none, the answer says why.
        assert_eq!(code(&made), "SessionPoolInvalidNetworkConfiguration", "{}", made.text());
        assert!(made.text().contains("have no network (") && made.text().contains("'EgressDisabled'"), "{}", made.text());
        return;
    }
    remove(server, "arm-network");
    let shown = make(server, "arm-network", &document);
    assert_eq!(shown["properties"]["sessionNetworkConfiguration"], json!({"status": "EgressEnabled"}));
    let target =
        format!("{}/executions?api-version=2025-10-02-preview", GROUP.replace("/providers/Microsoft.App", "") + "/arm-network");
    let devices = |identifier: &str| {
        let code = json!({"code": "[line.split(':')[0].strip() for line in list(open('/proc/net/dev'))[2:]]"});
        send(server, "POST", &format!("{target}&identifier={identifier}"), Some(&code))
    };
    let seen = devices("with-a-network");
    assert!(seen.text().contains("net0"), "{}", seen.text());
    // Sessions that are made after a change are as the pool is then.
    let patch = json!({"properties": {"sessionNetworkConfiguration": {"status": "EgressDisabled"}}});
    let patched = send(server, "PATCH", &format!("{GROUP}/arm-network"), Some(&patch));
    assert!(matches!(patched.status, 200 | 202), "{}", patched.text());
    let start = Instant::now();
    while get(server, &format!("{GROUP}/arm-network")).json()["properties"]["sessionNetworkConfiguration"]["status"]
        != "EgressDisabled"
    {
        assert!(start.elapsed() < PATIENCE, "the change is not shown");
        std::thread::sleep(Duration::from_millis(50));
    }
    let seen = devices("without-one");
    assert!(seen.status == 200 && !seen.text().contains("net0"), "{}", seen.text());
    remove(server, "arm-network");
}

fn a_pool_that_is_not_there_is_not_found(server: &Server) {
    for (method, path, body) in [
        ("GET", "arm-nowhere", None),
        ("PATCH", "arm-nowhere", Some(json!({}))),
        ("POST", "arm-nowhere/fetchMCPServerCredentials", None),
    ] {
        let response = send(server, method, &format!("{GROUP}/{path}"), body.as_ref());
        assert_eq!((response.status, code(&response)), (404, "ResourceNotFound".to_owned()), "{method}");
    }
    let response = send(server, "POST", &format!("{GROUP}/arm-nowhere"), None);
    assert_eq!((response.status, response.header("allow")), (405, Some("GET, PUT, PATCH, DELETE")));
}

fn a_body_that_is_no_json_changes_nothing(server: &Server) {
    let target = format!("{GROUP}/arm-no-json?{VERSION}");
    let response =
        server.send(&Request::new("PUT", &target).header("Content-Type", "application/json").body("{")).expect("an answer");
    assert_eq!((response.status, code(&response)), (400, "InvalidRequestContent".to_owned()));
    let large = vec![b' '; 2 << 20];
    let response =
        server.send(&Request::new("PUT", &target).header("Content-Type", "application/json").body(large)).expect("an answer");
    assert_eq!((response.status, code(&response)), (413, "RequestEntityTooLarge".to_owned()));
}

fn secrets_can_be_written_only(server: &Server) {
    let mut body = python();
    body["properties"]["secrets"] = json!([{"name": "token", "value": "s3cr3t"}]);
    let shown = make(server, "arm-secrets", &body);
    assert_eq!(shown["properties"]["secrets"], json!([{"name": "token"}]));
    remove(server, "arm-secrets");
}

fn addresses_are_those_that_the_client_used(server: &Server) {
    make(server, "arm-address", &python());
    let target = format!("{GROUP}/arm-address?{VERSION}");
    let shown = server.send(&Request::new("GET", &target).header("X-Forwarded-Proto", "https")).expect("an answer").json();
    let endpoint = shown["properties"]["poolManagementEndpoint"].as_str().expect("an endpoint");
    assert!(endpoint.starts_with(&format!("https://{}/", server.host())), "{endpoint}");
    remove(server, "arm-address");
}

fn a_name_belongs_to_one_resource_group(server: &Server) {
    make(server, "arm-taken", &python());
    let elsewhere =
        "/subscriptions/34adfa4f-cedf-4dc0-ba29-b6d1a69ab345/resourceGroups/other/providers/Microsoft.App/sessionPools/arm-taken";
    let response = send(server, "PUT", elsewhere, Some(&python()));
    assert_eq!((response.status, code(&response)), (409, "SessionPoolNameNotAvailable".to_owned()), "{}", response.text());
    assert_eq!(get(server, elsewhere).status, 404);
    assert_eq!(get(server, &format!("{GROUP}/ARM-TAKEN").to_uppercase()).status, 200, "ids are compared without case");
    remove(server, "arm-taken");
}

fn the_default_pool_is_in_every_resource_group(server: &Server) {
    let id = "/subscriptions/any/resourceGroups/any/providers/Microsoft.App/sessionPools/default";
    let shown = get(server, id);
    assert_eq!((shown.status, &shown.json()["id"]), (200, &json!(id)), "{}", shown.text());
    assert_eq!(shown.json()["properties"]["containerType"], "PythonLTS");
}

fn an_operation_that_never_was_is_not_found(server: &Server) {
    for collection in ["sessionPoolOperationStatuses", "operationResults"] {
        let response = get(server, &format!("/subscriptions/s/providers/Microsoft.App/locations/eastus/{collection}/never"));
        assert_eq!((response.status, code(&response)), (404, "OperationNotFound".to_owned()));
    }
}

fn credentials_of_an_mcp_server_are_fetched_and_made_anew(server: &Server) {
    make(server, "arm-mcp", &python());
    let post = |action: &str| send(server, "POST", &format!("{GROUP}/arm-mcp/{action}"), None);
    let refused = post("fetchMCPServerCredentials");
    assert_eq!((refused.status, code(&refused)), (400, "SessionMCPServerNotEnabled".to_owned()));
    let on = json!({"properties": {"mcpServerSettings": {"isMCPServerEnabled": true}}});
    let shown = send(server, "PATCH", &format!("{GROUP}/arm-mcp"), Some(&on)).json();
    assert!(shown["properties"]["mcpServerSettings"]["mcpServerEndpoint"].is_string(), "{shown}");
    let key = post("fetchMCPServerCredentials").json()["apiKey"].clone();
    assert!(key.as_str().is_some_and(|key| key.len() >= 32), "{key}");
    assert_eq!(post("fetchMCPServerCredentials").json()["apiKey"], key);
    let other = post("regenerateCredentials").json()["apiKey"].clone();
    assert!(other.is_string() && other != key);
    assert_eq!(post("fetchMCPServerCredentials").json()["apiKey"], other);
    remove(server, "arm-mcp");
}

fn what_az_asks_first_is_answered(server: &Server) {
    let subscriptions = get(server, "/subscriptions?api-version=2022-12-01").json();
    let id = subscriptions["value"][0]["subscriptionId"].as_str().expect("a subscription").to_owned();
    assert_eq!(get(server, &format!("/subscriptions/{id}?api-version=2022-12-01")).json()["subscriptionId"], json!(id));
    let provider = get(server, &format!("/subscriptions/{id}/providers/Microsoft.App?api-version=2022-12-01")).json();
    assert_eq!((&provider["namespace"], &provider["registrationState"]), (&json!("Microsoft.App"), &json!("Registered")));
    assert_eq!(get(server, &format!("/subscriptions/{id}/resourcegroups/rg?api-version=2022-12-01")).json()["name"], "rg");
    let metadata = get(server, "/metadata/endpoints?api-version=2022-09-01").json();
    assert_eq!(metadata["resourceManager"], json!(format!("http://{}", server.host())));
    let unknown = get(server, &format!("/subscriptions/{id}/providers/Microsoft.Compute"));
    assert_eq!((unknown.status, code(&unknown)), (404, "InvalidResourceType".to_owned()));
}
