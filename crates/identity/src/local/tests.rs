use super::*;
use crate::{Audiences, Permission, Refusal, SESSION_AUDIENCES, TokenRefusal, issuer::check_token};

const NOW: Duration = Duration::from_secs(1_800_000_000);

fn made() -> (tempfile::TempDir, LocalIssuer) {
    let directory = tempfile::tempdir().unwrap();
    let local = LocalIssuer::open(directory.path(), "http://127.0.0.1:2000").unwrap();
    (directory, local)
}

async fn check(local: &LocalIssuer, token: &str, now: Duration) -> Result<(), Refusal> {
    check_token(token, &[local.trusted()], &Audiences::default(), Permission::Execute, now).await.map(|_| ())
}

#[tokio::test]
async fn its_tokens_are_good_for_what_they_were_asked_for_and_as_long_as_they_say() {
    let (_directory, local) = made();
    let minted = local.mint(SESSION_AUDIENCES[0], None, NOW).unwrap();
    assert_eq!(check(&local, &minted.access_token, NOW).await, Ok(()));
    let late = Duration::from_secs(minted.expires_on_s) + crate::token::CLOCK_SKEW;
    assert_eq!(check(&local, &minted.access_token, late).await, Err(TokenRefusal::Expired.into()));
    let other = local.mint("https://storage.azure.com", None, NOW).unwrap();
    assert_eq!(check(&local, &other.access_token, NOW).await, Err(TokenRefusal::Audience.into()));
}

#[tokio::test]
async fn tokens_outlive_a_restart_and_not_another_key() {
    let (directory, first) = made();
    let token = first.mint(SESSION_AUDIENCES[0], None, NOW).unwrap().access_token;
    let again = LocalIssuer::open(directory.path(), "http://127.0.0.1:2000").unwrap();
    assert_eq!(check(&again, &token, NOW).await, Ok(()));
    assert_eq!((again.header(), again.name()), (first.header(), first.name()));
    let (_other, other) = made();
    assert_eq!(check(&other, &token, NOW).await, Err(TokenRefusal::KidUnknown.into()));
}

#[test]
fn its_secrets_are_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, _local) = made();
    for file in [KEY_FILE, HEADER_FILE] {
        let path = directory.path().join(DIRECTORY).join(file);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let refused = LocalIssuer::open(directory.path(), "http://127.0.0.1:2000");
        assert!(matches!(refused, Err(LocalIssuerError::Secret(SecretError::Readable { .. }))), "{file}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert!(LocalIssuer::open(directory.path(), "http://127.0.0.1:2000").is_ok());
}

#[test]
fn a_command_finds_the_one_that_a_server_made_and_makes_none() {
    let (directory, local) = made();
    assert_eq!(LocalIssuer::existing(directory.path()).unwrap().name(), local.name());
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(LocalIssuer::existing(empty.path()), Err(LocalIssuerError::Missing { .. })));
    assert!(!empty.path().join(DIRECTORY).exists());
}

#[test]
fn what_it_publishes_has_no_private_half() {
    let (_directory, local) = made();
    assert!(local.jwks()["keys"][0].get("d").is_none());
    assert_eq!(local.discovery()["issuer"], "http://127.0.0.1:2000/identity");
}

#[tokio::test]
async fn an_issuer_speaks_for_its_own_tenant_only() {
    let (_directory, local) = made();
    let token = local.mint(SESSION_AUDIENCES[0], None, NOW).unwrap().access_token;
    for (tenant, expected) in [(LOCAL_TENANT, Ok(())), ("another", Err(Refusal::from(TokenRefusal::Tenant)))] {
        let bound = Issuer::own(local.name(), tenant, jwk::read(local.jwks().to_string().as_bytes()).unwrap());
        let checked = check_token(&token, &[bound], &Audiences::default(), Permission::Execute, NOW).await.map(|_| ());
        assert_eq!(checked, expected, "{tenant}");
    }
}

#[test]
fn a_tenant_of_entra_has_two_issuers_each_with_its_keys() {
    let tenant = "11111111-2222-3333-4444-555555555555";
    let both = Issuer::entra(tenant, crate::KeyTimes::default()).unwrap();
    let names = both.each_ref().map(Issuer::name);
    assert_eq!(names, [format!("https://sts.windows.net/{tenant}/"), format!("https://login.microsoftonline.com/{tenant}/v2.0")]);
    assert!(both.iter().all(|issuer| issuer.realm() == tenant));
}
