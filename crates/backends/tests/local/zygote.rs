//! Programs that come from a zygote: what must be their own is, and nothing else tells them apart.

use greenroom_backends::{Finished, Local};
use greenroom_core::{Exit, JobFile, RelativePath, StageSpec, Stdin, Verdict};
use greenroom_sandbox::ZygoteConfig;
use libtest_mimic::Failed;

use crate::{job, limits, only, text};

const PYTHON: &str = "/usr/bin/python3";

/// The environment that the zygote and its programs share.
fn env() -> Vec<(String, String)> {
    [("PATH", "/usr/bin:/bin"), ("LANG", "C.UTF-8"), ("HOME", "/tmp")].map(|(name, value)| (name.into(), value.into())).to_vec()
}

pub fn python() -> Vec<ZygoteConfig> {
    vec![ZygoteConfig { name: "python".into(), program: PYTHON.into(), env: env(), modules: Vec::new() }]
}

/// What every zygote of Python finds in its sandbox.
pub fn support() -> Result<Vec<greenroom_sandbox::SupportFile>, Failed> {
    let read = |name: &str| -> Result<_, Failed> {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtimes/python/support").join(name);
        let path = RelativePath::new(&format!("python/{name}"))?;
        Ok(greenroom_sandbox::SupportFile::new(&path, std::fs::read(file)?, false))
    };
    Ok(vec![read("warm.py")?, read("session.py")?])
}

async fn run(local: &Local, source: &str, warm: bool, stdin: &str) -> Result<Finished, Failed> {
    let stage = StageSpec {
        argv: [PYTHON, "main.py", "an", "argument"].map(str::to_owned).to_vec(),
        env: env(),
        limits: greenroom_core::Limits { output_bytes: Some(60_000), cpu_ms: 1000, ..limits() },
        stdin: Stdin::Bytes(stdin.as_bytes().to_vec()),
        warm: warm.then(|| "python".to_owned()),
        ..crate::sh("")
    };
    let mut job = job(vec![stage]);
    job.files.push(JobFile { path: RelativePath::new("main.py")?, content: source.as_bytes().to_vec(), executable: false });
    let module = b"VALUE = 'imported'\ndef f(): raise RuntimeError('there')\n".to_vec();
    job.files.push(JobFile { path: RelativePath::new("pkg/beside.py")?, content: module, executable: false });
    Ok(local.run(job).await?)
}

/// What one program prints from a zygote's child.
async fn warm(local: &Local, source: &str) -> Result<String, Failed> {
    let finished = run(local, source, true, "").await?;
    let stage = only(&finished);
    assert_eq!(text(&stage.output.stderr), "");
    assert_eq!(stage.exit, Some(Exit::Code(0)));
    Ok(text(&stage.output.stdout))
}

/// Whether a program comes from a zygote; of all that it can see, its memory's map tells.
const IS_WARM: &str = "print('zygote/python.so' in open('/proc/self/maps').read())";

