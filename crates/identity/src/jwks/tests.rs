use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use serde_json::json;

use super::*;
use crate::fetch::KeysAt;

const TIMES: KeyTimes =
    KeyTimes { fresh: Duration::from_secs(100), stale: Duration::from_secs(1000), between: Duration::from_secs(10) };

fn jwk(kid: &str) -> serde_json::Value {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let point = pair.public_key_raw();
    let text = |part: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, part);
    json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": text(&point[1..33]), "y": text(&point[33..])})
}

fn set(kids: &[&str]) -> String {
    json!({"keys": kids.iter().map(|kid| jwk(kid)).collect::<Vec<_>>()}).to_string()
}

/// The decisions, with a clock that is told.
struct Told {
    cache: Cache,
    begun: Instant,
}

impl Told {
    fn new() -> Self {
        Self { cache: Cache::default(), begun: Instant::now() }
    }

    fn fetched(&mut self, at_s: u64, kids: Option<&[&str]>) {
        let now = self.begun + Duration::from_secs(at_s);
        self.cache.tried = Some(now);
        if let Some(kids) = kids {
            self.cache.keys = crate::jwk::read(set(kids).as_bytes()).unwrap();
            self.cache.fetched = Some(now);
        }
    }

    fn look(&self, kid: &str, at_s: u64) -> &'static str {
        match self.cache.look(kid, self.begun + Duration::from_secs(at_s), TIMES) {
            Look::Use(_) => "use",
            Look::Fetch => "fetch",
            Look::Unknown => "unknown",
            Look::NoKeys => "no keys",
        }
    }
}

#[test]
fn keys_are_fetched_when_they_are_needed_and_used_while_they_are_fresh() {
    let mut told = Told::new();
    assert_eq!(told.look("a", 0), "fetch");
    told.fetched(0, Some(&["a"]));
    assert_eq!([told.look("a", 0), told.look("a", 99), told.look("a", 100)], ["use", "use", "fetch"]);
}

#[test]
fn an_unknown_key_is_asked_for_but_not_all_the_time() {
    let mut told = Told::new();
    told.fetched(0, Some(&["a"]));
    assert_eq!([told.look("b", 1), told.look("b", 9), told.look("b", 10)], ["unknown", "unknown", "fetch"]);
    told.fetched(10, Some(&["a", "b"]));
    assert_eq!(told.look("b", 10), "use");
}

#[test]
fn a_key_that_its_issuer_withdrew_counts_no_longer() {
    let mut told = Told::new();
    told.fetched(0, Some(&["a"]));
    assert_eq!(told.look("a", 100), "fetch");
    told.fetched(100, Some(&["b"]));
    assert_eq!([told.look("a", 100), told.look("b", 100)], ["unknown", "use"]);
}

#[test]
fn old_keys_serve_while_the_issuer_is_down_but_not_for_ever() {
    let mut told = Told::new();
    told.fetched(0, Some(&["a"]));
    told.fetched(100, None);
    assert_eq!([told.look("a", 100), told.look("a", 109), told.look("a", 110)], ["use", "use", "fetch"]);
    told.fetched(999, None);
    assert_eq!([told.look("a", 999), told.look("a", 1000)], ["use", "no keys"]);
}

#[test]
fn an_issuer_that_is_down_from_the_start_is_not_asked_by_every_request() {
    let mut told = Told::new();
    told.fetched(0, None);
    assert_eq!([told.look("a", 1), told.look("a", 10)], ["no keys", "fetch"]);
}

/// An issuer that answers each request with this, and counts them.
fn issuer(answer: impl Fn() -> Vec<u8> + Send + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let mut request = [0; 4096];
            if stream.read(&mut request).is_ok_and(|read| read > 0) && stream.write_all(&answer()).is_err() {
                return;
            }
        }
    });
    (url, count)
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

fn remote(at: KeysAt) -> RemoteKeys {
    RemoteKeys::new(Fetcher::new(at).unwrap(), KeyTimes::default())
}

#[tokio::test]
async fn many_who_need_keys_at_once_cause_one_request() {
    let body = set(&["a"]);
    let (url, count) = issuer(move || ok(&body));
    let keys = Arc::new(remote(KeysAt::Url(url)));
    let all: Vec<_> = (0..50)
        .map(|_| {
            let keys = Arc::clone(&keys);
            tokio::spawn(async move { keys.key("a").await.map(|_| ()) })
        })
        .collect();
    for one in all {
        assert_eq!(one.await.unwrap(), Ok(()));
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
    // Names that somebody makes up cost no further ones, whatever they look like.
    for kid in ["b", "../../dev/null", "' OR 1=1", "http://127.0.0.1/"] {
        assert_eq!(keys.key(kid).await.unwrap_err(), NoKey::Unknown);
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_an_attempt_that_counts() {
    let body = set(&["a"]);
    let (url, count) = issuer(move || ok(&body));
    let keys = remote(KeysAt::Url(url));
    {
        let mut asked = Box::pin(keys.key("a"));
        let polled = futures_once(asked.as_mut()).await;
        assert!(polled.is_none(), "it waits for the issuer");
    }
    assert!(keys.key("a").await.is_ok());
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

/// Polls once.
async fn futures_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    std::future::poll_fn(|context| match std::pin::Pin::new(&mut future).poll(context) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn what_is_not_a_plain_answer_with_keys_gives_none() {
    let elsewhere = issuer(|| ok(&set(&["a"]))).0;
    let answers: Vec<(&str, Vec<u8>)> = vec![
        ("500", b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n".to_vec()),
        ("a redirect", format!("HTTP/1.1 302 X\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n").into_bytes()),
        ("no JSON", ok("keys")),
        ("no keys", ok("{\"keys\":[]}")),
        ("a symmetric key", ok("{\"keys\":[{\"kty\":\"oct\",\"kid\":\"a\",\"k\":\"c2VjcmV0\"}]}")),
        ("a huge answer", ok(&format!("{}{}", " ".repeat(1 << 20), set(&["a"])))),
        ("half an answer", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{".to_vec()),
    ];
    for (what, answer) in answers {
        let (url, count) = issuer(move || answer.clone());
        let keys = remote(KeysAt::Url(url.clone()));
        assert_eq!(keys.key("a").await.unwrap_err(), NoKey::Unavailable { url }, "{what}");
        assert_eq!(count.load(Ordering::SeqCst), 1, "{what}");
    }
}

#[tokio::test]
async fn a_discovery_document_leads_to_the_keys_if_it_is_of_the_right_issuer() {
    let keys_url = issuer(|| ok(&set(&["a"]))).0;
    for (said, works) in [("https://right", true), ("https://wrong", false)] {
        let document = json!({"issuer": said, "jwks_uri": keys_url}).to_string();
        let (url, _) = issuer(move || ok(&document));
        let keys = remote(KeysAt::Discovery { url, issuer: "https://right".to_owned() });
        assert_eq!(keys.key("a").await.is_ok(), works, "{said}");
    }
    // Not from where anybody on the way could change them.
    let document = json!({"issuer": "https://right", "jwks_uri": "http://login.example/keys"}).to_string();
    let (url, _) = issuer(move || ok(&document));
    assert!(remote(KeysAt::Discovery { url, issuer: "https://right".to_owned() }).key("a").await.is_err());
}
