//! What the service takes and what not (the contract, section 2.3).

use super::error::{ArmError, shorten};
use super::json::Node;
use super::path::{PoolId, normal_location};
use super::session_pool::PoolDocument;
use super::settings::{ContainerType, Lifecycle};

/// The most sessions that a code interpreter may have at once: the service's quota.
pub const MAX_CONCURRENT_SESSIONS: u32 = 600;

/// Seconds a session may be idle.
const COOLDOWN_S: std::ops::RangeInclusive<u32> = 300..=3600;

/// Types that the service has and nobody else.
const ELSEWHERE: [&str; 2] = ["GpuBase", "CsharpLTS"];

const CONTAINER_TYPES: [ContainerType; 4] =
    [ContainerType::PythonLts, ContainerType::NodeLts, ContainerType::Shell, ContainerType::CustomContainer];

/// Whether a pool may be as `document` says. `existing` is what it is now, where the request changes one.
///
/// # Errors
/// [`ArmError`]: the first rule that is broken.
pub fn check(id: &PoolId, document: &PoolDocument, existing: Option<&PoolDocument>) -> Result<(), ArmError> {
    match existing {
        None => check_name(&id.name)?,
        Some(existing) => check_change(id, document, existing)?,
    }
    let settings = &document.settings;
    let container_type = settings.container_type;
    if container_type.is_code_interpreter() {
        let only = |what| Err(ArmError::CustomOnly { what, container_type });
        if document.environment_id.is_some() {
            return only("properties.environmentId");
        }
        if document.custom_container_template.is_some() {
            return only("properties.customContainerTemplate");
        }
        if matches!(settings.lifecycle, Lifecycle::OnContainerExit { .. }) {
            return only("lifecycleType OnContainerExit");
        }
        if settings.mcp_enabled && container_type == ContainerType::NodeLts {
            return Err(ArmError::McpUnsupported(container_type));
        }
        if !(1..=MAX_CONCURRENT_SESSIONS).contains(&settings.max_concurrent_sessions) {
            let (given, limit) = (settings.max_concurrent_sessions, MAX_CONCURRENT_SESSIONS);
            return Err(ArmError::MaxConcurrentSessions { given, limit });
        }
    } else {
        let ready = settings.ready_session_instances.unwrap_or(0);
        if ready == 0 || ready >= settings.max_concurrent_sessions {
            return Err(ArmError::ReadySessionInstances);
        }
        check_containers(document)?;
    }
    match settings.lifecycle {
        Lifecycle::Timed { cooldown_s } if !COOLDOWN_S.contains(&cooldown_s) => Err(ArmError::CooldownPeriod(cooldown_s)),
        Lifecycle::OnContainerExit { max_alive_s: 0 } => Err(ArmError::MaxAlivePeriod),
        _ => Ok(()),
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
    let elsewhere = ELSEWHERE.iter().find(|word| word.eq_ignore_ascii_case(given));
    let known = CONTAINER_TYPES.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(given));
    let name = match (known, elsewhere) {
        (Some(known), _) if offered.contains(&known) => return Ok(known),
        (Some(ContainerType::CustomContainer), _) => return Err(ArmError::CustomContainer { offered: offered_list() }),
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

/// What is set once: location, container type, environment.
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
    let environment = |document: &PoolDocument| document.environment_id.clone().unwrap_or_default();
    let (given, current) = (environment(document), environment(existing));
    if !given.eq_ignore_ascii_case(&current) {
        return Err(ArmError::Immutable { path: "properties.environmentId", current, given: shorten(&given) });
    }
    Ok(())
}

/// What a custom pool needs: an environment, containers within bounds, a port.
fn check_containers(document: &PoolDocument) -> Result<(), ArmError> {
    if document.environment_id.is_none() {
        return Err(ArmError::Required("properties.environmentId".to_owned()));
    }
    let body = serde_json::json!({"properties": {"customContainerTemplate": document.custom_container_template}});
    let template = Node::root(&body).require("properties")?.require("customContainerTemplate")?;
    let port = template.require("ingress")?.require("targetPort")?;
    within(&port, 1..=65_535, "a port from 1 to 65535")?;
    let containers = template.require("containers")?;
    if containers.elements()?.next().is_none() {
        return Err(ArmError::Required("properties.customContainerTemplate.containers[0]".to_owned()));
    }
    for container in containers.elements()? {
        container.require("image")?.string()?;
        if let Some(resources) = container.get("resources")? {
            check_resources(&resources)?;
        }
        if let Some(probes) = container.get("probes")? {
            check_probes(&probes)?;
        }
    }
    Ok(())
}

fn check_resources(resources: &Node<'_>) -> Result<(), ArmError> {
    if let Some(cpu) = resources.get("cpu")?
        && !(0.25..=2.0).contains(&cpu.number()?)
    {
        return Err(outside(&cpu, "a number of cores from 0.25 to 2.0"));
    }
    if let Some(memory) = resources.get("memory")? {
        let gibibytes = memory.string()?.strip_suffix("Gi").and_then(|number| number.parse::<f64>().ok());
        if !gibibytes.is_some_and(|gibibytes| (0.5..=4.0).contains(&gibibytes)) {
            return Err(outside(&memory, "an amount from '0.5Gi' to '4.0Gi'"));
        }
    }
    Ok(())
}

fn check_probes(probes: &Node<'_>) -> Result<(), ArmError> {
    for probe in probes.elements()? {
        probe.require("type")?.choice(&[("Liveness", ()), ("Startup", ())])?;
        for (key, range, expected) in [
            ("failureThreshold", 1..=10, "a number from 1 to 10"),
            ("initialDelaySeconds", 1..=60, "a number from 1 to 60"),
            ("periodSeconds", 1..=240, "a number from 1 to 240"),
            ("timeoutSeconds", 1..=240, "a number from 1 to 240"),
            ("terminationGracePeriodSeconds", 0..=3600, "a number from 0 to 3600"),
        ] {
            if let Some(number) = probe.get(key)? {
                within(&number, range, expected)?;
            }
        }
    }
    Ok(())
}

fn within(node: &Node<'_>, range: std::ops::RangeInclusive<u32>, expected: &'static str) -> Result<(), ArmError> {
    if range.contains(&node.count()?) { Ok(()) } else { Err(outside(node, expected)) }
}

fn outside(node: &Node<'_>, expected: &'static str) -> ArmError {
    ArmError::Container { path: node.path().to_owned(), expected }
}

#[cfg(test)]
mod tests;
