//! The real binary, serving.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

/// A server. Killed when dropped, if it has not been stopped.
pub struct Process(Child);

impl Process {
    /// Starts it, and waits until it is ready: gives the line in which it says so.
    pub fn start(command: &mut Command) -> Result<(Self, String)> {
        let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("the server cannot be started")?;
        let mut server = Self(process);
        let mut line = String::new();
        BufReader::new(server.0.stdout.take().context("no output")?).read_line(&mut line)?;
        ensure!(line.contains("listening"), "the server said {line:?}");
        Ok((server, line))
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Has it end in good order.
    pub fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw).context("no pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { bail!("the server ended with {status}") }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already, unless something failed.
        if !matches!(self.0.try_wait(), Ok(Some(_))) && self.0.kill().is_ok() {
            let _ended = self.0.wait();
        }
    }
}