/// Waits until there is a child of the zygote: a job that comes sooner starts cold.
async fn warmed_up(local: &Local) -> Result<(), Failed> {
    for _ in 0..200 {
        if warm(local, IS_WARM).await? == "True\n" {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Err("no program ever comes from the zygote".into())
}

pub async fn a_program_comes_from_a_zygote(local: Local) -> Result<(), Failed> {
    warmed_up(&local).await?;
    let cold = run(&local, IS_WARM, false, "").await?;
    assert_eq!(text(&only(&cold).output.stdout), "False\n");
    Ok(())
}

/// The fork table of the contract: in two children of one zygote all of these differ.
pub async fn two_children_share_no_randomness(local: Local) -> Result<(), Failed> {
    warmed_up(&local).await?;
    for expression in [
        "__import__('random').random()",
        "__import__('random').Random().random()",
        "__import__('os').urandom(8)",
        "__import__('uuid').uuid4()",
        "__import__('secrets').token_hex()",
        "__import__('tempfile').mktemp()",
        "__import__('ssl').RAND_bytes(8)",
        "bytes(__import__('multiprocessing').current_process().authkey)",
    ] {
        let source = format!("print({expression})");
        let (one, two) = (warm(&local, &source).await?, warm(&local, &source).await?);
        assert_ne!(one, two, "{expression}");
    }
    Ok(())
}

pub async fn a_child_has_nothing_of_the_zygotes_rights_or_descriptors(local: Local) -> Result<(), Failed> {
    warmed_up(&local).await?;
    let source = "
import os, signal, resource
status = open('/proc/self/status').read()
print([line for line in status.splitlines() if line.startswith('Cap') and int(line.split()[1], 16)])
print('NoNewPrivs:\\t1' in status, 'Seccomp:\\t2' in status)
print(sorted(int(fd) for fd in os.listdir('/proc/self/fd')))
print(os.getppid(), os.getuid() > 1000, os.getuid() == os.getgid(), os.getgroups(), os.getsid(0) == os.getpid())
print(os.getcwd(), oct(os.umask(0)), open('/proc/self/oom_score_adj').read().strip())
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
print(signal.pthread_sigmask(signal.SIG_BLOCK, []), resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_NOFILE))
print(dict(os.environ) == {'PATH': '/usr/bin:/bin', 'LANG': 'C.UTF-8', 'HOME': '/tmp'})
for path in ['/etc/x', '/usr/x', '/opt/greenroom/x', '/x', '/run/disk/x']:
    try: open(path, 'w'); print('written', path)
    except OSError: pass
try: os.kill(1, 9); print('killed')
except PermissionError: print('refused')
try: os.setuid(0); print('root')
except PermissionError: print('refused')
";
    let expected = "[]\nTrue True\n[0, 1, 2, 3]\n1 True True [] True\n/box/submission 0o22 500\nTrue True\nset() (0, 0) (64, 64)\nTrue\nrefused\nrefused\n";
    assert_eq!(warm(&local, source).await?, expected);
    Ok(())
}

pub async fn nothing_that_a_child_does_reaches_the_next(local: Local) -> Result<(), Failed> {
    warmed_up(&local).await?;
    let spoil = "
import builtins, sys, os, json, signal
builtins.print = None; json.dumps = None; sys.path.clear(); sys.modules.clear(); os.environ['X'] = '1'
signal.signal(signal.SIGTERM, signal.SIG_IGN); sys.setrecursionlimit(50)
os.close(1); os.kill(os.getppid(), 0) if False else None
";
    run(&local, spoil, true, "").await?;
    let look = "import json, os, sys; print(json.dumps([1]), 'X' in os.environ, sys.getrecursionlimit(), len(sys.path) > 3)";
    assert_eq!(warm(&local, look).await?, "[1] False 1000 True\n");
    Ok(())
}

pub async fn limits_hold_for_a_child(local: Local) -> Result<(), Failed> {
    warmed_up(&local).await?;
    let verdict = |finished: &Finished| only(finished).verdict;
    assert_eq!(verdict(&run(&local, "while True: pass", true, "").await?), Verdict::CpuTime);
    assert_eq!(verdict(&run(&local, "import time; time.sleep(60)", true, "").await?), Verdict::WallTime);
    assert_eq!(verdict(&run(&local, "x = []\nwhile True: x.append(bytearray(1 << 20))", true, "").await?), Verdict::Memory);
    assert_eq!(verdict(&run(&local, "while True: print('x' * 1000)", true, "").await?), Verdict::StdoutLimit);
    let bomb = "import os\ntry:\n    while True:\n        if os.fork() == 0: import time; time.sleep(60)\nexcept OSError as e: print(e.errno)";
    let finished = run(&local, bomb, true, "").await?;
    assert_eq!(text(&only(&finished).output.stdout), "11\n");
    Ok(())
}

/// Programs whose every output and ending must be the same, cold and warm.
const SAME: &[&str] = &[
    "print(42)",
    "import sys; print(sys.argv, sys.orig_argv, sys.flags, sys.path, sys.executable, sys.version)",
    "print(__name__, __file__, __doc__, __package__, __spec__, __cached__, __builtins__.__name__, type(__loader__).__name__, sorted(globals()))",
    "import sys; print(sys.stdin.read(), end=''); print(sys.stdin, sys.stdout, sys.stderr)",
    "for line in open(0): print(line.upper(), end='')",
    "print(input() + input())",
    "input(); input(); input()",
    "1 / 0",
    "def f(n):\n    return g(n)\ndef g(n):\n    raise ValueError(n)\ntry:\n    f(1)\nexcept ValueError as e:\n    raise KeyError('x') from e",
    "this is no python",
    "if True:\nprint(1)",
    "x = 'unterminated",
    "import pkg.beside\nprint(pkg.beside.VALUE)\npkg.beside.f()",
    "from pkg import beside; print(beside.__file__, beside.__spec__.name)",
    "import nothing_of_that_name",
    "raise SystemExit",
    "raise SystemExit(3)",
    "raise SystemExit('words')",
    "raise SystemExit([1, 2])",
    "import sys; sys.exit(300)",
    "import sys; sys.exit(-1)",
    "import sys; sys.exit(None)",
    "import sys; sys.exit(True)",
    "exit(4)",
    "import os; print('lost', end=''); os._exit(5)",
    "import os; os.abort()",
    "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "raise KeyboardInterrupt",
    "import os, signal; os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(1)",
    "import signal, os\nsignal.signal(signal.SIGUSR1, lambda *a: print('handled'))\nos.kill(os.getpid(), signal.SIGUSR1)",
    "import atexit\natexit.register(print, 'first')\natexit.register(print, 'second')\nprint('body')",
    "import atexit, sys\natexit.register(lambda: sys.exit(9))\nprint('body')",
    "import atexit\natexit.register(lambda: 1 / 0)",
    "class A:\n    def __del__(self): print('gone')\na = A()\nprint('end')",
    "class A:\n    def __del__(self): print('gone')\nimport pkg.beside\npkg.beside.kept = A()\nprint('end')",
    "class A:\n    def __init__(self): self.me = self\n    def __del__(self): print('cycle gone')\nA()\nprint('end')",
    "f = open('out', 'w'); f.write('x' * 10); g = open('/dev/stdout', 'w'); g.write('unflushed\\n')",
    "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()\nprint('main')",
    "import threading, time\nthreading.Thread(target=lambda: time.sleep(60), daemon=True).start()\nprint('main')",
    "import threading; print(threading.main_thread() is threading.current_thread(), threading.active_count())",
    "import threading\nt = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()",
    "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(2) as pool: print(list(pool.map(str, range(5))))",
    "import multiprocessing as m\nif __name__ == '__main__':\n    p = m.Process(target=print, args=('child',)); p.start(); p.join(); print(p.exitcode)",
    "import subprocess, sys; print(subprocess.run([sys.executable, '-c', 'print(7)'], capture_output=True, text=True).stdout)",
    "import os\npid = os.fork()\nif pid == 0:\n    print('child'); os._exit(3)\nprint(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))",
    "import os\nif os.fork(): os.wait()\nprint('both')",
    "import asyncio\nasync def main():\n    await asyncio.sleep(0); print('async')\nasyncio.run(main())",
    "import sys\ndef f(n): return f(n + 1)\nf(0)",
    "import sys\nn = 0\ndef f():\n    global n; n += 1; f()\ntry: f()\nexcept RecursionError: print(n, sys.getrecursionlimit())",
    "import sys; print(sys._getframe().f_back, len(__import__('inspect').stack()))",
    "import traceback; traceback.print_stack()",
    "import sys\nsys.stdout.write('out'); sys.stderr.write('err'); sys.stdout.flush()",
    "import sys; sys.stdout.close()",
    "import os; os.close(1); print('nowhere')",
    "import sys; sys.stdout = None; print('nothing')",
    "import sys; print('x' * 100000)",
    "import sys; sys.excepthook = lambda *a: print('hooked', a[0].__name__); 1 / 0",
    "import warnings; warnings.warn('careful')",
    "import sys; print(sys.warnoptions, sys._xoptions, sys.getfilesystemencoding(), sys.stdout.encoding, sys.stdout.errors, sys.stderr.errors)",
    "import locale, time; print(locale.getlocale(), locale.setlocale(locale.LC_CTYPE), time.tzname)",
    "print('\u{e9}\u{1f600}')",
    "import decimal, fractions, statistics; print(decimal.getcontext(), fractions.Fraction(1, 3), statistics.mean([1, 2]))",
    "import sqlite3; print(sqlite3.connect(':memory:').execute('select 1 + 1').fetchone())",
    "import hashlib, ssl; print(hashlib.sha256(b'x').hexdigest())",
    "import ctypes; ctypes.CDLL(None).puts(b'from C')",
    "import ctypes; ctypes.string_at(0)",
    "import faulthandler; faulthandler.enable(); import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "import site, sysconfig; print(site.ENABLE_USER_SITE, sysconfig.get_paths()['stdlib'])",
    "import __main__; print(__main__.__dict__ is globals(), vars(__main__).get('x'))\nx = 1",
    "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))) is A)",
    "import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int = 1\nprint(P())",
    "x: int = 1\nprint(__annotations__)",
    "import gc; print(gc.isenabled(), gc.get_threshold(), gc.garbage)",
    "import resource; print(resource.getrlimit(resource.RLIMIT_STACK), resource.getrlimit(resource.RLIMIT_NPROC), resource.getrlimit(resource.RLIMIT_FSIZE))",
    "def f(n): return 0 if n == 0 else 1 + f(n - 1)\nimport sys; sys.setrecursionlimit(20000); print(f(15000))",
    "#!/usr/bin/env python3\n# -*- coding: latin-1 -*-\nprint(len('\u{e9}'))",
    "\u{feff}print('bom')",
    "import runpy; print(runpy.run_path('pkg/beside.py')['VALUE'])",
    "import importlib.util; print(importlib.util.find_spec('ssl').name, importlib.util.find_spec('__main__') if False else '')",
    "import os; print(os.path.abspath('.'), sorted(os.listdir('.')), os.path.expanduser('~'))",
    "import time; print(time.process_time() < 1, time.perf_counter() > 0)",
    "breakpoint()",
    "help",
    "print(quit, copyright is not None)",
    "import code; print(code.InteractiveInterpreter().runsource('1+1'))",
    "from __future__ import annotations\nprint(1)",
    "import sys; print(sys.getsizeof(1), sys.intern('x'), sys.maxsize, sys.platform, sys.byteorder)",
    "assert False, 'why'",
    "import logging; logging.warning('logged'); logging.getLogger('a.b').error('too')",
    "try:\n    raise ExceptionGroup('g', [ValueError(1), KeyError(2)])\nfinally:\n    print('finally')",
    "async def f(): pass\nf()",
    "lambda: (yield)",
    "print(eval('1+1'), exec('y = 2'), y)",
    "nonlocal x",
    "import this_is\u{df}not",
    "open('/etc/shadow')",
    "import socket; print(socket.gethostname()); socket.create_connection(('127.0.0.1', 1), 1)",
];

pub async fn cold_and_warm_cannot_be_told_apart(local: Local) -> Result<(), Failed> {
    warmed_up(&local).await?;
    let mut different = Vec::new();
    for source in SAME {
        let stdin = "one\ntwo\n";
        let (cold, warm) = (run(&local, source, false, stdin).await?, run(&local, source, true, stdin).await?);
        let seen = |finished: &Finished| {
            let stage = only(finished);
            (
                stage.verdict,
                stage.exit,
                without_addresses(&text(&stage.output.stdout)),
                without_addresses(&text(&stage.output.stderr)),
            )
        };
        let still_warm = text(&only(&run(&local, IS_WARM, true, "").await?).output.stdout);
        if still_warm != "True\n" {
            different.push(format!("{source}: not warm"));
        }
        if seen(&cold) != seen(&warm) {
            different.push(format!("{source}\n  cold {:?}\n  warm {:?}", seen(&cold), seen(&warm)));
        }
    }
    assert!(different.is_empty(), "{} programs can tell:\n{}", different.len(), different.join("\n"));
    Ok(())
}

/// What differs from run to run in any case.
fn without_addresses(text: &str) -> String {
    let mut parts = text.split("0x");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push_str("0x…");
        shown.push_str(part.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
    }
    shown
}

pub async fn when_the_zygote_dies_programs_start_cold_until_the_next_is_there(local: Local) -> Result<(), Failed> {
    warmed_up(&local).await?;
    for _ in 0..3 {
        warmed_up(&local).await?;
        let pids = zygotes();
        assert!(!pids.is_empty(), "no zygote runs");
        for pid in pids {
            // It may have ended meanwhile.
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        for _ in 0..6 {
            let finished = run(&local, "print('still')", true, "").await?;
            assert_eq!(text(&only(&finished).output.stdout), "still\n");
        }
    }
    Ok(())
}

/// The runner's children that are no slots.
fn zygotes() -> Vec<rustix::process::Pid> {
    let Some(runner) = crate::runner_pid() else { return Vec::new() };
    let children = std::fs::read_to_string(format!("/proc/{runner}/task/{runner}/children")).unwrap_or_default();
    let is_python = |pid: &&str| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("python"));
    children.split_whitespace().filter(is_python).filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)).collect()
}
