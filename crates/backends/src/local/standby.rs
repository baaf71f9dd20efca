//! Processes that stand by: started before their job is known, used once. Each waits in a sandbox of its own, under the limits of
//! the run stage except those of time, for one job on its standard input:
//!
//! ```text
//!  standby ──► 1                                                    it is there (standard output)
//!  server  ──► words of the compile stage, of the run stage, files  (standard input; numbers are 32 bits, big-endian)
//!  server  ──► a byte                                               the compile stage's limits are in force
//!  standby ──► exit status, and what it says on standard error      (standard output)
//!  server  ──► a byte                                               the run stage's limits are in force
//!  program ◄─► standard input, output, error
//! ```
//!
//! Where there is nothing to compile, the second byte is the only one. Up to the last byte everything can be done over in the
//! ordinary way, and is, where anything is unusual. Nothing of a client runs before it, and nothing after it is taken for ours.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use greenroom_core::{
    DiskLimits, Exit, Job, JobFile, Limits, Output, StageKind, StageOutcome, StageSpec, Standby, Stdin, Stream, Usage, Verdict,
};
use greenroom_sandbox::message::{Counted, FromSlot, Prepare, StageLimits, Stopped, ToSlot};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};

use super::{
    Event, ExecError,
    kept::{Kept, Key},
    monotonic_us,
    open::OpenSpec,
    pipes::Pipes,
    slot::{Lease, Left},
    slots::Slots,
    stage::{self, Client, Outgoing, Over, Running, StageEnd},
    stock::{self, Class, SharedStock, Step},
    tell, tell_again, tell_ended,
};

/// One that is not there by then never will be.
const WARM_TIMEOUT: Duration = Duration::from_secs(60);
/// Those of a kind that nobody asked for so long are ended.
const IDLE: Duration = Duration::from_secs(600);
/// After one that could not be started, the next try.
const RETRY: Duration = Duration::from_secs(10);
/// What a standby says when it is there.
const WARM: &[u8] = &[1];
/// The status with which it says that the compile stage is to be done in the ordinary way.
const UNUSUAL: i32 = 255;
/// One that takes less of a processor to start than this saves its program more, also where the machine is busy, microseconds.
const CHEAP_US: u64 = 300_000;
/// How often a machine that is busy with programs is looked at again.
const BUSY_POLL: Duration = Duration::from_millis(50);
/// What lets it go on.
const GO: &[u8] = b"g";
/// Jobs with more bytes are done in the ordinary way: starting is a small part of those.
const LARGEST_BYTES: usize = 4 << 20;

/// Standbys of one kind can do the same jobs.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Kind {
    argv: Vec<String>,
    env: Vec<(String, String)>,
    /// Those that a process has from its start: memory, processes, open files, size of a file, files' bytes and count.
    limits: [u64; 6],
}

struct Shelf {
    /// What the stock calls it.
    number: stock::Kind,
    limits: Limits,
    disk: DiskLimits,
    ready: VecDeque<Standing>,
    /// One after the other: warming up is work.
    starting: bool,
    asked_at: Instant,
    /// None is started before.
    not_before: Option<Instant>,
    /// What starting one takes of a processor, as far as is known, microseconds.
    start_cpu_us: Option<u64>,
}

/// What stands by now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StandbyStatus {
    /// Processes that wait for a job.
    pub ready: u64,
    /// Jobs that one of them did.
    pub used: u64,
}

/// All that stand by.
pub(super) struct Standbys {
    slots: Arc<Slots>,
    stock: SharedStock,
    /// For sandboxes that stay.
    places: Arc<Semaphore>,
    /// For programs that run.
    turns: Arc<Semaphore>,
    state: Mutex<State>,
    me: Weak<Self>,
}

#[derive(Default)]
struct State {
    shelves: HashMap<Kind, Shelf>,
    /// How many of each kind in any case. 0: none at all.
    floor: usize,
    /// What was started under an earlier number is of another runner, or another configuration.
    generation: u64,
    used: u64,
}

/// One that has just been started, and what it used for that.
type Started = (Standing, Option<Counted>);

