//! What the pools are doing, for the metrics. Pools count for themselves; a scrape copies what they say.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use greenroom_pool::Snapshot;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Pools by name, as they were when the scrape came. A pool's name is chosen by who manages pools, never by who uses them.
#[derive(Clone, Debug, Default)]
pub(crate) struct PoolMetrics(Arc<Mutex<Vec<(String, Snapshot)>>>);

impl PoolMetrics {
    /// What the next scrape says.
    pub(crate) fn set(&self, pools: Vec<(String, Snapshot)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = pools;
    }
}

impl Collector for PoolMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let each = || pools.iter().map(|(pool, snapshot)| (pool.as_str(), snapshot));
        let gauge = |n: usize| ConstGauge::new(i64::try_from(n).unwrap_or(i64::MAX));

        let mut family =
            encoder.encode_descriptor("pool_sessions", "Sessions of a pool, by what they do", None, MetricType::Gauge)?;
        for (pool, now) in each() {
            let states = [
                ("ready", now.ready),
                ("starting", now.starting),
                ("busy", now.busy),
                ("cooling", now.cooling),
                ("stopping", now.stopping),
            ];
            for (state, count) in states {
                gauge(count).encode(family.encode_family(&[("pool", pool), ("state", state)])?)?;
            }
        }
        let mut family =
            encoder.encode_descriptor("pool_waiting_calls", "Calls that wait for a session", None, MetricType::Gauge)?;
        for (pool, now) in each() {
            gauge(now.waiting_calls).encode(family.encode_family(&[("pool", pool)])?)?;
        }
        let help = "Calls that got a session: the one they had, a ready one, or one made for them";
        let mut family = encoder.encode_descriptor("pool_allocations", help, None, MetricType::Counter)?;
        for (pool, now) in each() {
            let of = &now.totals;
            for (kind, count) in [("existing", of.granted_existing), ("warm", of.granted_warm), ("cold", of.granted_cold)] {
                ConstCounter::new(count).encode(family.encode_family(&[("pool", pool), ("kind", kind)])?)?;
            }
        }
        let help = "Calls that got none: the pool was full, or another reason";
        let mut family = encoder.encode_descriptor("pool_denied", help, None, MetricType::Counter)?;
        for (pool, now) in each() {
            for (reason, count) in [("full", now.totals.denied_full), ("other", now.totals.denied_otherwise)] {
                ConstCounter::new(count).encode(family.encode_family(&[("pool", pool), ("reason", reason)])?)?;
            }
        }
        let mut family = encoder.encode_descriptor("pool_sessions_created", "Sessions made", None, MetricType::Counter)?;
        for (pool, now) in each() {
            ConstCounter::new(now.totals.created).encode(family.encode_family(&[("pool", pool)])?)?;
        }
        let help = "Sessions that could not be made";
        let mut family = encoder.encode_descriptor("pool_create_failures", help, None, MetricType::Counter)?;
        for (pool, now) in each() {
            ConstCounter::new(now.totals.create_failed).encode(family.encode_family(&[("pool", pool)])?)?;
        }
        let mut family =
            encoder.encode_descriptor("pool_sessions_ended", "Sessions that ended, by why", None, MetricType::Counter)?;
        for (pool, now) in each() {
            for (&reason, &count) in &now.totals.ended {
                ConstCounter::new(count).encode(family.encode_family(&[("pool", pool), ("reason", reason)])?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use greenroom_pool::Totals;
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    fn snapshot() -> Snapshot {
        let totals = Totals {
            created: 9,
            create_failed: 1,
            granted_existing: 5,
            granted_warm: 3,
            granted_cold: 2,
            denied_full: 4,
            denied_otherwise: 0,
            ended: [("cooldown", 6)].into(),
        };
        Snapshot {
            ready: 2,
            starting: 1,
            busy: 3,
            cooling: 4,
            stopping: 0,
            in_line: 1,
            waiting_calls: 7,
            failures: vec![],
            next_attempt_in_ms: None,
            totals,
        }
    }

    #[test]
    fn a_scrape_says_what_the_pools_said_and_forgets_pools_that_are_gone() {
        let pools = PoolMetrics::default();
        let mut registry = Registry::with_prefix("greenroom");
        registry.register_collector(Box::new(pools.clone()));
        let text = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        pools.set(vec![("default".to_owned(), snapshot())]);
        let first = text();
        for line in [
            r#"greenroom_pool_sessions{pool="default",state="ready"} 2"#,
            r#"greenroom_pool_sessions{pool="default",state="cooling"} 4"#,
            r#"greenroom_pool_waiting_calls{pool="default"} 7"#,
            r#"greenroom_pool_allocations_total{pool="default",kind="warm"} 3"#,
            r#"greenroom_pool_denied_total{pool="default",reason="full"} 4"#,
            r#"greenroom_pool_sessions_created_total{pool="default"} 9"#,
            r#"greenroom_pool_create_failures_total{pool="default"} 1"#,
            r#"greenroom_pool_sessions_ended_total{pool="default",reason="cooldown"} 6"#,
        ] {
            assert!(first.lines().any(|given| given == line), "{line}\n{first}");
        }
        pools.set(vec![]);
        assert!(!text().contains("default"));
    }
}
