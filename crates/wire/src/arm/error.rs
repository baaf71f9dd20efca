use greenroom_core::Blame;
use serde_json::{Value, json};

use super::settings::ContainerType;

/// Why a call of the control plane is refused, or an operation failed. The text is the answer's `message`.
///
/// Codes and words are the service's where they are known (the contract, section 2.3; ARM's own for paths, bodies, rights and
/// locations). The other codes are ours and follow its pattern, `SessionPoolInvalid` and the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArmError {
    /// A segment of the path with a broken escape, or with escapes that are no UTF-8.
    #[error("the path segment '{0}' is not percent-encoded UTF-8: write '%25' for a percent sign")]
    PathEncoding(String),
    /// The subscription could not stand in a resource's id.
    #[error("The provided subscription identifier '{0}' is malformed or invalid.")]
    Subscription(String),
    /// The resource group could not stand in a resource's id.
    #[error(
        "The provided resource group name '{0}' is invalid: it needs 1 to 90 letters, digits, '-', '.', '_', '(' or ')', and must not end with '.'."
    )]
    ResourceGroup(String),
    /// Below `/subscriptions`, but nothing that this server has.
    #[error("there is no resource at '{0}': this server has Microsoft.App/sessionPools")]
    UnknownResource(String),
    /// A known path, called with another method.
    #[error("the method '{method}' is not allowed here: use {allow}")]
    Method {
        /// As sent.
        method: String,
        /// The value of the `Allow` header.
        allow: &'static str,
    },

    /// No JSON, or deeper than 127 levels.
    #[error("The request content was invalid and could not be deserialized: '{0}'.")]
    Json(String),
    /// A field of another type.
    #[error("The request content was invalid: '{path}' must be {expected}, not {found}.")]
    Type {
        /// Where, as `properties.scaleConfiguration`.
        path: String,
        /// What belongs there.
        expected: &'static str,
        /// What stood there.
        found: &'static str,
    },
    /// A field that is not one of a few words.
    #[error("The request content was invalid: '{path}' is '{given}'. Valid values are: [{choices}]")]
    Choice {
        /// Where.
        path: String,
        /// As sent, shortened.
        given: String,
        /// The words, with commas.
        choices: String,
    },
    /// A field that has to be there.
    #[error("The request content was invalid: '{0}' is required.")]
    Required(String),
    /// A tracked resource has a location.
    #[error("The location property is required for this definition.")]
    LocationRequired,

    /// A name that the service would not take.
    #[error(
        "Invalid session pool name '{0}': use 3 to 63 lower-case letters, digits and '-', a letter first, a letter or a digit last."
    )]
    Name(String),
    /// No container type that exists.
    #[error("Session type '{0}' is invalid. Valid types are: [PythonLTS, CustomContainer, NodeLTS, GpuBase, CsharpLTS, Shell]")]
    ContainerType(String),
    /// A container type that exists, but is not run here.
    #[error("Session type '{given}' is not supported in region '{location}': use one of [{}].", list(.offered))]
    NotSupportedInRegion {
        /// Spelled as the service does.
        given: String,
        /// As sent; empty where the body has none.
        location: String,
        /// What is run here.
        offered: Vec<ContainerType>,
    },
    /// Custom containers on a server that runs none.
    #[error(
        "This server runs no container images, so that it has no session pools of type 'CustomContainer'. Use one of [{}]: their sessions take code or commands, and files.", list(.offered)
    )]
    CustomContainer {
        /// What is run here.
        offered: Vec<ContainerType>,
    },
    /// Anything but `Dynamic`.
    #[error("The pool management type '{0}' is not supported. Supported values: Dynamic.")]
    PoolManagementType(String),
    /// Below one, or above the quota of a code interpreter.
    #[error("maxConcurrentSessions is {given}. Supported values should be between 1 and {limit}.")]
    MaxConcurrentSessions {
        /// As sent.
        given: u32,
        /// The quota.
        limit: u32,
    },
    /// Outside of five minutes to an hour.
    #[error("cooldownPeriodInSeconds is {0}. Supported values should be between 300 and 3600.")]
    CooldownPeriod(u32),
    /// A period that belongs to the other kind of life cycle.
    #[error("'{path}' can only be set when lifecycleType is '{kind}'. Remove it, or set lifecycleType to '{kind}'.")]
    Period {
        /// Where.
        path: String,
        /// The kind it belongs to.
        kind: &'static str,
    },
    /// What only a pool of custom containers has.
    #[error("'{what}' is supported only for container type 'CustomContainer'. Remove it from a pool of type '{container_type}'.")]
    CustomOnly {
        /// The field, or the field and its value.
        what: &'static str,
        /// The pool's.
        container_type: ContainerType,
    },
    /// MCP belongs to interpreters of Python and the shell.
    #[error("The session pool's MCP server is supported only for container types 'PythonLTS' and 'Shell', not '{0}'.")]
    McpUnsupported(ContainerType),
    /// A network of one's own, which this server has none of.
    #[error("'properties.sessionNetworkConfiguration.outboundVnetSubnetId' is not supported by this server: remove it.")]
    Subnet,
    /// A network where there is none.
    #[error(
        "The sessions of this server have no network ({0}): set properties.sessionNetworkConfiguration.status to 'EgressDisabled', and bring what a program needs with it, as files."
    )]
    Egress(String),
    /// A property that is set once.
    #[error(
        "The property '{path}' cannot be changed from '{current}' to '{given}'. Delete the session pool and create it anew, or choose another name."
    )]
    Immutable {
        /// Where.
        path: &'static str,
        /// What the pool has.
        current: String,
        /// As sent.
        given: String,
    },
    /// The location of an existing resource.
    #[error(
        "The resource '{name}' already exists in location '{current}' in resource group '{resource_group}'. A resource with the same name cannot be created in location '{given}'. Please select a new resource name."
    )]
    Location {
        /// The pool's.
        name: String,
        /// The pool's.
        resource_group: String,
        /// What the pool has.
        current: String,
        /// As sent.
        given: String,
    },
    /// The name of a pool in another resource group: the data plane would not tell the two apart.
    #[error(
        "The name '{name}' is that of {holder}: this server tells pools apart by their names alone. Choose another name, or delete that pool first."
    )]
    NameTaken {
        /// As sent.
        name: String,
        /// The resource id of the pool that has it.
        holder: String,
    },
    /// As many pools as there may be.
    #[error("The quota of {limit} for 'SessionPools' is used up: delete a session pool, or have the quota raised.")]
    Quota {
        /// Pools.
        limit: u32,
    },

    /// No pool of this id.
    #[error("The Resource 'Microsoft.App/sessionPools/{name}' under resource group '{resource_group}' was not found.")]
    PoolNotFound {
        /// As sent.
        name: String,
        /// As sent.
        resource_group: String,
    },
    /// No operation of this id, or it ended too long ago.
    #[error("The operation '{0}' was not found: it never was, or ended too long ago to be known.")]
    OperationNotFound(String),
    /// The pool has no MCP server.
    #[error(
        "The session pool '{0}' has no MCP server: set properties.mcpServerSettings.isMCPServerEnabled to true in a pool of type PythonLTS or Shell."
    )]
    McpNotEnabled(String),
    /// Another change of the same pool is going on.
    #[error("Another operation on the session pool '{0}' is in progress: wait for it to end, then try again.")]
    InProgress(String),
    /// Nobody, or nobody who can be believed.
    #[error("Authentication failed. {0}")]
    Authentication(String),
    /// Somebody who may not.
    #[error(
        "The client '{client}' does not have authorization to perform action '{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your credentials."
    )]
    Authorization {
        /// Who.
        client: String,
        /// What, see [`super::Call::action`].
        action: &'static str,
        /// On what.
        scope: String,
    },
    /// A number that the server cannot do, though the service could.
    #[error("This server cannot make the session pool so: {0}")]
    Specification(String),
    /// An error of ours, which the log has in full.
    #[error("The server encountered an internal error. Please retry the request; the server's log says why.")]
    Internal,
    /// The server stops.
    #[error("The server is shutting down. Please retry the request in some seconds.")]
    ShuttingDown,
    /// A pool could not be made, changed or removed.
    #[error("The session pool could not be provisioned: {0}")]
    Provisioning(String),
}

