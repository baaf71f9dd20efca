use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What the sessions of this server can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What they can run.
    pub container_types: Vec<ContainerType>,
    /// Why they cannot reach a network, and what an operator can do about it; `None` where they can.
    pub no_network: Option<String>,
}

/// What a pool's sessions run. Spelled as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ContainerType {
    /// Python code.
    #[serde(rename = "PythonLTS")]
    PythonLts,
    /// JavaScript code.
    #[serde(rename = "NodeLTS")]
    NodeLts,
    /// Commands of the shell.
    Shell,
}

impl ContainerType {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            ContainerType::PythonLts => "PythonLTS",
            ContainerType::NodeLts => "NodeLTS",
            ContainerType::Shell => "Shell",
        }
    }
}

impl std::fmt::Display for ContainerType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifecycle {
    /// After it has been idle.
    Timed {
        /// Seconds without a call, 300 to 3600.
        cooldown_s: u32,
    },
    /// When its container ends by itself. The service has it for custom containers only, so that it is shown here, where a pool
    /// was made so by other means, and never taken.
    OnContainerExit {
        /// Seconds after which it is ended all the same.
        max_alive_s: u32,
    },
}

/// Whether sessions reach the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Network {
    /// They do.
    EgressEnabled,
    /// They do not.
    EgressDisabled,
}

impl Network {
    pub(super) const CHOICES: [(&'static str, Network); 2] =
        [("EgressEnabled", Network::EgressEnabled), ("EgressDisabled", Network::EgressDisabled)];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Network::EgressEnabled => "EgressEnabled",
            Network::EgressDisabled => "EgressDisabled",
        }
    }
}

/// What of a pool's resource changes what the pool does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSettings {
    /// What its sessions run.
    pub container_type: ContainerType,
    /// Sessions that may exist at once.
    pub max_concurrent_sessions: u32,
    /// Sessions kept ready. `None`: the client leaves it to the server. The service drops the number for code interpreters and
    /// never shows it; here it counts, but not above `max_concurrent_sessions`, because `az` sends 5 whatever the maximum is.
    pub ready_session_instances: Option<u32>,
    /// When its sessions end.
    pub lifecycle: Lifecycle,
    /// Whether they reach the network.
    pub network: Network,
    /// Whether the pool answers as an MCP server.
    pub mcp_enabled: bool,
    /// As sent: it is shown as it was given, and compared without case and blanks.
    pub location: String,
    /// As sent, in their order.
    pub tags: Vec<(String, String)>,
}

/// The kinds of managed identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdentityType {
    /// None.
    #[default]
    None,
    /// One of the resource's own.
    SystemAssigned,
    /// Some of the customer's.
    UserAssigned,
    /// Both. `az` writes a blank after the comma.
    SystemAndUserAssigned,
}

impl IdentityType {
    pub(super) const CHOICES: [(&'static str, IdentityType); 5] = [
        ("None", IdentityType::None),
        ("SystemAssigned", IdentityType::SystemAssigned),
        ("UserAssigned", IdentityType::UserAssigned),
        ("SystemAssigned,UserAssigned", IdentityType::SystemAndUserAssigned),
        ("SystemAssigned, UserAssigned", IdentityType::SystemAndUserAssigned),
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            IdentityType::None => "None",
            IdentityType::SystemAssigned => "SystemAssigned",
            IdentityType::UserAssigned => "UserAssigned",
            IdentityType::SystemAndUserAssigned => "SystemAssigned,UserAssigned",
        }
    }
}

/// The resource's managed identity. It is kept and shown; no session gets one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Of which kind.
    pub kind: IdentityType,
    /// By their resource ids, as sent; the values are empty objects.
    pub user_assigned_identities: Map<String, Value>,
}

impl Identity {
    pub(super) fn write(&self) -> Value {
        let mut identity = json!({"type": self.kind.as_str()});
        if !self.user_assigned_identities.is_empty() {
            identity["userAssignedIdentities"] = self.user_assigned_identities.clone().into();
        }
        identity
    }
}

/// In which part of a session's life an identity could be used. It is kept and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedIdentitySetting {
    /// `system`, or a resource id.
    pub identity: String,
    /// `None` or `Main`.
    pub lifecycle: String,
}
