//! The task of a session with network: it alone has the session's device, its stack and its sockets.
//!
//! It waits for all of them at once, and does then what there is to do, in rounds, a bounded number of them before it is the next
//! task's turn.

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use smoltcp::{
    iface::{Config, Interface, PollResult, SocketSet},
    wire::{HardwareAddress, IpAddress, IpCidr},
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::Sleep,
};

use crate::{
    bucket::Bucket,
    count::{Counts, EgressStatus},
    datagram::Datagrams,
    device::Device,
    names::Names,
    packet::{self, GATEWAY, Key, MTU, Packet, Unreachable, unreachable},
    policy::{Policy, Protocol, Refusal},
    route,
    stream::Streams,
};

/// How much a session may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections of one session at once. Each holds 64 KiB of ours at most, and buffers of the host's sockets.
    pub connections: u32,
    /// Connections and peers of all sessions at once. Each is a descriptor.
    pub of_all: u32,
    /// Connections and peers that a session begins in a second; twice as many at once.
    pub new_per_second: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections: 64, of_all: 512, new_per_second: 50 }
    }
}

/// Packets that a session sends in a second, and at once. One that sends more is not listened to for a moment: its kernel drops them.
const PACKETS_PER_SECOND: u32 = 30_000;
const PACKETS_AT_ONCE: u32 = 4_000;
/// Datagrams that a session sends in a second, and at once: nobody else slows them down, as TCP is by its far end. Others are lost.
const DATAGRAMS_PER_SECOND: u32 = 2_000;
const DATAGRAMS_AT_ONCE: u32 = 1_000;
/// Packets of a round.
const BATCH: usize = 64;
/// Rounds of a turn.
const ROUNDS: usize = 8;
/// How often peers are looked at, whether they are silent.
const LOOK: Duration = Duration::from_secs(1);
/// Connections and peers that a session may have while others leave room. Further ones it has only while a quarter of all places is free:
/// a few sessions cannot take the network from the others.
const SURE: usize = 16;
/// Names are asked for there, and nothing else is.
const NAMES_PORT: u16 = 53;

/// What all sessions with network share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Egress {
    policy: Arc<Policy>,
    bounds: Bounds,
    /// Who is asked for names; nobody: whom this host asks.
    names: Arc<[SocketAddr]>,
    places: Arc<Semaphore>,
    counts: Arc<Counts>,
}

impl Egress {
    /// Sessions that may reach what `policy` says, and are told names by the first of `names` that answers; where there are none, by
    /// whom this host asks (resolv.conf(5)).
    pub fn new(policy: Policy, bounds: Bounds, names: Vec<SocketAddr>) -> Self {
        let places = Arc::new(Semaphore::new(bounds.of_all as usize));
        Self { policy: Arc::new(policy), bounds, names: names.into(), places, counts: Arc::default() }
    }

    /// What its sessions have done so far.
    pub fn status(&self) -> EgressStatus {
        let open = (self.bounds.of_all as usize).saturating_sub(self.places.available_permits());
        self.counts.status(u64::try_from(open).unwrap_or(u64::MAX))
    }

    /// Starts the task of a session that has this device (tun.c: IP packets; it does not block).
    ///
    /// # Errors
    /// Where the device cannot be waited for.
    pub fn start(&self, device: OwnedFd) -> io::Result<Running> {
        // The task's is never the last one: with that the kernel takes the device down, and whoever closes it waits.
        let mut session = Session::new(self.clone(), Device::new(device.try_clone()?)?)?;
        // Its turns have an end of their own (`ROUNDS`). The runtime's comes in the middle of one: what is looked at last would starve.
        let task = tokio::spawn(tokio::task::unconstrained(async move {
            let error = std::future::poll_fn(|cx| session.poll(cx)).await;
            tracing::warn!(%error, "a session has no network any more");
        }));
        Ok(Running(Mutex::new(Some((task, device)))))
    }
}

impl Default for Egress {
    /// The internet, within the default bounds.
    fn default() -> Self {
        Self::new(Policy::default(), Bounds::default(), Vec::new())
    }
}

/// The task of a session, and its device. Dropped, both end.
pub struct Running(Mutex<Option<(JoinHandle<()>, OwnedFd)>>);

