"""The program inside a Python session. It runs for as long as the session lives and executes its cells, as a notebook does.

It speaks newline-delimited JSON over one connected stream socket (descriptor 3 when run as a script):

    -> {"ready":true,"runtime":"python","version":"3.11.2"}                                            once
    <- {"id":1,"code":"..."}
    -> {"id":1,"ok":true,"result":{"text":"2"},"absent":false,"error":null,"truncated":false}

`result` is the value of the last expression: null for None, `{"image":{"format","base64"}}` for a picture. `absent` says that
there is no such value. `error` is `{"name","message","traceback"}`. What a cell prints goes to descriptors 1 and 2, and is there
before the answer is. SIGINT interrupts the cell that runs, and nothing else.

Its arguments are modules to import before it is ready. Importing this has no effects: a warm interpreter imports it, forks, and calls `main(socket)` in the child.
"""

import builtins

# Functions look builtins up in their module's `__builtins__`: with a copy, a cell that spoils the real ones does not spoil these.
_PRISTINE = dict(vars(builtins))
__builtins__ = dict(_PRISTINE)

import _ast
import _signal
import binascii
import fcntl
import io
import json
import linecache
import os
import re
import signal
import sys
import types

_KERNEL = (lambda: 0).__code__.co_filename
_TEXT_BYTES_MAX = 1 << 20
_MESSAGE_BYTES_MAX = 64 << 10
_NAME_BYTES_MAX = 1000
_TRACEBACK_CHARS_MAX = 48 << 10
_IMAGE_BYTES_MAX = 6 << 20
_OUT_MAX = 100
_SOURCES_CHARS_MAX = 4 << 20
# What an interrupted command gets to end by itself before it is killed.
_GRACE_S = 0.5
_AWAIT = 0x2000  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_TREE = 0x0400  # ast.PyCF_ONLY_AST
_COROUTINE = 0x0080  # inspect.CO_COROUTINE
_FEATURES = 0x1000000 | 0x400000  # what __future__ can still change: annotations, barry_as_FLUFL
# `!command`, `%magic`, and both after `name =`. Looked for only in lines that are not Python.
_ESCAPE = re.compile(r"(\s*)((?:[^\s=!%][^=]*?=\s*)?)(!!|!|%)(?!=)\s*(.*)", re.S)
_COMMENT = re.compile(r"#[^\n]*")
_INDENT = re.compile(r"[ \t]*")
# In a command: a quoted part, $$name, $name, {{, }}, {expression}.
_EXPANSION = re.compile(r"(?P<quoted>'[^'{}]*')|\$\$(?P<kept>\w+)|\$(?P<name>[A-Za-z_]\w*)|\{\{|\}\}|(?<!\$)\{(?P<expression>[^{}]+)\}")
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_PARSE = json.JSONDecoder().decode


class StdinNotImplementedError(NotImplementedError):
    """A cell asked for input, and nobody is there to give it."""

    __module__ = "builtins"


class UsageError(Exception):
    """A magic command that is not there, or was used wrongly."""

    __module__ = "builtins"


class _Full(Exception):
    """The text is longer than what is sent."""


def main(fd, modules=()):
    """Serves the session behind the socket `fd` until its other end closes, and then ends the process. The modules are imported before
    it is ready; where one cannot be, it never is."""
    kernel = _Kernel(fd)
    for name in modules:
        __import__(name)
    kernel.serve()


def _invoke(function, *arguments):
    """All of a cell runs below this frame: an interrupt is raised where it is on the stack, so that it always ends up with
    the caller of this function, and never between two cells."""
    return function(*arguments)


def _on_interrupt(_number, frame):
    while frame is not None:
        if frame.f_code is _invoke.__code__:
            raise KeyboardInterrupt
        frame = frame.f_back


# A cell may take it away.
_callable = callable


class _Guarded:
    """A cell's own handler of a signal, while no cell runs: what it raises then would end the session, and is nobody's."""

    def __init__(self, handler):
        self.handler = handler

    def __call__(self, number, frame):
        try:
            self.handler(number, frame)
        except BaseException:
            pass


def _stdlib(name):
    """Imports a module of the standard library, also where the working directory has one of the same name."""
    path = sys.path
    sys.path = [entry for entry in path if entry not in ("", ".") and entry != os.getcwd()]
    try:
        __import__(name)
        return sys.modules[name]
    finally:
        sys.path = path


def _cut(text, limit):
    """`text` as valid UTF-8 of at most `limit` bytes, and whether something was cut."""
    data = text[:limit].encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode(), len(text) > limit
    return data[:limit].decode("utf-8", "ignore"), True


