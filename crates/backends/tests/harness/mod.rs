//! What the suites against the real runner share. Each is a binary that is the runner too, started again as `<binary> runner`.
//!
//! They need namespaces and cgroups. Where these cannot be had the tests say so and pass, except with `GREENROOM_MUST_WORK=1`.

use std::{process::ExitCode, time::Duration};

use greenroom_backends::Local;
use greenroom_sandbox::SandboxConfig;
use libtest_mimic::{Arguments, Failed, Trial};

/// The `main` of a suite.
pub fn main(trials: impl FnOnce() -> Vec<Trial>) -> ExitCode {
    if is_runner() {
        return greenroom_sandbox::runner_main();
    }
    let mut arguments = Arguments::from_args();
    // One runner after the other: a machine with two cores has no more to give.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials()).exit_code()
}

/// Whether this process is the runner, and not the suite.
pub fn is_runner() -> bool {
    std::env::args().nth(1).as_deref() == Some("runner")
}

/// Whether what is missing is a failure.
pub fn must_work() -> bool {
    std::env::var_os("GREENROOM_MUST_WORK").is_some()
}

/// Says why a test cannot be run here.
pub fn skipped(reason: &str) -> Result<(), Failed> {
    println!("skipped: {reason}");
    if must_work() { Err(reason.into()) } else { Ok(()) }
}

/// Runs a test on a backend of its own, where that can be had, within this time.
pub fn run(
    config: SandboxConfig,
    at_once: usize,
    patience: Duration,
    test: impl AsyncFnOnce(Local) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let local = match Local::start(config, at_once).await {
            Ok(local) => local,
            Err(reason) => return skipped(&reason.to_string()),
        };
        let result = tokio::time::timeout(patience, test(local.clone())).await;
        local.shutdown().await;
        result.map_err(|_| Failed::from("it hangs"))?
    })
}

/// Functions by their names.
#[macro_export]
macro_rules! tests {
    ($($name:ident),+ $(,)?) => { vec![$((stringify!($name), (|given| Box::pin($name(given))) as Test)),+] };
}
