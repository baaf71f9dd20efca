//! What a method and a path ask for.

use serde::{Deserialize, Serialize};

use super::error::{ArmError, shorten};

/// A pool's place among the resources. Equal are those whose [`PoolId::key`] is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PoolId {
    /// As sent.
    pub subscription: String,
    /// As sent.
    pub resource_group: String,
    /// As sent: [`super::check`] judges it where a pool is made.
    pub name: String,
}

impl PoolId {
    /// The resource id, as `/subscriptions/…/providers/Microsoft.App/sessionPools/…`.
    pub fn resource_id(&self) -> String {
        let Self { subscription, resource_group, name } = self;
        format!("/subscriptions/{subscription}/resourceGroups/{resource_group}/providers/Microsoft.App/sessionPools/{name}")
    }

    /// The resource id in lower case: ids are compared without it.
    pub fn key(&self) -> String {
        self.resource_id().to_lowercase()
    }

    /// That there is none.
    pub fn not_found(&self) -> ArmError {
        ArmError::PoolNotFound { name: shorten(&self.name), resource_group: self.resource_group.clone() }
    }
}

impl PartialEq for PoolId {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for PoolId {}

/// An asynchronous operation's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationId {
    /// The subscription of the pool.
    pub subscription: String,
    /// The location of the pool, without case and blanks.
    pub location: String,
    /// The operation: letters, digits and `-._()`; a random id of the caller's.
    pub operation: String,
}

impl OperationId {
    /// The operation `operation` on a pool at `location`, as the pool spells it.
    pub fn new(pool: &PoolId, location: &str, operation: impl Into<String>) -> Self {
        let location = normal_location(location);
        // An address needs a segment there, and a location is free text.
        let location = if is_word(&location) { location } else { "local".to_owned() };
        Self { subscription: pool.subscription.clone(), location, operation: operation.into() }
    }

    pub(super) fn path(&self, collection: &str) -> String {
        let Self { subscription, location, operation } = self;
        format!("/subscriptions/{subscription}/providers/Microsoft.App/locations/{location}/{collection}/{operation}")
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `PUT …/sessionPools/{n}`: create, or replace.
    PutPool(PoolId),
    /// `GET …/sessionPools/{n}`.
    GetPool(PoolId),
    /// `PATCH …/sessionPools/{n}`: change what the body names.
    PatchPool(PoolId),
    /// `DELETE …/sessionPools/{n}`.
    DeletePool(PoolId),
    /// `GET …/resourceGroups/{g}/…/sessionPools`.
    ListInGroup {
        /// As sent.
        subscription: String,
        /// As sent.
        resource_group: String,
    },
    /// `GET /subscriptions/{s}/…/sessionPools`.
    ListInSubscription {
        /// As sent.
        subscription: String,
    },
    /// `GET …/locations/{l}/sessionPoolOperationStatuses/{op}`.
    OperationStatus(OperationId),
    /// `GET …/locations/{l}/operationResults/{op}`.
    OperationResult(OperationId),
    /// `POST …/sessionPools/{n}/fetchMCPServerCredentials`.
    FetchMcpCredentials(PoolId),
    /// `POST …/sessionPools/{n}/regenerateCredentials`.
    RegenerateMcpCredentials(PoolId),
    /// `GET /subscriptions/{s}/providers/Microsoft.App`: `az` looks here for locations and versions.
    Provider {
        /// As sent.
        subscription: String,
    },
    /// `GET /subscriptions`: `az login` fails where it finds none.
    ListSubscriptions,
    /// `GET /subscriptions/{s}`.
    GetSubscription {
        /// As sent.
        subscription: String,
    },
    /// `GET /subscriptions/{s}/resourceGroups/{g}`: `az` takes a missing `--location` from it.
    GetResourceGroup {
        /// As sent.
        subscription: String,
        /// As sent.
        resource_group: String,
    },
    /// `GET /metadata/endpoints`: `az cloud register` reads it. Needs no token.
    CloudMetadata,
}

impl Call {
    /// Finds the operation. Case does not matter in what ARM names, nor does one slash at the end or many at the start
    /// (clients append paths to bases that end with one); what a client names is percent-decoded.
    ///
    /// `path` is without its query. `None`: the path is not the control plane's. The data plane's
    /// `/subscriptions/{s}/resourceGroups/{g}/sessionPools/{n}` is not.
    ///
    /// # Errors
    /// The path is ours, and [`ArmError`] says what is wrong with it, or with the method.
    pub fn parse(method: &str, path: &str) -> Result<Option<Call>, ArmError> {
        let path = path.trim_start_matches('/');
        let raw = path.strip_suffix('/').unwrap_or(path);
        let first = raw.split('/').next().unwrap_or_default();
        let is_metadata = raw.eq_ignore_ascii_case("metadata/endpoints");
        if !first.eq_ignore_ascii_case("subscriptions") && !is_metadata {
            return Ok(None);
        }
        let segments = raw.split('/').map(decode).collect::<Result<Vec<_>, _>>()?;
        let names: Vec<&str> = segments.iter().map(String::as_str).collect();
        let is = |at: usize, word: &str| names.get(at).is_some_and(|segment| segment.eq_ignore_ascii_case(word));
        if is(2, "resourceGroups") && is(4, "sessionPools") {
            return Ok(None);
        }
        let get = |call| on_get(method, call);
        if is_metadata {
            return get(Call::CloudMetadata);
        }
        if let Some(subscription) = names.get(1) {
            check_subscription(subscription)?;
        }
        let group = names.get(3).copied().filter(|_| is(2, "resourceGroups"));
        if let Some(group) = group {
            check_resource_group(group)?;
        }
        let unknown = || Err(ArmError::UnknownResource(shorten(&format!("/{raw}"))));
        match (names.as_slice(), group) {
            ([_], _) => get(Call::ListSubscriptions),
            ([_, subscription], _) => get(Call::GetSubscription { subscription: (*subscription).to_owned() }),
            ([_, subscription, _, group], Some(_)) => {
                get(Call::GetResourceGroup { subscription: (*subscription).to_owned(), resource_group: (*group).to_owned() })
            }
            ([_, subscription, _, group, rest @ ..], Some(_)) => match below_provider(rest) {
                Some(rest) => in_group(method, subscription, group, rest).unwrap_or_else(unknown),
                None => unknown(),
            },
            ([_, subscription, rest @ ..], None) => match below_provider(rest) {
                Some(rest) => in_subscription(method, subscription, rest).unwrap_or_else(unknown),
                None => unknown(),
            },
            _ => unknown(),
        }
    }

