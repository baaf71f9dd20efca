//! The guard of a server, as the settings want it; and `greenroom token`.

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use greenroom_identity::{Guard, GuardConfig, Issuer, LocalIssuer};
use greenroom_pool::Store;

use crate::{commands::TokenArguments, keys::StoredKeys, output::say, settings::Settings};

/// Refuses what would let everybody in. Before anything is started.
pub fn check_exposure(settings: &Settings) -> anyhow::Result<()> {
    let addresses = [("listen", Some(settings.listen)), ("tls.listen", settings.tls.as_ref().map(|tls| tls.listen))];
    let exposed = addresses.iter().find_map(|(key, address)| {
        let address = (*address).filter(|address| !address.ip().is_loopback())?;
        Some((key, address))
    });
    let Some((key, address)) = exposed else { return Ok(()) };
    let identity = &settings.identity;
    if !identity.keys && !identity.tokens {
        bail!(
            "{key} is {address}, which others can reach, and identity.mode is \"none\": everybody could run programs here. Set \
             identity.mode = \"keys\" (and make a key with `greenroom keys create --name NAME`) or \"oidc\", or listen on 127.0.0.1"
        );
    }
    if identity.local_issuer {
        bail!(
            "{key} is {address}, which others can reach, and identity.local_issuer is true: it gives tokens to whoever asks. Switch it off, or listen on 127.0.0.1"
        );
    }
    Ok(())
}

/// The guard of a server at this address (of http). Blocks.
pub fn guard(settings: &Settings, address: SocketAddr) -> anyhow::Result<Guard> {
    let identity = &settings.identity;
    let mut config = GuardConfig { limits: Some(identity.limits), roles: identity.roles.clone(), ..GuardConfig::default() };
    if identity.keys {
        // A connection of its own: no request waits behind what the pools write.
        config.keys = Some(Arc::new(StoredKeys(Store::open_beside(&settings.data_dir)?)));
    }
    if identity.tokens {
        config.audiences = identity.audiences.clone();
        if let Some(tenant) = &identity.tenant {
            config.issuers.extend(Issuer::entra(tenant, identity.key_times).context("identity.oidc.tenant")?);
        }
        if let Some(issuer) = &identity.issuer {
            let issuer = Issuer::new(issuer, None, identity.keys_url.as_deref(), identity.key_times);
            config.issuers.push(issuer.context("identity.oidc.issuer")?);
        }
    }
    if identity.local_issuer {
        let local = Arc::new(LocalIssuer::open(&settings.data_dir, &format!("http://{address}"))?);
        config = if identity.tokens { config.trusting(local) } else { GuardConfig { local: Some(local), ..config } };
    }
    Ok(Guard::new(config))
}

/// `greenroom token`.
pub fn token(settings: &Settings, arguments: &TokenArguments) -> anyhow::Result<ExitCode> {
    let local = LocalIssuer::existing(&settings.data_dir)?;
    if arguments.env {
        say(format!("export IDENTITY_ENDPOINT={}/msi/token IDENTITY_HEADER={}", local.base(), local.header()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    say(local.mint(&arguments.resource, arguments.client_id.as_deref(), now)?.access_token)?;
    Ok(ExitCode::SUCCESS)
}
