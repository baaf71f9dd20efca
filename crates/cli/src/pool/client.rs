//! A running server, asked over HTTP.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context, bail};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use crate::{commands::ServerArguments, config::Loaded};

const CONNECT: Duration = Duration::from_secs(5);
/// A pool that is deleted waits for its sessions to end.
const ANSWER: Duration = Duration::from_secs(120);

/// The way to a server.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<String>,
}

impl Client {
    /// The server that is named, or the one that the configuration would start.
    pub fn new(loaded: &Loaded, arguments: &ServerArguments) -> anyhow::Result<Self> {
        let given = arguments.server.clone().unwrap_or_else(|| {
            let listen = loaded.settings.listen;
            // "Everywhere" is no address to go to.
            let ip = match listen.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            };
            format!("http://{}", std::net::SocketAddr::new(ip, listen.port()))
        });
        let expected = || format!("--server is {given:?}: expected a URL as http://127.0.0.1:2000");
        let base = Url::parse(&given).with_context(expected)?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            bail!(expected());
        }
        greenroom_identity::install_crypto();
        // A proxy on the way to a server of one's own is never meant.
        let http = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT).timeout(ANSWER).build()?;
        Ok(Self { http, base, key: arguments.key.clone() })
    }

    /// Asks for a path; the answer's JSON, or null where it has none.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub async fn ask(&self, method: Method, path: &[&str], body: Option<&Value>) -> anyhow::Result<Value> {
        self.send(method, path, &[], body).await
    }

    /// [`Client::ask`] with parameters.
    pub async fn ask_about(&self, method: Method, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<Value> {
        self.send(method, path, query, None).await
    }

    async fn send(&self, method: Method, path: &[&str], query: &[(&str, &str)], body: Option<&Value>) -> anyhow::Result<Value> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.request(method, url);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                let error = anyhow::Error::new(error);
                // The client has no word of its own for it.
                let is_certificate = error.chain().any(|cause| cause.to_string().contains("certificate"));
                let is_connect = error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect);
                let what = match (is_certificate, is_connect) {
                    (true, _) => {
                        "is not trusted: SSL_CERT_FILE=tls/certificate.pem (of the server's data directory) trusts its own certificate"
                    }
                    (false, true) => "does not answer: start one (greenroom serve), or name another with --server",
                    (false, false) => "cannot be asked",
                };
                return Err(error.context(format!("the server at {} {what}", self.base)));
            }
        };
        let status = response.status();
        let bytes = response.bytes().await.with_context(|| format!("reading what {} answers", self.base))?;
        let value: Option<Value> = serde_json::from_slice(&bytes).ok();
        if status.is_success() && (bytes.is_empty() || value.is_some()) {
            return Ok(value.unwrap_or_default());
        }
        let message = value.as_ref().and_then(|value| value["message"].as_str());
        let Some(message) = message else { bail!("{} answers {status}: is it a Greenroom server of this version?", self.base) };
        match status {
            StatusCode::UNAUTHORIZED => bail!("{message}; give a key with --key or GREENROOM_KEY (greenroom keys create)"),
            _ => bail!("{message}"),
        }
    }
}
