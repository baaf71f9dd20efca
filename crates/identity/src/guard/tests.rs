use std::sync::Mutex;

use http::HeaderValue;

use super::*;
use crate::{Grant, KeyRecord, KeyStoreError, Pools, SESSION_AUDIENCES, Stored, TokenRefusal};

/// Records in memory; what was noted as used.
#[derive(Default)]
struct Memory {
    records: Mutex<Vec<KeyRecord>>,
    used: Mutex<Vec<String>>,
    broken: bool,
}

impl KeyStore for Memory {
    fn of_secret(&self, secret_sha256: [u8; 32]) -> Stored<'_, Option<KeyRecord>> {
        Box::pin(async move {
            if self.broken {
                return Err(KeyStoreError("broken".to_owned()));
            }
            Ok(self.records.lock().unwrap().iter().find(|record| record.secret_sha256 == secret_sha256).cloned())
        })
    }

    fn used(&self, id: &str, now_s: u64) {
        self.used.lock().unwrap().push(id.to_owned());
        for record in self.records.lock().unwrap().iter_mut().filter(|record| record.id == id) {
            record.last_used_at_s = Some(now_s);
        }
    }
}

fn in_pool(permission: Permission, pool: &str) -> Grants {
    Grants(vec![Grant { permission, pools: Pools::from(vec![pool.to_owned()]) }])
}

fn with_key(grants: Grants) -> (Arc<Memory>, ApiKey) {
    let key = ApiKey::new().unwrap();
    let memory = Memory::default();
    memory.records.lock().unwrap().push(key.record("n", grants, 1));
    (Arc::new(memory), key)
}

fn guard_of(memory: &Arc<Memory>) -> Guard {
    Guard::new(GuardConfig { keys: Some(Arc::clone(memory) as Arc<dyn KeyStore>), ..GuardConfig::default() })
}

fn bearer(credential: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {credential}")).unwrap());
    headers
}

const POOL: Target<'static> = Target::Pool("p");

#[tokio::test]
async fn an_open_guard_lets_everybody_in_whatever_they_send() {
    let open = Guard::open();
    assert!(!open.asks());
    for headers in [HeaderMap::new(), bearer("nonsense"), bearer("gr_nonsense")] {
        let admitted = open.check(&headers, Permission::Manage, Target::Server).await.unwrap();
        assert_eq!(admitted.subject, Subject::Anonymous);
    }
}

#[tokio::test]
async fn a_key_opens_what_it_is_for_and_nothing_else() {
    let (memory, key) = with_key(in_pool(Permission::Execute, "p"));
    let guard = guard_of(&memory);
    let headers = bearer(&key.reveal());
    let admitted = guard.check(&headers, Permission::Execute, POOL).await.unwrap();
    assert_eq!(admitted.subject, Subject::Key { id: key.id().to_owned(), name: "n".to_owned() });
    assert!(admitted.may(Permission::Execute, POOL) && !admitted.may(Permission::Execute, Target::Pool("q")));
    for (permission, target) in
        [(Permission::Manage, POOL), (Permission::Execute, Target::Pool("q")), (Permission::Execute, Target::Server)]
    {
        let refusal = guard.check(&headers, permission, target).await.unwrap_err();
        assert_eq!(refusal.status(), 403, "{refusal}");
        assert!(refusal.www_authenticate().is_some_and(|value| value.contains("insufficient_scope")));
    }
}

#[tokio::test]
async fn who_brings_nothing_or_what_is_not_taken_is_told_so() {
    let (memory, _) = with_key(Grants::all());
    let guard = guard_of(&memory);
    assert_eq!(guard.check(&HeaderMap::new(), Permission::Execute, POOL).await.unwrap_err(), Refusal::NoCredential);
    assert_eq!(guard.check(&bearer("a.b.c"), Permission::Execute, POOL).await.unwrap_err(), Refusal::TokensNotTaken);
    let directory = tempfile::tempdir().unwrap();
    let tokens_only = local_guard(&directory, None);
    let key = ApiKey::new().unwrap().reveal();
    assert_eq!(tokens_only.check(&bearer(&key), Permission::Execute, POOL).await.unwrap_err(), Refusal::KeysNotTaken);
}

