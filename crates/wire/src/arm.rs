//! Azure's control plane of session pools: `Microsoft.App/sessionPools` of the Azure Resource Manager (ARM), as the `az`
//! command line and the management SDKs call it.
//!
//! In the order in which a request meets it: [`Call::parse`] (method and path to one operation), [`ApiVersion`] (which
//! changes one thing, the shape of the life cycle), [`PoolDocument::from_put`] or [`PoolDocument::patched`] (bytes to a checked
//! type), [`check`] (the service's rules), and on the way back [`SessionPool`], [`Operation`] (what is still going on and
//! how a client asks for it) or [`ArmError`]. [`CloudMetadata`] and its neighbours are what `az` asks first.

mod api_version;
mod az;
mod error;
mod json;
mod lifecycle;
mod operation;
mod path;
mod rules;
mod session_pool;
mod settings;

pub use api_version::{API_VERSIONS, ApiVersion, LifecycleShape};
pub use az::{CloudMetadata, LOCATIONS, ResourceGroup, Subscription, provider, subscriptions};
pub use error::ArmError;
pub use operation::{Operation, OperationState, Response};
pub use path::{Call, OperationId, PoolId};
pub use rules::{MAX_CONCURRENT_SESSIONS, check, check_quota};
pub use session_pool::{PoolDocument, ProvisioningState, SessionPool, SystemData, mcp_credentials, page};
pub use settings::{ContainerType, Identity, IdentityType, Lifecycle, ManagedIdentitySetting, Network, Offer, PoolSettings};
