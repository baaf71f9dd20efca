use super::{Lifecycle, Network, PoolSpec, Rules, SessionLimits, SpecError};

/// A change to a pool: what is absent stays as it is. Name and kind cannot be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolPatch {
    /// See [`PoolSpec::max_sessions`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_sessions: Option<u32>,
    /// See [`PoolSpec::ready_sessions`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_sessions: Option<u32>,
    /// See [`PoolSpec::lifecycle`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<LifecyclePatch>,
    /// See [`PoolSpec::network`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// See [`PoolSpec::limits`]; replaced as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<SessionLimits>,
    /// See [`PoolSpec::warm`]; replaced as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm: Option<Vec<String>>,
}

/// A change to a lifecycle: a time alone keeps the kind, a kind alone takes the default time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LifecyclePatch {
    /// The kind to have from now on.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<LifecycleKind>,
    /// Of [`Lifecycle::Timed`], seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown_s: Option<u32>,
    /// Of [`Lifecycle::OnContainerExit`], seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_alive_s: Option<u32>,
}

/// A [`Lifecycle`] without its time (`lifecycleType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum LifecycleKind {
    /// [`Lifecycle::Timed`].
    Timed,
    /// [`Lifecycle::OnContainerExit`].
    OnContainerExit,
}

impl LifecycleKind {
    /// The kind of this lifecycle.
    pub fn of(lifecycle: Lifecycle) -> Self {
        match lifecycle {
            Lifecycle::Timed { .. } => LifecycleKind::Timed,
            Lifecycle::OnContainerExit { .. } => LifecycleKind::OnContainerExit,
        }
    }

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            LifecycleKind::Timed => "Timed",
            LifecycleKind::OnContainerExit => "OnContainerExit",
        }
    }
}

impl LifecyclePatch {
    /// The lifecycle that comes of it.
    pub fn apply(&self, lifecycle: Lifecycle) -> Result<Lifecycle, SpecError> {
        let kind = self.kind.unwrap_or(LifecycleKind::of(lifecycle));
        let other = |field, needs: LifecycleKind| SpecError::OtherLifecycle { field, needs: needs.as_str(), has: kind.as_str() };
        match kind {
            LifecycleKind::Timed => {
                if self.max_alive_s.is_some() {
                    return Err(other("max_alive_s", LifecycleKind::OnContainerExit));
                }
                let before =
                    if let Lifecycle::Timed { cooldown_s } = lifecycle { cooldown_s } else { Lifecycle::DEFAULT_COOLDOWN_S };
                Ok(Lifecycle::Timed { cooldown_s: self.cooldown_s.unwrap_or(before) })
            }
            LifecycleKind::OnContainerExit => {
                if self.cooldown_s.is_some() {
                    return Err(other("cooldown_s", LifecycleKind::Timed));
                }
                let before = if let Lifecycle::OnContainerExit { max_alive_s } = lifecycle {
                    max_alive_s
                } else {
                    Lifecycle::DEFAULT_MAX_ALIVE_S
                };
                Ok(Lifecycle::OnContainerExit { max_alive_s: self.max_alive_s.unwrap_or(before) })
            }
        }
    }
}

impl PoolPatch {
    /// The specification that comes of it, checked; `spec` stays as it is when the change is refused.
    pub fn apply(&self, spec: &PoolSpec, rules: &Rules) -> Result<PoolSpec, SpecError> {
        let changed = PoolSpec {
            name: spec.name.clone(),
            kind: spec.kind,
            max_sessions: self.max_sessions.unwrap_or(spec.max_sessions),
            ready_sessions: self.ready_sessions.unwrap_or(spec.ready_sessions),
            lifecycle: match self.lifecycle {
                Some(patch) => patch.apply(spec.lifecycle)?,
                None => spec.lifecycle,
            },
            network: self.network.unwrap_or(spec.network),
            limits: self.limits.unwrap_or(spec.limits),
            warm: self.warm.clone().unwrap_or_else(|| spec.warm.clone()),
        };
        changed.check(rules)?;
        Ok(changed)
    }
}