#[tokio::test]
async fn a_revoked_key_is_refused_from_the_next_request_on() {
    let (memory, key) = with_key(Grants::all());
    let guard = guard_of(&memory);
    let headers = bearer(&key.reveal());
    assert!(guard.check(&headers, Permission::Execute, POOL).await.is_ok());
    memory.records.lock().unwrap()[0].revoked_at_s = Some(2);
    let refusal = guard.check(&headers, Permission::Execute, POOL).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Key(KeyRefusal::Revoked { .. })), "{refusal}");
}

#[tokio::test]
async fn the_caller_is_not_told_what_is_wrong_with_a_key_and_the_log_is() {
    let (memory, key) = with_key(Grants::all());
    memory.records.lock().unwrap()[0].revoked_at_s = Some(2);
    let guard = guard_of(&memory);
    let unknown = ApiKey::new().unwrap().reveal();
    let mut said = Vec::new();
    let mut logged = Vec::new();
    for text in [key.reveal(), unknown, "gr_nonsense".to_owned()] {
        let refusal = guard.check(&bearer(&text), Permission::Execute, POOL).await.unwrap_err();
        assert_eq!(refusal.status(), 401);
        said.push(refusal.said());
        logged.push(refusal.to_string());
    }
    assert!(said.iter().all(|one| *one == said[0]), "{said:?}");
    assert!(logged[0] != logged[1] && logged[1] != logged[2], "{logged:?}");
}