impl ArmError {
    /// The `code` that programs go by.
    pub fn code(&self) -> &'static str {
        match self {
            ArmError::PathEncoding(_) => "BadRequest",
            ArmError::Subscription(_) => "InvalidSubscriptionId",
            ArmError::ResourceGroup(_) => "InvalidResourceGroup",
            ArmError::UnknownResource(_) => "InvalidResourceType",
            ArmError::Method { .. } => "HttpMethodNotAllowed",
            ArmError::Json(_) | ArmError::Type { .. } | ArmError::Choice { .. } | ArmError::Required(_) => "InvalidRequestContent",
            ArmError::LocationRequired => "LocationRequired",
            ArmError::Name(_) => "SessionPoolInvalidName",
            ArmError::ContainerType(_) => "SessionPoolInvalidContainerType",
            ArmError::NotSupportedInRegion { .. } => "SessionTypeNotSupportedInRegion",
            ArmError::CustomContainer { .. } => "CustomContainerNotSupported",
            ArmError::PoolManagementType(_) => "SessionPoolInvalidPoolManagementType",
            ArmError::MaxConcurrentSessions { .. } => "SessionPoolInvalidMaxConcurrentSessions",
            ArmError::CooldownPeriod(_) => "SessionPoolInvalidCooldownPeriod",
            ArmError::Period { .. } => "SessionPoolInvalidLifecycleConfiguration",
            ArmError::CustomOnly { .. } => "SessionPoolCustomContainerOnly",
            ArmError::McpUnsupported(_) => "SessionPoolInvalidMCPServerSettings",
            ArmError::Subnet | ArmError::Egress(_) => "SessionPoolInvalidNetworkConfiguration",
            ArmError::Immutable { .. } => "PropertyChangeNotAllowed",
            ArmError::Location { .. } => "InvalidResourceLocation",
            ArmError::NameTaken { .. } => "SessionPoolNameNotAvailable",
            ArmError::Quota { .. } => "QuotaExceeded",
            ArmError::PoolNotFound { .. } => "ResourceNotFound",
            ArmError::OperationNotFound(_) => "OperationNotFound",
            ArmError::McpNotEnabled(_) => "SessionMCPServerNotEnabled",
            ArmError::InProgress(_) => "OperationInProgress",
            ArmError::Authentication(_) => "AuthenticationFailed",
            ArmError::Authorization { .. } => "AuthorizationFailed",
            ArmError::Specification(_) => "SessionPoolNotSupported",
            ArmError::Internal => "InternalServerError",
            ArmError::ShuttingDown => "ServiceUnavailable",
            ArmError::Provisioning(_) => "SessionPoolProvisioningFailed",
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            ArmError::Authentication(_) => 401,
            ArmError::Authorization { .. } => 403,
            ArmError::UnknownResource(_) | ArmError::PoolNotFound { .. } | ArmError::OperationNotFound(_) => 404,
            ArmError::Method { .. } => 405,
            ArmError::Location { .. } | ArmError::NameTaken { .. } | ArmError::InProgress(_) => 409,
            ArmError::Provisioning(_) | ArmError::Internal => 500,
            ArmError::ShuttingDown => 503,
            _ => 400,
        }
    }

    /// Who caused it.
    pub fn blame(&self) -> Blame {
        match self {
            ArmError::Provisioning(_) | ArmError::Internal | ArmError::ShuttingDown => Blame::Us,
            _ => Blame::Caller,
        }
    }

    /// The JSON path of the field that is wrong, where it is one field.
    pub fn target(&self) -> Option<&str> {
        match self {
            ArmError::Type { path, .. }
            | ArmError::Choice { path, .. }
            | ArmError::Period { path, .. }
            | ArmError::Required(path) => Some(path),
            ArmError::Immutable { path, .. } => Some(path),
            ArmError::LocationRequired | ArmError::Location { .. } => Some("location"),
            ArmError::ContainerType(_) | ArmError::NotSupportedInRegion { .. } | ArmError::CustomContainer { .. } => {
                Some("properties.containerType")
            }
            ArmError::PoolManagementType(_) => Some("properties.poolManagementType"),
            ArmError::MaxConcurrentSessions { .. } => Some("properties.scaleConfiguration.maxConcurrentSessions"),
            ArmError::CooldownPeriod(_) => Some("properties.dynamicPoolConfiguration"),
            ArmError::CustomOnly { what, .. } => Some(what),
            ArmError::McpUnsupported(_) => Some("properties.mcpServerSettings.isMCPServerEnabled"),
            ArmError::Subnet => Some("properties.sessionNetworkConfiguration.outboundVnetSubnetId"),
            ArmError::Egress(_) => Some("properties.sessionNetworkConfiguration.status"),
            _ => None,
        }
    }

    /// The error alone, as it stands in an operation's status.
    pub(super) fn detail(&self) -> Value {
        let mut detail = json!({"code": self.code(), "message": self.to_string()});
        if let (Some(target), Some(detail)) = (self.target(), detail.as_object_mut()) {
            detail.insert("target".to_owned(), target.into());
        }
        detail
    }

    /// The answer's body: ARM's envelope.
    pub fn body(&self) -> Value {
        json!({"error": self.detail()})
    }

    /// Headers that belong to the answer beside its Content-Type.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        match self {
            ArmError::Method { allow, .. } => vec![("Allow", (*allow).to_owned())],
            ArmError::Authentication(_) => vec![("WWW-Authenticate", "Bearer".to_owned())],
            ArmError::ShuttingDown => vec![("Retry-After", "5".to_owned())],
            _ => Vec::new(),
        }
    }
}

/// What a client sent, short enough for a message.
pub(super) fn shorten(given: &str) -> String {
    const LONGEST: usize = 80;
    match given.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &given[..end]),
        None => given.to_owned(),
    }
}

fn list(types: &[ContainerType]) -> String {
    types.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
}
