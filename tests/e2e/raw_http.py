"""The exchanges as clients that are not among these make them: byte for byte what they send, and what they read of the answer."""

import http.client
import json
import re
import urllib.parse

import requests
from azure.identity import DefaultAzureCredential

from expect import HTTP, check, equal, pool, say, within

TOKEN = DefaultAzureCredential().get_token("https://dynamicsessions.io/.default").token
BEARER = {"Authorization": f"Bearer {TOKEN}"}
OLD, NEW = "2024-02-02-preview", "2025-10-02-preview"
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def ask(method, path, identifier="e2e-raw", version=NEW, name="default", **more):
    query = {"api-version": version, **({"identifier": identifier} if identifier else {}), **more.pop("query", {})}
    headers = {**BEARER, **more.pop("headers", {})}
    return requests.request(method, pool(name) + path, params=query, headers=headers, timeout=120, **more)


def old_shape():
    body = {"properties": {"codeInputType": "inline", "executionType": "synchronous", "code": "print('hi')\n1+1", "timeoutInSeconds": 100}}
    answer = ask("POST", "/code/execute", version=OLD, json=body)
    equal("old: status", answer.status_code, 200)
    properties = answer.json()["properties"]
    took = properties.pop("executionTimeInMilliseconds")
    check("old: a time in milliseconds", isinstance(took, int), took)
    equal("old: the answer", {key: properties[key] for key in ("status", "stdout", "stderr", "result", "executionResult")},
          {"status": "Success", "stdout": "hi\n", "stderr": "", "result": 2, "executionResult": 2})
    for name in ["overall-execution-time", "preparation-time", "execution-request-time", "execution-read-response-time",
                 "total-execution-service-time", "allocation-time", "container-execution-duration"]:
        value = answer.headers.get(f"x-ms-{name}", "")
        check(f"old: x-ms-{name} is decimal milliseconds", re.fullmatch(r"\d+(\.\d+)?", value), dict(answer.headers))
    check("old: a session's guid", GUID.fullmatch(answer.headers.get("x-ms-session-guid", "")), dict(answer.headers))
    equal("old: the version", answer.headers.get("api-supported-versions"), OLD)

    legacy = {"properties": {"identifier": "x", "codeInputType": "inline", "executionType": "synchronous", "pythonCode": "print(1)\n'abc'"}}
    answer = ask("POST", "/python/execute", version="2023-08-01-preview", json=legacy)
    flat = answer.json()
    equal("legacy: flat", (answer.status_code, flat["status"], flat["stdout"], flat["stderr"], flat["result"]),
          (200, "Success", "1\n", "", "'abc'"))

    answer = ask("POST", "/files/upload", version=OLD, files={"file": ("/mnt/data/test1.txt", b"sixteen bytes ok", "application/octet-stream")})
    uploaded = answer.json()["value"][0]["properties"]
    equal("old: a prefixed name is stripped", (answer.status_code, uploaded["filename"], uploaded["size"]), (200, "test1.txt", 16))
    check("old: a time with seven digits", re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z", uploaded["lastModifiedTime"]), uploaded)
    equal("old: the bytes", ask("GET", "/files/content/test1.txt", version=OLD).content, b"sixteen bytes ok")
    one = ask("GET", "/files/test1.txt", version=OLD).json()["value"]
    equal("old: one file's envelope", [entry["properties"]["filename"] for entry in one], ["test1.txt"])
    equal("old: DELETE", ask("DELETE", "/files/test1.txt", version=OLD).status_code, 200)
    equal("old: and it is gone", ask("GET", "/files", version=OLD).json()["value"], [])


def new_shape():
    # As recorded of the real service, api-version 2024-10-02-preview.
    body = {"codeInputType": "inline", "executionType": "synchronous", "code": 'print("Hello world")', "timeoutInSeconds": 60}
    answer = ask("POST", "/executions", version="2024-10-02-preview", json=body)
    made = answer.json()
    equal("2024-10: 202", answer.status_code, 202)
    check("2024-10: an id", GUID.fullmatch(made["id"]), made)
    equal("2024-10: the result", (made["identifier"], made["executionType"].lower(), made["status"], made["result"]["stdout"],
                                  made["result"]["stderr"], made["result"]["executionResult"]),
          ("e2e-raw", "synchronous", "Succeeded", "Hello world\n", "", ""))
    answer = ask("POST", "/executions", json={**body, "codeInputType": "Inline", "executionType": "Synchronous", "code": "7*9"})
    equal("2025-10: 200", (answer.status_code, answer.json()["result"]["executionResult"]), (200, 63))
    equal("code alone is enough", ask("POST", "/executions", json={"code": "3"}).json()["result"]["executionResult"], 3)
    equal("so is the old wrapper", ask("POST", "/executions", json={"properties": {"code": "3"}}).json()["result"]["executionResult"], 3)
    for text, value in [("1+1", 2), ("'abc'", "'abc'"), ("[1,2]", [1, 2]), ("float('nan')", "nan"), ("a = None;a", None), ("b = 1", "")]:
        equal(f"the value of {text}", ask("POST", "/executions", json={"code": text}).json()["result"]["executionResult"], value)
    failed = ask("POST", "/executions", json={"code": "1/0"})
    equal("an exception is HTTP 200", (failed.status_code, failed.json()["status"]), (200, "Failed"))
    check("with its traceback", "ZeroDivisionError" in failed.json()["result"]["stderr"], failed.text)
    cut = ask("POST", "/executions", json={"code": "print('x' * 10000)", "outputStreamsMaxLength": 100}).json()["result"]["stdout"]
    check("outputStreamsMaxLength", 0 < len(cut) <= 200, len(cut))
    ask("POST", "/executions", json={"code": "kept = 'still here'"})
    slow = ask("POST", "/executions", json={"code": "import time; time.sleep(60)", "timeoutInSeconds": 1})
    equal("a timeout is HTTP 200", (slow.status_code, slow.json()["status"]), (200, "Failed"))
    equal("and keeps the session", ask("POST", "/executions", json={"code": "kept"}).json()["result"]["executionResult"], "'still here'")

    begun = ask("POST", "/executions", json={"code": "import time; time.sleep(1); 'done'", "executionType": "Asynchronous"})
    operation = begun.headers["Operation-Location"]
    check("asynchronous: it runs", begun.json()["status"] in ("Running", "NotStarted"), begun.text)
    equal("asynchronous: operation-id", begun.headers["operation-id"], begun.json()["id"])

    def ended():
        resource = requests.get(operation, headers=BEARER, timeout=60).json()
        return resource if resource["status"] not in ("Running", "NotStarted") else None

    resource = within(60, "asynchronous: it ends, where Operation-Location says", ended)
    equal("asynchronous: its result", (resource["status"], resource["result"]["executionResult"]), ("Succeeded", "'done'"))
    equal("an unknown execution", ask("GET", "/executions/00000000-0000-0000-0000-000000000000").status_code, 404)

    one = ask("POST", "/files", files={"file": ("cert.txt", b"trusted", "text/plain")})
    equal("new: an upload gives one object", (one.status_code, one.json()["name"], one.json()["sizeInBytes"]), (200, "cert.txt", 7))
    listed = ask("GET", "/files").json()
    equal("new: the listing", [(f["name"], f["type"], f["sizeInBytes"]) for f in listed["value"]], [("cert.txt", "file", 7)])
    content = ask("GET", "/files/cert.txt/content")
    equal("new: the bytes", (content.content, content.headers["Content-Type"]), (b"trusted", "application/octet-stream"))
    equal("new: DELETE", (ask("DELETE", "/files/cert.txt").status_code, ask("DELETE", "/files/cert.txt").status_code), (204, 404))
    for name in ["../../etc/passwd", "/etc/passwd", "..%2f..%2fetc%2fpasswd"]:
        got = requests.get(f"{pool('default')}/files/{urllib.parse.quote(name, safe='%')}/content", headers=BEARER, timeout=60,
                           params={"api-version": NEW, "identifier": "e2e-raw"})
        check(f"new: no way out by {name}", got.status_code in (400, 404) and b"root:" not in got.content, got.status_code, got.text)


def sessions():
    shown = ask("GET", "/session").json()
    equal("a session's fields", sorted(shown), ["createdAt", "etag", "expireAt", "identifier", "lastAccessedAt"])
    check("it is listed", "e2e-raw" in [s["identifier"] for s in ask("GET", "/listSessions", None).json()["sessions"]])
    shown = ask("POST", "/.management/getSession").json()
    check(".management says expiresAt", "expiresAt" in shown, shown)
    counted = ask("POST", "/.management/listSessions", None).json()
    equal(".management counts", counted["count"], len(counted["value"]))
    metadata = ask("GET", "/metadata", None).json()
    check("metadata has runtimes and packages", metadata["runtimes"] and "preInstalledPackages" in metadata, sorted(metadata))
    equal("DELETE /session", ask("DELETE", "/session").status_code, 204)
    fresh = ask("POST", "/executions", json={"code": "kept"})
    check("the identifier begins anew", "NameError" in fresh.json()["result"]["stderr"], fresh.text)
    stopped = ask("POST", "/.management/stopSession")
    equal("stopSession", (stopped.status_code, stopped.text), (200, "Session 'e2e-raw' in session pool 'default' stopped."))
    equal("stopped twice", ask("POST", "/.management/stopSession").status_code, 404)


def shell():
    def run(**body):
        return ask("POST", "/executions", name="shell", json=body)

    line = run(shellCommand="echo out; echo err >&2; exit 7").json()
    equal("shell: the status is the exit code, as text", (line["status"], line["result"]["stdout"], line["result"]["stderr"]), ("7", "out\n", "err\n"))
    words = run(execCommandAndArgs=["python3", "-c", "import sys; print(sys.stdin.read().upper())"], stdin="text").json()
    equal("shell: words and standard input", (words["status"], words["result"]["stdout"]), ("0", "TEXT\n"))
    equal("shell: a timeout", run(shellCommand="sleep 60", timeoutInSeconds=1).json()["status"], "-1")
    both = run(shellCommand="true", execCommandAndArgs=["true"])
    check("shell: both are a problem", both.status_code == 400 and both.headers["Content-Type"].startswith("application/problem+json"), both.text)
    equal("shell: code is no command", run(code="1").json()["error"]["code"], "SessionPropertiesMissing")


def refusals():
    for what, answer, status, code in [
        ("no identifier", ask("POST", "/executions", None, json={"code": "1"}), 400, None),
        ("an identifier that is too short", ask("POST", "/executions", "abc", json={"code": "1"}), 400, "InvalidLengthOfSessionIdentifier"),
        ("no code", ask("POST", "/executions", json={"executionType": "Synchronous"}), 400, "SessionPropertiesMissing"),
        ("no such pool", ask("POST", "/executions", name="nothing", json={"code": "1"}), 404, None),
        ("a missing file", ask("GET", "/files/nothing.txt/content"), 404, "FileNotFound"),
    ]:
        equal(f"{what}: status", answer.status_code, status)
        error = answer.json()["error"]
        check(f"{what}: a code and a message", error["code"] and error["message"], answer.text)
        equal(f"{what}: x-ms-error-code", answer.headers.get("x-ms-error-code"), error["code"])
        if code:
            equal(f"{what}: its code", error["code"], code)
    strange = "e2e|-&^%$#(){}[];<>"
    answer = ask("POST", "/executions", strange, json={"code": "1"})
    equal("an identifier of all allowed characters", (answer.status_code, answer.json()["identifier"]), (200, strange))
    ask("DELETE", "/session", strange)


def chunked():
    """As AutoGen sends it: a body without a length."""
    base = urllib.parse.urlsplit(pool("default"))
    connection = http.client.HTTPConnection(base.hostname, base.port, timeout=60)
    body = json.dumps({"properties": {"codeInputType": "inline", "executionType": "synchronous", "code": "6*7"}}).encode()
    connection.request("POST", f"{base.path}/code/execute?api-version={OLD}&identifier=e2e-chunked", body=iter([body[:20], body[20:]]),
                       headers={**BEARER, "Content-Type": "application/json", "Transfer-Encoding": "chunked"}, encode_chunked=True)
    equal("a chunked body", json.load(connection.getresponse())["properties"]["result"], 42)
    ask("DELETE", "/session", "e2e-chunked")


say(pool("default"))
check("the server is well", requests.get(HTTP + "/healthz", timeout=60).json()["status"] == "ok")
old_shape()
new_shape()
sessions()
shell()
refusals()
chunked()
