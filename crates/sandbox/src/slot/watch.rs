//! A prepared sandbox is watched until its stage is over: who speaks, which clock has run out, what was used.

use std::{io, time::Duration};

use greenroom_core::Profile;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, pidfd_send_signal},
};

use super::{CPU_RESOLUTION_US, Exit, Sandbox, Slot};
use crate::{
    cgroup::SlotCgroup,
    message::{Counted, Ended, FromSlot, StageLimits, Status, Stopped, ToSlot, receive},
    step::{Step, take},
    worker::monotonic_us,
};

/// What is known of a stage while it runs.
#[derive(Default)]
struct Run {
    limits: Option<StageLimits>,
    started_at_us: u64,
    exec_at_us: Option<u64>,
    /// Before this its CPU time cannot be used up.
    cpu_due_us: u64,
    status: Option<i32>,
    waited_cpu_us: u64,
    failed: Option<(Step, i32)>,
    cannot_fit: bool,
}

enum Turn {
    Goes,
    Over(Option<Stopped>),
}

enum Check {
    Stop(Stopped),
    In(Option<u64>),
}

impl Slot {
    /// Watches a prepared sandbox until its stage is over.
    pub(super) fn watch(&mut self, sandbox: &Sandbox) -> Result<Ended, Exit> {
        let mut run = Run::default();
        let stopped = loop {
            match self.turn(sandbox, &mut run)? {
                Turn::Goes => {}
                Turn::Over(stopped) => break stopped,
            }
        };
        self.end(sandbox, run, stopped)
    }

