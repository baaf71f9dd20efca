use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use greenroom_core::{DiskLimits, ExecutionId, Exit, Limits, Output, RelativePath, Reuse, StageSpec, Stream};

use super::*;

fn file(path: &str, content: &str, executable: bool) -> JobFile {
    JobFile { path: RelativePath::new(path).expect("a name"), content: content.into(), executable }
}

fn job() -> Job {
    let limits = Limits {
        wall_ms: 1000,
        cpu_ms: 1000,
        memory_bytes: 1 << 20,
        processes: 8,
        open_files: 8,
        file_size_bytes: 1000,
        output_bytes: Some(10),
        cpu_milli: 1000,
    };
    let stage = |kind| StageSpec {
        kind,
        argv: vec!["/usr/bin/cc".into(), "main.c".into()],
        env: vec![("A".into(), "B".into())],
        limits,
        stdin: Stdin::Bytes(Vec::new()),
        warm: None,
    };
    Job {
        id: ExecutionId::from_bits(1),
        files: vec![file("main.c", "int main;", false)],
        stages: vec![stage(StageKind::Compile), stage(StageKind::Run)],
        disk: DiskLimits { bytes: 1000, inodes: 10 },
        standby: None,
        reuse: Some(Reuse { tenant: "a".into(), toolchain: "c 1".into(), made_with: vec![PathBuf::from("/nowhere/cc")] }),
    }
}

fn made(content: &str) -> Made {
    let mut output = Output::default();
    output.push(Stream::Stderr, b"warning");
    let outcome =
        StageOutcome { kind: StageKind::Compile, verdict: Verdict::Ok, exit: Some(Exit::Code(0)), output, usage: Usage::default() };
    Made { outcome, files: vec![file("a.out", content, true)] }
}

fn kept(bytes: usize) -> Kept {
    let kept = Kept::default();
    kept.set_budget(bytes);
    kept
}

const ROOT: &str = "/";

fn key(job: &Job) -> Option<Key> {
    kept(1 << 20).key(job, Path::new(ROOT))
}

#[test]
fn everything_that_goes_in_makes_another_key() {
    type Change = fn(&mut Job);
    let changes: &[Change] = &[
        |job| job.reuse.as_mut().expect("set").tenant = "b".into(),
        |job| job.reuse.as_mut().expect("set").toolchain = "c 2".into(),
        |job| job.reuse.as_mut().expect("set").made_with = vec![PathBuf::from("/usr/bin/env")],
        |job| job.stages[0].argv.push("-O2".into()),
        |job| job.stages[0].argv = vec!["/usr/bin/cc main.c".into()],
        |job| job.stages[0].env[0].1 = "C".into(),
        |job| job.stages[0].env[0] = ("AB".into(), String::new()),
        |job| job.stages[0].limits.wall_ms += 1,
        |job| job.stages[0].limits.cpu_ms += 1,
        |job| job.stages[0].limits.memory_bytes += 1,
        |job| job.stages[0].limits.processes += 1,
        |job| job.stages[0].limits.open_files += 1,
        |job| job.stages[0].limits.file_size_bytes += 1,
        |job| job.stages[0].limits.cpu_milli += 1,
        |job| job.disk.bytes += 1,
        |job| job.disk.inodes += 1,
        |job| job.files[0].content.push(b' '),
        |job| job.files[0].executable = true,
        |job| job.files[0].path = RelativePath::new("main.cc").expect("a name"),
        |job| job.files.push(file("x.h", "", false)),
        |job| job.files.insert(0, file("x.h", "", false)),
    ];
    let mut keys = vec![key(&job()).expect("it may be kept")];
    for change in changes {
        let mut job = job();
        change(&mut job);
        keys.push(key(&job).expect("it may be kept"));
    }
    for (i, one) in keys.iter().enumerate() {
        assert!(keys[..i].iter().all(|other| other != one), "change {i} makes no other key");
    }
}

