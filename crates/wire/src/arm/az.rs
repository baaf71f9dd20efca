//! The documents that `az` and the SDKs fetch before they come to a pool.

use serde_json::{Value, json};

use super::api_version::{API_VERSIONS, ApiVersion};

/// Locations that scripts for Azure name. A pool may be in any of them, and in any other: `az` refuses by itself what its
/// provider document does not list.
pub const LOCATIONS: [&str; 42] = [
    "Australia Central", "Australia East", "Australia Southeast", "Austria East", "Belgium Central", "Brazil South",
    "Canada Central", "Canada East", "Central India", "Central US", "Chile Central", "East Asia", "East US", "East US 2",
    "France Central", "Germany West Central", "Indonesia Central", "Israel Central", "Italy North", "Japan East", "Japan West",
    "Jio India West", "Korea Central", "Malaysia West", "Mexico Central", "New Zealand North", "North Central US", "North Europe",
    "Norway East", "Poland Central", "South Africa North", "South Central US", "South India", "Southeast Asia", "Spain Central",
    "Sweden Central", "Switzerland North", "UAE North", "UK South", "West Central US", "West Europe", "West US 3",
];

/// What `az login` lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The id, without `/subscriptions/`.
    pub id: String,
    /// Its name for people.
    pub display_name: String,
    /// The tenant whose tokens open it. `az` asks for tokens of this tenant.
    pub tenant_id: String,
}

impl Subscription {
    /// The body of `GET /subscriptions/{s}`, and the element of the list.
    pub fn body(&self) -> Value {
        json!({
            "id": format!("/subscriptions/{}", self.id),
            "authorizationSource": "RoleBased",
            "managedByTenants": [],
            "subscriptionId": self.id,
            "tenantId": self.tenant_id,
            "displayName": self.display_name,
            "state": "Enabled",
            "subscriptionPolicies": {"locationPlacementId": "Public_2014-09-01", "quotaId": "PayAsYouGo_2014-09-01", "spendingLimit": "Off"},
        })
    }
}

/// The body of `GET /subscriptions`.
pub fn subscriptions(subscriptions: &[Subscription]) -> Value {
    let value: Vec<_> = subscriptions.iter().map(Subscription::body).collect();
    json!({"count": {"type": "Total", "value": value.len()}, "value": value})
}

/// A resource group: every one exists, at the server's own location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceGroup {
    /// As sent.
    pub subscription: String,
    /// As sent.
    pub name: String,
    /// Where `az` puts a pool that names no location.
    pub location: String,
}

impl ResourceGroup {
    /// The body of `GET /subscriptions/{s}/resourceGroups/{g}`.
    pub fn body(&self) -> Value {
        json!({
            "id": format!("/subscriptions/{}/resourceGroups/{}", self.subscription, self.name),
            "name": self.name,
            "type": "Microsoft.Resources/resourceGroups",
            "location": self.location,
            "properties": {"provisioningState": "Succeeded"},
        })
    }
}

/// The body of `GET /subscriptions/{s}/providers/Microsoft.App`. `az containerapp sessionpool` refuses locations that are not in it,
/// and `az resource` takes the version it asks with from it. `locations` are spelled for people, as [`LOCATIONS`].
pub fn provider(subscription: &str, locations: &[&str]) -> Value {
    // Newest first, as everywhere in ARM.
    let versions: Vec<_> = API_VERSIONS.iter().rev().collect();
    let newest = API_VERSIONS.iter().rfind(|version| !version.ends_with("-preview"));
    let kind = |name: &str, capabilities: &str| {
        json!({
            "resourceType": name,
            "locations": locations,
            "apiVersions": versions,
            "defaultApiVersion": newest,
            "capabilities": capabilities,
        })
    };
    json!({
        "id": format!("/subscriptions/{subscription}/providers/Microsoft.App"),
        "namespace": "Microsoft.App",
        "registrationPolicy": "RegistrationRequired",
        "registrationState": "Registered",
        "resourceTypes": [
            kind("sessionPools", "CrossResourceGroupResourceMove, CrossSubscriptionResourceMove, SystemAssignedResourceIdentity, SupportsTags, SupportsLocation"),
            kind("locations", "None"),
            kind("locations/operationResults", "None"),
            kind("locations/sessionPoolOperationStatuses", "None"),
        ],
    })
}

/// What `az cloud register` finds out about a cloud from its resource manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudMetadata {
    /// The cloud's name. `az` gives it the one it was registered with.
    pub name: String,
    /// The address of the control plane, as the client sees it.
    pub resource_manager: String,
    /// The address at which tokens are to be had.
    pub login_endpoint: String,
    /// The tenant.
    pub tenant: String,
    /// What tokens for the control plane are made out to. `az` asks for the first.
    pub audiences: Vec<String>,
}

