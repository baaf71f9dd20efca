//! What the command line does about identity where no server has to run.

use std::process::{Command, Output};

fn greenroom(data_dir: &std::path::Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom"));
    for (name, _) in std::env::vars_os() {
        // The defaults are under test, not this shell's settings.
        if name.to_string_lossy().starts_with("PISTON_") || name.to_string_lossy().starts_with("GREENROOM_") || name == "PORT" {
            command.env_remove(name);
        }
    }
    command.args(arguments).arg("--data-dir").arg(data_dir).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Each ends before anything is started, with words that say what to do.
#[test]
fn a_server_without_identity_does_not_start_where_others_can_reach_it() {
    let data = tempfile::tempdir().unwrap();
    for (arguments, words) in [
        (&["serve", "--listen", "0.0.0.0:0"][..], ["identity.mode", "greenroom keys create"]),
        (&["serve", "--listen", "[::]:0"], ["identity.mode", "127.0.0.1"]),
        (
            &["serve", "--listen", "127.0.0.1:0", "--set", "tls.listen=0.0.0.0:0", "--set", "tls.self_signed=true"],
            ["tls.listen", "identity.mode"],
        ),
        (
            &["serve", "--listen", "0.0.0.0:0", "--set", "identity.mode=keys", "--set", "identity.local_issuer=true"],
            ["identity.local_issuer", "127.0.0.1"],
        ),
        (&["serve", "--listen", "127.0.0.1:0", "--set", "identity.mode=oidc"], ["identity.oidc.tenant", "identity.local_issuer"]),
        (
            &["serve", "--listen", "127.0.0.1:0", "--set", "identity.mode=oidc", "--set", "identity.oidc.issuer=https://x.example"],
            ["identity.roles", "nobody"],
        ),
        (
            &[
                "serve", "--listen", "127.0.0.1:0", "--set", "identity.mode=oidc", "--set", "identity.local_issuer=true", "--set",
                "identity.oidc.tenant=common",
            ],
            ["identity.oidc.tenant", "GUID"],
        ),
        (&["serve", "--listen", "127.0.0.1:0", "--set", "identity.mode=everybody"], ["identity.mode", "keys+oidc"]),
        (&["serve", "--listen", "127.0.0.1:0", "--set", "tls.listen=127.0.0.1:0"], ["tls.certificate", "tls.self_signed"]),
    ] {
        let output = greenroom(data.path(), arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{arguments:?}: {word:?} is not in {said:?}");
        }
    }
}

#[test]
fn a_key_is_shown_once_and_listed_without_its_secret_until_it_is_revoked() {
    let data = tempfile::tempdir().unwrap();
    let made =
        greenroom(data.path(), &["keys", "create", "--name", "ci", "--scope", "execute", "--scope", "manage", "--pool", "a"]);
    let key = text(&made.stdout);
    assert!(made.status.success() && key.starts_with("gr_") && key.lines().count() == 1, "{made:?}");
    let secret = key.rsplit_once('_').unwrap().1;
    let listed = text(&greenroom(data.path(), &["keys", "list"]).stdout);
    assert!(listed.contains("ci  execute:a manage:a  never used") && !listed.contains(secret), "{listed}");
    assert!(greenroom(data.path(), &["keys", "revoke", "ci"]).status.success());
    assert!(text(&greenroom(data.path(), &["keys", "list"]).stdout).ends_with("revoked"));
    let again = greenroom(data.path(), &["keys", "revoke", "no such"]);
    assert!(!again.status.success() && text(&again.stderr).contains("keys list"), "{again:?}");
}

#[test]
fn of_two_keys_of_one_name_none_is_revoked_by_it() {
    let data = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        assert!(greenroom(data.path(), &["keys", "create", "--name", "twin"]).status.success());
    }
    let refused = greenroom(data.path(), &["keys", "revoke", "twin"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("by its id"), "{refused:?}");
    assert!(!text(&greenroom(data.path(), &["keys", "list"]).stdout).contains("revoked"));
}

#[test]
fn a_token_needs_an_issuer_and_says_how_to_get_one() {
    let data = tempfile::tempdir().unwrap();
    let refused = greenroom(data.path(), &["token"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("identity.local_issuer"), "{refused:?}");
}
