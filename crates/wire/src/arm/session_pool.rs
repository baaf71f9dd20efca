//! The resource `Microsoft.App/sessionPools`: read from PUT and PATCH, written for GET.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::api_version::LifecycleShape;
use super::error::ArmError;
use super::json::{self, Node};
use super::lifecycle;
use super::path::PoolId;
use super::rules;
use super::settings::{ContainerType, Identity, IdentityType, ManagedIdentitySetting, Network, Offer, PoolSettings};

/// Sessions at once, where the client says nothing (`az`'s default).
const DEFAULT_MAX_CONCURRENT_SESSIONS: u32 = 10;
/// What only a pool of custom containers has.
const CUSTOM_ONLY: [&str; 2] = ["environmentId", "customContainerTemplate"];

/// What a client said about a pool, and what is kept of it: the pool crate takes the settings, a store the whole.
///
/// Fields that are not known are ignored, as ARM's providers do, and so are those that only the server writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolDocument {
    /// What changes what the pool does.
    pub settings: PoolSettings,
    /// Shown as sent.
    pub identity: Identity,
    /// Shown as sent.
    pub managed_identity_settings: Vec<ManagedIdentitySetting>,
    /// The names. The values can be written only, and code interpreters have no use for them: they are not kept.
    pub secrets: Vec<String>,
}

impl PoolDocument {
    /// Reads the body of a PUT. What it leaves out has the defaults of `az containerapp sessionpool create`. `offer` is what
    /// this server can do.
    ///
    /// # Errors
    /// [`ArmError`], naming the first field that cannot be read. What fields may hold is [`rules::check`]'s.
    pub fn from_put(body: &[u8], offer: &Offer) -> Result<Self, ArmError> {
        Self::read(&json::parse(body)?, offer)
    }

    /// This document with the body of a PATCH put over it: a JSON merge patch (RFC 7396), in which `null` removes a tag or a
    /// user-assigned identity, and elsewhere changes nothing.
    ///
    /// # Errors
    /// [`ArmError`], as [`PoolDocument::from_put`].
    pub fn patched(&self, body: &[u8], offer: &Offer) -> Result<Self, ArmError> {
        let patch = json::parse(body)?;
        let root = Node::root(&patch);
        let properties = root.get("properties")?;
        let dynamic = properties.as_ref().map(|properties| properties.get("dynamicPoolConfiguration")).transpose()?.flatten();
        let mut merged = self.write();
        if let Some(slot) = merged.pointer_mut("/properties/dynamicPoolConfiguration") {
            *slot = lifecycle::base(self.settings.lifecycle, dynamic)?;
        }
        json::merge(&mut merged, &patch, "", &|path| matches!(path, "tags" | "identity.userAssignedIdentities"));
        Self::read(&merged, offer)
    }

    fn read(body: &Value, offer: &Offer) -> Result<Self, ArmError> {
        let root = Node::root(body);
        let location = match root.get("location")? {
            Some(location) => location.string()?.to_owned(),
            None => String::new(),
        };
        if location.trim().is_empty() {
            return Err(ArmError::LocationRequired);
        }
        let tags = match root.get("tags")? {
            Some(tags) => strings(&tags)?,
            None => Vec::new(),
        };
        let empty = json!({});
        let properties = root.get("properties")?;
        let properties = properties.unwrap_or_else(|| Node::root(&empty));
        let container_type = match properties.get("containerType")? {
            Some(container_type) => rules::container_type(container_type.string()?, &location, &offer.container_types)?,
            None => rules::container_type(ContainerType::PythonLts.as_str(), &location, &offer.container_types)?,
        };
        for what in CUSTOM_ONLY {
            if properties.get(what)?.is_some() {
                return Err(ArmError::CustomOnly { what, container_type });
            }
        }
        if let Some(management) = properties.get("poolManagementType")? {
            rules::check_management_type(management.string()?)?;
        }
        let scale = properties.get("scaleConfiguration")?;
        let scale = scale.unwrap_or_else(|| Node::root(&empty));
        let count = |key| scale.get(key)?.map(|count| count.count()).transpose();
        let max_concurrent_sessions = count("maxConcurrentSessions")?.unwrap_or(DEFAULT_MAX_CONCURRENT_SESSIONS);
        let ready_session_instances = count("readySessionInstances")?.map(|ready| ready.min(max_concurrent_sessions));
        let network = match properties.get("sessionNetworkConfiguration")? {
            Some(network) => {
                if network.get("outboundVnetSubnetId")?.is_some() {
                    return Err(ArmError::Subnet);
                }
                network.get("status")?.map(|status| status.choice(&Network::CHOICES)).transpose()?
            }
            None => None,
        };
        let network = network.unwrap_or(Network::EgressDisabled);
        if let (Network::EgressEnabled, Some(reason)) = (network, &offer.no_network) {
            return Err(ArmError::Egress(reason.clone()));
        }
        let mcp = match properties.get("mcpServerSettings")? {
            Some(mcp) => mcp.get("isMCPServerEnabled")?.map(|enabled| enabled.boolean()).transpose()?,
            None => None,
        };
        let settings = PoolSettings {
            container_type,
            max_concurrent_sessions,
            ready_session_instances,
            lifecycle: lifecycle::read(properties.get("dynamicPoolConfiguration")?)?,
            network,
            mcp_enabled: mcp.unwrap_or(false),
            location,
            tags,
        };
        Ok(Self {
            settings,
            identity: identity(root.get("identity")?)?,
            managed_identity_settings: managed_identity_settings(properties.get("managedIdentitySettings")?)?,
            secrets: secrets(properties.get("secrets")?)?,
        })
    }