impl CloudMetadata {
    /// The body of `GET /metadata/endpoints`. One cloud since version 2022-09-01, and a list of clouds in those of 2019 to 2021,
    /// which `ARM_CLOUD_METADATA_URL` asks for.
    pub fn body(&self, version: &ApiVersion) -> Value {
        let cloud = json!({
            "portal": self.resource_manager,
            "authentication": {
                "loginEndpoint": self.login_endpoint,
                "audiences": self.audiences,
                "tenant": self.tenant,
                "identityProvider": "AAD",
            },
            "name": self.name,
            // az insists on the key. There is no storage, vault or registry beside the pools.
            "suffixes": {},
            "resourceManager": self.resource_manager,
        });
        if ("2019".."2022-09").contains(&version.as_str()) { json!([cloud]) } else { cloud }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn az_finds_a_subscription_it_can_log_in_to() {
        let subscription = Subscription { id: "s-1".to_owned(), display_name: "Greenroom".to_owned(), tenant_id: "t-1".to_owned() };
        let body = subscriptions(&[subscription]);
        let first = &body["value"][0];
        // What azure-cli-core 2.91.0 reads: the last part of the id, the name, the state and the tenant.
        assert_eq!(first["id"], "/subscriptions/s-1");
        assert_eq!(
            (&first["displayName"], &first["state"], &first["tenantId"]),
            (&json!("Greenroom"), &json!("Enabled"), &json!("t-1"))
        );
        assert_eq!(body["count"], json!({"type": "Total", "value": 1}));
        assert_eq!(subscriptions(&[])["value"], json!([]));
    }

    /// As `_ensure_location_allowed` of azure-cli 2.91.0 compares them.
    #[test]
    fn az_finds_every_location_under_the_session_pools() {
        let body = provider("s", &LOCATIONS);
        assert_eq!(body["registrationState"], "Registered");
        let types = body["resourceTypes"].as_array().unwrap();
        let pools = types.iter().find(|kind| kind["resourceType"] == "sessionPools").unwrap();
        let locations: Vec<_> = pools["locations"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .map(super::super::path::normal_location)
            .collect();
        for location in ["eastus", "westus3", "northcentralus", "eastasia", "swedencentral"] {
            assert!(locations.iter().any(|listed| listed == location), "{location}");
        }
        assert!(LOCATIONS.is_sorted());
    }

    #[test]
    fn az_resource_finds_the_newest_version_that_is_no_preview() {
        let body = provider("s", &["East US"]);
        let versions = body["resourceTypes"][0]["apiVersions"].as_array().unwrap();
        let stable = versions.iter().filter_map(Value::as_str).find(|version| !version.contains("preview"));
        assert_eq!(stable, Some("2026-07-01"));
        assert_eq!(body["resourceTypes"][0]["defaultApiVersion"], "2026-07-01");
    }

    /// The keys that `_arm_to_cli_mapper` of azure-cli-core 2.91.0 reads without asking whether they are there.
    #[test]
    fn az_cloud_register_finds_where_to_log_in() {
        let cloud = CloudMetadata {
            name: "Greenroom".to_owned(),
            resource_manager: "https://127.0.0.1:8443".to_owned(),
            login_endpoint: "https://127.0.0.1:8443/".to_owned(),
            tenant: "t-1".to_owned(),
            audiences: vec!["https://management.core.windows.net/".to_owned(), "https://management.azure.com/".to_owned()],
        };
        let body = cloud.body(&ApiVersion::of_query(Some("api-version=2022-09-01")));
        assert_eq!(body["authentication"]["loginEndpoint"], "https://127.0.0.1:8443/");
        assert_eq!(body["authentication"]["audiences"][0], "https://management.core.windows.net/");
        assert_eq!(body["resourceManager"], "https://127.0.0.1:8443");
        assert!(body["name"].is_string() && body["suffixes"].is_object());
        assert_eq!(cloud.body(&ApiVersion::of_query(Some("api-version=2019-05-01"))), json!([body]));
        assert_eq!(cloud.body(&ApiVersion::of_query(None)), body);
    }

    #[test]
    fn a_resource_group_has_a_location_that_az_can_take() {
        let group = ResourceGroup { subscription: "s".to_owned(), name: "rg".to_owned(), location: "eastus".to_owned() };
        assert_eq!(
            group.body(),
            json!({
                "id": "/subscriptions/s/resourceGroups/rg",
                "name": "rg",
                "type": "Microsoft.Resources/resourceGroups",
                "location": "eastus",
                "properties": {"provisioningState": "Succeeded"},
            })
        );
    }
}
