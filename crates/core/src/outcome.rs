use crate::{Blame, StageKind};

/// What came of a job: the stages that ran, in order. A program that fails is an outcome, not an error.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Never empty. Only the last can have a verdict other than [`Verdict::Ok`].
    pub stages: Vec<StageOutcome>,
}

impl Outcome {
    /// The stage of this kind, if it ran.
    pub fn stage(&self, kind: StageKind) -> Option<&StageOutcome> {
        self.stages.iter().find(|stage| stage.kind == kind)
    }
}

/// What one stage did.
#[derive(Clone, Debug)]
pub struct StageOutcome {
    /// Which stage.
    pub kind: StageKind,
    /// How it ended, judged from the kernel's counters and our own timers, never from what the program says.
    pub verdict: Verdict,
    /// Exit status or signal of the stage's first process, as `waitpid` told it. `None` where it was
    /// stopped by us before it ended.
    pub exit: Option<Exit>,
    /// What it wrote (empty where the output was streamed).
    pub output: Output,
    /// What it used.
    pub usage: Usage,
}

/// How a stage's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// `exit(code)`, 0..=255.
    Code(i32),
    /// Killed by this signal number.
    Signal(i32),
}

/// The judgement on a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Exit status 0 within all limits.
    Ok,
    /// Exit status other than 0.
    ExitStatus,
    /// Killed by a signal of its own making.
    Signal,
    /// Used up its CPU time.
    CpuTime,
    /// Used up its wall-clock time.
    WallTime,
    /// The kernel's out-of-memory killer struck in its cgroup.
    Memory,
    /// Wrote more to stdout than is kept.
    StdoutLimit,
    /// Wrote more to stderr than is kept.
    StderrLimit,
    /// Stopped because the caller went away or asked for it.
    Cancelled,
    /// The sandbox failed under it. Never caused by the program.
    SandboxFailed,
}

impl Verdict {
    /// The label used in metrics, in logs and by the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::ExitStatus => "exit_status",
            Verdict::Signal => "signal",
            Verdict::CpuTime => "cpu_time",
            Verdict::WallTime => "wall_time",
            Verdict::Memory => "memory",
            Verdict::StdoutLimit => "stdout_limit",
            Verdict::StderrLimit => "stderr_limit",
            Verdict::Cancelled => "cancelled",
            Verdict::SandboxFailed => "sandbox_failed",
        }
    }

    /// Who is to blame, where it is not [`Verdict::Ok`].
    pub fn blame(self) -> Option<Blame> {
        match self {
            Verdict::Ok => None,
            Verdict::Cancelled => Some(Blame::Caller),
            Verdict::SandboxFailed => Some(Blame::Us),
            _ => Some(Blame::Program),
        }
    }
}

/// Which of the two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output, fd 1.
    Stdout,
    /// Standard error, fd 2.
    Stderr,
}

impl Stream {
    /// The name used on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// What a stage wrote. Bytes, not text: decoding is the wire format's business.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Kept bytes of stdout.
    pub stdout: Vec<u8>,
    /// Kept bytes of stderr.
    pub stderr: Vec<u8>,
    /// The order in which both arrived, as the kernel told it: runs of bytes, adjacent runs of one stream joined.
    pub order: Vec<Chunk>,
}

/// A run of bytes of one stream, in [`Output::order`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which stream.
    pub stream: Stream,
    /// How many bytes of it come next.
    pub len: usize,
}

impl Output {
    /// Keeps these bytes as the next in order.
    pub fn push(&mut self, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match stream {
            Stream::Stdout => self.stdout.extend_from_slice(bytes),
            Stream::Stderr => self.stderr.extend_from_slice(bytes),
        }
        match self.order.last_mut() {
            Some(last) if last.stream == stream => last.len += bytes.len(),
            _ => self.order.push(Chunk { stream, len: bytes.len() }),
        }
    }

    /// Both streams in the order of arrival, in pieces.
    pub fn pieces(&self) -> impl Iterator<Item = (Stream, &[u8])> {
        let (mut out, mut err) = (0, 0);
        self.order.iter().map(move |chunk| match chunk.stream {
            Stream::Stdout => {
                out += chunk.len;
                (chunk.stream, &self.stdout[out - chunk.len..out])
            }
            Stream::Stderr => {
                err += chunk.len;
                (chunk.stream, &self.stderr[err - chunk.len..err])
            }
        })
    }
}

/// What a stage used. Sources: the monotonic clock, and the cgroup's own counters (`wait4` where there are none).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// From the exec of the program to its end, microseconds.
    pub wall_us: u64,
    /// User and system time of all its processes, microseconds.
    pub cpu_us: u64,
    /// Peak memory, bytes. `None` where the host gives no such counter.
    pub memory_peak_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_gives_back_the_order_of_arrival() {
        let mut output = Output::default();
        for (stream, text) in [
            (Stream::Stdout, "a"),
            (Stream::Stdout, "b"),
            (Stream::Stderr, "X"),
            (Stream::Stdout, ""),
            (Stream::Stderr, "Y"),
            (Stream::Stdout, "c"),
        ] {
            output.push(stream, text.as_bytes());
        }
        let pieces: Vec<_> = output.pieces().map(|(s, b)| (s, String::from_utf8_lossy(b).into_owned())).collect();
        assert_eq!(pieces, [(Stream::Stdout, "ab".into()), (Stream::Stderr, "XY".into()), (Stream::Stdout, "c".into())]);
    }
}
