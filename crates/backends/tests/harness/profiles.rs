//! Suites that look at the weaker profiles too: each runs itself again in one.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::Command,
};

use greenroom_core::Profile;
use libtest_mimic::Failed;

use crate::harness::skipped;

/// Says to a run of a suite which profile it is for.
const VARIABLE: &str = "GREENROOM_TEST_PROFILE";

/// The profile that this run of the suite is for.
pub fn profile() -> Profile {
    std::env::var(VARIABLE).ok().and_then(|name| name.parse().ok()).unwrap_or(Profile::Full)
}

/// Runs this suite again in a profile, got as an operator gets it: without root or without the right to make namespaces. `through` is a
/// command that starts it.
pub fn again(profile: Profile, through: &[&str]) -> Result<(), Failed> {
    let rights: &[&str] = match profile {
        Profile::Full => &["--no-new-privs"],
        Profile::Rootless => &["--reuid=65534", "--regid=65534", "--clear-groups"],
        Profile::Restricted => &["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"],
    };
    let root = fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    if !root || Command::new("setpriv").arg("--version").output().is_err() {
        return skipped("root and setpriv are needed");
    }
    // A place where anybody may go, and leave what goes with it.
    let place = tempfile::tempdir()?;
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777))?;
    let suite = place.path().join("suite");
    fs::copy(std::env::current_exe()?, &suite)?;
    let mut command = Command::new("setpriv");
    command
        .args(rights)
        .args(through)
        .arg(&suite)
        .env(VARIABLE, profile.to_string())
        .env("HOME", "/tmp")
        .env("TMPDIR", place.path());
    let ran = command.output()?;
    if ran.status.success() {
        return Ok(());
    }
    Err(format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr)).into())
}
