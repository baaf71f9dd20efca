//! The task that keeps a session: it alone has the conversation with the program in the sandbox.
//!
//! ```text
//!            request                     answer
//!   idle ───────────────► busy ─────────────────────────────► idle
//!    │                     │ time is up, CPU is used up,       ▲
//!    │                     │ or the caller is gone             │ answer
//!    │                     ▼                                   │
//!    │                 interrupted (SIGINT, again after 1 s) ──┘  (JavaScript: a line, after 0.3 s SIGINT, again after 1 s)
//!    │                     │ no answer for 2 s
//!    ▼                     ▼
//!  ended: the program ended, or said what nobody asked it, or did not heed
//! ```
//!
//! It reads the channel of requests (of [`super::Session`]) and a token that asks it to stop, and answers each request once.

use std::time::Duration;

use greenroom_core::{Exit, Stream};
use greenroom_pool::{EndReason, SessionLimits};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Request, SessionError,
    cell::{CellStatus, CodeExecution, CodeResult, ShellCommand, ShellResult},
    channel::{Broken, Channel},
    meter::Meter,
    output::Output,
    wire::{self, Answer, Interrupts},
};
use crate::local::{OpenEnd, OpenHandle};

/// SIGINT (signal(7)).
const INTERRUPT: i32 = 2;
/// An interrupted program gets so long to answer before its session is ended.
const GRACE: Duration = Duration::from_secs(2);
/// And is interrupted again after so long: the first may have met code that swallows it.
const AGAIN: Duration = Duration::from_secs(1);
/// Between the end of the conversation and the news of how the program ended.
const END_NEWS: Duration = Duration::from_secs(2);
/// A line that interrupts gets so long to have an effect, before the signal is sent after all.
const LINE: Duration = Duration::from_millis(300);
/// CPU time is looked at no more often than this.
const CPU_LOOK: Duration = Duration::from_millis(50);

/// What the task has.
pub(super) struct Keeper {
    pub(super) handle: OpenHandle,
    pub(super) channel: Channel,
    pub(super) output: Output,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) limits: SessionLimits,
    pub(super) interrupts: Interrupts,
    /// Whether it takes commands, not code.
    pub(super) shell: bool,
    /// The runtime's name, for those who ask it for the other.
    pub(super) runtime: String,
    pub(super) meter: Meter,
    pub(super) stop: CancellationToken,
    /// Told once, when the session has ended by itself.
    pub(super) ended: watch::Sender<Option<EndReason>>,
    pub(super) last_id: u64,
}

/// The session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// By itself.
    Ended(EndReason),
    /// Because we were asked to.
    Stopped,
}

/// Why a cell is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interrupt {
    WallTime,
    CpuTime,
    /// Whoever asked for it is gone.
    Unwanted,
}

/// A cell or a command that is over.
struct Done {
    answer: Option<Answer>,
    interrupted: Option<Interrupt>,
    took: Duration,
    over: Option<Over>,
}

impl Keeper {
    pub(super) async fn keep(mut self) {
        let over = self.serve().await;
        if let Over::Ended(reason) = over {
            // Before anybody gets an answer: who then asks the pool whether it lives gets the truth.
            self.ended.send_replace(Some(reason));
        }
        self.requests.close();
        while let Some(request) = self.requests.recv().await {
            request.refuse(match over {
                Over::Ended(reason) => SessionError::Ended(reason),
                Over::Stopped => SessionError::Gone,
            });
        }
    }