    /// The right that the call needs, as Azure's roles name it. `None`: whoever is known may.
    pub fn action(&self) -> Option<&'static str> {
        match self {
            Call::PutPool(_) | Call::PatchPool(_) => Some("Microsoft.App/sessionPools/write"),
            Call::GetPool(_) | Call::ListInGroup { .. } | Call::ListInSubscription { .. } => {
                Some("Microsoft.App/sessionPools/read")
            }
            Call::DeletePool(_) => Some("Microsoft.App/sessionPools/delete"),
            Call::FetchMcpCredentials(_) => Some("Microsoft.App/sessionPools/fetchMCPServerCredentials/action"),
            Call::RegenerateMcpCredentials(_) => Some("Microsoft.App/sessionPools/regenerateCredentials/action"),
            Call::OperationStatus(_) | Call::OperationResult(_) => Some("Microsoft.App/locations/operationResults/read"),
            Call::Provider { .. } => None,
            Call::ListSubscriptions | Call::GetSubscription { .. } | Call::GetResourceGroup { .. } | Call::CloudMetadata => None,
        }
    }

    /// The pool that is named.
    pub fn pool(&self) -> Option<&PoolId> {
        match self {
            Call::PutPool(id)
            | Call::GetPool(id)
            | Call::PatchPool(id)
            | Call::DeletePool(id)
            | Call::FetchMcpCredentials(id)
            | Call::RegenerateMcpCredentials(id) => Some(id),
            _ => None,
        }
    }
}

type Parsed = Result<Option<Call>, ArmError>;

/// What follows `providers/Microsoft.App`.
fn below_provider<'a, 'b>(segments: &'b [&'a str]) -> Option<&'b [&'a str]> {
    match segments {
        [providers, namespace, rest @ ..]
            if providers.eq_ignore_ascii_case("providers") && namespace.eq_ignore_ascii_case("Microsoft.App") =>
        {
            Some(rest)
        }
        _ => None,
    }
}

