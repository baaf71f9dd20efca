//! `greenroom keys`: works on the data directory's store, beside a server that runs or without one; the server asks that store
//! at every request, so that what is done here counts at once.

use std::{
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use greenroom_identity::{ApiKey, Grant, Grants, KeyRecord, KeyStore, KeyStoreError, Permission, Pools, Stored};
use greenroom_pool::Store;
use serde_json::json;

use crate::{commands::KeysCommand, config::Loaded, output::say};

/// The store as the guard asks it.
pub struct StoredKeys(pub Store);

impl KeyStore for StoredKeys {
    fn of_secret(&self, secret_sha256: [u8; 32]) -> Stored<'_, Option<KeyRecord>> {
        Box::pin(async move {
            let found = self.0.key_of_secret(secret_sha256).await.map_err(|error| KeyStoreError(error.to_string()))?;
            found.map(read).transpose()
        })
    }

    fn used(&self, id: &str, now_s: u64) {
        self.0.key_used(id, now_s.saturating_mul(1000));
    }
}

/// From the store's record to the guard's.
fn read(stored: greenroom_pool::KeyRecord) -> Result<KeyRecord, KeyStoreError> {
    // What cannot be read must not be taken for a key that may do nothing, or anything.
    let grants =
        serde_json::from_str(&stored.scopes).map_err(|error| KeyStoreError(format!("the scopes of key {}: {error}", stored.id)))?;
    let seconds = |ms: u64| ms / 1000;
    Ok(KeyRecord {
        id: stored.id,
        name: stored.name,
        secret_sha256: stored.secret_sha256,
        grants,
        created_at_s: seconds(stored.created_unix_ms),
        last_used_at_s: stored.last_used_unix_ms.map(seconds),
        revoked_at_s: stored.revoked_unix_ms.map(seconds),
    })
}

/// Runs the command.
pub async fn keys(loaded: &Loaded, command: &KeysCommand) -> anyhow::Result<ExitCode> {
    let store = Store::open_beside(&loaded.settings.data_dir)?;
    match command {
        KeysCommand::Create { name, scopes, pools, .. } => create(&store, name, scopes, pools).await?,
        KeysCommand::List { json, .. } => list(&store, *json).await?,
        KeysCommand::Revoke { key, .. } => revoke(&store, key).await?,
    }
    if !loaded.settings.identity.keys {
        eprintln!("greenroom: keys are not asked for yet: set identity.mode = \"keys\"");
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(store: &Store, name: &str, scopes: &[String], pools: &[String]) -> anyhow::Result<()> {
    if name.is_empty() || name.len() > 100 || name.contains(char::is_control) {
        bail!("a name has 1 to 100 bytes and no control characters");
    }
    let pools = if pools.is_empty() { Pools::All } else { Pools::from(pools.to_vec()) };
    let permissions = match scopes {
        [] => vec![Permission::Execute],
        scopes => scopes.iter().map(|scope| if scope == "manage" { Permission::Manage } else { Permission::Execute }).collect(),
    };
    let grants = Grants(permissions.into_iter().map(|permission| Grant { permission, pools: pools.clone() }).collect());
    let key = ApiKey::new().context("the system gives no random bits")?;
    let record = key.record(name, grants, now_ms() / 1000);
    let stored = greenroom_pool::KeyRecord {
        id: record.id,
        name: record.name,
        secret_sha256: record.secret_sha256,
        scopes: serde_json::to_string(&record.grants)?,
        created_unix_ms: now_ms(),
        revoked_unix_ms: None,
        last_used_unix_ms: None,
    };
    store.add_key(stored).await?;
    say(key.reveal())?;
    eprintln!("greenroom: this is the only time that the key is shown; `greenroom keys revoke {}` ends it", key.id());
    Ok(())
}

async fn list(store: &Store, as_json: bool) -> anyhow::Result<()> {
    let mut all = Vec::new();
    for stored in store.keys().await? {
        all.push(read(stored)?);
    }
    if as_json {
        let entry = |key: &KeyRecord| {
            json!({
                "id": key.id, "name": key.name, "grants": key.grants, "created_at_s": key.created_at_s,
                "last_used_at_s": key.last_used_at_s, "revoked_at_s": key.revoked_at_s,
            })
        };
        say(serde_json::to_string_pretty(&all.iter().map(entry).collect::<Vec<_>>())?)?;
        return Ok(());
    }
    for key in all {
        let may: Vec<String> = key
            .grants
            .0
            .iter()
            .map(|grant| format!("{}:{}", grant.permission, Vec::<String>::from(grant.pools.clone()).join(",")))
            .collect();
        let state = match (key.revoked_at_s, key.last_used_at_s) {
            (Some(_), _) => "revoked".to_owned(),
            (None, Some(used)) => format!("used {}", ago(used)),
            (None, None) => "never used".to_owned(),
        };
        say(format!("{}  {}  {}  {state}", key.id, key.name, may.join(" ")))?;
    }
    Ok(())
}

async fn revoke(store: &Store, wanted: &str) -> anyhow::Result<()> {
    let all = store.keys().await?;
    let by_name = || all.iter().filter(|key| key.revoked_unix_ms.is_none() && key.name == wanted).collect::<Vec<_>>();
    let id = match all.iter().find(|key| key.id == wanted) {
        Some(key) => &key.id,
        None => match by_name()[..] {
            [key] => &key.id,
            [] => bail!("there is no key {wanted:?}: `greenroom keys list` shows them"),
            ref several => bail!("{} keys are named {wanted:?}: name one by its id", several.len()),
        },
    };
    store.revoke_key(id, now_ms()).await?;
    say(format!("revoked {id}"))?;
    Ok(())
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn ago(then_s: u64) -> String {
    let seconds = (now_ms() / 1000).saturating_sub(then_s);
    match seconds {
        0..120 => "just now".to_owned(),
        120..7200 => format!("{} minutes ago", seconds / 60),
        7200..172_800 => format!("{} hours ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}