class _Kernel:
    def __init__(self, fd):
        # Far from the numbers that programs get, close or guess.
        for lowest in (1000, 200, 20):
            try:
                self.socket = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
                self.kept = [(n, fcntl.fcntl(n, fcntl.F_DUPFD_CLOEXEC, lowest)) for n in (1, 2)]
                break
            except OSError:
                if lowest == 20:
                    raise
        os.close(fd)
        os.set_blocking(self.socket, True)
        self.pid = os.getpid()
        self.received = b""
        self.count = 0
        self.features = 0
        self.sources = {}
        self.loop = None
        self.image = None
        self.modules_seen = 0
        self.native_output = False
        self.user_recursion = None
        self.guarded = {}
        self.last_values = [None, None, None]
        self.module = types.ModuleType("__main__")
        self.names = vars(self.module)
        self.names["__builtins__"] = builtins
        self.out = self.names["Out"] = {}
        # The script's own module must outlive its entry: without it, its functions would lose their globals.
        self.script = sys.modules.get("__main__")
        sys.modules["__main__"] = self.module
        if __name__ != "__main__":
            sys.modules.pop(__name__, None)
        here = os.path.dirname(os.path.abspath(_KERNEL))
        sys.path[:] = [""] + [entry for entry in sys.path if entry and os.path.abspath(entry) != here]
        sys.argv = [""]
        os.environ.setdefault("MPLBACKEND", "Agg")
        builtins.input = _no_input
        # The C library's ignores interrupts while it waits.
        os.system = _system
        builtins.display = self.display
        # Under this name the rewritten `!` and `%` lines find the kernel.
        builtins.__session__ = self
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                pass
        sys.stdout = sys.__stdout__ = self.stdout = _writer(1)
        sys.stderr = sys.__stderr__ = self.stderr = _writer(2)
        os.register_at_fork(after_in_child=self.forked)
        self.listen()

    def listen(self):
        # The module's own functions are Python, and stumble over builtins that a cell took away.
        if _signal.getsignal(_signal.SIGINT) is not _on_interrupt:
            _signal.signal(_signal.SIGINT, _on_interrupt)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGINT,))

    def forked(self):
        """In a child that a cell forked: the conversation is the parent's."""
        try:
            os.close(self.socket)
        except OSError:
            pass

    def serve(self):
        version = ".".join(str(part) for part in sys.version_info[:3])
        self.send({"ready": True, "runtime": "python", "version": version})
        while True:
            request = self.receive()
            self.mend()
            answer = self.answer(request)
            if os.getpid() != self.pid:
                # A child made by os.fork has come to the end of the cell: as a script, it ends there.
                if answer["error"]:
                    os.write(2, answer["error"]["traceback"].encode())
                os._exit(0 if answer["ok"] else 1)
            try:
                self.send(answer)
            except Exception:
                vars(builtins).update(_PRISTINE)
                self.send(answer)

    def send(self, message):
        data = memoryview(_JSON(message).encode() + b"\n")
        while data:
            try:
                data = data[os.write(self.socket, data) :]
            except OSError:
                os._exit(0)

    def receive(self):
        while b"\n" not in self.received:
            self.run_tasks()
            try:
                chunk = os.read(self.socket, 1 << 16)
            except OSError:
                chunk = b""
            if not chunk:
                os._exit(0)
            self.received += chunk
        line, self.received = self.received.split(b"\n", 1)
        try:
            return _PARSE(line.decode())
        except Exception:
            # What comes is JSON; an earlier cell took away what the parser needs.
            vars(builtins).update(_PRISTINE)
            return _PARSE(line.decode())

    def run_tasks(self):
        """Lets what earlier cells left to the event loop go on until there is something to read."""
        if self.loop is None or self.loop.is_closed():
            return
        try:
            if not sys.modules["asyncio"].all_tasks(self.loop):
                return
            self.loop.add_reader(self.socket, self.loop.stop)
            # Interruptible: a task that never lets go must not keep the next cell from being read.
            _invoke(self.loop.run_forever)
        except BaseException as error:
            vars(builtins).update(_PRISTINE)
            os.write(2, self.describe(error)["traceback"].encode())
        finally:
            self.loop.remove_reader(self.socket)

    def mend(self):
        """Puts back what the kernel needs and an earlier cell took away."""
        self.listen()
        for name, value in _PRISTINE.items():
            if name not in vars(builtins):
                setattr(builtins, name, value)
        self.names.setdefault("__builtins__", builtins)
        self.names.setdefault("__name__", "__main__")
        for fd, kept in self.kept:
            try:
                os.fstat(fd)
            except OSError:
                os.dup2(kept, fd)
        for name in ("stdout", "stderr"):
            try:
                usable = not getattr(sys, name).closed
            except Exception:
                usable = hasattr(getattr(sys, name, None), "write")
            if not usable:
                mended = _writer(1 if name == "stdout" else 2)
                setattr(self, name, mended)
                setattr(sys, name, mended)
        if self.user_recursion is not None:
            try:
                sys.setrecursionlimit(self.user_recursion)
            except RecursionError:
                pass
            self.user_recursion = None

    def answer(self, request):
        self.count += 1
        self.image = None
        answer = {"id": request.get("id"), "ok": True, "result": None, "absent": True, "error": None, "truncated": False}
        try:
            value, absent, truncated = _invoke(self.guarded_cell, request["code"])
            answer.update(result=value, absent=absent, truncated=truncated)
            failure = None
        except BaseException as error:
            failure = error
        # Recursion that a cell allowed itself too little of must not be what the rest of this fails for.
        if sys.getrecursionlimit() < 500:
            self.user_recursion = sys.getrecursionlimit()
            sys.setrecursionlimit(1000)
        # What interrupted that ends with the cell.
        for attempt in range(3):
            try:
                _invoke(self.guard)
                break
            except BaseException:
                pass
        if failure is not None:
            answer["ok"] = False
            for attempt in range(2):
                try:
                    answer["error"] = _invoke(self.describe, failure)
                    break
                except BaseException:
                    vars(builtins).update(_PRISTINE)
                    name = _cut(type(failure).__name__, _NAME_BYTES_MAX)[0]
                    answer["error"] = {"name": name, "message": "", "traceback": name + "\n"}
            failure = None
        self.listen()
        try:
            _invoke(self.flush)
        except BaseException:
            pass
        return answer

    def guard(self):
        """After a cell: its handlers of signals must not raise where nothing of it runs."""
        if "signal" not in sys.modules and not self.guarded:
            return
        for number in _signal.valid_signals():
            handler = _signal.getsignal(number)
            if _callable(handler) and handler is not _on_interrupt and handler.__class__ is not _Guarded:
                guarded = self.guarded[number] = _Guarded(handler)
                _signal.signal(number, guarded)

    def unguard(self):
        """Before a cell: its handlers are again what it made them."""
        while self.guarded:
            number, guarded = self.guarded.popitem()
            if _signal.getsignal(number) is guarded:
                _signal.signal(number, guarded.handler)

    def flush(self):
        """Brings all that was written so far into the pipes."""
        for stream in (sys.stdout, sys.stderr, self.stdout, self.stderr):
            for attempt in range(2):
                try:
                    stream.flush()
                    break
                except BlockingIOError:
                    os.set_blocking(1, True)
                    os.set_blocking(2, True)
                except (AttributeError, OSError, ValueError):
                    break
        # C's own buffers, once something was loaded that may print through them.
        if len(sys.modules) != self.modules_seen:
            self.modules_seen = len(sys.modules)
            self.native_output = self.native_output or any(
                name in ("_ctypes", "_cffi_backend") or _is_foreign(module) for name, module in list(sys.modules.items())
            )
        if self.native_output:
            _stdlib("ctypes").CDLL(None).fflush(None)

    def guarded_cell(self, source):
        self.unguard()
        try:
            return self.cell(source)
        finally:
            try:
                self.guard()
            except BaseException:
                pass

    def cell(self, source):
        """Executes a cell: what its last expression is worth on the wire, whether there is none, and whether it was cut."""
        name = "<cell %d>" % self.count
        lines = source.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff").split("\n")
        self.keep_source(name, lines)
        first = next((number for number, line in enumerate(lines) if line.strip()), 0)
        if lines[first].startswith("%%"):
            timed = self.cell_magic(lines, first)
            if not timed:
                self.check_pictures()
                return self.pictured(None, True, False)
        else:
            timed = None
        indent = _INDENT.match(lines[first]).group()
        if indent:
            lines = [line[len(indent) :] if line.startswith(indent) else line for line in lines]
        value, absent = (timed or _call)(lambda: self.run_source(lines, name))
        if absent:
            self.check_pictures()
            return self.pictured(None, True, False)
        self.remember(value)
        self.check_pictures(value)
        if self.image is not None:
            return self.pictured(None, False, False)
        if value is None:
            return None, False, False
        text, truncated = self.pretty(value)
        return {"text": text}, False, truncated

    def keep_source(self, name, lines):
        """For tracebacks and inspect.getsource; of very many cells, the last ones'."""
        linecache.cache[name] = (0, None, [line + "\n" for line in lines], name)
        self.sources[name] = sum(map(len, lines)) + 64
        while sum(self.sources.values()) > _SOURCES_CHARS_MAX and len(self.sources) > 1:
            oldest = next(iter(self.sources))
            del self.sources[oldest]
            linecache.cache.pop(oldest, None)

    def run_source(self, lines, name):
        """The value of the last expression, and whether there is none."""
        original = list(lines)
        try:
            tree = self.parse(lines, name)
            body = tree.body
            last = body.pop() if body and isinstance(body[-1], _ast.Expr) else None
            codes = []
            if body:
                codes.append(compile(tree, name, "exec", _AWAIT | self.features, dont_inherit=True))
                self.features |= codes[0].co_flags & _FEATURES
            if last is not None:
                codes.append(compile(_ast.Expression(last.value), name, "eval", _AWAIT | self.features, dont_inherit=True))
        except SyntaxError as error:
            # The compiler looks for the text in a file, and finds none; and it has seen rewritten lines.
            number = error.lineno or 0
            if error.filename == name and 0 < number <= len(lines) and (error.text is None or lines != original):
                error.text = original[number - 1] + "\n"
            raise
        value = None
        for code in codes:
            value = eval(code, self.names)
            if code.co_flags & _COROUTINE:
                value = self.wait_for(value)
        if last is None:
            return None, True
        rest = lines[last.end_lineno - 1].encode()[last.end_col_offset :].decode(errors="ignore")
        rest = "\n".join([rest] + lines[last.end_lineno :])
        if _COMMENT.sub("", rest).rstrip().endswith(";"):
            return None, True
        # A call whose value is None is a procedure, as print(): it has no value to show. Anything else that is None says so.
        return value, value is None and isinstance(last.value, (_ast.Call, _ast.Await))

    def parse(self, lines, name):
        """The cell's tree. Lines that are not Python but `!` or `%` commands are rewritten in place, each when the parser
        stumbles over it: only then is it known not to be within a string or an expression."""
        while True:
            try:
                return compile("\n".join(lines), name, "exec", _TREE | _AWAIT | self.features, dont_inherit=True)
            except SyntaxError as error:
                at = (error.lineno or 0) - 1
                if not 0 <= at < len(lines):
                    raise
                match = _ESCAPE.fullmatch(lines[at])
                if not match or not match.group(4):
                    raise
            indent, target, mark, rest = match.groups()
            end = at
            while rest.endswith("\\") and end + 1 < len(lines):
                end += 1
                rest = rest[:-1] + lines[end]
                lines[end] = ""
            if mark == "%":
                word, _, rest = rest.partition(" ")
                call = "__session__.magic(%r, %r)" % (word, rest.strip())
            else:
                call = "__session__.%s(%r)" % ("getoutput" if target or mark == "!!" else "system", rest)
            lines[at] = indent + target + call

    def wait_for(self, coroutine):
        asyncio = _stdlib("asyncio")
        if self.loop is None or self.loop.is_closed():
            self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        task = self.loop.create_task(coroutine)
        try:
            return self.loop.run_until_complete(task)
        except KeyboardInterrupt as interrupt:
            if not task.done():
                # Interrupted while all waited: the place to show is where the cell waits.
                task.cancel()
                self.loop.run_until_complete(asyncio.wait({task}, timeout=1))
                try:
                    task.result()
                except asyncio.CancelledError as cancelled:
                    interrupt.with_traceback(cancelled.__traceback__)
                except BaseException:
                    pass
            raise

    def remember(self, value):
        """`_`, `__`, `___`, `_N` and `Out[N]`, for a value that is shown. A cell that uses `_` for itself keeps it."""
        if value is None or value is self.out:
            return
        if all(self.names.get("_" * (i + 1)) is last for i, last in enumerate(self.last_values)):
            self.last_values = [value] + self.last_values[:2]
            for i, last in enumerate(self.last_values):
                self.names["_" * (i + 1)] = last
        self.out[self.count] = self.names["_%d" % self.count] = value
        while len(self.out) > _OUT_MAX:
            oldest = next(iter(self.out))
            del self.out[oldest]
            self.names.pop("_%s" % oldest, None)

    def pretty(self, value):
        printer = _Printer(_TEXT_BYTES_MAX)
        full = False
        try:
            printer.pretty(value)
        except _Full:
            full = True
        text, cut = _cut(printer.laid_out(), _TEXT_BYTES_MAX)
        return text, full or cut

    def describe(self, error):
        """The error as the wire has it: frames of cells and of what they call, without those of the kernel."""
        name = type(error).__name__
        try:
            message = str(error)
        except Exception:
            message = "<exception str() failed>"
        traceback = _stdlib("traceback")
        shown = traceback.TracebackException(type(error), error, error.__traceback__)
        seen, chain = set(), [shown]
        while chain:
            one = chain.pop()
            if one is None or id(one) in seen:
                continue
            seen.add(id(one))
            chain += [one.__cause__, one.__context__] + list(getattr(one, "exceptions", None) or [])
            if one.stack is None:
                continue
            frames = list(one.stack)
            first = next((i for i, frame in enumerate(frames) if frame.filename.startswith("<cell ")), 0)
            one.stack[:] = [frame for frame in frames[first:] if frame.filename != _KERNEL]
        if isinstance(error, SystemExit) or not shown.stack:
            text = "".join(shown.format_exception_only())
        else:
            text = "".join(shown.format())
        if len(text) > _TRACEBACK_CHARS_MAX:
            half = _TRACEBACK_CHARS_MAX // 2
            text = text[:half].rsplit("\n", 1)[0] + "\n  [... frames left out ...]\n" + text[-half:].split("\n", 1)[-1]
        return {
            "name": _cut(name, _NAME_BYTES_MAX)[0],
            "message": _cut(message, _MESSAGE_BYTES_MAX)[0],
            "traceback": _cut(text, 4 * _TRACEBACK_CHARS_MAX)[0],
        }

    # Pictures.

    def pictured(self, value, absent, truncated):
        if self.image is None:
            return value, absent, truncated
        kind, data = self.image
        self.image = None
        if len(data) > _IMAGE_BYTES_MAX:
            return {"text": "<%s image of %d bytes, too large to show>" % (kind, len(data))}, False, True
        return {"image": {"format": kind, "base64": data}}, False, False

    def check_pictures(self, value=None):
        """Takes the picture that `value` or an open figure is, if any. Open figures are closed: the next cell starts anew."""
        helpers = sys.modules.get("matplotlib._pylab_helpers")
        figures = [manager.canvas.figure for manager in helpers.Gcf.get_all_fig_managers()] if helpers else []
        figures = [figure for figure in figures if figure.axes or figure.lines or figure.images or figure.texts]
        if figures:
            for figure in figures[:-1]:
                self.show(figure)
            self.image = _picture(figures[-1])
        else:
            self.image = _picture(value) or self.image
        if helpers:
            helpers.Gcf.destroy_all()

    def show(self, value):
        print(self.pretty(value)[0])

    def display(self, *values, **_options):
        """Shows values at once: pictures as the cell's result, anything else as text."""
        for value in values:
            picture = _picture(value)
            if picture:
                self.image = picture
            else:
                self.show(value)

    # Commands.

    def expand(self, text, frame):
        """Puts in the values of `{expression}` and `$name`; what is none of Python's stays for the shell."""

        def value(match):
            if match.group("quoted"):
                return match.group()
            if match.group("kept"):
                return "$" + match.group("kept")
            if match.group() in ("{{", "}}"):
                return match.group()[0]
            if match.group("name"):
                name = match.group("name")
                names = frame.f_locals if name in frame.f_locals else frame.f_globals
                return str(names[name]) if name in names else match.group()
            try:
                found = eval(match.group("expression").strip(), frame.f_globals, frame.f_locals)
            except Exception:
                return match.group()
            # `{print}` in a command is awk's, not ours.
            return match.group() if isinstance(found, types.BuiltinFunctionType) else str(found)

        return _EXPANSION.sub(value, text)

    def system(self, command):
        """`!command`: with the cell's output, and without input."""
        self.names["_exit_code"] = self.shell(self.expand(command, sys._getframe(1)))

    def getoutput(self, command):
        """`name = !command`: the lines it printed."""
        output = []
        self.names["_exit_code"] = self.shell(self.expand(command, sys._getframe(1)), output)
        return _Lines(b"".join(output).decode("utf-8", "replace").splitlines())

    def shell(self, command, output=None, arguments=()):
        """Runs a command in a process group of its own, and answers its exit code."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                pass
        shell = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"
        actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
        read = write = None
        if output is not None:
            read, write = os.pipe()
            actions += [(os.POSIX_SPAWN_DUP2, write, 1), (os.POSIX_SPAWN_DUP2, write, 2)]
        pid = None
        try:
            pid = os.posix_spawn(
                shell,
                [shell, "-c", command, *arguments],
                os.environ,
                file_actions=actions,
                setpgroup=0,
                setsigmask=[],
                setsigdef=[signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ],
            )
            if output is not None:
                os.close(write)
                write = None
                while True:
                    chunk = os.read(read, 1 << 16)
                    if not chunk:
                        break
                    output.append(chunk)
            return _exit_code(os.waitpid(pid, 0)[1])
        except ChildProcessError:
            # A cell ignores SIGCHLD: then nobody knows.
            return 0
        except BaseException:
            if pid is not None:
                _end_group(pid)
            raise
        finally:
            for fd in (read, write):
                if fd is not None:
                    os.close(fd)

    def magic(self, name, rest):
        """`%name rest`."""
        if name not in ("time", "timeit"):
            rest = self.expand(rest, sys._getframe(1))
        if name in ("matplotlib", "config", "autosave", "load_ext", "autoreload"):
            return None
        if name == "pwd":
            return os.getcwd()
        if name == "cd":
            os.chdir(os.path.expanduser(rest.strip("\"'") or "~"))
            print(os.getcwd())
            return None
        if name in ("env", "set_env"):
            return _environment(rest)
        if name == "time":
            value, absent = _timed(lambda: self.run_source([rest], "<magic>"))
            return None if absent else value
        if name == "timeit":
            options, rest = re.fullmatch(r"((?:-[nr]\s*\d+\s+)*)(.*)", rest, re.DOTALL).groups()
            given = {name: max(int(number), 1) for name, number in re.findall(r"-([nr])\s*(\d+)", options)}
            timer = _stdlib("timeit").Timer(rest, globals=self.names)
            loops, runs = given.get("n") or timer.autorange()[0], given.get("r", 3)
            best = min(timer.repeat(runs, loops)) / loops
            print("%s per loop (best of %d runs of %d loops)" % (_duration(best), runs, loops))
            return None
        if name in ("ls", "cat", "mkdir", "rmdir", "rm", "cp", "mv"):
            self.names["_exit_code"] = self.shell(name + " " + rest)
            return None
        if name in ("pip", "conda", "mamba", "uv"):
            raise UsageError("%%%s is not available in this session; if it has a network, `!python3 -m pip install --target . NAME` "
                             "puts a package beside your files" % name)
        raise UsageError("line magic function `%%%s` not found; there are %%cd, %%pwd, %%env, %%time, %%timeit and %%ls" % name)

    def cell_magic(self, lines, first):
        """`%%name`: does it, or answers what to call the rest of the cell with."""
        name, _, rest = lines[first][2:].strip().partition(" ")
        body = "\n".join(lines[first + 1 :])
        if name == "time":
            lines[first] = ""
            return _timed
        if name in ("bash", "sh", "script"):
            code = self.shell(body, arguments=("bash", *rest.split()))
            if code:
                raise _stdlib("subprocess").CalledProcessError(code, name)
            return None
        if name in ("writefile", "file"):
            append, path = re.fullmatch(r"(-a\s+|--append\s+)?(.*)", rest).groups()
            path = os.path.expanduser(path.strip().strip("\"'"))
            if not path:
                raise UsageError("%%writefile needs the name of a file")
            print(("Appending to " if append else "Overwriting " if os.path.exists(path) else "Writing ") + path)
            with open(path, "a" if append else "w", encoding="utf-8") as file:
                file.write(body if body.endswith("\n") else body + "\n")
            return None
        raise UsageError("cell magic `%%%%%s` not found; there are %%%%bash, %%%%sh, %%%%time and %%%%writefile" % name)


def _no_input(prompt="", /):
    raise StdinNotImplementedError("input() was called, but nobody can answer: a session has no standard input")


def _writer(fd):
    """A text stream whose lines are in the pipe at once, and whose close() leaves the descriptor open."""
    return io.open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _is_foreign(module):
    """Whether a module is native code from outside the standard library."""
    origin = getattr(getattr(module, "__spec__", None), "origin", None)
    return isinstance(origin, str) and origin.endswith(".so") and "/lib-dynload/" not in origin


def _exit_code(status):
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _end_group(pid):
    """Interrupts a process group, and kills what is left of it a moment later."""
    time = _stdlib("time")
    deadline = time.monotonic() + _GRACE_S
    try:
        os.killpg(pid, signal.SIGINT)
        while time.monotonic() < deadline and os.waitpid(pid, os.WNOHANG)[0] == 0:
            time.sleep(0.01)
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def _system(command):
    """os.system() that an interrupt ends."""
    command = os.fsdecode(command)
    signals = [signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ]
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", command], os.environ, setpgroup=0, setsigmask=[], setsigdef=signals)
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return -1
    except BaseException:
        _end_group(pid)
        raise


def _call(function):
    return function()


def _duration(seconds):
    for unit, scale in (("s", 1), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return "%.3g %s" % (seconds * scale, unit)
    return "%.3g ns" % (seconds * 1e9)


def _timed(function):
    time = _stdlib("time")
    wall, before = time.perf_counter(), os.times()
    try:
        return function()
    finally:
        wall, after = time.perf_counter() - wall, os.times()
        user, system = after.user - before.user, after.system - before.system
        print("CPU times: user %s, sys: %s, total: %s" % (_duration(user), _duration(system), _duration(user + system)))
        print("Wall time: %s" % _duration(wall))


def _environment(rest):
    """`%env`: all variables, one, or setting one."""
    if not rest:
        return dict(os.environ)
    name, value = re.fullmatch(r"([^\s=]+)(?:\s*=\s*|\s+|$)(.*)", rest, re.S).groups()
    if len(rest) == len(name):
        if name not in os.environ:
            raise UsageError("Environment does not have key: " + name)
        return os.environ[name]
    os.environ[name] = value
    print("env: %s=%s" % (name, value))
    return None


def _picture(value):
    """The format and base64 of what shows itself as a picture, or None."""
    if value is None or isinstance(value, type):
        return None
    figure = sys.modules.get("matplotlib.figure")
    if figure and isinstance(value, getattr(figure, "Figure", ())):
        file = io.BytesIO()
        value.savefig(file, format="png", bbox_inches="tight", dpi=value.dpi)
        return "png", binascii.b2a_base64(file.getvalue(), newline=False).decode()
    for kind, name in (("png", "_repr_png_"), ("jpeg", "_repr_jpeg_")):
        if not callable(getattr(type(value), name, None)):
            continue
        try:
            data = getattr(value, name)()
        except NotImplementedError:
            continue
        if isinstance(data, tuple):
            data = data[0]
        if isinstance(data, str):
            data = "".join(data.split())
            return (kind, data) if data.isascii() else None
        if data is not None:
            return kind, binascii.b2a_base64(data, newline=False).decode()
    return None


class _Lines(list):
    """The lines of a command's output, also as one text (`n`), in one line (`s`), or as a list (`l`)."""

    n = property("\n".join)
    s = property(" ".join)
    l = property(list)


