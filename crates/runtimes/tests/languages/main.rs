//! The plans of every installed language, carried out on the bare host. What a sandbox adds is tested by
//! `greenroom runtimes test`.

mod host;
mod projects;

use std::time::Instant;

use host::{catalogue, program, run};

#[test]
fn every_installed_language_passes_its_self_test() {
    let catalogue = catalogue();
    let mut failures = Vec::new();
    for runtime in catalogue.installed().iter() {
        let (name, source) = runtime.self_test();
        let source = String::from_utf8_lossy(source);
        let started = Instant::now();
        let answer = run(&catalogue, runtime, program(&[(name.as_str(), &source)], &[]));
        println!("{:12} {:10} {:5} ms", runtime.language(), runtime.version(), started.elapsed().as_millis());
        if !answer.success || answer.stdout != "OK\n" || !answer.stderr.is_empty() {
            failures.push(format!("{}: stdout {:?}, stderr {:?}", runtime.language(), answer.stdout, answer.stderr));
        }
    }
    for absent in catalogue.absent().iter() {
        println!("{:12} not installed: {}", absent.language, absent.reason);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
