//! Programs that come from a zygote: what must be their own is, and nothing else tells them apart.

use greenroom_backends::{Finished, Local, Start};
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
    let module = "VALUE = 'imported'\ndef f(): raise RuntimeError('there')\n";
    run_files(local, &[("main.py", source.as_bytes()), ("pkg/beside.py", module.as_bytes())], warm, stdin).await
}

/// Runs the first of these files.
async fn run_files(local: &Local, files: &[(&str, &[u8])], warm: bool, stdin: &str) -> Result<Finished, Failed> {
    let stage = StageSpec {
        argv: [PYTHON, files[0].0, "an", "argument"].map(str::to_owned).to_vec(),
        env: env(),
        limits: greenroom_core::Limits { output_bytes: Some(60_000), cpu_ms: 1000, ..limits() },
        stdin: Stdin::Bytes(stdin.as_bytes().to_vec()),
        warm: warm.then(|| "python".to_owned()),
        ..crate::sh("")
    };
    let mut job = job(vec![stage]);
    for (path, content) in files {
        job.files.push(JobFile { path: RelativePath::new(path)?, content: content.to_vec(), executable: false });
    }
    Ok(local.run(job).await?)
}

/// What one program prints from a zygote's child.
async fn warm(local: &Local, source: &str) -> Result<String, Failed> {
    let finished = surely_warm(|| run(local, source, true, "")).await?;
    let stage = only(&finished);
    assert_eq!(text(&stage.output.stderr), "");
    assert_eq!(stage.exit, Some(Exit::Code(0)));
    Ok(text(&stage.output.stdout))
}

/// Whether a program comes from a zygote; of all that it can see, its memory's map tells.
const IS_WARM: &str = "print('zygote/python.so' in open('/proc/self/maps').read())";

