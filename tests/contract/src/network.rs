//! A network of the tests' own.

use std::{
    env,
    net::{IpAddr, Ipv4Addr},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

/// Of the internet, as far as anybody can tell by its number.
const WORLD: IpAddr = IpAddr::V4(Ipv4Addr::new(5, 6, 7, 8));
/// Set inside.
const INSIDE: &str = "TESTS_HAVE_THEIR_OWN_NETWORK";

/// Starts this process over in a network namespace that has nothing but loopback, and there an address that is none of loopback's:
/// it stands for the world that sessions with network may reach, and whatever listens there is heard by nobody else. Where that cannot be
/// had (it needs root, and iproute2), the process goes on as it is.
pub fn enter_own_network() {
    if env::var_os(INSIDE).is_some() {
        return;
    }
    let inside = |then: &str| {
        let script = format!("ip link set lo up && ip address add {WORLD}/32 dev lo && {then}");
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", &script]);
        command
    };
    let can = inside("true").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if let (true, Ok(this)) = (can, env::current_exe()) {
        let error = inside("exec \"$0\" \"$@\"").arg(this).args(env::args_os().skip(1)).env(INSIDE, "1").exec();
        eprintln!("no network of the tests' own: {error}");
    }
}

/// The address that stands for the world outside, where there is one.
pub fn world() -> Option<IpAddr> {
    env::var_os(INSIDE).map(|_| WORLD)
}
