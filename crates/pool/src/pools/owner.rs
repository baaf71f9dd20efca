use std::{collections::HashMap, sync::Arc};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    SessionView,
    clock::Clock,
    message::{Grant, Mailbox, Message},
    report::Report,
};
use crate::{
    Allocation, Backend, CreateError, Denied, EndReason, Ended, Identifier, SessionUsage, Store,
    decide::{Action, CallId, Decide, Event, Life, SessionId},
    store::{UsageEnd, UsageId, UsageStart},
};

/// How often the store is told of a session that goes on, milliseconds.
const NOTED_EVERY_MS: u64 = 10_000;

/// The one task that knows and changes a pool's state.
pub(super) struct Owner<B: Backend> {
    decide: Decide,
    clock: Clock,
    backend: Arc<B>,
    store: Store,
    /// For the reports of helpers.
    mailbox: Mailbox<B>,
    letters: mpsc::UnboundedReceiver<Message<B>>,
    tasks: TaskTracker,
    /// Sessions that are being made; cancelled, their making is given up.
    making: HashMap<SessionId, CancellationToken>,
    living: HashMap<SessionId, Living<B>>,
    waiting: HashMap<CallId, Waiting<B>>,
    last_failure: String,
}

/// A session that was made and is not being destroyed.
struct Living<B: Backend> {
    session: Arc<B::Session>,
    fate: watch::Sender<Option<EndReason>>,
    /// Ends the watcher.
    watched: CancellationToken,
    usage: Option<UsageId>,
    /// When the store was last told how long it has been used.
    noted_ms: u64,
    /// What the identifier was to be told by a call that went before its answer.
    untold: Option<Ended>,
}

/// A call without an answer.
struct Waiting<B: Backend> {
    identifier: Identifier,
    answer: oneshot::Sender<Result<Grant<B>, Denied>>,
}

