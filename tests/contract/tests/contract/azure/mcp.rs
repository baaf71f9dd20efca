//! Section 1.10 of the contract: a pool's MCP server, as plain JSON-RPC over HTTP.

use greenroom_contract::{Request, Response, Server};
use serde_json::{Value, json};

use super::{POOL, pools::Pool, refused};

crate::rows!(
    a_pool_without_an_mcp_server_says_so, only_the_pools_own_key_opens_it, tools_are_offered_in_the_services_names,
    an_environment_keeps_its_state, a_shell_pools_tools_run_commands, calls_that_make_no_sense_are_refused,
    a_batch_is_answered_in_one,
);

/// A client of a pool's MCP server.
struct Client<'a> {
    server: &'a Server,
    target: String,
    key: String,
}

fn pool<'a>(server: &'a Server, kind: &str) -> Pool<'a> {
    let scale = json!({"maxConcurrentSessions": 3});
    Pool::make(
        server,
        json!({"containerType": kind, "scaleConfiguration": scale, "mcpServerSettings": {"isMCPServerEnabled": true}}),
    )
}

impl<'a> Client<'a> {
    fn of(server: &'a Server, pool: &Pool<'_>) -> Self {
        let (status, credentials) = pool.send("POST", "/fetchMCPServerCredentials", None);
        assert_eq!(status, 200, "{credentials}");
        let (_, shown) = pool.send("GET", "", None);
        let endpoint = shown["properties"]["mcpServerSettings"]["mcpServerEndpoint"].as_str().unwrap_or_default();
        let target = endpoint.strip_prefix(&format!("http://{}", server.host())).unwrap_or_else(|| panic!("{shown}"));
        Self { server, target: target.to_owned(), key: credentials["apiKey"].as_str().unwrap_or_default().to_owned() }
    }

    fn send(&self, body: &Value) -> Response {
        let request = Request::new("POST", &self.target).header("x-ms-apikey", &self.key).json(body);
        self.server.send(&request).unwrap_or_else(|error| panic!("{error:#} for {body}"))
    }

    fn ask(&self, method: &str, params: Value) -> Value {
        let response = self.send(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}));
        assert_eq!(response.status, 200, "{method}: {}", response.text());
        response.json()
    }

    fn call(&self, tool: &str, arguments: Value) -> Value {
        self.ask("tools/call", json!({"name": tool, "arguments": arguments}))["result"].clone()
    }

    fn launch(&self) -> String {
        let launched = self.call("launchShell", json!({}));
        launched["structuredContent"]["environmentId"].as_str().unwrap_or_else(|| panic!("{launched}")).to_owned()
    }
}

fn a_pool_without_an_mcp_server_says_so(server: &Server) {
    let request = Request::new("POST", &format!("{POOL}/mcp")).header("x-ms-apikey", "x");
    let request = request.json(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}));
    let response = server.send(&request).unwrap_or_else(|error| panic!("{error:#}"));
    refused(&response, 400, "SessionMCPServerNotEnabled");
}

fn only_the_pools_own_key_opens_it(server: &Server) {
    let pool = pool(server, "PythonLTS");
    let client = Client::of(server, &pool);
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    assert_eq!(client.send(&list).status, 200);
    let bearer = format!("Bearer {}", client.key);
    for (name, value) in [("Authorization", bearer.as_str()), ("x-ms-apikey", "wrong"), ("x-ms-apikey", ""), ("x-other", "x")] {
        let response = server.send(&Request::new("POST", &client.target).header(name, value).json(&list));
        refused(&response.unwrap_or_else(|error| panic!("{error:#}")), 401, "Unauthorized");
    }
    let (_, anew) = pool.send("POST", "/regenerateCredentials", None);
    assert_ne!(anew["apiKey"], client.key.as_str());
    refused(&client.send(&list), 401, "Unauthorized");
}

