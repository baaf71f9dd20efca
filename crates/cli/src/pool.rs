//! `greenroom pool`: the pools of a running server, with the flags of `az containerapp sessionpool`.

mod client;
mod show;

use std::process::ExitCode;

use anyhow::{Context, bail};
use greenroom_pool::{Lifecycle, LifecycleKind, LifecyclePatch, PoolKind, PoolPatch, PoolSpec, SessionLimits};
use reqwest::Method;
use serde_json::{Value, json};

use self::client::Client;
use crate::{
    commands::{PoolCommand, PoolSettings, ServerArguments},
    config::Loaded,
    output::say,
};

/// Runs the command.
pub async fn pool(loaded: &Loaded, command: &PoolCommand) -> anyhow::Result<ExitCode> {
    match command {
        PoolCommand::Create { pool, container_type, settings, server } => {
            let spec = new(&pool.name, *container_type, settings)?;
            let made =
                Client::new(loaded, server)?.ask(Method::POST, &["greenroom", "pools"], Some(&serde_json::to_value(spec)?)).await?;
            print(server, &made, show::pool)
        }
        PoolCommand::Update { pool, settings, server } => {
            let client = Client::new(loaded, server)?;
            let path = ["greenroom", "pools", &pool.name];
            // Limits are replaced as a whole, so the others are needed.
            let limits = match settings.limits.as_slice() {
                [] => None,
                changes => Some(limits(client.ask(Method::GET, &path, None).await?["limits"].take(), changes)?),
            };
            let patch = PoolPatch {
                max_sessions: settings.max_sessions,
                ready_sessions: settings.ready_sessions,
                lifecycle: lifecycle(settings),
                network: settings.network_status,
                limits,
                warm: settings.warm.as_deref().map(modules),
            };
            if patch == PoolPatch::default() {
                bail!("nothing to change: say what, as --max-sessions 20 (greenroom pool update --help)");
            }
            let changed = client.ask(Method::PATCH, &path, Some(&serde_json::to_value(patch)?)).await?;
            print(server, &changed, show::pool)
        }
        PoolCommand::Show { pool, server } => {
            let shown = Client::new(loaded, server)?.ask(Method::GET, &["greenroom", "pools", &pool.name], None).await?;
            print(server, &shown, show::pool)
        }
        PoolCommand::List { server } => {
            let listed = Client::new(loaded, server)?.ask(Method::GET, &["greenroom", "pools"], None).await?;
            print(server, &listed["pools"], show::pools)
        }
        PoolCommand::Delete { pool, server, .. } => {
            Client::new(loaded, server)?.ask(Method::DELETE, &["greenroom", "pools", &pool.name], None).await?;
            print(server, &json!({"name": pool.name, "deleted": true}), |_| format!("{}: deleted, with its sessions", pool.name))
        }
        PoolCommand::Sessions { pool, server } => {
            let listed =
                Client::new(loaded, server)?.ask(Method::GET, &["greenroom", "pools", &pool.name, "sessions"], None).await?;
            print(server, &listed["sessions"], show::sessions)
        }
        PoolCommand::Stop { pool, identifier, server } => {
            let client = Client::new(loaded, server)?;
            client
                .ask_about(Method::DELETE, &["greenroom", "pools", &pool.name, "sessions"], &[("identifier", identifier)])
                .await?;
            let stopped = json!({"pool": pool.name, "identifier": identifier, "stopped": true});
            print(server, &stopped, |_| format!("{identifier}: stopped; the identifier's next call gets a new session"))
        }
    }
}

fn print(server: &ServerArguments, value: &Value, text: impl FnOnce(&Value) -> String) -> anyhow::Result<ExitCode> {
    if server.json {
        say(value)?
    } else {
        say(text(value).trim_end())?
    }
    Ok(ExitCode::SUCCESS)
}

/// A new pool: what is not said is as `az` has it.
fn new(name: &str, kind: PoolKind, settings: &PoolSettings) -> anyhow::Result<PoolSpec> {
    let default = PoolSpec::new(name);
    let max_sessions = settings.max_sessions.unwrap_or(default.max_sessions);
    Ok(PoolSpec {
        kind,
        max_sessions,
        ready_sessions: settings.ready_sessions.unwrap_or(default.ready_sessions.min(max_sessions)),
        lifecycle: lifecycle(settings).unwrap_or_default().apply(Lifecycle::default())?,
        network: settings.network_status.unwrap_or_default(),
        limits: limits(serde_json::to_value(SessionLimits::default())?, &settings.limits)?,
        warm: settings.warm.as_deref().map(modules).unwrap_or_default(),
        ..default
    })
}

fn lifecycle(settings: &PoolSettings) -> Option<LifecyclePatch> {
    // Whoever gives the time of a lifecycle means that lifecycle, as `az` takes it.
    let meant = match (settings.cooldown_period, settings.max_alive_period) {
        (None, Some(_)) => Some(LifecycleKind::OnContainerExit),
        (Some(_), None) => Some(LifecycleKind::Timed),
        _ => None,
    };
    let patch = LifecyclePatch {
        kind: settings.lifecycle_type.or(meant),
        cooldown_s: settings.cooldown_period,
        max_alive_s: settings.max_alive_period,
    };
    (patch != LifecyclePatch::default()).then_some(patch)
}

fn modules(given: &str) -> Vec<String> {
    given.split(',').map(str::trim).filter(|module| !module.is_empty()).map(str::to_owned).collect()
}

/// These limits with `NAME=VALUE` put over them.
fn limits(mut limits: Value, changes: &[String]) -> anyhow::Result<SessionLimits> {
    for change in changes {
        let (name, value) = change.split_once('=').with_context(|| format!("--limit {change}: expected NAME=VALUE"))?;
        let number: u64 = value.parse().with_context(|| format!("--limit {name} takes a whole number, not {value:?}"))?;
        let slot = limits.pointer_mut(&format!("/{}", name.replace('.', "/"))).filter(|slot| slot.is_number());
        *slot.with_context(|| format!("--limit {name}: there is no such limit (greenroom pool update --help)"))? = number.into();
    }
    serde_json::from_value(limits).context("--limit")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(changes: &[&str]) -> anyhow::Result<SessionLimits> {
        let changes: Vec<_> = changes.iter().map(|change| (*change).to_owned()).collect();
        limits(serde_json::to_value(SessionLimits::default()).unwrap(), &changes)
    }

    #[test]
    fn limits_are_changed_one_by_one() {
        let changed = of(&["memory_bytes=1073741824", "disk.bytes=1048576"]).unwrap();
        let default = SessionLimits::default();
        assert_eq!((changed.memory_bytes, changed.disk.bytes), (1 << 30, 1 << 20));
        assert_eq!((changed.processes, changed.disk.inodes), (default.processes, default.disk.inodes));
    }

    #[test]
    fn a_limit_that_is_none_is_named() {
        for (change, message) in [
            ("memory", "--limit memory: expected NAME=VALUE"),
            ("memory=1", "--limit memory: there is no such limit (greenroom pool update --help)"),
            ("disk=1", "--limit disk: there is no such limit (greenroom pool update --help)"),
            ("processes=many", "--limit processes takes a whole number, not \"many\""),
        ] {
            assert_eq!(of(&[change]).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn modules_are_parted_by_commas() {
        assert_eq!(modules("numpy, pandas,"), ["numpy", "pandas"]);
        assert_eq!(modules(""), [""; 0]);
    }
}
