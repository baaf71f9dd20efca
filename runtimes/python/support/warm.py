"""What a Python zygote does: warms the interpreter up, and in each of its children reads a job and makes the ground ready for it.

Called from C, with no frame below: `prepare()` once in the zygote; in a child, sealed in its sandbox already, `read(fd)` with the
job's stream, and `begin()` when the limits are in force. This is nobody's module; what a program sees of it is what it finds imported.
"""

import atexit
import gc
import os
import sys

# Imported before any program asks: what programs use most, is cheap to have, and holds nothing that two children must not share.
# Not: ssl, hashlib and whatever else loads OpenSSL, threading with its main thread, random number generators of one's own.
_COMMON = (
    "bisect collections collections.abc contextlib copy datetime enum functools heapq io itertools json linecache math operator os.path "
    "random re string textwrap time traceback types typing"
).split()
_SAMPLES = (
    "print('%s %d' % ('warm', 1), f'{2:>4}', end='')",
    "class A:\n    def __init__(self, x=0, *a, **k): self.x = [i * 2 for i in range(3)]\nA().x\nimport json; json.loads(json.dumps({'a': [1, 2.5, None]}))",
    "def f(n):\n    try:\n        return {n: 1}[n + 1]\n    except KeyError as e:\n        return sorted([3, 1, 2], key=lambda v: -v)\n    finally:\n        pass\nf(1)",
)

_head = None
_known = frozenset()


def prepare():
    # A pid as small as a child's would make libraries believe that nothing was forked.
    if os.getpid() < 64:
        sys.exit("the zygote's pid is too small; another will do")
    for name in _COMMON + os.environ.pop("GREENROOM_WARM", "").split():
        try:
            __import__(name)
        except ImportError as error:
            print("warm: %s" % error, file=sys.stderr)
    import io

    # The compiler, the printer of tracebacks and the text streams set themselves up when they are first used.
    kept, sys.stdout, sys.stderr = (sys.stdout, sys.stderr), io.StringIO(), io.StringIO()
    for sample in _SAMPLES:
        names = {}
        exec(compile(sample, "<warm>", "exec"), names)
    try:
        exec(compile("def g(): return 1 / 0\ng()", "<warm>", "exec"), {})
    except ZeroDivisionError:
        sys.excepthook(*sys.exc_info())
    sys.stdout, sys.stderr = kept
    sys.modules["linecache"].clearcache()
    _kernel()
    global _known
    _known = frozenset(sys.modules)
    gc.collect()
    gc.freeze()


def _kernel():
    """The session's kernel, compiled here once instead of in every session; its import has no effects."""
    global _session
    from importlib.util import module_from_spec, spec_from_file_location

    path = "/opt/greenroom/python/session.py"
    _session = None
    if os.path.exists(path):
        spec = spec_from_file_location("greenroom_session", path)
        _session = module_from_spec(spec)
        spec.loader.exec_module(_session)


