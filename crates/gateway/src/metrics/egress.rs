//! What sessions with network do, for the metrics. It counts for itself; a scrape copies what it says.

use std::fmt;

use greenroom_egress::Egress;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// The way out of all sessions that have one.
#[derive(Clone, Debug)]
pub(crate) struct EgressMetrics(pub(crate) Egress);

impl Collector for EgressMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let now = self.0.status();
        let help = "Connections of sessions, and peers that they send datagrams to";
        let open = encoder.encode_descriptor("egress_open", help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::try_from(now.open).unwrap_or(i64::MAX)).encode(open)?;
        let help = "Connections and peers that sessions began, by protocol";
        let mut family = encoder.encode_descriptor("egress_begun", help, None, MetricType::Counter)?;
        for (protocol, count) in [("tcp", now.connections), ("udp", now.peers)] {
            ConstCounter::new(count).encode(family.encode_family(&[("protocol", protocol)])?)?;
        }
        let help = "What sessions may not reach, and tried to, by reason";
        let mut family = encoder.encode_descriptor("egress_refused", help, None, MetricType::Counter)?;
        for (reason, count) in now.refused {
            ConstCounter::new(count).encode(family.encode_family(&[("reason", reason)])?)?;
        }
        let help = "What was not begun for want of room, or too soon after another";
        let postponed = encoder.encode_descriptor("egress_postponed", help, None, MetricType::Counter)?;
        ConstCounter::new(now.postponed).encode(postponed)
    }
}
