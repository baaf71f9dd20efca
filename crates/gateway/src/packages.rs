//! `/packages`: which languages there are, and (where the operator permits it) installing and removing them.

use std::sync::Arc;

use axum::{http::StatusCode, response::Response};
use greenroom_runtimes::{InstallError, PackageState};
use greenroom_wire::piston::{ALREADY_INSTALLED, PackageEntry, PackageReference, PackageRequest};
use serde_json::Value;

use crate::{
    gateway::Inner,
    reply::{self, Refused},
};

/// What a client wants of a package.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// `POST`.
    Install,
    /// `DELETE`.
    Remove,
}

/// `GET /packages`.
pub(crate) fn list(gateway: &Inner) -> Vec<PackageEntry> {
    let entry = |package: PackageState| PackageEntry {
        language: package.language,
        language_version: package.version,
        installed: package.installed,
    };
    gateway.catalogue.packages().into_iter().map(entry).collect()
}

/// `POST` and `DELETE /packages`. It answers when the work is done; a client that goes away does not stop it.
pub(crate) async fn change(gateway: Arc<Inner>, body: Value, change: Change) -> Result<Response, Refused> {
    if !gateway.config.package_admin {
        let message = "package administration is switched off here: set packages.admin = true in the configuration, \
                       or use `greenroom runtimes install`";
        return Err(Refused::Status(StatusCode::FORBIDDEN, message.to_owned()));
    }
    let request = PackageRequest::parse(body);
    let not_found = || Refused::Status(StatusCode::NOT_FOUND, request.does_not_exist());
    let failed = |message: String| Refused::Status(StatusCode::INTERNAL_SERVER_ERROR, message);
    let package = find(&gateway, &request).ok_or_else(not_found)?;
    match change {
        Change::Install if package.installed => return Err(failed(ALREADY_INSTALLED.to_owned())),
        Change::Remove if !package.installed => {
            let reference = PackageReference { language: package.language, version: package.version };
            return Err(failed(reference.is_not_installed()));
        }
        Change::Install | Change::Remove => {}
    }
    let work = tokio::spawn(async move {
        let _alone = gateway.installing.lock().await;
        let (catalogue, language) = (gateway.catalogue.clone(), package.language.clone());
        let done = tokio::task::spawn_blocking(move || {
            let mut progress = |line: &str| tracing::info!(language, line, "packages");
            match change {
                Change::Install => catalogue.install(&language, &mut progress).map(|runtime| runtime.version().to_owned()),
                Change::Remove => catalogue.remove(&language, &mut progress).map(|state| state.version),
            }
        });
        let version = match done.await {
            Ok(Ok(version)) => version,
            Ok(Err(InstallError::AlreadyInstalled(_))) => return Err(ALREADY_INSTALLED.to_owned()),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("the installation broke off; see the server's log".to_owned()),
        };
        // New languages may need more of /etc than the present sandboxes have.
        (gateway.reload)().await?;
        Ok(PackageReference { language: package.language, version })
    });
    match work.await {
        Ok(Ok(reference)) => Ok(reply::json(StatusCode::OK, &reference)),
        Ok(Err(message)) => Err(failed(message)),
        Err(_) => Err(failed("the installation broke off; see the server's log".to_owned())),
    }
}

/// The package of this very name whose version is in the range; the version of one that is not installed is
/// known only to the package manager, so every range fits it.
fn find(gateway: &Inner, request: &PackageRequest) -> Option<PackageState> {
    let (name, range) = (request.language()?, request.version()?);
    let package = gateway.catalogue.packages().into_iter().find(|package| package.language == name)?;
    let fits = !package.installed || gateway.catalogue.resolve(name, range).is_some_and(|runtime| runtime.language() == name);
    fits.then_some(package)
}