# A value's text: Python's repr, with containers broken at 80 columns, sets sorted, and long ones cut, as notebooks show it.

_WIDTH = 79
_ITEMS_MAX = 1000
_ENDLESS = 1 << 60


class _Group:
    """Texts (str), possible line breaks (_Break) and groups. It is laid out in one line, or broken at all of its breaks."""

    __slots__ = ("parts", "indent", "width")

    def __init__(self, indent):
        self.parts = []
        self.indent = indent
        self.width = 0


class _Break:
    __slots__ = ("text", "indent")

    def __init__(self, text, indent):
        self.text = text
        self.indent = indent


class _Printer:
    """Collects a document. The methods without underscore are those that `_repr_pretty_` methods of other libraries call."""

    def __init__(self, limit):
        self.left = limit
        self.indentation = 0
        self.open = [_Group(0)]
        self.path = []

    def text(self, text):
        self.open[-1].parts.append(text)
        self.open[-1].width += len(text)
        self.left -= len(text)
        if self.left < 0:
            raise _Full

    def breakable(self, sep=" "):
        self.open[-1].parts.append(_Break(sep, self.indentation))
        self.open[-1].width += len(sep)

    def break_(self):
        self.open[-1].parts.append(_Break("", self.indentation))
        self.open[-1].width = _ENDLESS

    def begin_group(self, indent=0, open=""):
        self.text(open)
        self.open.append(_Group(indent))
        self.indentation += indent

    def end_group(self, dedent=0, close=""):
        self.close_group()
        self.text(close)

    def close_group(self):
        group = self.open.pop()
        self.indentation -= group.indent
        self.open[-1].parts.append(group)
        self.open[-1].width += group.width

    def group(self, indent=0, open="", close=""):
        return _InGroup(self, indent, open, close)

    def pretty(self, value):
        kind = type(value)
        if kind in (int, float, bool, complex, type(None)):
            return self.text(repr(value))
        cycle = id(value) in self.path
        self.path.append(id(value))
        try:
            with self.group():
                for base in kind.__mro__:
                    if base in _SHAPES:
                        return _SHAPES[base](self, value, cycle)
                    if base.__module__ == "collections" and base.__name__ in _COLLECTIONS:
                        return self.call(kind.__name__, _COLLECTIONS[base.__name__](value), cycle)
                    own = vars(base)
                    if callable(own.get("_repr_pretty_")):
                        return value._repr_pretty_(self, cycle)
                    if base is not object and callable(own.get("__repr__")):
                        return self.lines(repr(value))
                self.text("<%s at 0x%x>" % (_type_name(kind), id(value)))
        finally:
            self.path.pop()

    def lines(self, text):
        for number, line in enumerate(text.splitlines()):
            if number:
                self.break_()
            self.text(line)

    def items(self, start, end, values, each):
        with self.group(len(start), start, end):
            for number, value in enumerate(values):
                if number:
                    self.text(",")
                    self.breakable()
                if number >= _ITEMS_MAX:
                    self.text("...")
                    break
                each(value)

    def call(self, name, arguments, cycle):
        """`Name(argument, key=argument)`; `arguments` are pairs, whose key may be None."""

        def each(pair):
            if pair[0]:
                self.text(pair[0] + "=")
            self.pretty(pair[1])

        if cycle:
            self.text(name + "(...)")
        else:
            self.items(name + "(", ")", arguments, each)

    def laid_out(self):
        while len(self.open) > 1:
            self.close_group()
        out = []
        _lay_out(self.open[0], 0, 0, out)
        return "".join(out)