/// A process that stands by.
struct Standing {
    /// Where what it holds when its job comes is noted: more than when it was new, for it has been warming up.
    noted: Option<(SharedStock, stock::Kind)>,
    lease: Lease,
    stdin: Outgoing,
    pipes: Pipes,
    _place: OwnedSemaphorePermit,
}

impl Standbys {
    pub(super) fn new(slots: Arc<Slots>, stock: SharedStock, places: Arc<Semaphore>, turns: Arc<Semaphore>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self { slots, stock, places, turns, state: Mutex::default(), me: me.clone() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock can panic half-way through a change that matters.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many of each kind that is asked for, from now on, and all together at most so many.
    pub(super) fn set_floor(&self, floor: usize, most: usize) {
        self.state().floor = floor;
        self.stock.lock().bound_standbys(most);
    }

    pub(super) fn status(&self) -> StandbyStatus {
        let state = self.state();
        let ready = state.shelves.values().map(|shelf| shelf.ready.len() as u64).sum();
        StandbyStatus { ready, used: state.used }
    }

    /// Ends all that wait.
    pub(super) fn clear(&self) {
        let shelves = {
            let mut state = self.state();
            state.generation += 1;
            std::mem::take(&mut state.shelves)
        };
        shelves.values().for_each(|shelf| self.stock.lock().close(shelf.number));
        drop(shelves);
    }

    /// Does a job's stages from number `first` on, with these files, if one stands by for it and nothing is unusual. `None`: nothing
    /// has been done.
    pub(super) async fn run(&self, work: &Work<'_>, client: Option<&mut Client>) -> Result<Option<Vec<StageEnd>>, ExecError> {
        let Some((standby, last)) = work.suits() else { return Ok(None) };
        let kind = Kind::of(standby, last, work.job.disk);
        let Some(standing) = self.take(&kind, &last.limits, work.job.disk) else { return Ok(None) };
        let done = standing.run(work, standby, &self.turns, client).await;
        if matches!(done, Ok(Some(_))) {
            self.state().used += 1;
        }
        done
    }

    /// One that is alive, and sees that there will be others.
    fn take(&self, kind: &Kind, limits: &Limits, disk: DiskLimits) -> Option<Standing> {
        let standing = {
            let mut state = self.state();
            let floor = state.floor;
            if floor == 0 {
                return None;
            }
            let open = || Shelf {
                number: self.stock.lock().open(floor),
                limits: *limits,
                disk,
                ready: VecDeque::new(),
                starting: false,
                asked_at: Instant::now(),
                not_before: None,
                start_cpu_us: None,
            };
            let shelf = state.shelves.entry(kind.clone()).or_insert_with(open);
            shelf.asked_at = Instant::now();
            self.stock.lock().asked(shelf.number, monotonic_us());
            shelf.ready.pop_front()
        };
        self.restock();
        standing
    }

    /// Starts what is missing, and ends what is too much.
    fn restock(&self) {
        let Some(me) = self.me.upgrade() else { return };
        let mut ended = Vec::new();
        let mut state = self.state();
        while let Some(step) = self.next_step(&state) {
            let generation = state.generation;
            let (Step::Make(number) | Step::End(number)) = step;
            let Some((kind, shelf)) = state.shelves.iter_mut().find(|(_, shelf)| shelf.number == number) else { break };
            match step {
                Step::Make(_) => {
                    shelf.starting = true;
                    let waits = shelf.start_cpu_us.is_none_or(|us| us > CHEAP_US);
                    tokio::spawn(Arc::clone(&me).start_one(kind.clone(), (shelf.limits, shelf.disk), generation, waits));
                }
                // Else it is one that is starting: it is ended when it is ready.
                Step::End(_) => match shelf.ready.pop_front() {
                    Some(standing) => ended.push(standing),
                    None => break,
                },
            }
        }
        drop(state);
        drop(ended);
    }

    fn next_step(&self, state: &State) -> Option<Step> {
        let shelf = |number| state.shelves.values().find(|shelf| shelf.number == number);
        let mut stock = self.stock.lock();
        let there = |number| shelf(number).map_or(0, |shelf| shelf.ready.len() + usize::from(shelf.starting));
        stock.count(Class::Standbys, there);
        stock.next(Class::Standbys, monotonic_us(), |number| {
            shelf(number).is_some_and(|shelf| !shelf.starting && shelf.not_before.is_none_or(|at| at <= Instant::now()))
        })
    }

    /// Looks whether what stands by is still worth its memory, and ends all of a kind that nobody asks for any more.
    pub(super) fn look_over(&self) {
        let unused = |shelf: &Shelf| !shelf.starting && shelf.asked_at.elapsed() > IDLE;
        let forgotten: Vec<_> = self.state().shelves.extract_if(|_, shelf| unused(shelf)).collect();
        forgotten.iter().for_each(|(_, shelf)| self.stock.lock().close(shelf.number));
        drop(forgotten);
        self.restock();
    }

    async fn start_one(self: Arc<Self>, kind: Kind, (limits, disk): (Limits, DiskLimits), generation: u64, waits: bool) {
        // Programs that somebody waits for come first.
        while waits && self.turns.available_permits() == 0 {
            sleep(BUSY_POLL).await;
        }
        let started = self.start(&kind, limits, disk).await;
        self.started(&kind, generation, started);
        self.restock();
    }

    /// Puts one that was started with the others.
    fn started(&self, kind: &Kind, generation: u64, started: Result<Started, ExecError>) {
        let mut state = self.state();
        let current = state.generation == generation;
        let Some(shelf) = state.shelves.get_mut(kind).filter(|_| current) else {
            // It ends after the lock.
            drop(state);
            drop(started);
            return;
        };
        shelf.starting = false;
        match started {
            Ok((mut standing, used)) => {
                standing.noted = Some((self.stock.clone(), shelf.number));
                shelf.ready.push_back(standing);
                shelf.start_cpu_us = used.map(|used| used.cpu_us);
                let held_bytes = used.and_then(|used| used.memory_bytes);
                held_bytes.into_iter().for_each(|bytes| self.stock.lock().measured(shelf.number, bytes));
            }
            Err(error) => {
                shelf.not_before = Some(Instant::now() + RETRY);
                drop(state);
                // Nothing depends on it but time; a full house, or the end of everything, is no news.
                tracing::info!(program = kind.argv.first(), %error, "no process can stand by for now");
            }
        }
    }

    async fn start(&self, kind: &Kind, limits: Limits, disk: DiskLimits) -> Result<Started, ExecError> {
        let failed = |source| ExecError::Io { what: "the pipes of a process that stands by", source };
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| ExecError::NoRoom)?;
        let mut lease = self.slots.lease_staying(Prepare::fresh(disk), disk, stock::Kind::Program).await?;
        let (slot, ends) = lease.open()?;
        let limits = Limits { wall_ms: OpenSpec::NO_TIME_LIMIT_MS, cpu_ms: OpenSpec::NO_TIME_LIMIT_MS, ..limits };
        let job = stage::encode(&[], &kind.argv, &kind.env, &limits, false).map_err(failed)?;
        // It fits into the socket's buffer: there are no files in it.
        Outgoing::new(ends.job, job).advance();
        let stdin = Outgoing::open(ends.stdin);
        let mut pipes = Pipes::new(slot.outputs(), ends.stdout, ends.stderr).map_err(failed)?;
        slot.send(&ToSlot::Start(StageLimits::from(&limits)), None).await?;
        let first = timeout(WARM_TIMEOUT, pipes.next()).await.map_err(|_| failed(std::io::ErrorKind::TimedOut.into()))?;
        match first.map_err(failed)? {
            (Stream::Stdout, bytes) if bytes == WARM => {
                let used = slot.count().await;
                Ok((Standing { noted: None, lease, stdin, pipes, _place: place }, used))
            }
            (_, said) => Err(failed(std::io::Error::other(String::from_utf8_lossy(&said).into_owned()))),
        }
    }
}

/// What is to be done of a job.
pub(super) struct Work<'a> {
    pub(super) job: &'a Job,
    /// The first stage that has not been done.
    pub(super) first: usize,
    pub(super) files: &'a [JobFile],
    /// Where what the compile stage makes is to be kept.
    pub(super) keep: Option<(&'a Kept, Key)>,
}

impl Work<'_> {
    /// Whether one that stands by could do it all.
    fn suits(&self) -> Option<(&Standby, &StageSpec)> {
        let standby = self.job.standby.as_ref()?;
        let last = self.job.stages.last()?;
        let to_do = self.job.stages.len() - self.first;
        let bytes: usize = self.files.iter().map(|file| file.content.len()).sum();
        let fits = bytes <= LARGEST_BYTES
            && (bytes as u64) < self.job.disk.bytes / 4
            && (self.files.len() as u64) < self.job.disk.inodes / 4;
        let all = last.kind == StageKind::Run && (to_do == 1 || to_do == 2 && standby.compile.is_some());
        (fits && all).then_some((standby, last))
    }

