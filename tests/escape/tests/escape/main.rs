//! The catalogue of hostile and honest programs, each row a test against the real binary over HTTP.
//!
//! `GREENROOM_MUST_WORK=1` fails where a host gives too little isolation to test anything; otherwise that is said,
//! and passes. One test at a time: what a run leaves behind is to be seen.
#![forbid(unsafe_code)]

mod api;
mod coverage;
mod judge;
mod neighbour;
mod operations;
mod oracles;
mod programs;
mod suite;

use std::{process::ExitCode, sync::Arc};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::suite::Suite;

/// A row that is code.
type Coded = (&'static str, fn(&Suite) -> Result<()>);

fn main() -> Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let groups = greenroom_escape::groups()?;
    let coded: Vec<Coded> = [programs::ROWS, api::ROWS, operations::ROWS].concat();
    let complete = coverage::of(&groups, &coded.iter().map(|(row, _)| *row).collect::<Vec<_>>());
    let mut trials = vec![Trial::test("every_row_of_the_catalogue_is_a_test_or_has_a_reason", move || complete.map_err(failed))];

    let suite = if arguments.list { None } else { Suite::start()? };
    let must_work = std::env::var_os("GREENROOM_MUST_WORK").is_some();
    match suite.map(Arc::new) {
        Some(suite) => {
            for (group, cases) in groups {
                for case in cases.case {
                    let suite = Arc::clone(&suite);
                    trials.push(Trial::test(name(group, &case.name, &case.variant), move || suite.case(&case).map_err(failed)));
                }
                for request in cases.request {
                    let suite = Arc::clone(&suite);
                    trials.push(Trial::test(name(group, &request.name, &request.variant), move || {
                        suite.request(&request).map_err(failed)
                    }));
                }
            }
            let noticing = Arc::clone(&suite);
            trials
                .insert(1, Trial::test("the_oracles_notice_what_they_are_for", move || oracles::notice(&noticing).map_err(failed)));
            for (row, test) in coded {
                let suite = Arc::clone(&suite);
                trials.push(Trial::test(row, move || suite.coded(test).map_err(failed)));
            }
            let last = Arc::clone(&suite);
            trials.push(Trial::test("the_server_lived_through_all_of_it_and_its_log_is_clean", move || {
                last.verdict().map_err(failed)
            }));
            let conclusion = libtest_mimic::run(&arguments, trials);
            let stopped = Arc::into_inner(suite).map_or(Ok(()), Suite::stop);
            if let Err(error) = &stopped {
                eprintln!("after the last test: {error:#}");
            }
            Ok(if conclusion.has_failed() || stopped.is_err() { ExitCode::from(101) } else { ExitCode::SUCCESS })
        }
        None if must_work && !arguments.list => anyhow::bail!("GREENROOM_MUST_WORK is set, and nothing can be tested here"),
        None => {
            for (group, cases) in groups {
                let cases = cases.case.iter().map(|case| name(group, &case.name, &case.variant));
                trials.extend(cases.map(|name| Trial::test(name, || Ok(()))));
            }
            Ok(libtest_mimic::run(&arguments, trials).exit_code())
        }
    }
}

fn name(group: &str, row: &str, variant: &str) -> String {
    if variant.is_empty() { format!("{group}::{row}") } else { format!("{group}::{row}::{variant}") }
}

fn failed(error: impl std::fmt::Display) -> Failed {
    format!("{error:#}").into()
}
