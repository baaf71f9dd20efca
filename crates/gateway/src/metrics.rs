//! Prometheus metrics. No label is ever chosen by a client: runtimes, verdicts, routes and statuses are ours, pools their
//! manager's.

mod egress;
mod pools;

use std::{
    fmt::Write,
    sync::atomic::{AtomicI64, Ordering},
};

use egress::EgressMetrics;
use greenroom_backends::Start;
use greenroom_core::StageOutcome;
use greenroom_egress::Egress;
use greenroom_pool::Snapshot;
use pools::PoolMetrics;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StageLabels {
    runtime: String,
    stage: &'static str,
    verdict: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StartLabels {
    runtime: String,
    start: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SessionLabels {
    kind: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FailureLabels {
    blame: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HopLabels {
    hop: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StockLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KeptLabels {
    result: &'static str,
}

/// Half a millisecond to ten seconds and more.
const HOP_BUCKETS_S: [f64; 14] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 3.0, 10.0];

/// The hops of an execution and how long each took, microseconds, in the order of the way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hops {
    pub(crate) adapt_us: u64,
    pub(crate) admit_us: u64,
    pub(crate) lease_us: u64,
    pub(crate) sandbox_us: u64,
    pub(crate) run_us: u64,
    pub(crate) settle_us: u64,
}

impl Hops {
    fn each(&self) -> [(&'static str, u64); 6] {
        [
            ("adapt", self.adapt_us),
            ("admit", self.admit_us),
            ("lease", self.lease_us),
            ("sandbox", self.sandbox_us),
            ("run", self.run_us),
            ("settle", self.settle_us),
        ]
    }

    /// The value of `Server-Timing` (W3C Server Timing; durations in milliseconds).
    pub(crate) fn server_timing(&self) -> String {
        let mut value = String::with_capacity(128);
        for (hop, us) in self.each() {
            let separator = if value.is_empty() { "" } else { ", " };
            // Writing to a string cannot fail.
            let _always = write!(value, "{separator}{hop};dur={}.{:03}", us / 1000, us % 1000);
        }
        value
    }
}

/// Everything that is counted.
pub(crate) struct Metrics {
    registry: Registry,
    stages: Family<StageLabels, Counter>,
    starts: Family<StartLabels, Counter>,
    session_executions: Family<SessionLabels, Counter>,
    failures: Family<FailureLabels, Counter>,
    /// In the order of [`Hops::each`].
    hops: [Histogram; 6],
    requests: Family<RequestLabels, Counter>,
    queued: Gauge<i64, AtomicI64>,
    running: Gauge<i64, AtomicI64>,
    kept: Family<KeptLabels, Counter>,
    kept_entries: Gauge<i64, AtomicI64>,
    kept_bytes: Gauge<i64, AtomicI64>,
    standing: Gauge<i64, AtomicI64>,
    stood: Counter,
    stock: Family<StockLabels, Gauge<i64, AtomicI64>>,
    stock_bytes: Family<StockLabels, Gauge<i64, AtomicI64>>,
    adaptive_bytes: Gauge<i64, AtomicI64>,
    adaptive_limit_bytes: Gauge<i64, AtomicI64>,
    ready: Gauge<i64, AtomicI64>,
    busy: Gauge<i64, AtomicI64>,
    pools: PoolMetrics,
}

fn hop_histogram() -> Histogram {
    Histogram::new(HOP_BUCKETS_S)
}

impl Metrics {
    pub(crate) fn new(egress: Egress) -> Self {
        let mut registry = Registry::with_prefix("greenroom");
        let stages = Family::default();
        registry.register("stages", "Stages run, by runtime, stage and verdict", stages.clone());
        let starts = Family::default();
        registry.register("starts", "Executions, by runtime and how their first program was started", Family::clone(&starts));
        let session_executions = Family::default();
        let help = "Cells and commands run in sessions, by the kind of their pool and what came of them";
        registry.register("session_executions", help, session_executions.clone());
        let failures = Family::default();
        registry.register("execution_failures", "Executions without an outcome, by who is to blame", failures.clone());
        let hops = Family::new_with_constructor(hop_histogram as fn() -> Histogram);
        registry.register_with_unit("hop", "Time in each hop of an execution", Unit::Seconds, Family::clone(&hops));
        let hops = Hops::default().each().map(|(hop, _)| hops.get_or_create(&HopLabels { hop }).clone());
        let requests = Family::default();
        registry.register("http_requests", "Requests answered, by route and status", requests.clone());
        let (queued, running, ready, busy) = (Gauge::default(), Gauge::default(), Gauge::default(), Gauge::default());
        registry.register("executions_queued", "Executions waiting for a place", queued.clone());
        registry.register("executions_running", "Executions that have a place", running.clone());
        registry.register("sandboxes_ready", "Sandboxes prepared and free", ready.clone());
        registry.register("sandboxes_busy", "Sandboxes in use", busy.clone());
        let pools = PoolMetrics::default();
        registry.register_collector(Box::new(pools.clone()));
        registry.register_collector(Box::new(EgressMetrics(egress)));
        let kept = Family::default();
        registry.register(
            "compile_cache_lookups",
            "Compile stages whose result may be used again, by whether it was there",
            Family::clone(&kept),
        );
        let (kept_entries, kept_bytes) = (Gauge::default(), Gauge::default());
        registry.register("compile_cache_entries", "Results of compile stages that are kept", kept_entries.clone());
        registry.register_with_unit("compile_cache", "Memory that they take", Unit::Bytes, kept_bytes.clone());
        let (standing, stood) = (Gauge::default(), Counter::default());
        registry.register("standbys_ready", "Processes that wait for their program", standing.clone());
        registry.register("standbys_used", "Executions that such a process did", stood.clone());
        let (stock, stock_bytes) = (Family::default(), Family::default());
        registry.register("stock", "What is kept ready for jobs to come, or being made, by kind", Family::clone(&stock));
        registry.register_with_unit("stock_memory", "Memory that it holds, as measured", Unit::Bytes, Family::clone(&stock_bytes));
        let (adaptive_bytes, adaptive_limit_bytes) = (Gauge::default(), Gauge::default());
        registry.register_with_unit("adaptive", "Memory of what is kept beyond the floors", Unit::Bytes, adaptive_bytes.clone());
        registry.register_with_unit("adaptive_limit", "The most that may be", Unit::Bytes, adaptive_limit_bytes.clone());
        Self {
            stock,
            stock_bytes,
            adaptive_bytes,
            adaptive_limit_bytes,
            standing,
            stood,
            kept,
            kept_entries,
            kept_bytes,
            registry,
            stages,
            starts,
            session_executions,
            failures,
            hops,
            requests,
            queued,
            running,
            ready,
            busy,
            pools,
        }
    }

    pub(crate) fn stage(&self, runtime: &str, outcome: &StageOutcome) {
        let labels = StageLabels { runtime: runtime.to_owned(), stage: outcome.kind.as_str(), verdict: outcome.verdict.as_str() };
        self.stages.get_or_create(&labels).inc();
    }

    pub(crate) fn start(&self, runtime: &str, start: Start) {
        self.starts.get_or_create(&StartLabels { runtime: runtime.to_owned(), start: start.as_str() }).inc();
    }

    pub(crate) fn session_execution(&self, kind: &'static str, status: &'static str) {
        self.session_executions.get_or_create(&SessionLabels { kind, status }).inc();
    }

    pub(crate) fn failure(&self, blame: greenroom_core::Blame) {
        self.failures.get_or_create(&FailureLabels { blame: blame.as_str() }).inc();
    }

    pub(crate) fn hops(&self, hops: &Hops) {
        for (histogram, (_, us)) in self.hops.iter().zip(hops.each()) {
            histogram.observe(std::time::Duration::from_micros(us).as_secs_f64());
        }
    }

    pub(crate) fn request(&self, route: &'static str, status: u16) {
        self.requests.get_or_create(&RequestLabels { route, status }).inc();
    }

    /// The text that Prometheus scrapes (OpenMetrics).
    pub(crate) fn text(
        &self,
        queued: usize,
        running: usize,
        sandboxes: greenroom_backends::LocalStatus,
        pools: Vec<(String, Snapshot)>,
    ) -> Result<String, std::fmt::Error> {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.queued.set(count(queued));
        self.running.set(count(running));
        let gauge = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let stock = sandboxes.stock;
        for (kind, held) in [("program", stock.programs), ("child", stock.children), ("standby", stock.standbys)] {
            self.stock.get_or_create(&StockLabels { kind }).set(gauge(held.count));
            self.stock_bytes.get_or_create(&StockLabels { kind }).set(gauge(held.bytes));
        }
        self.adaptive_bytes.set(gauge(stock.adaptive_bytes));
        self.adaptive_limit_bytes.set(gauge(stock.adaptive_limit_bytes));
        self.ready.set(sandboxes.ready.into());
        self.busy.set(sandboxes.busy.into());
        self.pools.set(pools);
        self.standing.set(i64::try_from(sandboxes.standby.ready).unwrap_or(i64::MAX));
        self.stood.inner().store(sandboxes.standby.used, Ordering::Relaxed);
        let kept = sandboxes.kept;
        for (result, counted) in [("hit", kept.hits), ("miss", kept.misses)] {
            // The backend counts; this shows what it has counted. It never counts back.
            self.kept.get_or_create(&KeptLabels { result }).inner().store(counted, Ordering::Relaxed);
        }
        self.kept_entries.set(i64::try_from(kept.entries).unwrap_or(i64::MAX));
        self.kept_bytes.set(i64::try_from(kept.bytes).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
