"""What a Python zygote does: warms the interpreter up, and in each of its children reads a job and makes the ground ready for it.

Called from C, with no frame below: `prepare()` once in the zygote; in a child, sealed in its sandbox already, `read(fd)` with the
job's stream, and `begin()` when the limits are in force. This is nobody's module; what a program sees of it is what it finds imported.
"""

import atexit
import gc
import os
import sys
import _thread
import _weakref

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
_early = frozenset()
_streams = ()


def prepare():
    # A pid as small as a child's would make libraries believe that nothing was forked.
    if os.getpid() < 64:
        sys.exit("the zygote's pid is too small; another will do")
    fresh = set(sys.modules)
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
    global _early, _streams
    found = ("built-in", "frozen")
    _early = frozenset(
        name.partition(".")[0]
        for name, module in sys.modules.items()
        if name not in fresh and getattr(getattr(module, "__spec__", None), "origin", "built-in") not in found
    )
    _streams = sys.stdout, sys.stderr
    gc.collect()
    gc.freeze()
    # The program's names are the collector's business again: most programs' are part of a cycle.
    old = sys.modules["__main__"]
    main = sys.modules["__main__"] = type(sys)("__main__")
    main.__dict__.update(old.__dict__)


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
    try:
        if "/" in path:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
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
    """As Rust's `{:?}` shows it."""
    from unicodedata import category

    short = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}
    plain = lambda c: c.isprintable() and category(c) not in ("Mn", "Me")
    return '"%s"' % "".join(short.get(c) or (c if plain(c) else "\\u{%x}" % ord(c)) for c in path)


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
    sys.argv[:] = argv[1:]
    if _session is not None and argv[1:2] == [_session.__file__]:
        return _serve_session
    path = os.path.join(os.getcwd(), argv[1])
    place = os.path.dirname(os.path.realpath(path))
    if _is_for_a_fresh_one(path, place):
        os.execve(argv[0], argv, env)
    sys.path.insert(0, place)
    main = sys.modules["__main__"].__dict__
    main["__file__"] = path
    main["__cached__"] = None
    main["__loader__"] = sys.modules["_frozen_importlib_external"].SourceFileLoader("__main__", path)
    return path


def _is_for_a_fresh_one(path, place):
    """Whether only a fresh interpreter does right: where there is no script but an archive, a directory, bytecode or nothing, and
    where files beside it have the names of modules that are imported here already (the student's `random.py`)."""
    try:
        with open(path, "rb", buffering=0) as file:
            begin = file.read(2)
            file.seek(max(0, os.fstat(file.fileno()).st_size - (1 << 16) - 22))
            if path.endswith(".pyc") or begin[:2] == _MAGIC or b"PK\5\6" in file.read():
                return True
        beside = (name.partition(".") for name in os.listdir(place))
        return any(name in _early and (not dot or kind.endswith(("py", "pyc", "so"))) for name, dot, kind in beside)
    except OSError:
        return True


_MAGIC = sys.modules["_frozen_importlib_external"].MAGIC_NUMBER[:2]


def title():
    """The command, as it stands in /proc/self/cmdline."""
    return " ".join(_head[0])


def _serve_session():
    # Behind its name stand the modules that its pool wants.
    _session.main(3, _head[0][2:])


def exit_code(error):
    """What a process that ends by this SystemExit ends with; `None` where there is something to be said as well."""
    code = error.code
    if code is None:
        return 0
    if isinstance(code, int):
        # As the interpreter converts it.
        return (code & 0xFFFFFFFF) if -(1 << 63) <= code < 1 << 63 else 255
    return None


def finish():
    """Ends what the program has begun: whether that was all, and nothing would come of it that the interpreter ended as well.

    An interpreter's end takes down what the zygote has built up, page by page. Where nobody would notice, it is left to the kernel.
    An exception says no, too.
    """
    global _streams
    # They write what they have when they die: nobody else may hold them then.
    streams, _streams = _streams, None
    if _thread._count() or (sys.stdout, sys.stderr) != streams:
        return False
    _run_exitfuncs()
    if _thread._count() or _matters(_get_objects()):
        return False
    sys.stdout.flush()
    sys.stderr.flush()
    return True


# What of a program can change is taken before there is one.
_run_exitfuncs, _get_objects = atexit._run_exitfuncs, gc.get_objects
_mro, _names, _flags = (type.__dict__[name].__get__ for name in ("__mro__", "__dict__", "__flags__"))
_generator, _reference = type(_ for _ in ()), _weakref.ref
_files = frozenset(type(file) for file in (sys.stdout, sys.stdout.buffer, sys.stdout.buffer.raw, sys.stdin.buffer))
_HAVE_GC = 1 << 14


def _matters(objects):
    """Whether something happens when one of these dies: all that was made after the fork, and that the collector knows."""
    watched = {kind for kind in set(map(type, objects)) if _is_watched(kind)}
    return bool(watched) and any(_would_act(thing) for thing in objects if type(thing) in watched)


def _is_watched(kind):
    return _reference in _mro(kind) or type in _mro(kind) or _has_del(kind)


def _has_del(kind):
    return any("__del__" in _names(base) for base in _mro(kind))


def _would_act(thing):
    kind = type(thing)
    if kind is _generator:
        return thing.gi_frame is not None
    if kind in _files:
        return not thing.closed
    if _reference in _mro(kind):
        return _reference.__callback__.__get__(thing) is not None
    # The collector does not know the objects of a class that has room for nothing.
    return _has_del(kind) or _has_del(thing) and not _flags(thing) & _HAVE_GC