#[test]
fn what_does_not_go_in_makes_the_same_key() {
    let mut other = job();
    other.id = ExecutionId::from_bits(2);
    other.stages[0].limits.output_bytes = None;
    other.stages[0].stdin = Stdin::Interactive;
    other.stages[1].argv.push("argument".into());
    other.stages[1].stdin = Stdin::Bytes(b"input".to_vec());
    other.stages[1].limits.wall_ms = 5;
    assert!(key(&other) == key(&job()));
}

#[test]
fn nothing_is_kept_of_jobs_that_do_not_want_it() {
    let (mut unwilling, mut alone, mut fed) = (job(), job(), job());
    unwilling.reuse = None;
    alone.stages.remove(0);
    fed.stages[0].stdin = Stdin::Bytes(b"x".to_vec());
    for job in [&unwilling, &alone, &fed] {
        assert!(key(job).is_none());
    }
    assert!(kept(0).key(&job(), Path::new(ROOT)).is_none());
}

#[test]
fn a_compiler_that_was_replaced_is_another() {
    let place = tempfile::tempdir().expect("a directory");
    let compiler = place.path().join("nowhere/cc");
    fs::create_dir_all(place.path().join("nowhere")).expect("a directory");
    let kept = kept(1 << 20);
    let key = || kept.key(&job(), place.path()).expect("it may be kept");
    let missing = key();
    fs::write(&compiler, "1").expect("a file");
    let first = key();
    fs::remove_file(&compiler).expect("it is there");
    fs::write(place.path().join("other"), "").expect("another file takes the inode");
    fs::write(&compiler, "2").expect("a file");
    assert!(missing != first && first != key());
}

#[test]
fn an_entry_is_found_as_often_as_it_is_asked_for_and_counted() {
    let kept = kept(1 << 20);
    let key = key(&job()).expect("it may be kept");
    assert!(kept.get(&key, None).is_none());
    kept.put(key, "a".into(), made("program"));
    for _ in 0..2 {
        let found = kept.get(&key, Some(7)).expect("it was kept");
        assert_eq!((found.files[0].content.as_slice(), found.outcome.output.stderr.as_slice()), (&b"program"[..], &b"warning"[..]));
    }
    // Its seven bytes of output are more than this request keeps.
    assert!(kept.get(&key, Some(6)).is_none());
    let KeptStatus { hits, misses, entries, .. } = kept.status();
    assert_eq!((hits, misses, entries), (2, 2, 1));
}

#[test]
fn an_entry_that_has_changed_is_dropped() {
    let kept = kept(1 << 20);
    let key = key(&job()).expect("it may be kept");
    kept.put(key, "a".into(), made("program"));
    {
        let mut state = kept.state();
        let entry = state.entries.get_mut(&key).expect("it was kept");
        Arc::get_mut(&mut entry.made).expect("nobody uses it").files[0].content[0] ^= 1;
    }
    assert!(kept.get(&key, None).is_none());
    assert_eq!((kept.status().entries, kept.status().bytes), (0, 0));
}

#[test]
fn who_has_most_gives_up_what_it_has_not_used_for_longest() {
    let each = made(&"x".repeat(1000)).bytes();
    let kept = kept(each * 4);
    let key = |number: u8| Key([number; 32]);
    let put = |number, tenant: &str| kept.put(key(number), tenant.into(), made(&"x".repeat(1000)));
    let there = || -> Vec<u8> { (0..10).filter(|&number| kept.state().entries.contains_key(&key(number))).collect() };
    put(0, "quiet");
    (1..4).for_each(|number| put(number, "busy"));
    assert!(kept.get(&key(1), None).is_some());
    put(4, "busy");
    assert_eq!(there(), [0, 1, 3, 4]);
    put(5, "busy");
    assert_eq!(there(), [0, 1, 4, 5]);
    // The same again takes no further place.
    put(5, "busy");
    assert_eq!((there(), kept.status().bytes), (vec![0, 1, 4, 5], each as u64 * 4));
    kept.set_budget(each);
    assert_eq!(there().len(), 1);
    kept.set_budget(0);
    assert_eq!((kept.status().bytes, kept.state().tenants.len()), (0, 0));
}