#[tokio::test]
async fn the_last_use_is_noted_but_not_for_every_request() {
    let (memory, key) = with_key(Grants::all());
    let guard = guard_of(&memory);
    for _ in 0..5 {
        guard.check(&bearer(&key.reveal()), Permission::Execute, POOL).await.unwrap();
    }
    assert_eq!(*memory.used.lock().unwrap(), [key.id()]);
    memory.records.lock().unwrap()[0].last_used_at_s = Some(now().as_secs() - LAST_USE_S);
    guard.check(&bearer(&key.reveal()), Permission::Execute, POOL).await.unwrap();
    assert_eq!(memory.used.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_store_that_fails_lets_nobody_in_and_is_our_fault() {
    let broken: Arc<dyn KeyStore> = Arc::new(Memory { broken: true, ..Memory::default() });
    let guard = Guard::new(GuardConfig { keys: Some(broken), ..GuardConfig::default() });
    let refusal = guard.check(&bearer(&ApiKey::new().unwrap().reveal()), Permission::Execute, POOL).await.unwrap_err();
    assert_eq!((refusal.status(), refusal.retry_after_s()), (503, Some(1)));
    assert!(!refusal.said().contains("broken"));
}

fn local_guard(directory: &tempfile::TempDir, keys: Option<Arc<dyn KeyStore>>) -> Guard {
    let local = LocalIssuer::open(directory.path(), "http://127.0.0.1:2000").unwrap();
    let roles = vec![RoleRule {
        claim: crate::RoleClaim::AppId,
        value: OTHER.to_owned(),
        permissions: vec![Permission::Execute],
        pools: vec!["p".to_owned()].into(),
    }];
    Guard::new(GuardConfig { keys, roles, ..GuardConfig::default() }.trusting(Arc::new(local)))
}

const OTHER: &str = "11111111-2222-3333-4444-555555555555";
const STRANGER: &str = "11111111-2222-3333-4444-666666666666";

#[tokio::test]
async fn tokens_give_what_their_roles_give() {
    let directory = tempfile::tempdir().unwrap();
    let guard = local_guard(&directory, None);
    let token =
        |client: Option<&str>| bearer(&guard.local().unwrap().mint(SESSION_AUDIENCES[0], client, now()).unwrap().access_token);
    assert!(guard.check(&token(None), Permission::Manage, Target::Server).await.is_ok(), "this machine's own identity");
    assert!(guard.check(&token(Some(OTHER)), Permission::Execute, POOL).await.is_ok());
    assert_eq!(guard.check(&token(Some(OTHER)), Permission::Manage, POOL).await.unwrap_err().status(), 403);
    assert_eq!(guard.check(&token(Some(OTHER)), Permission::Execute, Target::Server).await.unwrap_err().status(), 403);
    assert_eq!(guard.check(&token(Some(STRANGER)), Permission::Execute, POOL).await.unwrap_err().status(), 403);
}

#[tokio::test]
async fn an_issuer_that_only_answers_changes_nothing_for_an_open_guard() {
    let directory = tempfile::tempdir().unwrap();
    let local = Arc::new(LocalIssuer::open(directory.path(), "http://127.0.0.1:2000").unwrap());
    let guard = Guard::new(GuardConfig { local: Some(local), ..GuardConfig::default() });
    assert!(!guard.asks() && guard.local().is_some());
    assert!(guard.check(&HeaderMap::new(), Permission::Execute, POOL).await.is_ok());
}

#[tokio::test]
async fn a_token_for_the_resource_manager_manages_and_does_not_run_code() {
    let directory = tempfile::tempdir().unwrap();
    let guard = local_guard(&directory, None);
    let token = bearer(&guard.local().unwrap().mint("https://management.azure.com/", None, now()).unwrap().access_token);
    assert!(guard.check(&token, Permission::Manage, POOL).await.is_ok());
    assert_eq!(guard.check(&token, Permission::Execute, POOL).await.unwrap_err(), TokenRefusal::Audience.into());
}

#[tokio::test]
async fn keys_and_tokens_are_taken_side_by_side() {
    let (memory, key) = with_key(Grants::all());
    let directory = tempfile::tempdir().unwrap();
    let guard = local_guard(&directory, Some(memory));
    let token = guard.local().unwrap().mint(SESSION_AUDIENCES[1], None, now()).unwrap().access_token;
    for credential in [key.reveal(), token] {
        assert!(guard.check(&bearer(&credential), Permission::Execute, POOL).await.is_ok());
    }
    let issued_elsewhere = local_guard(&tempfile::tempdir().unwrap(), None);
    let forged = issued_elsewhere.local().unwrap().mint(SESSION_AUDIENCES[1], None, now()).unwrap().access_token;
    assert_eq!(guard.check(&bearer(&forged), Permission::Execute, POOL).await.unwrap_err(), TokenRefusal::KidUnknown.into());
}

#[tokio::test]
async fn a_token_of_an_issuer_that_is_not_trusted_is_not_looked_into() {
    let directory = tempfile::tempdir().unwrap();
    let guard = local_guard(&directory, None);
    let other = LocalIssuer::open(directory.path(), "http://127.0.0.1:2001").unwrap();
    let token = other.mint(SESSION_AUDIENCES[0], None, now()).unwrap().access_token;
    assert_eq!(guard.check(&bearer(&token), Permission::Execute, POOL).await.unwrap_err(), TokenRefusal::Issuer.into());
}

#[tokio::test]
async fn one_that_is_refused_has_nothing_in_hand() {
    let (memory, key) = with_key(in_pool(Permission::Execute, "p"));
    let one = std::num::NonZeroU32::MIN;
    let limits = SubjectLimits { requests_per_second: one, burst: std::num::NonZeroU32::MAX, concurrent: one, anonymous: false };
    let guard = Guard::new(GuardConfig { keys: Some(memory), limits: Some(limits), ..GuardConfig::default() });
    let headers = bearer(&key.reveal());
    assert_eq!(guard.check(&headers, Permission::Manage, POOL).await.unwrap_err().status(), 403);
    let admitted = guard.check(&headers, Permission::Execute, POOL).await.unwrap();
    assert_eq!(guard.check(&headers, Permission::Execute, POOL).await.unwrap_err().status(), 429);
    drop(admitted);
    assert!(guard.check(&headers, Permission::Execute, POOL).await.is_ok());
}
