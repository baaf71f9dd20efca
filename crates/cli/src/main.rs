//! `greenroom`: runs other people's code in isolated sessions. Commands, configuration, wiring; no logic.
#![forbid(unsafe_code)]

mod ahead;
mod commands;
mod config;
mod doctor;
mod identity;
mod keys;
mod output;
mod pool;
mod run;
mod runtimes;
mod serve;
mod sessions;
mod settings;
mod start;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    commands::{Cli, Command, ConfigCommand},
    output::{OutputError, say, told},
};

fn main() -> ExitCode {
    // Before anything else: the runner is forked for every sandbox, so it has to stay small and single-threaded.
    if std::env::args_os().nth(1).is_some_and(|command| command == "runner") {
        return greenroom_sandbox::runner_main();
    }
    let cli = Cli::parse();
    // A program's own exit status is passed on, so ours has to be told from it: as timeout(1) and env(1) do.
    let failure = if matches!(cli.command, Command::Run(_)) { ExitCode::from(125) } else { ExitCode::FAILURE };
    match dispatch(cli) {
        Ok(code) => code,
        // As a program that SIGPIPE ended.
        Err(error) if matches!(error.downcast_ref(), Some(OutputError::Closed)) => ExitCode::from(141),
        Err(error) => {
            eprintln!("greenroom: {}", told(&error));
            failure
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let flags = cli.flags();
    let loaded = || config::load(cli.config.as_deref(), &flags);
    match cli.command {
        Command::Serve(_) => start::block_on(serve::serve(loaded()?)),
        Command::Run(ref arguments) => start::block_on(run::run(&loaded()?, arguments)),
        Command::Runtimes(ref command) => runtimes::runtimes(&loaded()?, command),
        Command::Pool(ref command) => start::block_on(pool::pool(&loaded()?, command)),
        Command::Doctor(ref arguments) => start::block_on(doctor::doctor(&loaded()?, arguments.json)),
        Command::Keys(ref command) => start::block_on(keys::keys(&loaded()?, command)),
        Command::Token(ref arguments) => identity::token(&loaded()?.settings, arguments),
        Command::Config(ConfigCommand::Show { json }) => {
            say(loaded()?.show(json)?.trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Version => {
            say(concat!("greenroom ", env!("CARGO_PKG_VERSION")))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