impl Running {
    /// What is to be waited for until nothing of it is left.
    fn stop(&self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let (task, device) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        task.abort();
        Some(async move {
            // It was told to end, and says just that.
            let _ended = task.await;
            let _closed = tokio::task::spawn_blocking(move || drop(device)).await;
        })
    }

    /// Ends it, and returns when nothing of it is left.
    pub async fn end(&self) {
        if let Some(stopped) = self.stop() {
            stopped.await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Without a runtime everything ends, the task too.
        if let (Some(stopped), Ok(runtime)) = (self.stop(), Handle::try_current()) {
            runtime.spawn(stopped);
        }
    }
}

struct Session {
    egress: Egress,
    device: Device,
    stack: Interface,
    sockets: SocketSet<'static>,
    streams: Streams,
    datagrams: Datagrams,
    names: Names,
    /// What it may begin.
    new: Bucket,
    /// What it may send.
    packets: Bucket,
    /// And of these so many datagrams.
    sendings: Bucket,
    /// It has sent too much: until then nothing is read.
    deaf_until: Option<Instant>,
    /// The stack counts from here.
    begun: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Session {
    fn new(egress: Egress, mut device: Device) -> io::Result<Self> {
        let now = Instant::now();
        let mut config = Config::new(HardwareAddress::Ip);
        // Of the first number of each connection, which nobody shall guess.
        config.random_seed = getrandom::u64().map_err(io::Error::other)?;
        let mut stack = Interface::new(config, &mut device, smoltcp::time::Instant::ZERO);
        // It is whoever the program speaks to.
        stack.set_any_ip(true);
        let mut is_set = false;
        stack.update_ip_addrs(|addresses| is_set = addresses.push(IpCidr::new(IpAddress::Ipv4(GATEWAY), 29)).is_ok());
        let is_set = is_set && stack.routes_mut().add_default_ipv4_route(GATEWAY).is_ok();
        if !is_set {
            return Err(io::Error::other("the stack takes no address"));
        }
        let (bounds, names) = (egress.bounds, Names::new(&egress.names));
        Ok(Self {
            egress,
            device,
            stack,
            sockets: SocketSet::new(Vec::new()),
            streams: Streams::default(),
            datagrams: Datagrams::default(),
            names,
            new: Bucket::new(bounds.new_per_second, bounds.new_per_second.saturating_mul(2), now),
            packets: Bucket::new(PACKETS_PER_SECOND, PACKETS_AT_ONCE, now),
            sendings: Bucket::new(DATAGRAMS_PER_SECOND, DATAGRAMS_AT_ONCE, now),
            deaf_until: None,
            begun: now,
            timer: Box::pin(tokio::time::sleep(LOOK)),
        })
    }

    /// Ready only where the device cannot be read any more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        for _ in 0..ROUNDS {
            let now = Instant::now();
            let mut is_busy = match self.take_in(cx, now) {
                Ok(is_busy) => is_busy,
                Err(error) => return Poll::Ready(error),
            };
            is_busy |= self.streams.connect(cx, &mut self.sockets, &mut self.device, now);
            is_busy |= self.stack.poll(self.time(now), &mut self.device, &mut self.sockets) == PollResult::SocketStateChanged;
            is_busy |= self.streams.carry(cx, &mut self.sockets, now);
            is_busy |= self.datagrams.carry(cx, &self.device, &mut self.names, now);
            if !is_busy {
                self.wait(cx, now);
                return Poll::Pending;
            }
        }
        // It is somebody else's turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn time(&self, now: Instant) -> smoltcp::time::Instant {
        let since = now.saturating_duration_since(self.begun).as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(since).unwrap_or(i64::MAX))
    }

    /// Has this task woken when something is due that nobody else tells of.
    fn wait(&mut self, cx: &mut Context<'_>, now: Instant) {
        let stack = self.stack.poll_delay(self.time(now), &self.sockets).map(Duration::from);
        let peers = (!self.datagrams.is_empty()).then_some(LOOK);
        let deaf = self.deaf_until.map(|until| until.saturating_duration_since(now));
        let Some(soonest) = [stack, peers, deaf].into_iter().flatten().min() else { return };
        self.timer.as_mut().reset((now + soonest).into());
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    /// Reads what the program has sent.
    fn take_in(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<bool> {
        if self.deaf_until.is_some_and(|until| now < until) {
            return Ok(false);
        }
        self.deaf_until = None;
        let mut room = [0; MTU];
        for taken in 0..BATCH {
            let Poll::Ready(read) = self.device.poll_read(cx, &mut room) else { return Ok(taken > 0) };
            let bytes = &room[..read?];
            match packet::read(bytes) {
                Some(Packet::Segment(key, begins)) => self.segment(key, begins, bytes, now),
                Some(Packet::Datagram(key, payload)) => self.datagram(key, payload, now),
                None => {}
            }
            if !self.packets.take(now) {
                self.deaf_until = Some(now + self.packets.rest());
                break;
            }
        }
        Ok(true)
    }

    fn segment(&mut self, key: Key, begins: bool, bytes: &[u8], now: Instant) {
        match self.streams.is_open(key) {
            Some(true) => self.device.let_through(bytes.to_vec()),
            // It will be answered; or the last one of that name is just leaving, and it will be asked again.
            Some(false) => {}
            // The stack knows no such connection, and says so.
            None if !begins => self.device.let_through(bytes.to_vec()),
            None => {
                // A question that is not answered is asked again, later.
                let room = self.new.take(now).then(|| self.room()).flatten();
                let Some(place) = room else { return self.egress.counts.postponed() };
                if self.streams.len() >= self.egress.bounds.connections as usize {
                    self.egress.counts.postponed();
                    self.streams.make_way(&mut self.sockets);
                    return;
                }
                match self.way(key, Protocol::Tcp) {
                    Some(to) => {
                        self.egress.counts.begun(Protocol::Tcp);
                        self.streams.begin(key, to, bytes.to_vec(), place);
                    }
                    None => self.device.let_through(bytes.to_vec()),
                }
            }
        }
    }

    fn datagram(&mut self, key: Key, payload: &[u8], now: Instant) {
        if !self.sendings.take(now) || self.datagrams.send(key, payload, now) {
            return;
        }
        // Where there is no room a new peer takes the place of an old one.
        let room = self.new.take(now).then(|| self.room().or_else(|| self.datagrams.make_way())).flatten();
        let Some(place) = room else { return self.egress.counts.postponed() };
        let is_names = *key.to.ip() == GATEWAY;
        let to = self.way(key, Protocol::Udp);
        let begun = to.is_some_and(|to| self.datagrams.begin(key, to, is_names, place, now).is_ok());
        if begun {
            self.egress.counts.begun(Protocol::Udp);
            self.datagrams.send(key, payload, now);
            return;
        }
        if let (true, Some(server)) = (is_names, to) {
            // There is no way to it: another one is asked next.
            self.names.is_silent(server);
        }
        if let Some(packet) = unreachable(key, Unreachable::Prohibited) {
            self.device.write(&packet);
        }
    }

    /// Room for something new among all sessions'.
    fn room(&self) -> Option<OwnedSemaphorePermit> {
        let places = &self.egress.places;
        let is_roomy = places.available_permits() > self.egress.bounds.of_all as usize / 4;
        let may = self.streams.len() + self.datagrams.len() < SURE || is_roomy;
        may.then(|| Arc::clone(places).try_acquire_owned().ok()).flatten()
    }

    /// Where something goes in truth; `None` where it may not.
    fn way(&self, key: Key, protocol: Protocol) -> Option<SocketAddr> {
        if *key.to.ip() == GATEWAY {
            return self.names.server().filter(|_| key.to.port() == NAMES_PORT);
        }
        let to = SocketAddr::V4(key.to);
        // An address that the kernel does not know the way to is not known to be another machine's.
        let is_own = |address| !route::leaves(address).unwrap_or(false);
        let checked = self.egress.policy.check(to, protocol, is_own);
        let refused = |reason: &Refusal| {
            self.egress.counts.refused(*reason);
            tracing::debug!(%to, ?protocol, %reason, "a session may not reach it");
        };
        checked.inspect_err(refused).ok().map(|()| to)
    }
}

#[cfg(test)]
mod tests;