class _InGroup:
    def __init__(self, printer, indent, open, close):
        self.printer, self.indent, self.start, self.close = printer, indent, open, close

    def __enter__(self):
        self.printer.begin_group(self.indent, self.start)

    def __exit__(self, kind, _value, _traceback):
        # With an error, what was collected is laid out as it is.
        if kind is None:
            self.printer.end_group(self.indent, self.close)


def _lay_out(group, column, trailing, out):
    """Writes a group that starts at `column` and is followed by `trailing` columns before the line can break; answers where it
    ends."""
    flat = column + group.width + trailing <= _WIDTH
    parts = group.parts
    for number, part in enumerate(parts):
        if type(part) is str:
            out.append(part)
            column += len(part)
        elif type(part) is _Group:
            after = 0 if flat else _until_break(parts, number + 1, trailing)
            column = _lay_out(part, column, after, out)
        elif flat:
            out.append(part.text)
            column += len(part.text)
        else:
            out.append("\n" + " " * part.indent)
            column = part.indent
    return column


def _until_break(parts, start, trailing):
    """The columns from a part to the next place where the line can break."""
    width = 0
    for part in parts[start : start + 8]:
        if type(part) is str:
            width += len(part)
        elif type(part) is _Break:
            return width
        else:
            inner = _until_break(part.parts, 0, _ENDLESS)
            if inner < _ENDLESS:
                return width + inner
            width += part.width
    return width + trailing