/// Waits until there is a child of the zygote: a job that comes sooner starts cold.
async fn warmed_up(local: &Local) -> Result<(), Failed> {
    assert_eq!(warm(local, IS_WARM).await?, "True\n");
    Ok(())
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

pub async fn a_child_with_little_room_left_ends_as_a_cold_program_does(local: Local) -> Result<(), Failed> {
    warmed_up(&local).await?;
    // Of 256 MB: less than half of them, where what is there is looked at before the end, and more.
    for (bulk_mb, least_mb, most_mb) in [(0, 20, 127), (110, 129, 200), (180, 200, 255)] {
        let fill = format!(
            "import atexit
class D:
    def __del__(self): print('deleted')
d = D(); atexit.register(print, 'at exit'); x = [[i] for i in range(200_000)]; y = b'x' * ({bulk_mb} << 20)
print(len(x))"
        );
        let (cold, warm) = (run(&local, &fill, false, "").await?, surely_warm(|| run(&local, &fill, true, "")).await?);
        assert_eq!(seen(&cold), seen(&warm), "{bulk_mb} MB");
        assert_eq!(text(&only(&warm).output.stdout), "200000\nat exit\ndeleted\n", "{bulk_mb} MB");
        let peak_mb = only(&warm).usage.memory_peak_bytes.unwrap_or(0) >> 20;
        assert!((least_mb..=most_mb).contains(&peak_mb), "{bulk_mb} MB: {peak_mb}");
    }
    Ok(())
}

/// Programs whose every output and ending must be the same, cold and warm.
const SAME: &str = include_str!("same.txt");
const SEPARATOR: &str = "#----\n";

/// A part of them, by its number: no test lasts long.
async fn same(local: Local, part: usize) -> Result<(), Failed> {
    warmed_up(&local).await?;
    let programs: Vec<_> = SAME.split(SEPARATOR).skip(part).step_by(4).collect();
    assert!(programs.len() > 80, "{} programs", programs.len());
    let (some, others) = programs.split_at(programs.len() / 2);
    let (some, others) = tokio::join!(differing(&local, some), differing(&local, others));
    let different = [some?, others?].concat();
    assert!(different.is_empty(), "{} programs can tell:\n{}", different.len(), different.join("\n"));
    Ok(())
}

pub async fn cold_and_warm_cannot_be_told_apart_1(local: Local) -> Result<(), Failed> {
    same(local, 0).await
}

pub async fn cold_and_warm_cannot_be_told_apart_2(local: Local) -> Result<(), Failed> {
    same(local, 1).await
}

pub async fn cold_and_warm_cannot_be_told_apart_3(local: Local) -> Result<(), Failed> {
    same(local, 2).await
}

pub async fn cold_and_warm_cannot_be_told_apart_4(local: Local) -> Result<(), Failed> {
    same(local, 3).await
}

/// Those that are not the same cold and warm.
async fn differing(local: &Local, programs: &[&str]) -> Result<Vec<String>, Failed> {
    let mut different = Vec::new();
    for source in programs {
        let stdin = "one\ntwo\n";
        let (cold, warm) = (run(local, source, false, stdin).await?, surely_warm(|| run(local, source, true, stdin)).await?);
        if seen(&cold) != seen(&warm) {
            different.push(format!("{source}\n  cold {:?}\n  warm {:?}", seen(&cold), seen(&warm)));
        }
    }
    Ok(different)
}

/// Runs something until it is seen to have come from a zygote: what started cold says nothing.
async fn surely_warm<F: Future<Output = Result<Finished, Failed>>>(run: impl Fn() -> F) -> Result<Finished, Failed> {
    for _ in 0..200 {
        let finished = run().await?;
        if finished.start != Start::Cold {
            return Ok(finished);
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    Err("it never comes from the zygote".into())
}

fn seen(finished: &Finished) -> (Verdict, Option<Exit>, String, String) {
    let stage = only(finished);
    let [stdout, stderr] = [&stage.output.stdout, &stage.output.stderr].map(|stream| without_addresses(&text(stream)));
    (stage.verdict, stage.exit, stdout, stderr)
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

/// What a fresh interpreter alone does right, a warm one leaves to it; and where a name or a file is odd, both do the same.
pub async fn whatever_the_files_are_cold_and_warm_do_the_same(local: Local) -> Result<(), Failed> {
    warmed_up(&local).await?;
    let compile = "import marshal, importlib.util as u, base64, zipfile, io
code = compile('print(\"from bytecode\", __file__)', 'x.py', 'exec'); b = io.BytesIO()
z = zipfile.ZipFile(b, 'w'); z.writestr('__main__.py', 'import sys; print(sys.argv, __name__)'); z.close()
print(u.MAGIC_NUMBER.hex() + '00' * 12 + marshal.dumps(code).hex(), b.getvalue().hex())";
    let made = warm(&local, compile).await?;
    let made: Vec<Vec<u8>> = made.split_whitespace().map(from_hex).collect();
    let [bytecode, archive] = made.as_slice() else { return Err(format!("{} files", made.len()).into()) };
    let tell = "import sys; print(sys.argv, sys.path[0], __file__); 1 / 0".as_bytes();
    let disk = usize::try_from(crate::DISK.bytes)?;
    let large = vec![b'x'; disk + (8 << 20)];
    let files: &[&[(&str, &[u8])]] = &[
        &[("main.py", bytecode)],
        &[("main.pyc", bytecode)],
        &[("main.py", archive)],
        &[("main.py", b"import random; print(random.X)"), ("random.py", b"X = 7")],
        &[("main.py", b"import json; print(json.loads)"), ("json/__init__.py", b"loads = 5")],
        &[("main.py", b"import json; print(json.__file__)"), ("json.txt", b"no module"), ("random.csv", b"1")],
        // In a directory of its own: it may become the head of sys.path.
        &[
            ("main.py", b"import random; print(random.X, random.y.Y)"),
            ("random/__init__.py", b"from . import y; X = 7"),
            ("random/y.py", b"Y = 8"),
        ],
        &[("main.py", b"import random; print(random.__file__); import random.x"), ("random/x.py", b"")],
        &[
            ("main.py", b"import pkg.json, json; print(pkg.json.X, json.__file__)"),
            ("pkg/__init__.py", b""),
            ("pkg/json.py", b"X = 7"),
        ],
        &[("main.py", b"import sys; sys.path.insert(0, 'pkg'); import json; print(json.X)"), ("pkg/json.py", b"X = 7")],
        &[("pkg/main.py", b"import json; print(json.X, __file__)"), ("pkg/json.py", b"X = 7"), ("json.py", b"X = 8")],
        &[("main.py", b"import sys; sys.path.insert(0, 'a/b'); import re; print(re.X)"), ("a/b/re/__init__.py", b"X = 7")],
        &[("random.py", b"import random; print(random.__file__)")],
        &[("main", tell)],
        &[("a/b.py", tell), ("a/beside.py", b"")],
        &[("gr\u{f6}\u{df}e \u{1f600} '\"\n.py", tell)],
        &[("main.py", b"print(1)\0")],
        &[("main.py", b"# coding: latin-1\nprint('\xe9')")],
        &[("main.py", b"print('\xe9')")],
        &[("main.py", b"\xff\xfep\0")],
        &[("main.py", b"if 1:\r\n  print('''a\r\nb'''.encode())\r\n")],
        &[("main.py", b"")],
        &[("main.py", b"print(1)"), ("o\u{301}\"\\\n\t'.txt", &large)],
        &[("main.py", b"print(1)"), ("large", &large[..disk]), ("new/directory/file", b"x")],
    ];
    for files in files {
        let (cold, warm) = (run_files(&local, files, false, "").await?, surely_warm(|| run_files(&local, files, true, "")).await?);
        assert_eq!(seen(&cold), seen(&warm), "{}", files[0].0);
    }
    Ok(())
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).filter_map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()).collect()
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