    async fn serve(&mut self) -> Over {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Over::Stopped,
                end = self.handle.ended() => return Over::Ended(reason_of(&end)),
                said = self.channel.next() => return self.broken(said.map_or_else(|broken| broken, |_| Broken::NoAnswer)).await,
                request = self.requests.recv() => {
                    let over = match request {
                        Some(Request::Code(cell, asked)) => self.code(cell, asked).await,
                        Some(Request::Command(command, asked)) => self.command(command, asked).await,
                        // The last handle on the session is gone: it is over, asked for or not.
                        None => Some(Over::Stopped),
                    };
                    if let Some(over) = over {
                        return over;
                    }
                }
                () = self.meter.due() => self.meter.look(&self.handle).await,
                () = self.output.ignore() => {}
            }
        }
    }

    async fn code(&mut self, cell: CodeExecution, mut asked: Asked<CodeResult>) -> Option<Over> {
        if self.shell {
            refuse(asked, SessionError::WrongKind(self.runtime.clone()));
            return None;
        }
        let id = self.next_id();
        let wall_ms = self.wall_ms(cell.timeout_ms);
        let own_ms = (self.interrupts == Interrupts::Line).then_some(wall_ms);
        let done = self.exchange(wire::code(id, &cell, own_ms), id, wall_ms, &mut asked).await;
        let mut answer = done.answer;
        let stdout = self.output.take(Stream::Stdout, cell.output_chars);
        let stderr = self.output.take(Stream::Stderr, cell.output_chars);
        let result = CodeResult {
            status: match (done.interrupted, &answer) {
                (_, None) if done.interrupted.is_none() => CellStatus::Aborted,
                (Some(Interrupt::CpuTime), _) => CellStatus::CpuTime,
                (Some(_), _) => CellStatus::TimedOut,
                (None, Some(answer)) if answer.timed_out => CellStatus::TimedOut,
                (None, Some(answer)) if answer.ok => CellStatus::Succeeded,
                (None, _) => CellStatus::Failed,
            },
            truncated: stdout.cut || stderr.cut || answer.as_ref().is_some_and(|answer| answer.truncated),
            stdout: stdout.text,
            stderr: stderr.text,
            value: answer.as_mut().map(Answer::take_value).unwrap_or_default(),
            error: answer.and_then(|answer| answer.error),
            duration_us: micros(done.took),
            ended: ended(done.over),
        };
        self.reply(asked, result, done.over)
    }

    async fn command(&mut self, command: ShellCommand, mut asked: Asked<ShellResult>) -> Option<Over> {
        if !self.shell {
            refuse(asked, SessionError::WrongKind(self.runtime.clone()));
            return None;
        }
        let id = self.next_id();
        let wall_ms = self.wall_ms(command.timeout_ms);
        let done = self.exchange(wire::command(id, &command), id, wall_ms, &mut asked).await;
        let stdout = self.output.take(Stream::Stdout, command.output_chars);
        let stderr = self.output.take(Stream::Stderr, command.output_chars);
        let result = ShellResult {
            status: match (done.interrupted, &done.answer) {
                (Some(Interrupt::CpuTime), _) => CellStatus::CpuTime,
                (Some(_), _) => CellStatus::TimedOut,
                (None, None) => CellStatus::Aborted,
                (None, Some(answer)) if answer.ok => CellStatus::Succeeded,
                (None, Some(_)) => CellStatus::Failed,
            },
            exit: done.answer.as_ref().filter(|_| done.interrupted.is_none()).and_then(|answer| answer.exit),
            truncated: stdout.cut || stderr.cut,
            stdout: stdout.text,
            stderr: stderr.text,
            duration_us: micros(done.took),
            ended: ended(done.over),
        };
        self.reply(asked, result, done.over)
    }

    fn wall_ms(&self, asked_ms: Option<u64>) -> u64 {
        asked_ms.unwrap_or(u64::MAX).min(self.limits.execution_wall_ms)
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.meter.execution();
        self.last_id
    }

    /// Answers a request, and passes on whether the session is over.
    fn reply<R>(&self, asked: Asked<R>, result: R, over: Option<Over>) -> Option<Over> {
        let answer = match over {
            Some(Over::Stopped) => Err(SessionError::Gone),
            Some(Over::Ended(reason)) => {
                // Before the answer: who asks then whether the session lives gets the truth.
                self.ended.send_replace(Some(reason));
                Ok(result)
            }
            None => Ok(result),
        };
        // Whoever asked may be gone.
        let _unheard = asked.send(answer);
        over
    }

    /// Hands over a task and waits for its answer, interrupting it when it must end.
    async fn exchange<R>(&mut self, task: Vec<u8>, id: u64, wall_ms: u64, asked: &mut Asked<R>) -> Done {
        let keep = usize::try_from(self.limits.execution_output_bytes).unwrap_or(usize::MAX);
        self.output.begin();
        let began = Instant::now();
        let cpu_used_up = cpu_used_up(self.handle.clone(), self.limits, wall_ms);
        tokio::pin!(cpu_used_up);
        let mut deadline = began + Duration::from_millis(wall_ms);
        let mut interrupted: Option<(Interrupt, Instant)> = None;
        if let Err(broken) = self.channel.say(task) {
            let over = self.broken(broken).await;
            return Done { answer: None, interrupted: None, took: began.elapsed(), over: Some(over) };
        }
        let (answer, over) = loop {
            let mut interrupt = None;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break (None, Some(self.stopped().await)),
                said = self.channel.next() => match said.map(|line| wire::answer(&line)) {
                    Ok(Some(answer)) if answer.id == id => break (Some(answer), None),
                    Ok(_) => break (None, Some(self.broken(Broken::NoAnswer).await)),
                    Err(broken) => break (None, Some(self.broken(broken).await)),
                },
                end = self.handle.ended() => break (None, Some(Over::Ended(reason_of(&end)))),
                () = sleep_until(deadline) => match interrupted {
                    None => interrupt = Some(Interrupt::WallTime),
                    Some((_, since)) if since.elapsed() < GRACE => {
                        // Of one that comes too early nothing is seen: on a busy machine the code has hardly begun.
                        deadline = (Instant::now() + AGAIN).min(since + GRACE);
                        self.signal().await;
                    }
                    Some(_) => break (None, Some(self.kill(EndReason::Unresponsive).await)),
                },
                () = asked.closed(), if interrupted.is_none() => interrupt = Some(Interrupt::Unwanted),
                () = &mut cpu_used_up, if interrupted.is_none() => interrupt = Some(Interrupt::CpuTime),
                _ = self.output.read(keep) => {}
            }
            if let Some(why) = interrupt {
                let now = Instant::now();
                interrupted = Some((why, now));
                deadline = now + if self.interrupts == Interrupts::Line { LINE } else { AGAIN };
                self.interrupt(id).await;
            }
        };
        let took = began.elapsed();
        self.output.drain(keep);
        if interrupted.is_some() && over.is_none() {
            // The signal takes another way than the next task: what is answered behind it says that it has arrived.
            self.meter.look(&self.handle).await;
        }
        Done { answer, interrupted: interrupted.map(|(why, _)| why), took, over }
    }

    async fn interrupt(&mut self, id: u64) {
        match self.interrupts {
            Interrupts::Signal => self.signal().await,
            // A conversation that is broken says so where it is read.
            Interrupts::Line => drop(self.channel.say(wire::interrupt(id))),
        }
    }

    async fn signal(&self) {
        if let Err(error) = self.handle.signal(INTERRUPT).await {
            // Then it has ended, and its end is on its way.
            tracing::debug!(%error, "a session's program cannot be interrupted");
        }
    }

    /// The conversation cannot go on. Mostly because the program has ended: then how, else it is killed.
    async fn broken(&self, why: Broken) -> Over {
        if let Broken::Closed = why
            && let Ok(end) = timeout(END_NEWS, self.handle.ended()).await
        {
            return Over::Ended(reason_of(&end));
        }
        tracing::info!(%why, "a session is ended: its program broke the conversation");
        self.kill(EndReason::Unintelligible).await
    }

    /// It is to stop, which may be because it has ended: whoever sees that first has it stopped.
    async fn stopped(&self) -> Over {
        tokio::select! {
            biased;
            // What we kill has no exit.
            end = self.handle.ended() => if end.exit.is_some() { Over::Ended(reason_of(&end)) } else { Over::Stopped },
            () = std::future::ready(()) => Over::Stopped,
        }
    }

    async fn kill(&self, why: EndReason) -> Over {
        let end = self.handle.close().await;
        // Where it has an exit, it was quicker than we.
        Over::Ended(if end.exit.is_some() { reason_of(&end) } else { why })
    }
}