def _type_name(kind):
    module = getattr(kind, "__module__", None)
    name = getattr(kind, "__qualname__", None) or kind.__name__
    return name if module in (None, "builtins") else "%s.%s" % (module, name)


def _sequence(start, end):
    def shape(printer, value, cycle):
        if cycle:
            return printer.text(start + "..." + end)
        last = ",)" if end == ")" and len(value) == 1 else end
        printer.items(start, last, value, printer.pretty)

    return shape


def _set(printer, value, cycle):
    name = "frozenset" if isinstance(value, frozenset) else ""
    if not value:
        return printer.text(type(value).__name__ + "()")
    if cycle:
        return printer.text(name + "({...})" if name else "{...}")
    items = value
    if len(value) < _ITEMS_MAX:
        try:
            items = sorted(value)
        except Exception:
            items = sorted(value, key=str)
    printer.items(name + "({" if name else "{", "})" if name else "}", items, printer.pretty)


def _mapping(printer, value, cycle):
    def each(pair):
        printer.pretty(pair[0])
        printer.text(": ")
        printer.pretty(pair[1])

    if cycle:
        return printer.text("{...}")
    printer.items("{", "}", value.items(), each)


def _type(printer, value, _cycle):
    own = next(base for base in type(value).__mro__ if "__repr__" in vars(base))
    printer.lines(_type_name(value) if own is type else repr(value))