    /// The document as a PUT that would make it.
    fn write(&self) -> Value {
        let settings = &self.settings;
        let mut properties = self.properties(LifecycleShape::Nested);
        if let Some(ready) = settings.ready_session_instances {
            properties["scaleConfiguration"]["readySessionInstances"] = ready.into();
        }
        if settings.mcp_enabled {
            properties.insert("mcpServerSettings".to_owned(), json!({"isMCPServerEnabled": true}));
        }
        json!({"location": settings.location, "tags": tags(settings), "identity": self.identity.write(), "properties": properties})
    }

    /// The properties that client and server share, in the order of the service's GET.
    fn properties(&self, shape: LifecycleShape) -> Map<String, Value> {
        let settings = &self.settings;
        let scale = json!({"maxConcurrentSessions": settings.max_concurrent_sessions});
        let mut properties = Map::new();
        let mut put = |key: &str, value: Value| properties.insert(key.to_owned(), value);
        put("environmentId", Value::Null);
        put("poolManagementType", "Dynamic".into());
        put("containerType", settings.container_type.as_str().into());
        put("scaleConfiguration", scale);
        if !self.secrets.is_empty() {
            put("secrets", self.secrets.iter().map(|name| json!({"name": name})).collect());
        }
        put("dynamicPoolConfiguration", lifecycle::write(settings.lifecycle, shape));
        put("sessionNetworkConfiguration", json!({"status": settings.network.as_str()}));
        let identities = self.managed_identity_settings.iter();
        let identities = identities.map(|setting| json!({"identity": setting.identity, "lifecycle": setting.lifecycle})).collect();
        put("managedIdentitySettings", identities);
        properties
    }
}

/// Where a pool stands. Spelled as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProvisioningState {
    /// It is being made or changed.
    InProgress,
    /// It serves.
    Succeeded,
    /// It could not be made or changed.
    Failed,
    /// Its making was given up.
    Canceled,
    /// It is being removed.
    Deleting,
}

impl ProvisioningState {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            ProvisioningState::InProgress => "InProgress",
            ProvisioningState::Succeeded => "Succeeded",
            ProvisioningState::Failed => "Failed",
            ProvisioningState::Canceled => "Canceled",
            ProvisioningState::Deleting => "Deleting",
        }
    }
}

/// Who made and changed a resource, and when. Times are RFC 3339 in UTC, as `2026-11-24T13:02:00.1234567Z`; who is a name or an
/// id, and of which kind one of `User`, `Application`, `ManagedIdentity`, `Key`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemData {
    /// Who made it.
    pub created_by: String,
    /// Of which kind.
    pub created_by_type: String,
    /// When.
    pub created_at: String,
    /// Who changed it last.
    pub last_modified_by: String,
    /// Of which kind.
    pub last_modified_by_type: String,
    /// When.
    pub last_modified_at: String,
}

/// A pool as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPool {
    /// Where, spelled as when it was made.
    pub id: PoolId,
    /// What the client said.
    pub document: PoolDocument,
    /// Where it stands.
    pub provisioning_state: ProvisioningState,
    /// The base of its data plane: clients append paths to it.
    pub pool_management_endpoint: String,
    /// The address of its MCP server, shown where that is enabled.
    pub mcp_server_endpoint: Option<String>,
    /// Who and when, if it is known.
    pub system_data: Option<SystemData>,
}

