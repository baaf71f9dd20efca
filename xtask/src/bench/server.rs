//! The server under measurement: the real binary, on a free port, with its own data directory.

use std::{fs, net::TcpListener, path::Path, process::Command, time::Instant};

use anyhow::{Context, Result, bail};

use crate::server::Process;

/// Generations below the server: runner, slots, first processes, programs and theirs.
const DEEPEST: usize = 8;
const SLOTS: usize = 2;

/// A running server. Stopped when dropped.
pub struct Server {
    process: Process,
    pub address: String,
    /// From start to ready.
    pub ready_ms: u128,
}

/// What must not grow.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    /// Proportional set size of server and runner and slots, KiB.
    pub memory_kib: u64,
    /// Open descriptors of server, runner and slots: sandboxes come and go.
    pub descriptors: usize,
    /// Directories of cgroups, in all hierarchies, of this server alone.
    pub cgroups: usize,
    /// Mounts in the host's namespace and in the runner's.
    pub mounts: usize,
    /// Processes below the server.
    pub processes: usize,
}

impl Server {
    /// Starts one with these settings, over a data directory of its own.
    pub fn start(binary: &Path, scratch: &Path, settings: &[&str]) -> Result<Self> {
        let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", *setting]).collect();
        Self::run(binary, scratch, &settings)
    }

    /// Starts one with a configuration file.
    pub fn start_with(binary: &Path, scratch: &Path, config: &Path) -> Result<Self> {
        Self::run(binary, scratch, &["--config", &config.to_string_lossy()])
    }

    fn run(binary: &Path, scratch: &Path, arguments: &[&str]) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        // What an earlier run kept is not measured with this one.
        let data = scratch.join("data");
        match fs::remove_dir_all(&data) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).context("the data directory"),
            _ => {}
        }
        let begun = Instant::now();
        let mut command = Command::new(binary);
        command.args(["serve", "--listen", &address, "--set", "log.level=warn", "--data-dir"]).arg(data).args(arguments);
        let (process, _) = Process::start(&mut command)?;
        Ok(Self { process, address, ready_ms: begun.elapsed().as_millis() })
    }

    /// Waits until what it does in the background after its start (precompiled headers) is done: it is idle for a second.
    pub fn settle(&self) -> Result<()> {
        let mut last = self.ticks()?;
        for _ in 0..120 {
            std::thread::sleep(std::time::Duration::from_secs(1));
            let now = self.ticks()?;
            // Hundredths of a second (proc_pid_stat(5)).
            if now.saturating_sub(last) <= 5 {
                return Ok(());
            }
            last = now;
        }
        bail!("the server is still busy two minutes after its start")
    }

    /// Processor time of the server and everything below it, ended children included, hundredths of a second.
    fn ticks(&self) -> Result<u64> {
        let of = |pid: &u32| -> Option<u64> {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let fields: Vec<u64> =
                stat.rsplit(')').next()?.split_whitespace().skip(11).take(4).filter_map(|f| f.parse().ok()).collect();
            Some(fields.iter().sum())
        };
        Ok(self.family(DEEPEST)?.iter().filter_map(of).sum())
    }

    /// The server's process and all below it, as far as `depth` generations.
    fn family(&self, depth: usize) -> Result<Vec<u32>> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            // A process may end while we look.
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
            parents.extend(parent.map(|parent| (pid, parent)));
        }
        let mut family = vec![self.process.id()];
        let mut youngest = family.clone();
        for _ in 0..depth {
            youngest = parents.iter().filter(|(_, parent)| youngest.contains(parent)).map(|(pid, _)| *pid).collect();
            family.extend(&youngest);
        }
        Ok(family)
    }

    /// Proportional set size of the server and everything below it, KiB.
    pub fn memory_kib(&self) -> Result<u64> {
        let pss = |pid: &u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            text.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        };
        Ok(self.family(DEEPEST)?.iter().filter_map(pss).sum())
    }

    pub fn footprint(&self) -> Result<Footprint> {
        let family = self.family(DEEPEST)?;
        let lasting = self.family(SLOTS)?;
        let runner = family.get(1).copied().context("the server has no runner")?;
        Ok(Footprint {
            memory_kib: self.memory_kib()?,
            descriptors: lasting.iter().filter_map(|pid| Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())).sum(),
            cgroups: directories(Path::new("/sys/fs/cgroup"), &instance(&family)?)?,
            mounts: mounts("self")? + mounts(&runner.to_string())?,
            processes: family.len(),
        })
    }

    pub fn stop(self) -> Result<()> {
        self.process.stop()
    }
}

fn mounts(process: &str) -> Result<usize> {
    Ok(fs::read_to_string(format!("/proc/{process}/mountinfo"))?.lines().count())
}

/// The name of the directory that all of the instance's cgroups are below: other servers may be running.
fn instance(family: &[u32]) -> Result<String> {
    let names = family.iter().filter_map(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        text.split(['/', '\n']).find(|part| part.starts_with("greenroom-")).map(str::to_owned)
    });
    names.into_iter().next().context("the server has no cgroup of its own")
}

/// Directories called `name` and those below them.
fn directories(below: &Path, name: &str) -> Result<usize> {
    let mut count = 0;
    // A cgroup may be removed while we look.
    let Ok(entries) = fs::read_dir(below) else { return Ok(0) };
    for entry in entries {
        let Ok(entry) = entry else { continue };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let path = entry.path();
            let ours = path.components().any(|part| part.as_os_str() == name);
            count += usize::from(ours) + directories(&path, name)?;
        }
    }
    Ok(count)
}