impl<B: Backend> Owner<B> {
    pub(super) fn new(
        decide: Decide,
        backend: Arc<B>,
        store: Store,
        mailbox: Mailbox<B>,
        letters: mpsc::UnboundedReceiver<Message<B>>,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            decide,
            clock: Clock::start(),
            backend,
            store,
            mailbox,
            letters,
            tasks,
            making: HashMap::new(),
            living: HashMap::new(),
            waiting: HashMap::new(),
            last_failure: String::new(),
        }
    }

    /// Until the pool is closed and nothing is left of it.
    pub(super) async fn run(mut self) {
        self.happens(Event::Tick);
        while !self.decide.is_finished() {
            let due_ms = self.decide.next_tick_ms();
            tokio::select! {
                Some(message) = self.letters.recv() => self.read(message).await,
                () = self.clock.reach(due_ms) => self.happens(Event::Tick),
            }
        }
        // What still comes is not answered, which is an answer too: its sender finds the mailbox gone.
    }

    async fn read(&mut self, message: Message<B>) {
        match message {
            Message::Acquire { identifier, call, answer } => {
                self.check_candidate(&identifier).await;
                self.waiting.insert(call, Waiting { identifier: identifier.clone(), answer });
                self.happens(Event::Acquire { identifier, call });
            }
            Message::Leave { call } => {
                self.waiting.remove(&call);
                // Before it goes to the next call.
                let held = self.decide.held_by(call);
                if let Some(session) = held {
                    self.check(session).await;
                }
                self.happens(Event::Leave { call });
                if let Some(session) = held {
                    self.note(session);
                }
            }
            Message::Made { session, result } => self.made(session, result),
            Message::Ended { session, reason } => self.happens(Event::SessionEnded { session, reason }),
            Message::Destroyed { session } => self.happens(Event::Destroyed { session }),
            Message::Event(event) => self.happens(event),
            Message::Stop { identifier, answer } => {
                let known = self.decide.knows(&identifier);
                self.happens(Event::Stop { identifier });
                reply(answer, known);
            }
            Message::Close { reason } => self.happens(Event::Close { reason }),
            Message::Snapshot { answer } => {
                self.happens(Event::Tick);
                reply(answer, self.decide.snapshot());
            }
            Message::Sessions { answer } => {
                self.happens(Event::Tick);
                let now_ms = self.clock.now_ms();
                reply(answer, self.decide.tenures().map(|tenure| SessionView::new(&tenure, &self.clock, now_ms)).collect());
            }
            Message::Session { identifier, answer } => {
                self.happens(Event::Tick);
                let now_ms = self.clock.now_ms();
                reply(answer, self.decide.tenure(&identifier).map(|tenure| SessionView::new(&tenure, &self.clock, now_ms)));
            }
        }
    }

    /// Ends what this identifier would get and does not live, until it would get what does.
    async fn check_candidate(&mut self, identifier: &Identifier) {
        // What is over must not be offered, let alone checked.
        self.happens(Event::Tick);
        while let Some(session) = self.decide.candidate(identifier) {
            if self.check(session).await {
                return;
            }
        }
    }

    /// Whether the session lives. If not it is ended, with what its watcher is about to report as the reason.
    async fn check(&mut self, session: SessionId) -> bool {
        let Some(living) = self.living.get(&session) else { return false };
        if self.backend.check(&living.session) {
            return true;
        }
        let reason = tokio::select! {
            biased;
            reason = self.backend.ended(&living.session) => Some(reason),
            () = std::future::ready(()) => None,
        };
        self.happens(match reason {
            Some(reason) => Event::SessionEnded { session, reason },
            None => Event::CheckFailed { session },
        });
        false
    }

    fn made(&mut self, session: SessionId, result: Result<B::Session, CreateError>) {
        self.making.remove(&session);
        match result {
            Ok(made) => {
                self.last_failure.clear();
                let made = Arc::new(made);
                let living = Living {
                    session: made.clone(),
                    fate: watch::Sender::new(None),
                    watched: CancellationToken::new(),
                    usage: None,
                    noted_ms: self.clock.now_ms(),
                    untold: None,
                };
                self.watch(session, made, living.watched.clone());
                self.living.insert(session, living);
                self.happens(Event::Created { session });
            }
            Err(error) => {
                let reason = error.chain();
                // Attempts go on for as long as it fails; the log says it once.
                if self.last_failure != reason {
                    tracing::warn!(pool = self.decide.spec().name, reason, "a session could not be made");
                    self.last_failure.clone_from(&reason);
                }
                self.happens(Event::CreateFailed { session, reason });
            }
        }
    }

    fn happens(&mut self, event: Event) {
        for action in self.decide.on(self.clock.now_ms(), event) {
            match action {
                Action::Create { session } => self.make(session),
                Action::Abandon { session } => {
                    if let Some(making) = self.making.get(&session) {
                        making.cancel();
                    }
                }
                Action::Grant { call, session, allocation, ended_before } => self.grant(call, session, allocation, ended_before),
                Action::Deny { call, why } => {
                    if let Some(waiting) = self.waiting.remove(&call) {
                        drop(waiting.answer.send(Err(why)));
                    }
                }
                Action::Destroy { session, reason, life } => self.end(session, reason, life),
            }
        }
    }

    fn grant(&mut self, call: CallId, session: SessionId, allocation: Allocation, ended_before: Option<Ended>) {
        // A call that went before its answer has said so, or is about to: the session comes back.
        let Some(waiting) = self.waiting.remove(&call) else { return };
        let Some(living) = self.living.get_mut(&session) else { return };
        let now_unix_ms = self.clock.unix_ms(self.clock.now_ms());
        if allocation.is_new() {
            living.usage = Some(self.store.begin_usage(UsageStart {
                pool: self.decide.spec().name.clone(),
                identifier: waiting.identifier.digest(),
                allocation,
                started_unix_ms: now_unix_ms,
            }));
        }
        let since_ms = self.decide.tenure(&waiting.identifier).map(|tenure| tenure.since_ms);
        let ended_before = ended_before.or(living.untold.take());
        let sent = waiting.answer.send(Ok(Grant {
            session: living.session.clone(),
            fate: living.fate.subscribe(),
            allocation,
            ended_before,
            created_unix_ms: since_ms.map_or(now_unix_ms, |since_ms| self.clock.unix_ms(since_ms)),
            granted_unix_ms: now_unix_ms,
            lifecycle: self.decide.spec().lifecycle,
        }));
        if sent.is_err() {
            living.untold = ended_before;
        }
    }

    /// Tells the store how long a session has been used so far, now and then: what is not told goes with `kill -9`.
    fn note(&mut self, session: SessionId) {
        let now_ms = self.clock.now_ms();
        let Some(living) = self.living.get_mut(&session).filter(|living| now_ms >= living.noted_ms + NOTED_EVERY_MS) else {
            return;
        };
        let life = self.decide.tenures().find(|tenure| tenure.session == session).map(|tenure| tenure.life);
        if let Some((id, life)) = living.usage.zip(life) {
            living.noted_ms = now_ms;
            self.store.note_usage(id, life.busy_ms, life.idle_ms);
        }
    }

    /// Starts a maker.
    fn make(&mut self, session: SessionId) {
        let given_up = CancellationToken::new();
        self.making.insert(session, given_up.clone());
        let (backend, spec) = (self.backend.clone(), self.decide.spec().clone());
        let failed = move |reason: &str| Message::Made { session, result: Err(CreateError::new(reason)) };
        let report = Report::new(self.mailbox.clone(), failed("the task that made it panicked"));
        self.tasks.spawn(async move {
            let made = tokio::select! {
                biased;
                () = given_up.cancelled() => None,
                result = backend.create(&spec) => Some(result),
            };
            report.tell(match made {
                Some(result) => Message::Made { session, result },
                None => failed("it was given up: the pool changed"),
            });
        });
    }

    /// Starts a watcher.
    fn watch(&self, session: SessionId, made: Arc<B::Session>, watched: CancellationToken) {
        let backend = self.backend.clone();
        let report = Report::new(self.mailbox.clone(), Message::Ended { session, reason: EndReason::Lost });
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = watched.cancelled() => report.forget(),
                reason = backend.ended(&made) => report.tell(Message::Ended { session, reason }),
            }
        });
    }

    /// Starts an ender.
    fn end(&mut self, session: SessionId, reason: EndReason, life: Option<Life>) {
        let Some(living) = self.living.remove(&session) else { return };
        living.watched.cancel();
        living.fate.send_replace(Some(reason));
        let ended_unix_ms = self.clock.unix_ms(self.clock.now_ms());
        let (backend, store) = (self.backend.clone(), self.store.clone());
        let report = Report::new(self.mailbox.clone(), Message::Destroyed { session });
        self.tasks.spawn(async move {
            let usage: SessionUsage = backend.destroy(living.session).await;
            if let Some((id, life)) = living.usage.zip(life) {
                let Life { busy_ms, idle_ms } = life;
                store.end_usage(id, UsageEnd { reason, ended_unix_ms, busy_ms, idle_ms, usage });
            }
            report.tell(Message::Destroyed { session });
        });
    }
}

/// Whoever asked may be gone.
fn reply<T>(answer: oneshot::Sender<T>, value: T) {
    drop(answer.send(value));
}
