//! `greenroom doctor`: what this host offers, and what to do about each gap.

use std::process::ExitCode;

use greenroom_core::Profile;
use greenroom_runtimes::Elevation;

use crate::{config::Loaded, start};

/// `cgroup.kill` and everything else that the sandbox builds on is there from here on.
const KERNEL_FLOOR: (u32, u32) = (5, 14);

/// Prints what was found. Fails where the required profile cannot be had.
pub async fn doctor(loaded: &Loaded, json: bool) -> anyhow::Result<ExitCode> {
    let settings = &loaded.settings;
    let catalogue = start::catalogue(settings, Elevation::Never)?;
    let started = start::local(settings, &catalogue).await;
    let mut advice = loaded.warnings.clone();
    let host = match &started {
        Ok(local) => Some(local.host().clone()),
        Err(error) => {
            advice.push(error.to_string());
            None
        }
    };
    if let Some(host) = &host {
        advice.extend(host.notes.iter().cloned());
        if kernel_version(&host.kernel).is_some_and(|version| version < KERNEL_FLOOR) {
            let (major, minor) = KERNEL_FLOOR;
            advice.push(format!(
                "Linux {} is older than {major}.{minor}: runs are not killed by cgroup; update the kernel",
                host.kernel
            ));
        }
        if host.profile != Profile::Full {
            advice.push(format!("isolation is {}: run as root with cgroups for the strongest", host.profile));
        }
    }
    let installed = catalogue.installed();
    let absent = catalogue.absent();
    if json {
        let absent: Vec<_> = absent.iter().map(|of| serde_json::json!({ "language": of.language, "reason": of.reason })).collect();
        let all = serde_json::json!({
            "host": host,
            "languages": installed.iter().map(|r| serde_json::json!({ "language": r.language(), "version": r.version() })).collect::<Vec<_>>(),
            "missing": absent,
            "advice": advice,
        });
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        if let Some(host) = &host {
            println!("isolation   {}", host.profile);
            println!("kernel      {}", host.kernel);
            println!("cgroups     {}", serde_json::to_value(host.cgroups)?.as_str().unwrap_or_default());
            println!("landlock    ABI {}", host.landlock_abi);
            println!("seccomp     {}", if host.seccomp { "yes" } else { "no" });
        }
        println!("languages   {} installed", installed.len());
        for of in absent.iter() {
            println!("            {} is missing: {} (`greenroom runtimes install {}`)", of.language, of.reason, of.language);
        }
        for line in &advice {
            println!("note        {line}");
        }
    }
    let code = if started.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if let Ok(local) = started {
        local.shutdown().await;
    }
    Ok(code)
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
