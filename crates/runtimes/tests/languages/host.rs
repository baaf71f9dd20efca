//! Runs a planned job on the bare host, for these tests only: no limits, no isolation. What is checked is the plan.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use greenroom_core::{DiskLimits, ExecutionId, Job, Limits, RelativePath, Stdin};
use greenroom_runtimes::{Catalogue, DiscoverOptions, Program, ProgramFile, Runtime};

pub const LIMITS: Limits = Limits {
    wall_ms: 10_000,
    cpu_ms: 10_000,
    memory_bytes: 512 << 20,
    processes: 128,
    open_files: 2048,
    file_size_bytes: 10_000_000,
    output_bytes: Some(65_536),
    cpu_milli: 1000,
};

pub fn catalogue() -> Catalogue {
    Catalogue::discover(&DiscoverOptions::default()).expect("the embedded definitions are right")
}

pub fn program(files: &[(&str, &str)], args: &[&str]) -> Program {
    Program {
        id: ExecutionId::from_bits(1),
        files: files
            .iter()
            .map(|(name, text)| ProgramFile {
                path: RelativePath::new(name).expect("a good name"),
                content: text.as_bytes().to_vec(),
                code: !name.ends_with(".bin"),
            })
            .collect(),
        main: 0,
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        stdin: Stdin::Bytes(Vec::new()),
        compile: Limits { memory_bytes: 1 << 30, ..LIMITS },
        run: LIMITS,
        disk: DiskLimits { bytes: 128 << 20, inodes: 4096 },
    }
}

/// What the last stage wrote, and whether it ended well.
pub struct Answer {
    pub stdout: String,
    pub stderr: String,
    pub success: bool,
}

pub fn run(catalogue: &Catalogue, runtime: &Runtime, program: Program) -> Answer {
    let job = runtime.plan(program).expect("a plan");
    let place = tempfile::tempdir().expect("a directory");
    let (workspace, support) = (place.path().join("box"), place.path().join("support"));
    for file in &job.files {
        write(&workspace.join(file.path.as_str()), &file.content, file.executable);
    }
    for (path, content, executable) in catalogue.support_files() {
        write(&support.join(path.as_str()), &content, executable);
    }
    run_stages(&job, &workspace, &support)
}

fn run_stages(job: &Job, workspace: &Path, support: &Path) -> Answer {
    let mut last = None;
    for stage in &job.stages {
        let argv: Vec<String> = stage.argv.iter().map(|word| word.replace("/opt/greenroom", &support.to_string_lossy())).collect();
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).current_dir(workspace).env_clear().envs(stage.env.iter().cloned());
        command.env("HOME", workspace).env("GOCACHE", support.join("go-build")).stdin(Stdio::null());
        let output = command.output().unwrap_or_else(|error| panic!("{argv:?}: {error}"));
        let answer = Answer::new(output);
        if !answer.success {
            return answer;
        }
        last = Some(answer);
    }
    last.expect("a job has stages")
}

impl Answer {
    fn new(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { stdout: text(&output.stdout), stderr: text(&output.stderr), success: output.status.success() }
    }
}

fn write(path: &Path, content: &[u8], executable: bool) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    fs::write(path, content).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 })).expect("a mode");
}