fn tools_are_offered_in_the_services_names(server: &Server) {
    let pool = pool(server, "PythonLTS");
    let client = Client::of(server, &pool);
    let params = json!({"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "contract", "version": "1"}});
    let answer = client.ask("initialize", params);
    let result = &answer["result"];
    assert_eq!((&answer["jsonrpc"], &answer["id"], &result["protocolVersion"]), (&json!("2.0"), &json!(1), &json!("2025-03-26")));
    assert_eq!(result["serverInfo"]["name"], "Microsoft Container Apps MCP Server");
    assert!(result["capabilities"]["tools"].is_object(), "{answer}");
    let initialized = client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    assert_eq!(initialized.status, 202, "{}", initialized.text());
    let tools = client.ask("tools/list", json!({}))["result"]["tools"].clone();
    let names: Vec<&str> =
        tools.as_array().map(|tools| tools.iter().filter_map(|tool| tool["name"].as_str()).collect()).unwrap_or_default();
    assert_eq!(names, ["launchShell", "runShellCommandInRemoteEnvironment", "runPythonCodeInRemoteEnvironment"]);
    assert_eq!(tools[2]["inputSchema"]["required"], json!(["environmentId", "pythonCode"]));
}

fn an_environment_keeps_its_state(server: &Server) {
    let pool = pool(server, "PythonLTS");
    let client = Client::of(server, &pool);
    let (one, other) = (client.launch(), client.launch());
    assert_ne!(one, other);
    let python = |environment: &str, code: &str| {
        client.call("runPythonCodeInRemoteEnvironment", json!({"environmentId": environment, "pythonCode": code}))
    };
    let first = python(&one, "x = 41\nprint('hello')\nx + 1");
    let content = &first["structuredContent"];
    assert_eq!(
        (&content["stdout"], &content["executionResult"], &first["isError"]),
        (&json!("hello\n"), &json!(42), &json!(false)),
        "{first}"
    );
    assert_eq!(python(&one, "x")["structuredContent"]["executionResult"], 41);
    let missing = python(&other, "x");
    assert_eq!(missing["isError"], true);
    assert!(missing["structuredContent"]["stderr"].as_str().is_some_and(|stderr| stderr.contains("NameError")), "{missing}");
    let shell = client.call(
        "runShellCommandInRemoteEnvironment",
        json!({"environmentId": one, "shellCommand": "echo \"ü$((6*7))\"; pwd; exit 3"}),
    );
    let content = &shell["structuredContent"];
    assert_eq!((&content["stdout"], &content["exitCode"]), (&json!("ü42\n/mnt/data\n"), &json!(3)), "{shell}");
}

fn a_shell_pools_tools_run_commands(server: &Server) {
    let pool = pool(server, "Shell");
    let client = Client::of(server, &pool);
    let environment = client.launch();
    let argv = client.call(
        "runShellCommandInRemoteEnvironment",
        json!({"environmentId": environment, "execCommandAndArgs": ["printf", "%s", "$HOME"]}),
    );
    assert_eq!(
        (&argv["structuredContent"]["stdout"], &argv["structuredContent"]["exitCode"]),
        (&json!("$HOME"), &json!(0)),
        "{argv}"
    );
    let python = client.call("runPythonCodeInRemoteEnvironment", json!({"environmentId": environment, "pythonCode": "print(6*7)"}));
    assert_eq!(python["structuredContent"]["stdout"], "42\n", "{python}");
}

fn calls_that_make_no_sense_are_refused(server: &Server) {
    let pool = pool(server, "PythonLTS");
    let client = Client::of(server, &pool);
    for (tool, arguments) in [
        ("noSuchTool", json!({})),
        ("runPythonCodeInRemoteEnvironment", json!({"pythonCode": "1"})),
        ("runPythonCodeInRemoteEnvironment", json!({"environmentId": "abc", "pythonCode": "1"})),
        ("runPythonCodeInRemoteEnvironment", json!({"environmentId": "a b c d", "pythonCode": "1"})),
        ("runPythonCodeInRemoteEnvironment", json!({"environmentId": "abcd"})),
        (
            "runShellCommandInRemoteEnvironment",
            json!({"environmentId": "abcd", "shellCommand": "ls", "execCommandAndArgs": ["ls"]}),
        ),
        ("runShellCommandInRemoteEnvironment", json!({"environmentId": "abcd", "execCommandAndArgs": []})),
    ] {
        let answer = client.ask("tools/call", json!({"name": tool, "arguments": arguments}));
        assert!(answer["error"]["code"].is_i64(), "{tool} {arguments}: {answer}");
    }
    for (body, code) in [("{", -32700), ("\"nonsense\"", -32600), ("[]", -32600)] {
        let request = Request::new("POST", &client.target).header("x-ms-apikey", &client.key);
        let response =
            server.send(&request.header("Content-Type", "application/json").body(body)).unwrap_or_else(|error| panic!("{error:#}"));
        assert_eq!((response.status, &response.json()["error"]["code"]), (400, &json!(code)), "{body}");
    }
}

/// As protocol 2025-03-26 has it.
fn a_batch_is_answered_in_one(server: &Server) {
    let pool = pool(server, "PythonLTS");
    let client = Client::of(server, &pool);
    let call = |id: u32, code: &str| {
        let arguments = json!({"environmentId": "batch", "pythonCode": code});
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
               "params": {"name": "runPythonCodeInRemoteEnvironment", "arguments": arguments}})
    };
    let seen = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let response = client.send(&json!([call(7, "x = 20"), seen, call(8, "x + 22")]));
    assert_eq!(response.status, 200, "{}", response.text());
    let answers = response.json();
    let told: Vec<_> = answers.as_array().into_iter().flatten().map(|answer| answer["id"].clone()).collect();
    assert_eq!(told, [json!(7), json!(8)], "{answers}");
    assert_eq!(answers[1]["result"]["structuredContent"]["executionResult"], 42, "{answers}");
    assert_eq!(client.send(&json!([seen])).status, 202);
}
