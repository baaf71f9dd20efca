//! An issuer that can be made to misbehave, and a server that trusts it.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use greenroom_contract::{Request, Response};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};

use crate::server::{Server, program};

/// What the tokens are for.
pub const AUDIENCE: &str = "https://dynamicsessions.io";
/// A private key of tests.
const RSA: &[u8] = include_bytes!("rsa.pem");
/// Its public half.
pub const RSA_PUBLIC: &[u8] = include_bytes!("rsa.pub.pem");

/// What the issuer answers when it is asked for its keys.
#[derive(Clone)]
pub enum Published {
    Keys(Vec<Value>),
    /// Exactly this, headers too.
    Raw(String),
    /// Nothing, for longer than anybody waits.
    Silence,
}

pub struct Issuer {
    pub name: String,
    published: Arc<Mutex<Published>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Issuer {
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let name = format!("http://{}", listener.local_addr()?);
        let issuer =
            Self { name: name.clone(), published: Arc::new(Mutex::new(Published::Keys(Vec::new()))), asked: Arc::default() };
        let (published, asked) = (Arc::clone(&issuer.published), Arc::clone(&issuer.asked));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (name, published, asked) = (name.clone(), Arc::clone(&published), Arc::clone(&asked));
                // Who went away does not hear the answer; the test sees that in what the server did.
                thread::spawn(move || answer(stream, &name, &published, &asked).ok());
            }
        });
        Ok(issuer)
    }

    pub fn publish(&self, published: Published) {
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = published;
    }

    pub fn publish_keys(&self, signers: &[&Signer]) {
        self.publish(Published::Keys(signers.iter().map(|signer| signer.jwk.clone()).collect()));
    }

    /// The paths that it was asked for.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often it was asked for its keys.
    pub fn asked_for_keys(&self) -> usize {
        self.asked().iter().filter(|path| *path == "/keys").count()
    }

    /// Claims that are as they should be.
    pub fn claims(&self) -> Value {
        let now = now_s();
        json!({"iss": self.name, "aud": AUDIENCE, "sub": "tester", "iat": now, "nbf": now, "exp": now + 600})
    }

    /// Those with some changed; a null takes one away.
    pub fn claims_with(&self, changes: &Value) -> Value {
        let mut claims = self.claims();
        for (name, value) in changes.as_object().into_iter().flatten() {
            claims[name] = value.clone();
            if value.is_null() {
                claims.as_object_mut().map(|claims| claims.remove(name));
            }
        }
        claims
    }
}

fn answer(mut stream: TcpStream, name: &str, published: &Mutex<Published>, asked: &Mutex<Vec<String>>) -> Result<()> {
    let mut request = [0; 8192];
    let read = stream.read(&mut request)?;
    let text = String::from_utf8_lossy(&request[..read]).into_owned();
    let path = text.split(' ').nth(1).context("no request")?.to_owned();
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
    let body = if path == "/keys" {
        match published.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            Published::Keys(keys) => json!({ "keys": keys }).to_string(),
            Published::Raw(raw) => return Ok(stream.write_all(raw.as_bytes())?),
            Published::Silence => {
                thread::sleep(Duration::from_secs(20));
                return Ok(());
            }
        }
    } else {
        json!({"issuer": name, "jwks_uri": format!("{name}/keys")}).to_string()
    };
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())?;
    Ok(())
}

pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A private key with its name.
pub struct Signer {
    pub kid: String,
    algorithm: Algorithm,
    key: EncodingKey,
    pub jwk: Value,
}

impl Signer {
    /// A new key on P-256.
    pub fn elliptic(kid: &str) -> Result<Self> {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        Self::of(kid, Algorithm::ES256, EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes())?)
    }

    /// The RSA key of tests.
    pub fn rsa(kid: &str) -> Result<Self> {
        Self::of(kid, Algorithm::RS256, EncodingKey::from_rsa_pem(RSA)?)
    }

    fn of(kid: &str, algorithm: Algorithm, key: EncodingKey) -> Result<Self> {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm)?)?;
        jwk["kid"] = kid.into();
        jwk["use"] = "sig".into();
        Ok(Self { kid: kid.to_owned(), algorithm, key, jwk })
    }

    /// A token as it should be.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        self.sign_as(&json!({"alg": self.jwk["alg"], "kid": self.kid, "typ": "JWT"}), claims)
    }

    /// A token with this header, whatever it says, and a true signature.
    pub fn sign_as(&self, header: &Value, claims: &Value) -> Result<String> {
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &self.key, self.algorithm)?;
        Ok(format!("{signed}.{signature}"))
    }
}

/// A token with this header and a symmetric signature.
pub fn sign_with_secret(secret: &[u8], kid: &str, claims: &Value) -> Result<String> {
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::HS256) };
    Ok(jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret))?)
}

/// Part of a token.
pub fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A server that trusts the issuer; `tester` may run code everywhere, `elsewhere` in pool `elsewhere`, `manager` may manage.
pub fn trusting(issuer: &Issuer, settings: &[&str], test: impl FnOnce(&Server) -> Result<()>) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("config.toml");
    let role = |sub: &str, allow: &str, pool: &str| {
        format!("[[identity.roles]]\nclaim = \"sub\"\nvalue = \"{sub}\"\nallow = [\"{allow}\"]\npools = [\"{pool}\"]\n")
    };
    let text = format!(
        "[identity]\nmode = \"oidc\"\n[identity.oidc]\nissuer = \"{}\"\n{}{}{}",
        issuer.name,
        role("tester", "execute", "*"),
        role("elsewhere", "execute", "elsewhere"),
        role("manager", "manage", "*"),
    );
    std::fs::write(&file, text)?;
    let path = file.to_str().context("a path that is no text")?;
    let set = settings.iter().flat_map(|setting| ["--set", setting]);
    let arguments: Vec<&str> = ["--config", path].into_iter().chain(set).collect();
    Server::during(&arguments, test)
}

/// Runs a program with a credential.
pub fn run_with(server: &Server, authorization: &str) -> Result<Response> {
    let request = Request::new("POST", "/api/v2/execute").header("Authorization", authorization);
    server.send(&request.json(&program("bash", "echo let in")))
}

/// The token lets its holder in.
pub fn lets_in(server: &Server, token: &str, what: &str) -> Result<()> {
    let response = run_with(server, &format!("Bearer {token}"))?;
    ensure!(response.status == 200 && response.text().contains("let in"), "{what}: {} {}", response.status, response.text());
    Ok(())
}

/// The token does not, and the answer says in a header how one is let in.
pub fn keeps_out(server: &Server, token: &str, what: &str) -> Result<()> {
    let response = run_with(server, &format!("Bearer {token}"))?;
    let text = response.text();
    ensure!(response.status == 401 && !text.contains("let in"), "{what}: {} {text}", response.status);
    ensure!(response.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")), "{what}: no WWW-Authenticate");
    Ok(())
}