    /// It, as a standby reads it.
    fn task(&self, standby: &Standby, compiles: bool) -> Vec<u8> {
        fn number(bytes: &mut Vec<u8>, number: usize) {
            bytes.extend(u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
        }
        fn text(bytes: &mut Vec<u8>, content: &[u8]) {
            number(bytes, content.len());
            bytes.extend(content);
        }
        let mut bytes = Vec::new();
        let nothing = Vec::new();
        let compile = standby.compile.as_ref().filter(|_| compiles).unwrap_or(&nothing);
        for words in [compile, &standby.run] {
            number(&mut bytes, words.len());
            words.iter().for_each(|word| text(&mut bytes, word.as_bytes()));
        }
        number(&mut bytes, self.files.len());
        for file in self.files {
            text(&mut bytes, file.path.as_str().as_bytes());
            bytes.push(u8::from(file.executable));
            text(&mut bytes, &file.content);
        }
        bytes
    }
}

impl Kind {
    fn of(standby: &Standby, run: &StageSpec, disk: DiskLimits) -> Self {
        let Limits { memory_bytes, processes, open_files, file_size_bytes, .. } = run.limits;
        let limits = [memory_bytes, processes.into(), open_files.into(), file_size_bytes, disk.bytes, disk.inodes];
        Self { argv: standby.argv.clone(), env: run.env.clone(), limits }
    }
}

impl Standing {
    async fn run(
        mut self,
        work: &Work<'_>,
        standby: &Standby,
        turns: &Semaphore,
        mut client: Option<&mut Client>,
    ) -> Result<Option<Vec<StageEnd>>, ExecError> {
        let Some(last) = work.job.stages.last() else { return Ok(None) };
        let compile = work.job.stages.get(work.first).filter(|stage| stage.kind == StageKind::Compile);
        let mut ends = Vec::with_capacity(2);
        self.stdin.push(work.task(standby, compile.is_some()));
        self.stdin.advance();
        let asked = monotonic_us();
        let turn = turns.acquire().await.map_err(|_| ExecError::ShuttingDown)?;
        let turn_us = monotonic_us() - asked;
        let mut turn_left_us = turn_us;
        if let Some(stage) = compile {
            let Some(end) = self.compile(stage, std::mem::take(&mut turn_left_us)).await else { return Ok(None) };
            tell_again(client.as_deref(), &end.outcome).await;
            let goes_on = end.outcome.verdict == Verdict::Ok;
            if let (true, Some((kept, key)), None) = (goes_on, work.keep, &client) {
                kept.keep(key, work.job, &end.outcome, self.lease.files().map(|(directory, _)| directory)).await;
            }
            ends.push(end);
            if !goes_on {
                return Ok(Some(ends));
            }
        }
        // A compile stage that a client was told of cannot be taken back.
        let told = !ends.is_empty() && client.is_some();
        let Some(_used) = self.begin(&last.limits).await else {
            return if told { Err(ExecError::RunnerLost) } else { Ok(None) };
        };
        tell(client.as_deref(), || Event::StageStarted(last.kind)).await;
        self.stdin.push(GO.to_vec());
        if let Stdin::Bytes(bytes) = &last.stdin {
            self.stdin.push(bytes.clone());
        }
        let Self { mut lease, stdin, pipes, _place, .. } = self;
        let running = Running::going_on(stdin, pipes, last);
        let over = running.finish(lease.slot()?, turn, client.as_deref_mut()).await?;
        while client.as_mut().is_some_and(|client| client.control.try_recv().is_ok()) {}
        lease.ended(Left::Ended);
        let end = over.judge(last, turn_left_us)?;
        tell_ended(client.as_deref(), &end.outcome).await;
        ends.push(end);
        Ok(Some(ends))
    }