/// A workspace after a stage: files with their modes.
struct Workspace(tempfile::TempDir);

impl Workspace {
    fn new(files: &[(&str, &str, u32)]) -> Self {
        let place = Self(tempfile::tempdir().expect("a directory"));
        files.iter().for_each(|(name, content, mode)| place.write(name, content, *mode));
        place
    }

    fn write(&self, name: &str, content: &str, mode: u32) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is below")).expect("a directory");
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn made(&self, sent: &[JobFile], room: usize) -> Option<Vec<JobFile>> {
        let directory = OwnedFd::from(fs::File::open(self.0.path()).expect("a directory"));
        collect::made(&directory, sent, room).expect("it can be read").map(|mut files| {
            files.sort_by(|a, b| a.path.cmp(&b.path));
            files
        })
    }
}

#[test]
fn what_is_new_or_changed_is_collected() {
    let sent = [file("main.c", "source", false), file("data/x", "old", false), file("keep", "same", false)];
    let place = Workspace::new(&[
        ("main.c", "source", 0o644),
        ("data/x", "new", 0o644),
        ("keep", "same", 0o755),
        ("a.out", "program", 0o755),
        ("deep/er/A.class", "class", 0o644),
    ]);
    let expected = [
        file("a.out", "program", true),
        file("data/x", "new", false),
        file("deep/er/A.class", "class", false),
        file("keep", "same", true),
    ];
    let made = Made { files: place.made(&sent, 1000).expect("plain files"), ..made("") };
    assert_eq!(made.files, expected);
    let mut after = made.over(&sent);
    after.sort_by(|a, b| a.path.cmp(&b.path));
    let paths: Vec<&str> = after.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["a.out", "data/x", "deep/er/A.class", "keep", "main.c"]);
}

#[test]
fn what_is_no_list_of_plain_files_is_not_kept() {
    let sent = [file("main.c", "source", false)];
    let fresh = || Workspace::new(&[("main.c", "source", 0o644), ("a.out", "program", 0o755)]);
    assert!(fresh().made(&sent, 100).is_some());
    type Change = fn(&Workspace);
    let changes: &[(&str, Change)] = &[
        ("a link", |place| std::os::unix::fs::symlink("/etc/passwd", place.path("l")).expect("a link")),
        ("a link to a directory", |place| std::os::unix::fs::symlink("/etc", place.path("l")).expect("a link")),
        ("a second name", |place| fs::hard_link(place.path("a.out"), place.path("b.out")).expect("a link")),
        ("an empty directory", |place| fs::create_dir(place.path("d")).expect("a directory")),
        ("another mode", |place| place.write("s", "", 0o600)),
        ("set-user-id", |place| place.write("s", "", 0o4755)),
        ("a pipe", |place| {
            let mode = rustix::fs::Mode::from_raw_mode(0o644);
            rustix::fs::mknodat(rustix::fs::CWD, place.path("p"), rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
        }),
        ("a file gone", |place| fs::remove_file(place.path("main.c")).expect("it is there")),
        ("a name that is no text", |place| {
            use std::os::unix::ffi::OsStrExt as _;
            fs::write(place.0.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "").expect("a file");
        }),
        ("too much", |place| place.write("big", &"x".repeat(200), 0o644)),
        ("too many", |place| (0..300).for_each(|i| place.write(&format!("f{i}"), "", 0o644))),
        ("too deep", |place| place.write(&format!("{}x", "d/".repeat(20)), "", 0o644)),
    ];
    for (what, change) in changes {
        let place = fresh();
        change(&place);
        assert_eq!(place.made(&sent, 100), None, "{what}");
    }
}
