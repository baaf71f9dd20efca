use std::time::Instant;

use axum::{
    http::{HeaderName, HeaderValue},
    response::Response,
};
use greenroom_backends::{CellStatus, Files};
use greenroom_pool::{Ended, Identifier, PoolKind};
use greenroom_wire::azure::headers::Timing;
use tracing::Instrument;

use super::{Asked, SessionLease, refused::Refused, running::Ran, session_id, tell_end};
use crate::{execute::since, metrics::Hops};

/// A call that has its session to run something in, and what that took.
pub(super) struct Turn {
    /// Given up before the lease: the next call must not take this one's files for its own.
    _running: Ran,
    pub(super) lease: SessionLease,
    pub(super) timing: Timing,
}

impl Turn {
    /// Waits for the session of this identifier.
    pub(super) async fn take(asked: &Asked, identifier: &Identifier) -> Result<Self, Refused> {
        let waited = Instant::now();
        let lease = asked.lease(identifier).instrument(tracing::debug_span!("lease")).await?;
        let allocation_us = since(waited);
        let timing = Timing {
            is_new_allocation: lease.allocation().is_new(),
            allocation_us,
            preparation_us: since(asked.begun).saturating_sub(allocation_us),
            session: session_id(&asked.pool.name, identifier, lease.created_unix_ms()),
            ..Timing::default()
        };
        let running = asked.state().running.begin(&asked.pool.name, identifier, lease.files());
        Ok(Self { _running: running, lease, timing })
    }

    /// What the caller is to be told of the identifier's session before this one.
    pub(super) fn told(&self) -> Option<String> {
        self.lease.ended_before().filter(|ended| ended.reason.is_told()).map(|ended| ended.to_string())
    }

    /// The call's work is over: `request_us` after it was handed over, `execution_us` of them the program's.
    pub(super) fn over(self, asked: &Asked, status: &'static str, request_us: u64, execution_us: u64) -> Over {
        let timing = Timing {
            execution_us,
            request_us,
            read_us: request_us.saturating_sub(execution_us),
            overall_us: self.timing.allocation_us + request_us,
            ..self.timing
        };
        let hops = Hops { adapt_us: timing.preparation_us, lease_us: timing.allocation_us, run_us: request_us, ..Hops::default() };
        asked.gateway.metrics.session_execution(asked.pool.kind.as_str(), status);
        asked.gateway.metrics.hops(&hops);
        tracing::info!(
            pool = asked.pool.name,
            session = timing.session,
            status,
            new = timing.is_new_allocation,
            lease_us = timing.allocation_us,
            run_us = execution_us,
            "session execution ended"
        );
        Over { timing, hops, ended_before: self.lease.ended_before() }
    }
}

/// A call whose work is over.
pub(super) struct Over {
    timing: Timing,
    hops: Hops,
    ended_before: Option<Ended>,
}

impl Over {
    /// Says in the answer's headers where the time went. The service says it of Python alone.
    pub(super) fn tell(mut self, asked: &Asked, response: &mut Response) {
        tell_end(response, self.ended_before);
        self.timing.service_us = since(asked.begun);
        let mut put = |name: &'static str, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        };
        put("server-timing", self.hops.server_timing());
        if asked.pool.kind == PoolKind::PythonLts {
            for (name, value) in self.timing.headers() {
                put(name, value);
            }
        }
    }
}

/// The label of what came of an execution.
pub(super) fn label(status: CellStatus) -> &'static str {
    match status {
        CellStatus::Succeeded => "succeeded",
        CellStatus::Failed => "failed",
        CellStatus::TimedOut => "timed_out",
        CellStatus::CpuTime => "cpu_time",
        CellStatus::Aborted => "aborted",
    }
}

/// The files of a session, and the turn that reaching them took, if it took one.
pub(super) struct FilesTurn {
    pub(super) files: Files,
    lease: Option<SessionLease>,
}

impl FilesTurn {
    /// The files of this identifier's session: at once where something runs in it, else in its turn.
    pub(super) async fn take(asked: &Asked, identifier: &Identifier) -> Result<Self, Refused> {
        let lease = asked.lease(identifier).instrument(tracing::debug_span!("lease"));
        tokio::select! {
            biased;
            files = asked.state().running.files(&asked.pool.name, identifier) => Ok(Self { files, lease: None }),
            lease = lease => lease.map(|lease| Self { files: lease.files().clone(), lease: Some(lease) }),
        }
    }

    /// Says in the answer's headers what is to be said of the session before.
    pub(super) fn tell(&self, response: &mut Response) {
        tell_end(response, self.lease.as_ref().and_then(|lease| lease.ended_before()));
    }
}
