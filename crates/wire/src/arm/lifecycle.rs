//! `dynamicPoolConfiguration`, in both of its shapes.

use serde_json::{Value, json};

use super::api_version::LifecycleShape;
use super::error::ArmError;
use super::json::Node;
use super::settings::Lifecycle;

/// Seconds a session may be idle, where the client says nothing (`az`'s default).
const DEFAULT_COOLDOWN_S: u32 = 300;
/// Seconds a session may live, where the client says nothing (`az`'s default).
const DEFAULT_MAX_ALIVE_S: u32 = 3600;

const COOLDOWN: &str = "cooldownPeriodInSeconds";
const MAX_ALIVE: &str = "maxAlivePeriodInSeconds";
const TIMED: &str = "Timed";
const ON_CONTAINER_EXIT: &str = "OnContainerExit";

/// The one half of [`Lifecycle`] that is a word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Timed,
    OnContainerExit,
}

/// Reads `dynamicPoolConfiguration`. Where it has `lifecycleConfiguration`, that counts, else what older versions have instead.
pub(super) fn read(configuration: Option<Node<'_>>) -> Result<Lifecycle, ArmError> {
    let Some(configuration) = configuration else { return Ok(Lifecycle::Timed { cooldown_s: DEFAULT_COOLDOWN_S }) };
    let nested = configuration.get("lifecycleConfiguration")?;
    let (node, key) = match &nested {
        Some(nested) => (nested, "lifecycleType"),
        None => (&configuration, "executionType"),
    };
    let cooldown = node.get(COOLDOWN)?;
    let max_alive = node.get(MAX_ALIVE)?;
    let kind = match node.get(key)? {
        Some(kind) if nested.is_some() => kind.choice(&[(TIMED, Kind::Timed), (ON_CONTAINER_EXIT, Kind::OnContainerExit)])?,
        Some(kind) => kind.choice(&[(TIMED, Kind::Timed)])?,
        // As `az` infers it.
        None if max_alive.is_some() && cooldown.is_none() => Kind::OnContainerExit,
        None => Kind::Timed,
    };
    let (period, other, default, owner) = match kind {
        Kind::Timed => (cooldown, max_alive, DEFAULT_COOLDOWN_S, ON_CONTAINER_EXIT),
        Kind::OnContainerExit => (max_alive, cooldown, DEFAULT_MAX_ALIVE_S, TIMED),
    };
    if let Some(other) = other {
        return Err(ArmError::Period { path: other.path().to_owned(), kind: owner });
    }
    let seconds = period.map(|period| period.count()).transpose()?.unwrap_or(default);
    Ok(match kind {
        Kind::Timed => Lifecycle::Timed { cooldown_s: seconds },
        Kind::OnContainerExit => Lifecycle::OnContainerExit { max_alive_s: seconds },
    })
}

/// The value of `dynamicPoolConfiguration`. The older shape has no word for [`Lifecycle::OnContainerExit`], which is written
/// in the newer one always.
pub(super) fn write(lifecycle: Lifecycle, shape: LifecycleShape) -> Value {
    match (lifecycle, shape) {
        (Lifecycle::Timed { cooldown_s }, LifecycleShape::Flat) => json!({"executionType": TIMED, COOLDOWN: cooldown_s}),
        (Lifecycle::Timed { cooldown_s }, LifecycleShape::Nested) => {
            json!({"lifecycleConfiguration": {"lifecycleType": TIMED, COOLDOWN: cooldown_s}})
        }
        (Lifecycle::OnContainerExit { max_alive_s }, _) => {
            json!({"lifecycleConfiguration": {"lifecycleType": ON_CONTAINER_EXIT, MAX_ALIVE: max_alive_s}})
        }
    }
}

/// What a PATCH of `dynamicPoolConfiguration` is put over: the pool's life cycle in the shape in which the patch is written,
/// and without its period where the patch names another kind, to which that period would not belong.
pub(super) fn base(lifecycle: Lifecycle, patch: Option<Node<'_>>) -> Result<Value, ArmError> {
    let Some(patch) = patch else { return Ok(write(lifecycle, LifecycleShape::Nested)) };
    let nested = patch.get("lifecycleConfiguration")?;
    let (node, key, shape) = match &nested {
        Some(nested) => (nested, "lifecycleType", LifecycleShape::Nested),
        None => (&patch, "executionType", LifecycleShape::Flat),
    };
    let (own_kind, own_period, other_period) = match lifecycle {
        Lifecycle::Timed { .. } => (TIMED, COOLDOWN, MAX_ALIVE),
        Lifecycle::OnContainerExit { .. } => (ON_CONTAINER_EXIT, MAX_ALIVE, COOLDOWN),
    };
    let is_same = match node.get(key)? {
        Some(kind) => kind.string()?.eq_ignore_ascii_case(own_kind),
        // `az containerapp sessionpool update --max-alive-period` sends no kind.
        None => node.get(own_period)?.is_some() || node.get(other_period)?.is_none(),
    };
    Ok(if is_same { write(lifecycle, shape) } else { json!({}) })
}
