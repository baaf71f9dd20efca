"""What a Python zygote does in Python: `prepare()` warms the interpreter up. The rest is for the few children that need it.

Called from the library in the zygote, with no frame below. What a child does for every program, the library does itself: each
function called here, and each object looked at, is a page or two to copy. This is nobody's module; what a program sees of it is
what it finds imported.
"""

import atexit
import gc
import os
import sys
import _random
import _thread
import _weakref

# Imported before any program asks: what programs use most, is cheap to have, and holds nothing that two children must not share.
# Not: ssl, hashlib and whatever else loads OpenSSL, threading with its main thread, random number generators of one's own.
# More would make every child dearer: a fork copies the tables of all that the zygote has, whether it is used or not.
_COMMON = "bisect collections functools heapq itertools json math operator os random re string time".split()
_SAMPLES = (
    "print('%s %d' % ('warm', 1), f'{2:>4}', end='')",
    "class A:\n    def __init__(self, x=0, *a, **k): self.x = [i * 2 for i in range(3)]\nA().x\nimport json; json.loads(json.dumps({'a': [1, 2.5, None]}))",
    "def f(n):\n    try:\n        return {n: 1}[n + 1]\n    except KeyError as e:\n        return sorted([3, 1, 2], key=lambda v: -v)\n    finally:\n        pass\nf(1)",
)

# What the library in the zygote uses: none of it is looked up in a program's time.
_loader = sys.modules["_frozen_importlib_external"].SourceFileLoader("__main__", "")
_none = _reseed = None
_early = b""
_session = None
_only_common = True


def prepare():
    # A pid as small as a child's would make libraries believe that nothing was forked.
    if os.getpid() < 64:
        sys.exit("the zygote's pid is too small; another will do")
    global _early, _only_common, _reseed
    fresh = set(sys.modules)
    hooks = []
    register = os.register_at_fork
    os.register_at_fork = lambda **hook: hooks.append(hook) or register(**hook)
    wanted = os.environ.pop("GREENROOM_WARM", "").split()
    _only_common = not wanted
    for name in _COMMON + wanted:
        try:
            __import__(name)
        except ImportError as error:
            print("warm: %s" % error, file=sys.stderr)
    os.register_at_fork = register
    random = sys.modules.get("random")
    if random is not None and hooks == [{"after_in_child": random._inst.seed}]:
        # What that does, without a frame.
        _reseed = _random.Random.seed.__get__(random._inst)
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
    _kernel()
    found = ("built-in", "frozen")
    early = {
        name.partition(".")[0]
        for name, module in sys.modules.items()
        if name not in fresh and getattr(getattr(module, "__spec__", None), "origin", "built-in") not in found
    }
    _early = "\n".join(["", *sorted(early), ""]).encode()
    gc.collect()
    gc.freeze()
    # The program's names are the collector's business again: most programs' are part of a cycle.
    old = sys.modules["__main__"]
    main = sys.modules["__main__"] = type(sys)("__main__")
    main.__dict__.update(old.__dict__)


def _kernel():
    """The session's kernel, compiled here once instead of in every session; its import has no effects."""
    global _session
    path = "/opt/greenroom/python/session.py"
    if os.path.exists(path):
        module = type(sys)("greenroom_session")
        module.__file__ = path
        exec(_compiled(path), module.__dict__)
        _session = module


def _compiled(path):
    """A file's code, compiled by another process: what the compiler leaves behind would be copied with every fork."""
    import marshal

    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            # With nobody to read any more, it ends by writing.
            os.close(read)
            with open(path, "rb") as file, os.fdopen(write, "wb") as to:
                to.write(marshal.dumps(compile(file.read(), path, "exec", dont_inherit=True)))
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        code = file.read()
    os.waitpid(pid, 0)
    return marshal.loads(code)


def set_environment(variables):
    os.environ.clear()
    os.environ.update(variables)


def start_anew(arguments, variables):
    """Where only a fresh interpreter does right."""
    os.execve(arguments[0], arguments, variables)


def serve_session(modules):
    _session.main(3, modules)


def exit_code(error):
    """What a process that ends by this SystemExit ends with; `None` where there is something to be said as well."""
    code = error.code
    if code is None:
        return 0
    if isinstance(code, int):
        # As the interpreter converts it.
        return (code & 0xFFFFFFFF) if -(1 << 63) <= code < 1 << 63 else 255
    return None


# What of a program can change is taken before there is one.
_run_exitfuncs, _get_objects, _count_threads = atexit._run_exitfuncs, gc.get_objects, _thread._count
_mro, _names, _flags = (type.__dict__[name].__get__ for name in ("__mro__", "__dict__", "__flags__"))
_generator, _reference = type(_ for _ in ()), _weakref.ref
_files = frozenset(type(file) for file in (sys.stdout, sys.stdout.buffer, sys.stdout.buffer.raw, sys.stdin.buffer))
_proxies = frozenset((_weakref.ProxyType, _weakref.CallableProxyType))
_HAVE_GC = 1 << 14


def matters(objects):
    """Whether something happens when one of these dies: all that was made after the fork, and that the collector knows."""
    watched = {kind for kind in set(map(type, objects)) if _is_watched(kind)}
    return bool(watched) and any(_would_act(thing) for thing in objects if type(thing) in watched)


def _is_watched(kind):
    return _reference in _mro(kind) or kind in _proxies or type in _mro(kind) or _has_del(kind)


def _has_del(kind):
    return any("__del__" in _names(base) for base in _mro(kind))


def _would_act(thing):
    kind = type(thing)
    if kind is _generator:
        return thing.gi_frame is not None
    if kind in _files:
        return not thing.closed
    if kind in _proxies:
        # Whether it calls anybody cannot be seen.
        return True
    if _reference in _mro(kind):
        return _reference.__callback__.__get__(thing) is not None
    # The collector does not know the objects of a class that has room for nothing.
    return _has_del(kind) or _has_del(thing) and not _flags(thing) & _HAVE_GC
