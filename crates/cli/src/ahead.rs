//! What is made ahead for compilers, in the background: a thread that looks every half minute for what is missing or out of date.
//! It looks again and again because compilers and headers are upgraded, and languages installed, under a running server.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use greenroom_runtimes::Catalogue;

const EVERY: Duration = Duration::from_secs(30);

/// The thread. Dropped, it ends, and the compiler that it runs with it.
pub struct Ahead {
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    /// Starts it.
    pub fn start(catalogue: Catalogue, directory: PathBuf) -> std::io::Result<Self> {
        let stopped = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stopped);
        let keep = move || {
            let mut failed = None;
            while !told.load(Ordering::Relaxed) {
                let made = catalogue.precompile(&directory, &|| told.load(Ordering::Relaxed), &mut |what| {
                    tracing::info!(what, "compiled ahead");
                });
                // Once is enough for what stays wrong.
                let failure = made.err().map(|error| error.to_string());
                if let Some(error) = failure.as_ref().filter(|_| failure != failed) {
                    tracing::warn!(error, "not all is compiled ahead: programs compile without, only slower");
                }
                failed = failure;
                thread::park_timeout(EVERY);
            }
        };
        let thread = thread::Builder::new().name("ahead".to_owned()).spawn(keep)?;
        Ok(Self { stopped, thread: Some(thread) })
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        if thread.join().is_err() {
            tracing::error!("the thread that compiles ahead has panicked");
        }
    }
}
