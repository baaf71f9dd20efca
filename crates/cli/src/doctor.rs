//! `greenroom doctor`: what this host offers, and what to do about each gap.

use std::{fmt, process::ExitCode, sync::Arc};

use greenroom_backends::Local;
use greenroom_runtimes::{Absent, Elevation, Runtime};
use greenroom_sandbox::{CgroupVersion, HostReport};
use serde::Serialize;

use crate::{
    config::Loaded,
    output::{say, told},
    start,
};

/// `cgroup.kill` and everything else that the sandbox builds on is there from here on.
const KERNEL_FLOOR: (u32, u32) = (5, 14);

/// What was found.
#[derive(Serialize)]
struct Report {
    /// Whether a server could start.
    ready: bool,
    /// Whether the required isolation can be had.
    isolation_met: bool,
    /// `None` where not even the weakest can be had.
    host: Option<HostReport>,
    languages: Vec<Found>,
    missing: Vec<Missing>,
    /// What is wrong or could be better, each with what to do about it.
    advice: Vec<String>,
}

#[derive(Serialize)]
struct Found {
    language: String,
    version: String,
}

#[derive(Serialize)]
struct Missing {
    language: String,
    reason: String,
}

/// Prints what was found. Fails where a server could not start.
pub async fn doctor(loaded: &Loaded, json: bool) -> anyhow::Result<ExitCode> {
    let report = examine(loaded).await?;
    if json {
        say(serde_json::to_string_pretty(&report)?)?;
    } else {
        say(report.to_string().trim_end())?;
    }
    Ok(if report.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn examine(loaded: &Loaded) -> anyhow::Result<Report> {
    let settings = &loaded.settings;
    let catalogue = start::catalogue(settings, Elevation::Never)?;
    let mut advice = loaded.warnings.clone();
    // It says nothing of the host: only profile restricted keeps anything there.
    let data_dir = start::data_dir(settings);
    let started = Local::start(settings.sandbox(&catalogue), 1).await;
    let isolation_met = started.is_ok();
    let ready = isolation_met && data_dir.is_ok();
    advice.extend(data_dir.err().map(|error| told(&error)));
    let local = match started {
        Ok(local) => Some(local),
        // What can be had then?
        Err(error) => {
            advice.push(error.to_string());
            Local::start(settings.undemanding().sandbox(&catalogue), 1).await.ok()
        }
    };
    let host = local.as_ref().map(|local| local.host().clone());
    if let Some(local) = local {
        local.shutdown().await;
    }
    if let Some(host) = &host {
        advice.extend(about(host));
    }
    let found = |of: &Arc<Runtime>| Found { language: of.language().to_owned(), version: of.version().to_owned() };
    let missing = |of: &Absent| Missing { language: of.language.clone(), reason: of.reason.clone() };
    let languages = catalogue.installed().iter().map(found).collect();
    Ok(Report { ready, isolation_met, host, languages, missing: catalogue.absent().iter().map(missing).collect(), advice })
}

fn about(host: &HostReport) -> Vec<String> {
    let mut advice = host.notes.clone();
    if kernel_version(&host.kernel).is_some_and(|version| version < KERNEL_FLOOR) {
        let (major, minor) = KERNEL_FLOOR;
        advice.push(format!(
            "Linux {} is older than {major}.{minor}: runs cannot be killed by cgroup; update the kernel",
            host.kernel
        ));
    }
    if !host.seccomp {
        advice.push("seccomp is missing: the kernel was built without CONFIG_SECCOMP_FILTER; use one that has it".into());
    }
    advice
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) => {
                let short_of = if self.isolation_met { "" } else { " (less than is required)" };
                let cgroups = match host.cgroups {
                    CgroupVersion::V2 => "v2",
                    CgroupVersion::V1 => "v1",
                    CgroupVersion::None => "none",
                };
                writeln!(f, "isolation   {}{short_of}", host.profile)?;
                writeln!(f, "kernel      {}", host.kernel)?;
                writeln!(f, "cgroups     {cgroups}")?;
                writeln!(
                    f,
                    "landlock    {}",
                    if host.landlock_abi == 0 { "no".into() } else { format!("ABI {}", host.landlock_abi) }
                )?;
                writeln!(f, "seccomp     {}", if host.seccomp { "yes" } else { "no" })?;
                match &host.no_network {
                    None => writeln!(f, "network     pools may have it")?,
                    Some(reason) => writeln!(f, "network     not for pools: {reason}")?,
                }
            }
            None => writeln!(f, "isolation   none can be had")?,
        }
        let names: Vec<String> = self.languages.iter().map(|of| format!("{} {}", of.language, of.version)).collect();
        writeln!(f, "languages   {} installed: {}", names.len(), names.join(", "))?;
        for Missing { language, reason } in &self.missing {
            writeln!(f, "            {language} is missing: {reason} (`greenroom runtimes install {language}`)")?;
        }
        self.advice.iter().try_for_each(|line| writeln!(f, "note        {line}"))
    }
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