def read(fd):
    """Reads the job from its stream, and writes its files: numbers for the limits, and whether the stream is the program's to keep."""
    global _head
    head = _receive(fd, int.from_bytes(_receive(fd, 4), "little"))
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = head[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def text():
        nonlocal at
        length = number()
        at += length
        return head[at - length : at].decode("utf-8", "surrogateescape")

    argv = [text() for _ in range(number())]
    env = {}
    for _ in range(number()):
        name = text()
        env[name] = text()
    limits = (number(), number(), number(), number())
    number()  # CPU time is the cgroup's business
    channel = number()
    for _ in range(number()):
        path, length, executable = text(), number(), number()
        _write(fd, path, length, 0o755 if executable else 0o644)
    _head = argv, env
    return limits + (channel,)


def _receive(fd, length):
    data = os.read(fd, length)
    while len(data) < length:
        more = os.read(fd, length - len(data))
        if not more:
            # Nobody wants the sandbox any more.
            os._exit(1)
        data += more
    return data


def _write(fd, path, length, mode):
    if "/" in path:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            while length:
                data = _receive(fd, min(length, 1 << 16))
                length -= len(data)
                while data:
                    data = data[os.write(file, data) :]
        finally:
            os.close(file)
    except OSError as error:
        # The files' sizes are the client's: a full disk is an outcome, not a failure of ours. As the worker says it.
        global _refusal
        _refusal = _refusal or "greenroom: cannot write %s: %s (os error %d)\n" % (_quoted(path), error.strerror, error.errno)
        while length:
            length -= len(_receive(fd, min(length, 1 << 16)))


_refusal = None


def _quoted(path):
    return '"%s"' % path.replace("\\", "\\\\").replace('"', '\\"')


def begin():
    """Makes everything as a fresh interpreter finds it: the path of the program to run, or the function to call."""
    argv, env = _head
    if _refusal:
        os.write(2, _refusal.encode("utf-8", "surrogateescape"))
        os._exit(126)
    if dict(os.environ) != env:
        os.environ.clear()
        os.environ.update(env)
    sys.orig_argv[:] = argv
    if _session is not None and argv[1:] == [_session.__file__]:
        sys.argv[:] = argv[1:]
        return _serve_session
    sys.argv[:] = argv[1:]
    path = os.path.abspath(argv[1])
    if not os.path.exists(path):
        os.write(2, ("%s: can't open file %r: [Errno 2] No such file or directory\n" % (argv[0], path)).encode())
        sys.exit(2)
    sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
    main = sys.modules["__main__"].__dict__
    main["__file__"] = path
    main["__cached__"] = None
    main["__loader__"] = sys.modules["_frozen_importlib_external"].SourceFileLoader("__main__", path)
    return path


def _serve_session():
    _session.main(3)


def exit_code(error):
    """What a process that ends by this SystemExit ends with."""
    code = error.code
    if code is None:
        return 0
    if isinstance(code, int):
        # As the interpreter converts it.
        return (code & 0xFFFFFFFF) if -(1 << 63) <= code < 1 << 63 else 255
    try:
        print(code, file=sys.stderr)
    except Exception:
        pass
    return 1


def finish():
    """Ends what the program has begun, in the order in which the interpreter does: 0, or 1 where its output could not be written."""
    threading = sys.modules.get("threading")
    if threading is not None:
        try:
            threading._shutdown()
        except BaseException:
            sys.excepthook(*sys.exc_info())
    atexit._run_exitfuncs()
    failed = _flush()
    main = sys.modules["__main__"]
    own = [module for name, module in list(sys.modules.items()) if name not in _known and isinstance(module, type(sys))]
    names = main.__dict__
    if own or any(not _is_plain(value) for name, value in names.items() if name not in _MAIN):
        for module in own:
            sys.modules.pop(module.__name__, None)
        for module in [main] + own[::-1]:
            _clear(module.__dict__)
        own = module = None
        gc.collect()
        failed |= _flush()
    return failed


_MAIN = frozenset("__name__ __doc__ __package__ __loader__ __spec__ __annotations__ __builtins__ __file__ __cached__".split())


def _is_plain(value):
    """Whether nothing happens when it dies."""
    return type(value) in (int, float, str, bytes, bool, type(None), type(sys), type(len), type(_flush))


def _clear(names):
    """As a module's names are cleared at the interpreter's end: those that begin with an underscore first."""
    for first in (True, False):
        for name in list(names):
            if name != "__builtins__" and (name[:1] == "_" and name[1:2] != "_") is first:
                names[name] = None


def _flush():
    failed = 0
    for stream in (sys.stdout, sys.stderr):
        if stream is None or getattr(stream, "closed", False):
            continue
        try:
            stream.flush()
        except BaseException as error:
            if stream is sys.stdout:
                failed = 1
                try:
                    sys.stderr.write("Exception ignored in: %r\n%s: %s\n" % (stream, type(error).__name__, error))
                except Exception:
                    pass
    return failed