    /// Waits for the next thing to happen, and does it.
    fn turn(&mut self, sandbox: &Sandbox, run: &mut Run) -> Result<Turn, Exit> {
        let now = monotonic_us();
        let timeout = match self.check_time(run, now)? {
            Check::Stop(why) => return Ok(Turn::Over(Some(why))),
            Check::In(wait_us) => wait_us,
        };
        let timeout = timeout.map(|us| Timespec::try_from(Duration::from_micros(us)).map_err(io::Error::other)).transpose()?;
        let mut fds = [PollFd::new(&sandbox.status, PollFlags::IN), PollFd::new(&self.server, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(Turn::Goes),
            other => other.map_err(io::Error::from)?,
        };
        let [from_sandbox, from_server] = fds.map(|fd| !fd.revents().is_empty());
        if from_sandbox {
            return self.hear_sandbox(sandbox, run);
        }
        if from_server {
            return self.hear_server(sandbox, run);
        }
        Ok(Turn::Goes)
    }

    fn hear_sandbox(&self, sandbox: &Sandbox, run: &mut Run) -> Result<Turn, Exit> {
        match receive::<Status>(&sandbox.status)? {
            Some((Status::Exec(at), _)) => run.exec_at_us = Some(at),
            Some((Status::Exited { status, cpu_us }, _)) => {
                (run.status, run.waited_cpu_us) = (Some(status), cpu_us);
                return Ok(Turn::Over(None));
            }
            Some((Status::Failed(step, errno), _)) => {
                run.failed = Some((step, errno));
                return Ok(Turn::Over(None));
            }
            Some((Status::Ready | Status::Sealed | Status::Born(_) | Status::Mounted, _)) => {}
            // Init is gone, without a word: killed (by the kernel, out of memory).
            None => return Ok(Turn::Over(None)),
        }
        Ok(Turn::Goes)
    }

    fn hear_server(&mut self, sandbox: &Sandbox, run: &mut Run) -> Result<Turn, Exit> {
        match receive::<ToSlot>(&self.server)? {
            Some((ToSlot::Start(limits), _)) => {
                let used = run.exec_at_us.map(|_| self.count()).transpose()?;
                if let Some(cgroup) = &mut self.cgroup {
                    match take(Step::SetLimits, || cgroup.limit(&limits)) {
                        Ok(()) => {}
                        // Less than the sandbox itself needs: out of memory before it began.
                        Err(failure) if failure.errno() == libc::EBUSY => {
                            run.cannot_fit = true;
                            return Ok(Turn::Over(None));
                        }
                        Err(failure) => {
                            run.failed = Some((failure.step, failure.errno()));
                            return Ok(Turn::Over(None));
                        }
                    }
                }
                run.limits = Some(limits);
                run.started_at_us = monotonic_us();
                run.cpu_due_us = self.cpu_due_us(run.started_at_us, micros(limits.cpu_ms), &limits);
                if let Some(used) = used {
                    // The program runs, and begins something new: its clocks start again.
                    run.exec_at_us = Some(run.started_at_us);
                    self.tell(&FromSlot::Counted(used))?;
                    return Ok(Turn::Goes);
                }
                // A worker that is gone already says so itself, on the status socket.
                match rustix::io::write(&sandbox.status, b"g") {
                    Ok(_) | Err(rustix::io::Errno::PIPE) => Ok(Turn::Goes),
                    Err(error) => Err(Exit::Broken(error.into())),
                }
            }
            Some((ToSlot::Signal(number), _)) => {
                if let Some(signal) = Signal::from_named_raw(number) {
                    match pidfd_send_signal(&sandbox.worker_fd, signal) {
                        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                        Err(error) => return Err(Exit::Broken(error.into())),
                    }
                }
                Ok(Turn::Goes)
            }
            Some((ToSlot::Kill, _)) => Ok(Turn::Over(Some(Stopped::Asked))),
            Some((ToSlot::Count, _)) => {
                self.tell(&FromSlot::Counted(self.count()?))?;
                Ok(Turn::Goes)
            }
            Some((ToSlot::Prepare(_), _)) => Ok(Turn::Goes),
            None => {
                self.kill(sandbox)?;
                Err(Exit::ServerGone)
            }
        }
    }

    fn count(&self) -> io::Result<Counted> {
        let Some(cgroup) = &self.cgroup else { return Ok(Counted::default()) };
        let counters = cgroup.counters()?;
        Ok(Counted {
            cpu_us: counters.cpu_us,
            memory_bytes: cgroup.memory_bytes()?,
            memory_peak_bytes: counters.memory_peak_bytes,
            out_of_memory: counters.out_of_memory,
        })
    }

    /// Whether a time limit has been reached; else how long it can take at least, microseconds.
    fn check_time(&self, run: &mut Run, now: u64) -> io::Result<Check> {
        let Some(limits) = run.limits else { return Ok(Check::In(None)) };
        let since = run.exec_at_us.unwrap_or(run.started_at_us);
        let wall_left = micros(limits.wall_ms).saturating_sub(now.saturating_sub(since));
        if wall_left == 0 {
            return Ok(Check::Stop(Stopped::Wall));
        }
        let Some(cgroup) = &self.cgroup else { return Ok(Check::In(Some(wall_left))) };
        if now >= run.cpu_due_us {
            let cpu_left = micros(limits.cpu_ms).saturating_sub(cgroup.cpu_us()?);
            if cpu_left == 0 {
                return Ok(Check::Stop(Stopped::Cpu));
            }
            run.cpu_due_us = self.cpu_due_us(now, cpu_left, &limits);
        }
        Ok(Check::In(Some(wall_left.min(run.cpu_due_us - now))))
    }

    /// When so much CPU time can be used up at the soonest: by all processors that the stage may use, used without pause.
    fn cpu_due_us(&self, now: u64, cpu_left_us: u64, limits: &StageLimits) -> u64 {
        let parallel = u64::from(limits.cpu_milli).div_ceil(1000).clamp(1, self.shared.cpus);
        now.saturating_add((cpu_left_us / parallel).max(CPU_RESOLUTION_US))
    }

    /// Ends what is left of a stage and takes stock.
    fn end(&self, sandbox: &Sandbox, run: Run, stopped: Option<Stopped>) -> Result<Ended, Exit> {
        let ended_at_us = monotonic_us();
        if run.status.is_none() || self.shared.profile == Profile::Restricted {
            self.kill(sandbox)?;
        }
        // Else init has told and exits: the kernel itself ends whatever is left in its pid namespace.
        let counters = self.cgroup.as_ref().map(SlotCgroup::counters).transpose()?.unwrap_or_default();
        let mut ended = Ended {
            status: run.status,
            stopped,
            out_of_memory: counters.out_of_memory || run.cannot_fit,
            wall_us: run.exec_at_us.map_or(0, |at| ended_at_us.saturating_sub(at)),
            cpu_us: if self.cgroup.is_some() { counters.cpu_us } else { run.waited_cpu_us },
            memory_peak_bytes: counters.memory_peak_bytes,
            failed: run.failed,
            exec_at_us: run.exec_at_us.unwrap_or(ended_at_us),
            ended_at_us,
        };
        if run.exec_at_us.is_none() && stopped.is_none() && !ended.out_of_memory && ended.failed.is_none() {
            // It died before it became the program, and nothing of the program's can have caused that.
            ended.failed = Some((Step::Exec, libc::EIO));
        }
        if let (None, Some(limits)) = (stopped, run.limits) {
            // It ended by itself, but late: the clocks are looked at from time to time only.
            if ended.wall_us >= micros(limits.wall_ms) {
                ended.stopped = Some(Stopped::Wall);
            } else if self.used_up_cpu(&ended, &limits) {
                ended.stopped = Some(Stopped::Cpu);
            }
        }
        Ok(ended)
    }

    fn used_up_cpu(&self, ended: &Ended, limits: &StageLimits) -> bool {
        match &self.cgroup {
            Some(_) => ended.cpu_us >= micros(limits.cpu_ms),
            // Then the kernel itself ends the process, at a whole second (setrlimit(2), RLIMIT_CPU).
            None => ended.status.is_some_and(|status| status & 0x7f == libc::SIGXCPU) || ended.cpu_us >= micros(limits.cpu_ms),
        }
    }
}

/// A limit may be as large as a number can be.
fn micros(milliseconds: u64) -> u64 {
    milliseconds.saturating_mul(1000)
}
