use super::*;

#[test]
fn what_else_would_go_is_read_from_the_simulation() {
    let simulation = "Reading package lists...\nRemv gforth [0.7.3+dfsg-9+b3]\nRemv emacs [1:28]\nInst x (1)\n";
    assert_eq!(removed_besides(simulation, &["gforth".to_owned()]), ["emacs"]);
    assert!(removed_besides(simulation, &["gforth".to_owned(), "emacs".to_owned()]).is_empty());
}
