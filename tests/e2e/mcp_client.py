"""The Python SDK's MCP client: a pool's MCP server is switched on over the control plane, and its tools are called."""

import asyncio

import httpx2
import requests
from azure.identity import DefaultAzureCredential
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from expect import GROUP, HTTP, SUBSCRIPTION, check, equal, say

ARM = f"{HTTP}/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.App/sessionPools"
VERSION = {"api-version": "2025-02-02-preview"}
TOKEN = DefaultAzureCredential().get_token("https://management.azure.com/.default").token
MANAGER = {"Authorization": f"Bearer {TOKEN}"}


def ask(method, path, **body):
    answer = requests.request(method, ARM + path, params=VERSION, headers=MANAGER, timeout=60, **body)
    check(f"{method} {path}: {answer.status_code}", answer.ok, answer.text)
    return answer.json() if answer.content else None


def pool(name, kind):
    """A pool with an MCP server: the server's endpoint and key."""
    properties = {
        "containerType": kind,
        "poolManagementType": "Dynamic",
        "scaleConfiguration": {"maxConcurrentSessions": 5},
        "dynamicPoolConfiguration": {"lifecycleConfiguration": {"lifecycleType": "Timed", "cooldownPeriodInSeconds": 300}},
        "mcpServerSettings": {"isMCPServerEnabled": True},
    }
    ask("PUT", f"/{name}", json={"location": "local", "properties": properties})
    endpoint = ask("GET", f"/{name}")["properties"]["mcpServerSettings"]["mcpServerEndpoint"]
    check("it has an MCP endpoint", endpoint.startswith("http"), endpoint)
    say(endpoint)
    return endpoint, ask("POST", f"/{name}/fetchMCPServerCredentials")["apiKey"]


def connected(endpoint, key):
    http = httpx2.AsyncClient(headers={"x-ms-apikey": key}, timeout=60)
    return Client(streamable_http_client(endpoint, http_client=http))


async def python(endpoint, key):
    async with connected(endpoint, key) as client:
        equal("the server's name", client.server_info.name, "Microsoft Container Apps MCP Server")
        tools = {tool.name for tool in (await client.list_tools()).tools}
        say(f"tools {sorted(tools)}")
        check("the tools of a Python pool", {"launchShell", "runPythonCodeInRemoteEnvironment"} <= tools, tools)
        launched = await client.call_tool("launchShell", {})
        environment = launched.structured_content["environmentId"]
        check("an environment", environment, launched)

        async def run(code):
            return await client.call_tool("runPythonCodeInRemoteEnvironment", {"environmentId": environment, "pythonCode": code})

        printed = await run("kept = 41\nprint('hello from Python')")
        equal("printed", printed.structured_content["stdout"], "hello from Python\n")
        equal("kept", (await run("print(kept + 1)")).structured_content["stdout"], "42\n")
        failed = await run("1 / 0")
        check("an exception is told", "ZeroDivisionError" in failed.structured_content["stderr"], failed)
        shell = await client.call_tool(
            "runShellCommandInRemoteEnvironment", {"environmentId": environment, "shellCommand": "echo $((6 * 7)); pwd"}
        )
        equal("a shell command in the same environment", shell.structured_content["stdout"], "42\n/mnt/data\n")


async def shell(endpoint, key):
    async with connected(endpoint, key) as client:
        environment = (await client.call_tool("launchShell", {})).structured_content["environmentId"]

        async def run(**command):
            return (await client.call_tool("runShellCommandInRemoteEnvironment", {"environmentId": environment, **command})).structured_content

        equal("a line", (await run(shellCommand="echo one > file; cat file"))["stdout"], "one\n")
        equal("words, and the files stay", (await run(execCommandAndArgs=["cat", "file"]))["stdout"], "one\n")


async def refused(endpoint, key):
    for what, headers in [("no key", {}), ("another key", {"x-ms-apikey": key[:-4] + "0000"}), ("a bearer token", MANAGER)]:
        async with httpx2.AsyncClient(headers=headers) as http:
            answer = await http.post(endpoint, json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
            equal(f"{what}: refused", answer.status_code, 401)


endpoint, key = pool("e2emcp", "PythonLTS")
asyncio.run(python(endpoint, key))
asyncio.run(refused(endpoint, key))
fresh = ask("POST", "/e2emcp/regenerateCredentials")
say(f"a fresh key: {sorted(fresh or {})}")
renewed = ask("POST", "/e2emcp/fetchMCPServerCredentials")["apiKey"]
check("regenerated, the key is another one", renewed != key)
asyncio.run(refused(endpoint, renewed[:-4] + "0000"))
asyncio.run(python(endpoint, renewed))
endpoint, key = pool("e2emcpshell", "Shell")
asyncio.run(shell(endpoint, key))
for name in ("e2emcp", "e2emcpshell"):
    ask("DELETE", f"/{name}")
