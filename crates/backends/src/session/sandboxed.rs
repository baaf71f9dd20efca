//! Sessions in sandboxes of this machine: the local backend of a pool.

use std::{sync::Arc, time::Duration};

use greenroom_core::Limits;
use greenroom_egress::{Egress, Running};
use greenroom_pool::{Backend, CreateError, EndReason, Network, PoolKind, PoolSpec, SessionUsage};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Files, Session, SessionInfo,
    channel::Channel,
    keeper::{Keeper, reason_of},
    meter::Meter,
    output::Output,
    wire,
};
use crate::local::{Local, OpenSandbox, OpenSpec};

/// Requests that may wait for a session's task. Calls of one identifier are serialised by the pool's lease.
const REQUESTS: usize = 4;
/// From its start until a session's program says that it is ready.
const START: Duration = Duration::from_secs(30);
/// How much of a program's last words the operator gets to see, characters.
const LAST_WORDS_CHARS: usize = 2000;

/// The program inside a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionProgram {
    /// Program and arguments; `argv[0]` is a path. The modules that the pool wants imported are put behind.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
}

/// Finds the program for a pool; languages come and go while the server runs. The error says what is missing.
type Find = dyn Fn(PoolKind, &Limits) -> Result<SessionProgram, String> + Send + Sync;

/// Makes sessions in sandboxes of [`Local`].
pub struct LocalSessions {
    local: Local,
    egress: Egress,
    find: Box<Find>,
}

impl LocalSessions {
    /// Sessions in sandboxes of `local`, which reach through `egress` what they may where their pool has network. `find` gives the
    /// program for a kind of pool under limits.
    pub fn new(
        local: Local,
        egress: Egress,
        find: impl Fn(PoolKind, &Limits) -> Result<SessionProgram, String> + Send + Sync + 'static,
    ) -> Self {
        Self { local, egress, find: Box::new(find) }
    }
}

impl Backend for LocalSessions {
    type Session = Session;

    async fn create(&self, spec: &PoolSpec) -> Result<Session, CreateError> {
        let network = spec.network == Network::Enabled;
        if let (true, Some(reason)) = (network, &self.local.host().no_network) {
            return Err(CreateError::new(format!("sessions of this machine have no network: {reason}")));
        }
        let limits = Limits {
            wall_ms: OpenSpec::NO_TIME_LIMIT_MS,
            cpu_ms: OpenSpec::NO_TIME_LIMIT_MS,
            output_bytes: None,
            ..spec.limits.of_execution()
        };
        let mut program = (self.find)(spec.kind, &limits).map_err(CreateError::new)?;
        // The shell's has nothing to import.
        if spec.kind != PoolKind::Shell {
            program.argv.extend(spec.warm.iter().cloned());
        }
        let warm = (spec.kind == PoolKind::PythonLts).then(|| "python".to_owned());
        let (argv, env, files) = (program.argv, program.env, Vec::new());
        let open = OpenSpec { argv, env, limits, disk: spec.limits.disk, files, warm, network };
        let mut sandbox = self.local.open(open).await.map_err(|error| CreateError::because("the sandbox", error))?;
        if network && sandbox.device.is_none() {
            return Err(CreateError::new(
                "the session's network device did not arrive: the server has no descriptor left for it (raise its limit of open files)",
            ));
        }
        // Before its program is ready: what it imports may ask for names.
        let running = sandbox.device.take().map(|device| self.egress.start(device)).transpose();
        let running = running.map_err(|error| CreateError::because("the session's network", error))?;
        begin(sandbox, running, spec).await
    }

    fn check(&self, session: &Session) -> bool {
        session.handle.is_alive() && session.ended.borrow().is_none()
    }

    async fn ended(&self, session: &Session) -> EndReason {
        let mut told = session.ended.clone();
        let by_its_task = async {
            match told.wait_for(Option::is_some).await.ok().and_then(|reason| *reason) {
                Some(reason) => reason,
                // It has stopped because it was asked to.
                None => std::future::pending().await,
            }
        };
        let by_itself = async {
            let end = session.handle.ended().await;
            // What was killed by us, its task knows the reason of. All else is known here no later.
            if session.stop.is_cancelled() || end.exit.is_none() && !end.usage.out_of_memory {
                std::future::pending().await
            }
            reason_of(&end)
        };
        tokio::select! {
            biased;
            reason = by_its_task => reason,
            reason = by_itself => reason,
        }
    }

    async fn destroy(&self, session: Arc<Session>) -> SessionUsage {
        session.stop.cancel();
        session.files.close();
        let network = async {
            if let Some(network) = &session.network {
                network.end().await;
            }
        };
        let (end, ()) = tokio::join!(session.handle.close(), network);
        session.meter.finish(&end)
    }
}

/// Waits until the program in the sandbox is ready, and has its task take over.
async fn begin(sandbox: OpenSandbox, network: Option<Running>, spec: &PoolSpec) -> Result<Session, CreateError> {
    let handle = sandbox.handle().clone();
    let OpenSandbox { channel, stdin, stdout, stderr, directory, uid, .. } = sandbox;
    // What a program reads from its standard input ends at once: nobody is there to write.
    drop(stdin);
    let pipes = |source| CreateError::because("the session's pipes", source);
    let mut channel = Channel::new(channel).map_err(pipes)?;
    let mut output = Output::new(stdout, stderr).map_err(pipes)?;
    let hello = async {
        loop {
            tokio::select! {
                biased;
                said = channel.next() => return said.ok().and_then(|line| wire::hello(&line)),
                _ = output.read(LAST_WORDS_CHARS * 4) => {}
            }
        }
    };
    let said = timeout(START, hello).await;
    let Ok(Some(hello)) = said else {
        output.drain(LAST_WORDS_CHARS * 4);
        let what = if said.is_err() { "did not get ready in 30 s" } else { "ended, or said something else than that it is ready" };
        let words = output.take(greenroom_core::Stream::Stderr, Some(LAST_WORDS_CHARS)).text;
        return Err(CreateError::new(format!("the session's program {what}; on standard error: {:?}", words.trim_end())));
    };
    let (requests, receiver) = mpsc::channel(REQUESTS);
    let (tell, ended) = watch::channel(None);
    let stop = CancellationToken::new();
    let meter = Meter::new();
    let keeper = Keeper {
        handle: handle.clone(),
        channel,
        output,
        requests: receiver,
        limits: spec.limits,
        interrupts: hello.interrupt,
        shell: spec.kind == PoolKind::Shell,
        runtime: hello.runtime.clone(),
        meter: meter.clone(),
        stop: stop.clone(),
        ended: tell,
        last_id: 0,
    };
    tokio::spawn(keeper.keep());
    Ok(Session {
        info: SessionInfo { runtime: hello.runtime, version: hello.version },
        files: Files::new(directory, uid),
        requests,
        handle,
        ended,
        stop,
        meter,
        network,
    })
}