impl SessionPool {
    /// The body of GET, PUT and PATCH, and the element of a list, in the order of the service's own answers.
    pub fn body(&self, shape: LifecycleShape) -> Value {
        let settings = &self.document.settings;
        let mut properties = self.document.properties(shape);
        // Only the server writes these two, and the service has them before the identities.
        let identities = properties.shift_remove("managedIdentitySettings");
        properties.insert("provisioningState".to_owned(), self.provisioning_state.as_str().into());
        properties.insert("poolManagementEndpoint".to_owned(), self.pool_management_endpoint.as_str().into());
        properties.extend(identities.map(|identities| ("managedIdentitySettings".to_owned(), identities)));
        if settings.mcp_enabled {
            let endpoint = self.mcp_server_endpoint.as_deref();
            properties.insert("mcpServerSettings".to_owned(), json!({"isMCPServerEnabled": true, "mcpServerEndpoint": endpoint}));
        }
        let mut body = json!({
            "id": self.id.resource_id(),
            "name": self.id.name,
            "type": "Microsoft.App/sessionPools",
            "location": settings.location,
        });
        if !settings.tags.is_empty() {
            body["tags"] = tags(settings);
        }
        if let Some(data) = &self.system_data {
            body["systemData"] = json!({
                "createdBy": data.created_by, "createdByType": data.created_by_type, "createdAt": data.created_at,
                "lastModifiedBy": data.last_modified_by, "lastModifiedByType": data.last_modified_by_type,
                "lastModifiedAt": data.last_modified_at,
            });
        }
        body["properties"] = properties.into();
        body["identity"] = self.document.identity.write();
        body
    }
}

/// The body of a list. `next_link` is the whole address of the next page.
pub fn page(pools: Vec<Value>, next_link: Option<&str>) -> Value {
    let mut page = json!({"value": pools});
    if let Some(next) = next_link {
        page["nextLink"] = next.into();
    }
    page
}

/// The body of `fetchMCPServerCredentials` and `regenerateCredentials`.
pub fn mcp_credentials(api_key: &str) -> Value {
    json!({"apiKey": api_key})
}

fn tags(settings: &PoolSettings) -> Value {
    settings.tags.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect::<Map<_, _>>().into()
}

fn strings(node: &Node<'_>) -> Result<Vec<(String, String)>, ArmError> {
    let keys = node.object()?.keys();
    keys.map(|key| Ok((key.clone(), node.require(key)?.string()?.to_owned()))).collect()
}

fn identity(node: Option<Node<'_>>) -> Result<Identity, ArmError> {
    let Some(node) = node else { return Ok(Identity::default()) };
    let kind = node.require("type")?.choice(&IdentityType::CHOICES)?;
    let mut user_assigned_identities = Map::new();
    if let Some(identities) = node.get("userAssignedIdentities")? {
        for id in identities.object()?.keys() {
            // Null removes one, in PUT as in PATCH. What is in the others is the server's to write.
            if let Some(identity) = identities.get(id)? {
                identity.object()?;
                user_assigned_identities.insert(id.clone(), json!({}));
            }
        }
    }
    if matches!(kind, IdentityType::None | IdentityType::SystemAssigned) {
        user_assigned_identities.clear();
    }
    Ok(Identity { kind, user_assigned_identities })
}

fn managed_identity_settings(node: Option<Node<'_>>) -> Result<Vec<ManagedIdentitySetting>, ArmError> {
    let Some(node) = node else { return Ok(Vec::new()) };
    let read = |setting: Node<'_>| {
        let lifecycle =
            setting.get("lifecycle")?.map(|lifecycle| lifecycle.choice(&[("None", "None"), ("Main", "Main")])).transpose()?;
        let identity = setting.require("identity")?.string()?.to_owned();
        Ok(ManagedIdentitySetting { identity, lifecycle: lifecycle.unwrap_or("Main").to_owned() })
    };
    node.elements()?.map(read).collect()
}

fn secrets(node: Option<Node<'_>>) -> Result<Vec<String>, ArmError> {
    let Some(node) = node else { return Ok(Vec::new()) };
    let read = |secret: Node<'_>| {
        if let Some(value) = secret.get("value")? {
            value.string()?;
        }
        Ok(secret.require("name")?.string()?.to_owned())
    };
    node.elements()?.map(read).collect()
}

#[cfg(test)]
mod tests;
