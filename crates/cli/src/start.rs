//! What several commands start: the async runtime, the log, the languages, the backend.

use std::{fs, io};

use anyhow::Context;
use greenroom_backends::Local;
use greenroom_runtimes::{Catalogue, Elevation};
use rustix::fs::Access;
use tracing_subscriber::EnvFilter;

use crate::settings::{LogFormat, Settings};

/// More threads than this have nothing to do: the work is the programs', in processes of their own.
const MAX_THREADS: usize = 4;

/// Runs a command on the async runtime.
pub fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(MAX_THREADS));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let ended = runtime.block_on(command);
    // A thread that waits for a reader of our output must not keep us: what has to be ended has been by now.
    runtime.shutdown_background();
    ended
}

/// Sends the log to standard error.
pub fn log(settings: &Settings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.log_level).with_context(|| format!("log.level is {:?}", settings.log_level))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false);
    // Whoever read the log may be gone: to say so on the same stream would panic in the middle of a request.
    let builder = builder.log_internal_errors(false);
    match settings.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

/// The languages that programs can be written in here.
pub fn catalogue(settings: &Settings, elevation: Elevation) -> anyhow::Result<Catalogue> {
    Ok(Catalogue::discover(&settings.discovery(elevation))?)
}

/// The backend. The data directory is made if it is missing.
pub async fn local(settings: &Settings, catalogue: &Catalogue) -> anyhow::Result<Local> {
    data_dir(settings)?;
    if let Some(directory) = settings.precompiled() {
        // Sandboxes are made over it, so it must be there, empty or not.
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let local = Local::start(settings.sandbox(catalogue), settings.gateway.max_concurrent).await?;
    local.keep(usize::try_from(settings.cache_bytes).unwrap_or(usize::MAX));
    Ok(local)
}

/// Makes the data directory if it is missing, and sees that it can be used.
pub fn data_dir(settings: &Settings) -> anyhow::Result<()> {
    let data = &settings.data_dir;
    let made = fs::create_dir_all(data);
    // Of the real user, which is the same: nobody runs this set-uid.
    let usable = made.and_then(|()| Ok(rustix::fs::access(data, Access::WRITE_OK | Access::EXEC_OK)?));
    usable.with_context(|| {
        format!("the data directory {} cannot be made or written: name another with --set data_dir=DIR", data.display())
    })
}
