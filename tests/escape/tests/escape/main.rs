//! The catalogue of hostile and honest programs, each row a test against the real binary over HTTP.
//!
//! A row that cannot be tested here is ignored, and the reason is said: a host gives too little isolation, or a language
//! or a tool is not installed. `GREENROOM_MUST_WORK=1` fails instead where isolation or a language of the base set is
//! missing; what is optional is ignored all the same. One test at a time: what a run leaves behind is to be seen.
#![forbid(unsafe_code)]

mod alive;
mod api;
mod auth;
mod collected;
mod coverage;
mod crash;
mod crowd;
mod honest;
mod issuer;
mod judge;
mod log;
mod neighbour;
mod network;
mod operations;
mod oracles;
mod programs;
mod server;
mod sessions;
mod subjects;
mod suite;
mod zygote;

use std::{process::ExitCode, sync::Arc};

use anyhow::{Result, bail};
use greenroom_escape::{Languages, NotTested, must_work};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::suite::Suite;

/// What a trial does.
type Test = Box<dyn FnOnce(&Suite) -> Result<()> + Send>;

/// A row that is code.
type Coded = (&'static str, fn(&Suite) -> Result<()>);

fn main() -> Result<ExitCode> {
    greenroom_contract::enter_own_network();
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let groups = greenroom_escape::groups()?;
    let coded: Vec<Coded> = [
        programs::ROWS,
        alive::ROWS,
        honest::ROWS,
        api::ROWS,
        auth::ROWS,
        subjects::ROWS,
        collected::ROWS,
        log::ROWS,
        operations::ROWS,
        crash::ROWS,
        sessions::ROWS,
        network::ROWS,
        zygote::ROWS,
    ]
    .concat();
    let complete = coverage::of(&groups, &coded.iter().map(|(row, _)| *row).collect::<Vec<_>>(), &Languages::read()?);
    let suite = if arguments.list { Err("the rows are listed only".to_owned()) } else { Suite::start()? };
    if let (Err(why), false) = (&suite, arguments.list) {
        if must_work() {
            bail!("GREENROOM_MUST_WORK is set, and nothing can be tested here: {why}");
        }
        eprintln!("not tested: {why}");
    }
    let suite = suite.map(Arc::new);

    let mut trials = vec![Trial::test("every_row_of_the_catalogue_is_a_test_or_has_a_reason", move || complete.map_err(failed))];
    let mut add = |name: String, test: Test| {
        let suite = suite.clone();
        trials.push(Trial::ignorable_test(name, move || match suite {
            Ok(suite) => completion(test(&suite)),
            Err(why) => Ok(Completion::ignored_with(why)),
        }));
    };
    add("the_oracles_notice_what_they_are_for".to_owned(), Box::new(oracles::notice));
    for (group, cases) in groups {
        for case in cases.case {
            add(name(group, &case.name, &case.variant), Box::new(move |suite| suite.case(&case)));
        }
        for request in cases.request {
            add(name(group, &request.name, &request.variant), Box::new(move |suite| suite.request(&request)));
        }
    }
    for (row, test) in coded {
        add(row.to_owned(), Box::new(move |suite| suite.coded(test)));
    }
    add("the_server_lived_through_all_of_it_and_its_log_is_clean".to_owned(), Box::new(Suite::verdict));

    let conclusion = libtest_mimic::run(&arguments, trials);
    let stopped = suite.ok().and_then(Arc::into_inner).map_or(Ok(()), Suite::stop);
    if let Err(error) = &stopped {
        eprintln!("after the last test: {error:#}");
    }
    Ok(if conclusion.has_failed() || stopped.is_err() { ExitCode::from(101) } else { ExitCode::SUCCESS })
}

fn name(group: &str, row: &str, variant: &str) -> String {
    if variant.is_empty() { format!("{group}::{row}") } else { format!("{group}::{row}::{variant}") }
}

/// What cannot be tested is no failure, but it is said.
fn completion(tested: Result<()>) -> Result<Completion, Failed> {
    match tested {
        Ok(()) => Ok(Completion::Completed),
        Err(error) => match error.downcast_ref::<NotTested>() {
            Some(why) => Ok(Completion::ignored_with(why)),
            None => Err(failed(error)),
        },
    }
}

fn failed(error: impl std::fmt::Display) -> Failed {
    format!("{error:#}").into()
}