    /// Puts a stage's limits in force, after all that was sent has been read. Gives what was used before; `None` where it is not there
    /// any more.
    async fn begin(&mut self, limits: &Limits) -> Option<Counted> {
        let slot = self.lease.slot().ok()?;
        while self.stdin.waits() {
            tokio::select! {
                () = self.stdin.writable() => self.stdin.advance(),
                _ = slot.receive() => return None,
            }
        }
        slot.send(&ToSlot::Start(StageLimits::from(limits)), None).await.ok()?;
        match slot.receive().await.ok()? {
            (FromSlot::Counted(counted), _) => {
                if let (Some((stock, number)), Some(bytes)) = (self.noted.take(), counted.memory_bytes) {
                    stock.lock().measured(number, bytes);
                }
                Some(counted)
            }
            _ => None,
        }
    }

    /// The compile stage. `None` where it is to be done in the ordinary way.
    async fn compile(&mut self, stage: &StageSpec, turn_us: u64) -> Option<StageEnd> {
        self.begin(&stage.limits).await?;
        let exec_at_us = monotonic_us();
        self.stdin.push(GO.to_vec());
        self.stdin.advance();
        let mut frame = Vec::new();
        let slot = self.lease.slot().ok()?;
        let said = loop {
            tokio::select! {
                chunk = self.pipes.next() => match chunk.ok()? {
                    (Stream::Stdout, bytes) if !bytes.is_empty() => frame.extend(bytes),
                    _ => return None,
                },
                message = slot.receive() => match message.ok()? {
                    (FromSlot::Ended(ended), _) if matches!(ended.stopped, Some(Stopped::Cpu | Stopped::Wall)) => {
                        self.lease.ended(Left::Ended);
                        return Over::of(ended).judge(stage, turn_us).ok();
                    }
                    (FromSlot::Ended(_), _) => {
                        self.lease.ended(Left::Ended);
                        return None;
                    }
                    _ => return None,
                },
                () = self.stdin.writable(), if self.stdin.waits() => self.stdin.advance(),
            }
            if let Some((status, said)) = whole(&frame) {
                break (status, said.to_vec());
            }
        };
        if said.0 == UNUSUAL {
            return None;
        }
        let used = slot.count().await?;
        let ended_at_us = monotonic_us();
        let (status, mut said) = said;
        let limit = stage.limits.output_bytes.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let too_much = said.len() > limit;
        said.truncate(limit);
        let mut output = Output::default();
        output.push(Stream::Stderr, &said);
        let (verdict, exit) = match status {
            _ if too_much => (Verdict::StderrLimit, None),
            0 => (Verdict::Ok, Some(Exit::Code(0))),
            code => (Verdict::ExitStatus, Some(Exit::Code(code))),
        };
        let usage = Usage { wall_us: ended_at_us - exec_at_us, cpu_us: used.cpu_us, memory_peak_bytes: used.memory_peak_bytes };
        let outcome = StageOutcome { kind: stage.kind, verdict, exit, output, usage };
        Some(StageEnd { outcome, turn_us, exec_at_us, ended_at_us })
    }
}

/// A standby's answer, if it is complete: exit status, and what it says.
fn whole(frame: &[u8]) -> Option<(i32, &[u8])> {
    let (status, rest) = frame.split_first_chunk()?;
    let (len, said) = rest.split_first_chunk()?;
    let complete = said.len() == usize::try_from(u32::from_be_bytes(*len)).ok()?;
    complete.then(|| (i32::from_be_bytes(*status), said))
}
