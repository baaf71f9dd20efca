use super::*;

#[test]
fn what_else_would_go_is_read_from_the_simulation() {
    let simulation = "Reading package lists...\nRemv gforth [0.7.3+dfsg-9+b3]\nRemv emacs [1:28]\nInst x (1)\n";
    assert_eq!(removed_besides(simulation, &["gforth".to_owned()]), ["emacs"]);
    assert!(removed_besides(simulation, &["gforth".to_owned(), "emacs".to_owned()]).is_empty());
}

#[test]
fn a_simulation_that_fails_is_not_taken_for_one_that_removes_nothing_else() {
    // The real apt-get, which fails for a package that no list has.
    match simulate_removal(&["greenroom-has-no-such-package"]) {
        Err(DebianError::NoTool { .. }) => println!("not tested: this is not Debian or a relative of it"),
        Err(DebianError::Failed { command, last_line, .. }) => {
            assert_eq!(command, "apt-get --simulate remove --yes greenroom-has-no-such-package");
            assert!(last_line.contains("greenroom-has-no-such-package"), "{last_line}");
        }
        other => panic!("{other:?}"),
    }
}
