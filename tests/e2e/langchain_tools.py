"""langchain-azure-dynamic-sessions: its two tools, with the credential that they make themselves (DefaultAzureCredential)."""

import io
import json
import pathlib
import tempfile

import requests
from langchain_azure_dynamic_sessions import SessionsBashTool, SessionsPythonREPLTool

from expect import check, equal, pool, raises, say, within


def python():
    tool = SessionsPythonREPLTool(pool_management_endpoint=pool("default"))
    say(f"Python tool, session {tool.session_id}")
    equal("6 * 7", json.loads(tool.invoke("6 * 7")), {"result": 42, "stdout": "", "stderr": ""})
    called = tool.invoke({"args": {"python_code": "print('hi')\n1 + 1"}, "id": "1", "name": tool.name, "type": "tool_call"})
    equal("a tool call's content", json.loads(called.content), {"result": 2, "stdout": "hi\n", "stderr": ""})
    equal("a tool call's artifact has the whole answer", called.artifact["status"], "Success")
    tool.invoke("kept = 40 + 1")
    equal("variables are kept", json.loads(tool.invoke("kept + 1"))["result"], 42)
    equal("a fenced block is stripped", json.loads(tool.invoke("```python\nprint(kept)\n```"))["stdout"], "41\n")
    failed = tool.execute("def f():\n    raise ValueError('on purpose')\nf()")
    equal("an exception is no HTTP error", failed["status"], "Failure")
    check("its traceback is in stderr", "ValueError: on purpose" in failed["stderr"], failed)
    equal("and the session goes on", json.loads(tool.invoke("kept"))["result"], 41)
    equal("a string is its repr", tool.execute("'abc'")["result"], "'abc'")
    equal("a list is JSON", tool.execute("[1, 2]")["result"], [1, 2])
    equal("!command", tool.execute("!echo from a shell")["stdout"].strip(), "from a shell")

    data = bytes(range(256)) * 1000
    uploaded = tool.upload_file(data=io.BytesIO(data), remote_file_path="blob.bin")
    equal("an uploaded file's name and size", (uploaded.filename, uploaded.size_in_bytes), ("blob.bin", len(data)))
    equal("its path, as the client makes it, is in the session",
          tool.execute(f"import os; os.path.getsize({uploaded.full_path!r})")["result"], len(data))
    equal("it comes back as it was", tool.download_file(remote_file_path="blob.bin").read(), data)
    with tempfile.TemporaryDirectory() as directory:
        local = pathlib.Path(directory, "über uns.txt")
        local.write_text("Grüße\n")
        uploaded = tool.upload_file(local_file_path=str(local))
        equal("a local file keeps its name", uploaded.filename, "über uns.txt")
        equal("and can be read by the program", tool.execute("open('/mnt/data/über uns.txt').read()")["result"], "'Grüße\\n'")
        back = pathlib.Path(directory, "back")
        tool.download_file(remote_file_path="über uns.txt", local_file_path=str(back))
        equal("and written to a local file", back.read_text(), "Grüße\n")
    tool.execute("open('made.txt', 'w').write('by the program')")
    listed = {file.filename: file.size_in_bytes for file in tool.list_files()}
    equal("all files are listed, the program's own too", listed,
          {"blob.bin": len(data), "über uns.txt": 8, "made.txt": 14})
    missing = raises("a missing file", requests.HTTPError, lambda: tool.download_file(remote_file_path="nothing.txt"))
    equal("is a 404", missing.response.status_code, 404)

    other = SessionsPythonREPLTool(pool_management_endpoint=pool("default") + "/")
    check("another session knows nothing of it", "NameError" in other.execute("kept")["stderr"])
    equal("and has no files", other.list_files(), [])
    first = tool.session_id
    tool.delete_session()
    check("a deleted session's tool has another id", tool.session_id != first)
    tool.session_id = first
    within(10, "the session is gone, and its id begins anew", lambda: "NameError" in tool.execute("kept")["stderr"])
    equal("without files", tool.list_files(), [])


def shell():
    tool = SessionsBashTool(pool_management_endpoint=pool("shell"))
    say(f"Bash tool, session {tool.session_id}")
    equal("echo", json.loads(tool.invoke("echo hello")), {"stdout": "hello\n", "stderr": "", "exitCode": 0})
    equal("an exit code and stderr", json.loads(tool.invoke("echo oh >&2; exit 3")), {"stdout": "", "stderr": "oh\n", "exitCode": 3})
    uploaded = tool.upload_file(data=io.BytesIO(b"one\ntwo\n"), remote_file_path="lines.txt")
    equal("an uploaded file's name and size", (uploaded.filename, uploaded.size_in_bytes), ("lines.txt", 8))
    equal("commands see it", json.loads(tool.invoke("wc -l < /mnt/data/lines.txt"))["stdout"].strip(), "2")
    tool.invoke("tac lines.txt > made.txt")
    equal("files are listed", {file.filename: file.size_in_bytes for file in tool.list_files()}, {"lines.txt": 8, "made.txt": 8})
    equal("and downloaded", tool.download_file(remote_file_path="made.txt").read(), b"two\none\n")
    tool.close()


python()
shell()
