//! The contracts, row by row, against a running server: Piston's; Azure's sessions below `azure::`, its control plane below `arm::`.
//! Names say what a Piston does; those below `difference::` are the rows on which Greenroom differs on purpose
//! (docs/piston-compatibility.md). A real Piston has the rest only:
//! `GREENROOM_CONTRACT_URL=http://127.0.0.1:2000 cargo test -p greenroom-contract -- --skip difference:: --skip azure:: --skip arm::`

mod arm;
mod azure;
mod difference;
mod envelope;
mod listing;
mod outcome;
mod request;
mod websocket;

use std::sync::Arc;

use greenroom_contract::Server;
use libtest_mimic::{Arguments, Trial};

/// A row: its name, and what must hold.
type Row = (&'static str, fn(&Server));

/// Makes rows of functions, named by their paths.
#[macro_export]
macro_rules! rows {
    ($($name:ident),+ $(,)?) => {
        pub(crate) const ROWS: &[$crate::Row] = &[$((stringify!($name), $name)),+];
    };
}

/// Rows that need a language which not every server has.
fn has(server: &Server, language: &str) -> bool {
    let found = server.version_of(language).is_some();
    if !found {
        assert!(!must_work(), "{language} is not installed, and GREENROOM_MUST_WORK is set");
        eprintln!("skipped: {language} is not installed on the server");
    }
    found
}

fn must_work() -> bool {
    std::env::var_os("GREENROOM_MUST_WORK").is_some_and(|value| value == "1")
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::from_args();
    if arguments.list {
        libtest_mimic::run(&arguments, trials(None)).exit();
    }
    let server = match Server::find()? {
        Ok(server) => Arc::new(server),
        Err(reason) if must_work() => anyhow::bail!("{}", reason.0),
        Err(reason) => {
            eprintln!("skipped: {}", reason.0);
            return Ok(());
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials(Some(&server)));
    // The trials are gone, and their handles with them.
    if let Some(server) = Arc::into_inner(server) {
        if conclusion.has_failed() {
            eprintln!("the server's log:\n{}", server.log());
        }
        server.stop()?;
    }
    conclusion.exit()
}

fn trials(server: Option<&Arc<Server>>) -> Vec<Trial> {
    let modules: [(&str, &[Row]); 13] = [
        ("envelope", envelope::ROWS),
        ("request", request::ROWS),
        ("outcome", outcome::ROWS),
        ("listing", listing::ROWS),
        ("websocket", websocket::ROWS),
        ("difference", difference::ROWS),
        ("azure::execution", azure::execution::ROWS),
        ("azure::files", azure::files::ROWS),
        ("azure::mcp", azure::mcp::ROWS),
        ("azure::pools", azure::pools::ROWS),
        ("azure::refusal", azure::refusal::ROWS),
        ("azure::session", azure::session::ROWS),
        ("arm", arm::ROWS),
    ];
    let rows = modules.into_iter().flat_map(|(module, rows)| rows.iter().map(move |row| (module, row)));
    rows.map(|(module, &(name, row))| {
        let server = server.cloned();
        Trial::test(format!("{module}::{name}"), move || {
            if let Some(server) = server {
                row(&server);
            }
            Ok(())
        })
    })
    .collect()
}
