"""The program inside a session of the shell. It runs for as long as the session lives, and runs its commands one after the other.

It speaks newline-delimited JSON over descriptor 3, a connected stream socket:

    -> {"ready":true,"runtime":"shell","version":"5.2.15"}                                             once
    <- {"id":1,"command":"ls | wc -l"}          a line of the shell; or
    <- {"id":1,"argv":["ls","-l"]}              a program and its arguments; both also with "stdin":"..."
    -> {"id":1,"ok":true,"exit":0}

Each command is a process group of its own. What it leaves in the background goes on, and so do its files; the directory that a line
of the shell ends in is where the next command starts. What a command prints goes to descriptors 1 and 2, and is there before the
answer is. SIGINT ends the command that runs: first politely, and half a second later for good.
"""

import errno
import json
import os
import re
import signal
import socket
import sys

# What is asked to end gets so long.
_GRACE_S = 0.5
# A longer command does not fit into an argument (execve(2), MAX_ARG_STRLEN: 128 KiB).
_ARGUMENT_BYTES_MAX = 100_000
_READ_BYTES = 1 << 16
# Where a line of the shell tells us its last directory and reads its own text: numbers that scripts do not use.
_DIRECTORY_FD = 198
_SCRIPT_FD = 199
_CHANGES_DIRECTORY = re.compile(r"\b(cd|pushd|popd)\b")
_WAITED_FOR = {signal.SIGINT, signal.SIGCHLD}
_TAKEN = [signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ]
_SHELL = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"


def main():
    channel = socket.socket(fileno=3)
    channel.set_inheritable(False)
    # They are waited for, not handled: a signal is seen where we wait, and nowhere else.
    signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    home = os.getcwd()
    _send(channel, {"ready": True, "runtime": "shell", "version": _version()})
    received = b""
    while True:
        while b"\n" not in received:
            chunk = channel.recv(_READ_BYTES)
            if not chunk:
                return
            received += chunk
        line, received = received.split(b"\n", 1)
        request = json.loads(line)
        # What came too late for the command before is not this one's.
        while signal.sigtimedwait({signal.SIGINT}, 0):
            pass
        if not _has_directory():
            os.chdir(home)
        _send(channel, {"id": request["id"], "ok": True, "exit": _run(request)})


def _send(channel, message):
    channel.sendall(json.dumps(message).encode() + b"\n")


def _has_directory():
    try:
        os.getcwd()
        return True
    except FileNotFoundError:
        return False


def _version():
    read, write = os.pipe()
    pid = os.posix_spawn(_SHELL, [_SHELL, "-c", "echo $BASH_VERSION"], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)])
    os.close(write)
    text = os.read(read, 100).decode().strip()
    os.close(read)
    os.waitpid(pid, 0)
    return text.split("(")[0] or "unknown"


def _run(request):
    """Runs the command of a request; its exit status as a shell has it."""
    opened = []
    try:
        program, argv, actions, directory = _prepare(request, opened)
        stdin = request.get("stdin")
        if stdin:
            read, write = os.pipe()
            opened += [read]
            actions.append((os.POSIX_SPAWN_DUP2, read, 0))
        else:
            actions.append((os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0))
        environment = dict(os.environ, PWD=os.getcwd())
        try:
            pid = os.posix_spawnp(program, argv, environment, file_actions=actions, setpgroup=0, setsigmask=[], setsigdef=_TAKEN)
        except OSError as error:
            if stdin:
                os.close(write)
            missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
            os.write(2, ("%s: %s\n" % (program, "command not found" if missing else error.strerror)).encode("utf-8", "replace"))
            return 127 if missing else 126
        while opened:
            fd = opened.pop()
            if fd != directory:
                os.close(fd)
        if stdin:
            _feed(write, stdin.encode("utf-8", "surrogatepass"))
        status = _wait(pid)
        if directory is not None:
            opened.append(directory)
            _follow(directory)
        return status
    except (ValueError, TypeError) as error:
        # A NUL in an argument.
        os.write(2, ("%s\n" % error).encode("utf-8", "replace"))
        return 126
    finally:
        for fd in opened:
            os.close(fd)


def _prepare(request, opened):
    """What to execute, with which descriptors, and the one on which the shell's last directory comes."""
    if "argv" in request:
        argv = [str(word) for word in request["argv"]]
        if not argv or not argv[0]:
            raise ValueError("there is no program in the command")
        return argv[0], argv, [], None
    text = request["command"]
    actions, directory = [], None
    if _CHANGES_DIRECTORY.search(text):
        directory, write = os.pipe()
        opened += [directory, write]
        actions.append((os.POSIX_SPAWN_DUP2, write, _DIRECTORY_FD))
        # On the same line: line numbers in messages stay what they are.
        text = "trap 'pwd -P >&%d 2>/dev/null' EXIT; %s" % (_DIRECTORY_FD, text)
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= _ARGUMENT_BYTES_MAX:
        return _SHELL, ["bash", "-c", text], actions, directory
    script = os.open(os.environ.get("TMPDIR", "/tmp"), os.O_RDWR | os.O_TMPFILE, 0o600)
    opened.append(script)
    while data:
        data = data[os.write(script, data) :]
    os.lseek(script, 0, os.SEEK_SET)
    actions.append((os.POSIX_SPAWN_DUP2, script, _SCRIPT_FD))
    return _SHELL, ["bash", "/dev/fd/%d" % _SCRIPT_FD], actions, directory


def _feed(fd, data):
    """Writes a command's standard input beside it: it may never read it."""
    import threading

    def feed():
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(fd, rest) :]
        except OSError:
            pass
        finally:
            os.close(fd)

    threading.Thread(target=feed, daemon=True).start()


def _wait(pid):
    """Waits for the command to end; its exit status. An interrupt ends it, and all of its process group."""
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return _exit_status(status)
        if signal.sigwait(_WAITED_FOR) == signal.SIGINT:
            break
    _signal_group(pid, signal.SIGTERM)
    signal.sigtimedwait({signal.SIGCHLD}, _GRACE_S)
    # What is left of the group too, also where its first process has ended.
    _signal_group(pid, signal.SIGKILL)
    return _exit_status(os.waitpid(pid, 0)[1])


def _signal_group(pid, number):
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass


def _exit_status(status):
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _follow(fd):
    """Goes where the shell was when it ended."""
    os.set_blocking(fd, False)
    try:
        path = os.read(fd, _READ_BYTES).decode("utf-8", "surrogateescape").rstrip("\n")
        os.chdir(path)
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main())