fn in_group(method: &str, subscription: &str, group: &str, rest: &[&str]) -> Option<Parsed> {
    let (kind, rest) = rest.split_first()?;
    if !kind.eq_ignore_ascii_case("sessionPools") {
        return None;
    }
    let id = |name: &str| PoolId { subscription: subscription.to_owned(), resource_group: group.to_owned(), name: name.to_owned() };
    match rest {
        [] => Some(on_get(method, Call::ListInGroup { subscription: subscription.to_owned(), resource_group: group.to_owned() })),
        [""] | ["", ..] => None,
        [name] => Some(match method {
            "PUT" => Ok(Some(Call::PutPool(id(name)))),
            "GET" | "HEAD" => Ok(Some(Call::GetPool(id(name)))),
            "PATCH" => Ok(Some(Call::PatchPool(id(name)))),
            "DELETE" => Ok(Some(Call::DeletePool(id(name)))),
            _ => Err(not_allowed(method, "GET, PUT, PATCH, DELETE")),
        }),
        [name, action] if action.eq_ignore_ascii_case("fetchMCPServerCredentials") => {
            Some(on_post(method, Call::FetchMcpCredentials(id(name))))
        }
        [name, action] if action.eq_ignore_ascii_case("regenerateCredentials") => {
            Some(on_post(method, Call::RegenerateMcpCredentials(id(name))))
        }
        _ => None,
    }
}

fn in_subscription(method: &str, subscription: &str, rest: &[&str]) -> Option<Parsed> {
    let subscription = subscription.to_owned();
    match rest {
        [] => Some(on_get(method, Call::Provider { subscription })),
        [pools] if pools.eq_ignore_ascii_case("sessionPools") => Some(on_get(method, Call::ListInSubscription { subscription })),
        [locations, location, collection, operation] if locations.eq_ignore_ascii_case("locations") => {
            // An id that we did not make is one that is not found; it must not reach an answer's header.
            if !is_word(operation) || !is_word(&normal_location(location)) {
                return Some(Err(ArmError::OperationNotFound(shorten(operation))));
            }
            let id = OperationId { subscription, location: normal_location(location), operation: (*operation).to_owned() };
            if collection.eq_ignore_ascii_case("sessionPoolOperationStatuses") {
                Some(on_get(method, Call::OperationStatus(id)))
            } else if collection.eq_ignore_ascii_case("operationResults") {
                Some(on_get(method, Call::OperationResult(id)))
            } else {
                None
            }
        }
        _ => None,
    }
}

fn on_get(method: &str, call: Call) -> Parsed {
    if matches!(method, "GET" | "HEAD") { Ok(Some(call)) } else { Err(not_allowed(method, "GET")) }
}

fn on_post(method: &str, call: Call) -> Parsed {
    if method == "POST" { Ok(Some(call)) } else { Err(not_allowed(method, "POST")) }
}

fn not_allowed(method: &str, allow: &'static str) -> ArmError {
    ArmError::Method { method: shorten(method), allow }
}

/// Any subscription will do, not only a GUID, but it stands in ids and addresses.
fn check_subscription(subscription: &str) -> Result<(), ArmError> {
    if is_word(subscription) { Ok(()) } else { Err(ArmError::Subscription(shorten(subscription))) }
}

/// ARM's rule for names of resource groups.
fn check_resource_group(group: &str) -> Result<(), ArmError> {
    let is_valid = (1..=90).contains(&group.chars().count())
        && !group.ends_with('.')
        && group.chars().all(|letter| letter.is_alphanumeric() || "-._()".contains(letter));
    if is_valid { Ok(()) } else { Err(ArmError::ResourceGroup(shorten(group))) }
}

/// What may stand in a segment of an address without escapes.
fn is_word(segment: &str) -> bool {
    (1..=90).contains(&segment.len()) && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._()".contains(&byte))
        // Clients resolve these before they send.
        && !matches!(segment, "." | "..")
}

/// A location without what its spellings differ in: `East US` is `eastus`, `East US 2 (Stage)` is `eastus2stage`.
pub(super) fn normal_location(location: &str) -> String {
    location.chars().filter(|letter| !matches!(letter, ' ' | '(' | ')')).flat_map(char::to_lowercase).collect()
}

/// Takes the escapes out of a segment, or a parameter.
pub(super) fn decode(segment: &str) -> Result<String, ArmError> {
    let wrong = || ArmError::PathEncoding(shorten(segment));
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit =
            |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok());
        let (high, low) = (digit(bytes.next()).ok_or_else(wrong)?, digit(bytes.next()).ok_or_else(wrong)?);
        decoded.push(high << 4 | low);
    }
    String::from_utf8(decoded).map_err(|_| wrong())
}

#[cfg(test)]
mod tests;