def _function(printer, value, _cycle):
    try:
        signature = str(_stdlib("inspect").signature(value))
    except ValueError:
        signature = ""
    printer.text("<function %s%s>" % (_type_name(value), signature))


def _exception(printer, value, cycle):
    printer.call(_type_name(type(value)), [(None, argument) for argument in value.args], cycle)


def _plain(printer, value, _cycle):
    printer.lines(repr(value))


_SHAPES = {
    list: _sequence("[", "]"),
    tuple: _sequence("(", ")"),
    set: _set,
    frozenset: _set,
    dict: _mapping,
    str: _plain,
    bytes: _plain,
    int: _plain,
    float: _plain,
    type: _type,
    types.FunctionType: _function,
    types.BuiltinFunctionType: _function,
    BaseException: _exception,
    types.SimpleNamespace: lambda printer, value, cycle: printer.call("namespace", list(vars(value).items()), cycle),
    types.MappingProxyType: lambda printer, value, cycle: printer.call("mappingproxy", [(None, dict(value))], cycle),
}
_COLLECTIONS = {
    "OrderedDict": lambda value: [(None, list(value.items()))] if value else [],
    "defaultdict": lambda value: [(None, value.default_factory), (None, dict(value))],
    "Counter": lambda value: [(None, dict(value.most_common()))] if value else [],
    "deque": lambda value: [(None, list(value))] + ([("maxlen", value.maxlen)] if value.maxlen is not None else []),
}


if __name__ == "__main__":
    main(3, sys.argv[1:])
