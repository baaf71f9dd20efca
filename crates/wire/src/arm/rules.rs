//! What the service takes and what not (the contract, section 2.3).

use super::error::{ArmError, shorten};
use super::path::{PoolId, normal_location};
use super::session_pool::PoolDocument;
use super::settings::{ContainerType, Lifecycle};

/// The most sessions that a code interpreter may have at once: the service's quota.
pub const MAX_CONCURRENT_SESSIONS: u32 = 600;

/// Seconds a session may be idle.
const COOLDOWN_S: std::ops::RangeInclusive<u32> = 300..=3600;

/// Types that the service has and nobody else.
const ELSEWHERE: [&str; 2] = ["GpuBase", "CsharpLTS"];
const CUSTOM_CONTAINER: &str = "CustomContainer";

const CONTAINER_TYPES: [ContainerType; 3] = [ContainerType::PythonLts, ContainerType::NodeLts, ContainerType::Shell];

/// Whether a pool may be as `document` says. `existing` is what it is now, where the request changes one: numbers that it has
/// already may stay, because a pool can be made by other means than these.
///
/// # Errors
/// [`ArmError`]: the first rule that is broken.
pub fn check(id: &PoolId, document: &PoolDocument, existing: Option<&PoolDocument>) -> Result<(), ArmError> {
    match existing {
        None => check_name(&id.name)?,
        Some(existing) => check_change(id, document, existing)?,
    }
    let settings = &document.settings;
    let old = existing.map(|existing| &existing.settings);
    let container_type = settings.container_type;
    if settings.mcp_enabled && container_type == ContainerType::NodeLts {
        return Err(ArmError::McpUnsupported(container_type));
    }
    let (given, limit) = (settings.max_concurrent_sessions, MAX_CONCURRENT_SESSIONS);
    if old.is_none_or(|old| old.max_concurrent_sessions != given) && !(1..=limit).contains(&given) {
        return Err(ArmError::MaxConcurrentSessions { given, limit });
    }
    if old.is_some_and(|old| old.lifecycle == settings.lifecycle) {
        return Ok(());
    }
    match settings.lifecycle {
        Lifecycle::OnContainerExit { .. } => Err(ArmError::CustomOnly { what: "lifecycleType OnContainerExit", container_type }),
        Lifecycle::Timed { cooldown_s } if !COOLDOWN_S.contains(&cooldown_s) => Err(ArmError::CooldownPeriod(cooldown_s)),
        Lifecycle::Timed { .. } => Ok(()),
    }
}

/// Whether one more pool may be made where there are `existing`.
///
/// # Errors
/// [`ArmError::Quota`].
pub fn check_quota(existing: u32, limit: u32) -> Result<(), ArmError> {
    if existing < limit { Ok(()) } else { Err(ArmError::Quota { limit }) }
}

/// The type of this name, in any case, if it is one of `offered`.
pub(super) fn container_type(given: &str, location: &str, offered: &[ContainerType]) -> Result<ContainerType, ArmError> {
    let offered_list = || offered.to_vec();
    if given.eq_ignore_ascii_case(CUSTOM_CONTAINER) {
        return Err(ArmError::CustomContainer { offered: offered_list() });
    }
    let elsewhere = ELSEWHERE.iter().find(|word| word.eq_ignore_ascii_case(given));
    let known = CONTAINER_TYPES.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(given));
    let name = match (known, elsewhere) {
        (Some(known), _) if offered.contains(&known) => return Ok(known),
        (Some(known), _) => known.as_str(),
        (None, Some(name)) => name,
        (None, None) => return Err(ArmError::ContainerType(shorten(given))),
    };
    Err(ArmError::NotSupportedInRegion { given: name.to_owned(), location: shorten(location), offered: offered_list() })
}

pub(super) fn check_management_type(given: &str) -> Result<(), ArmError> {
    if given.eq_ignore_ascii_case("Dynamic") { Ok(()) } else { Err(ArmError::PoolManagementType(shorten(given))) }
}

/// Terraform's rule, and the hyphens of the documentation's examples. The name may become a label of a host's name, which
/// ends with no hyphen.
fn check_name(name: &str) -> Result<(), ArmError> {
    let is_valid = (3..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-');
    if is_valid { Ok(()) } else { Err(ArmError::Name(shorten(name))) }
}

/// What is set once: location and container type.
fn check_change(id: &PoolId, document: &PoolDocument, existing: &PoolDocument) -> Result<(), ArmError> {
    let (new, old) = (&document.settings, &existing.settings);
    if normal_location(&new.location) != normal_location(&old.location) {
        return Err(ArmError::Location {
            name: id.name.clone(),
            resource_group: id.resource_group.clone(),
            current: old.location.clone(),
            given: shorten(&new.location),
        });
    }
    if new.container_type != old.container_type {
        return Err(ArmError::Immutable {
            path: "properties.containerType",
            current: old.container_type.to_string(),
            given: new.container_type.to_string(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