/// Where an answer goes.
type Asked<R> = oneshot::Sender<Result<R, SessionError>>;

fn refuse<R>(asked: Asked<R>, error: SessionError) {
    // Whoever asked may be gone.
    let _unheard = asked.send(Err(error));
}

impl Request {
    fn refuse(self, error: SessionError) {
        match self {
            Request::Code(_, asked) => refuse(asked, error),
            Request::Command(_, asked) => refuse(asked, error),
        }
    }
}

fn ended(over: Option<Over>) -> Option<EndReason> {
    match over {
        Some(Over::Ended(reason)) => Some(reason),
        Some(Over::Stopped) | None => None,
    }
}

/// Why a session ended by itself.
pub(super) fn reason_of(end: &OpenEnd) -> EndReason {
    match end.exit {
        // Where only a child was killed for its memory, the program may go on and end as it likes.
        Some(Exit::Code(code)) => EndReason::Exited(code),
        _ if end.usage.out_of_memory => EndReason::OutOfMemory,
        Some(Exit::Signal(signal)) => EndReason::Signalled(signal),
        // Nobody knows: the runner is lost, and everything with it.
        None => EndReason::Lost,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Resolves when an execution has used up its CPU time; looks when that could be so, and no sooner. Never resolves where its
/// wall-clock time ends before.
async fn cpu_used_up(handle: OpenHandle, limits: SessionLimits, wall_ms: u64) {
    let share_milli = u64::from(limits.cpu_milli).max(1);
    if wall_ms.saturating_mul(share_milli) / 1000 <= limits.execution_cpu_ms {
        return std::future::pending().await;
    }
    let limit_us = limits.execution_cpu_ms.saturating_mul(1000);
    let mut first = None;
    // A session that has ended says so itself.
    while let Ok(usage) = handle.usage().await {
        let used_us = usage.cpu_us.saturating_sub(*first.get_or_insert(usage.cpu_us));
        if used_us >= limit_us {
            return;
        }
        let soonest = Duration::from_micros((limit_us - used_us).saturating_mul(1000) / share_milli);
        tokio::time::sleep(soonest.max(CPU_LOOK)).await;
    }
    std::future::pending().await
}
