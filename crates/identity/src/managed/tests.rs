use http::HeaderValue;

use super::*;
use crate::LOCAL_APPLICATION;

const NOW: Duration = Duration::from_secs(1_800_000_000);
const QUERY: &str = "api-version=2019-08-01&resource=https%3A%2F%2Fdynamicsessions.io";

struct Fixture {
    local: LocalIssuer,
    _directory: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { local: LocalIssuer::open(directory.path(), "http://127.0.0.1:2000").unwrap(), _directory: directory }
    }

    fn ask(&self, form: ManagedForm, headers: &[(&'static str, &str)], query: &str) -> Result<Minted, ManagedRefusal> {
        let mut map = HeaderMap::new();
        map.insert("host", HeaderValue::from_static("127.0.0.1:2000"));
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        self.local.managed(form, &map, query, NOW)
    }

    fn app_service(&self, headers: &[(&'static str, &str)], query: &str) -> Result<Minted, ManagedRefusal> {
        let secret = ("x-identity-header", self.local.header());
        self.ask(ManagedForm::AppService, &[&[secret], headers].concat(), query)
    }
}

#[test]
fn both_forms_give_a_token_to_who_asks_in_their_way() {
    let fixture = Fixture::new();
    let minted = fixture.app_service(&[], QUERY).unwrap();
    assert_eq!((minted.resource.as_str(), minted.client_id.as_str()), ("https://dynamicsessions.io", LOCAL_APPLICATION));
    let json = minted.to_json(NOW);
    assert_eq!((&json["token_type"], &json["expires_on"]), (&"Bearer".into(), &minted.expires_on_s.to_string().into()));
    assert!(fixture.ask(ManagedForm::Imds, &[("metadata", "true")], QUERY).is_ok());
    assert!(fixture.app_service(&[("metadata", "true")], QUERY).is_ok(), "python sends both");
}

#[test]
fn without_its_secret_or_its_header_a_form_gives_none() {
    let fixture = Fixture::new();
    for headers in [&[][..], &[("x-identity-header", "wrong")], &[("x-identity-header", "")], &[("metadata", "true")]] {
        assert!(matches!(fixture.ask(ManagedForm::AppService, headers, QUERY), Err(ManagedRefusal::Secret)), "{headers:?}");
    }
    let secret = [("x-identity-header", fixture.local.header())];
    for headers in [&[][..], &[("metadata", "false")], &secret] {
        assert!(matches!(fixture.ask(ManagedForm::Imds, headers, QUERY), Err(ManagedRefusal::Metadata)), "{headers:?}");
    }
}

#[test]
fn what_was_forwarded_or_sent_to_another_name_gets_none() {
    let fixture = Fixture::new();
    for name in ["x-forwarded-for", "x-forwarded-host", "forwarded", "via"] {
        assert!(matches!(fixture.app_service(&[(name, "127.0.0.1")], QUERY), Err(ManagedRefusal::Forwarded(_))), "{name}");
    }
    for host in ["evil.example", "evil.example:2000", "127.0.0.1.evil.example", "10.0.0.1:2000", "evil@10.0.0.1", ""] {
        assert!(matches!(fixture.app_service(&[("host", host)], QUERY), Err(ManagedRefusal::Host)), "{host}");
    }
    for host in ["localhost:2000", "[::1]:2000", "127.0.0.1"] {
        assert!(fixture.app_service(&[("host", host)], QUERY).is_ok(), "{host}");
    }
}

#[test]
fn the_query_says_one_resource_and_one_version() {
    let fixture = Fixture::new();
    for (query, parameter) in [
        ("", "api-version"),
        ("resource=r", "api-version"),
        ("api-version=1", "resource"),
        ("api-version=1&resource=", "resource"),
        ("api-version=1&resource=a&resource=b", "resource"),
        ("api-version=1&api-version=2&resource=a", "api-version"),
        ("api-version=1&resource=a%0Ab", "resource"),
        ("api-version=1&resource=a&client_id=x", "client_id"),
        ("api-version=1&resource=a&client_id=", "client_id"),
    ] {
        let refusal = fixture.app_service(&[], query).unwrap_err();
        assert!(matches!(&refusal, ManagedRefusal::Parameter(of) if *of == parameter), "{query}: {refusal}");
    }
    let long = format!("api-version=1&resource={}", "r".repeat(MAX_RESOURCE_BYTES + 1));
    assert!(matches!(fixture.app_service(&[], &long), Err(ManagedRefusal::Parameter("resource"))));
}

#[test]
fn another_identity_is_another_application() {
    let fixture = Fixture::new();
    let query = format!("{QUERY}&client_id=11111111-2222-3333-4444-555555555555");
    assert_eq!(fixture.app_service(&[], &query).unwrap().client_id, "11111111-2222-3333-4444-555555555555");
}
