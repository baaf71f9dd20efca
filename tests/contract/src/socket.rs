use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

const PATIENCE: Duration = Duration::from_secs(60);

/// What came over a WebSocket.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// A message, as sent.
    Text(String),
    /// The end: code and reason, 1005 and "" where the server gave none.
    Closed(u16, String),
}

/// A WebSocket to a server.
#[derive(Debug)]
pub struct Socket {
    socket: WebSocket<TcpStream>,
    protocol: Option<String>,
}

impl Socket {
    /// Connects to a path of the server at `host:port`, and offers these sub-protocols.
    ///
    /// # Errors
    /// Where the server does not upgrade.
    pub fn open(host: &str, path: &str, protocols: Option<&str>) -> Result<Self> {
        let stream = TcpStream::connect(host).with_context(|| format!("cannot connect to {host}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut request = format!("ws://{host}{path}").into_client_request()?;
        if let Some(protocols) = protocols {
            request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_str(protocols)?);
        }
        let (socket, response) = tungstenite::client(request, stream).map_err(|error| anyhow::anyhow!("no upgrade: {error}"))?;
        let protocol = response.headers().get("Sec-WebSocket-Protocol").and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Self { socket, protocol })
    }

    /// The sub-protocol that the server chose.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Sends a text frame.
    ///
    /// # Errors
    /// Where the server has gone.
    pub fn send(&mut self, text: &str) -> Result<()> {
        Ok(self.socket.send(Message::text(text))?)
    }

    /// Sends a JSON value in a text frame.
    ///
    /// # Errors
    /// Where the server has gone.
    pub fn send_json(&mut self, value: &Value) -> Result<()> {
        self.send(&value.to_string())
    }

    /// Sends a binary frame.
    ///
    /// # Errors
    /// Where the server has gone.
    pub fn send_binary(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.socket.send(Message::binary(bytes.to_vec()))?)
    }

    /// The next message or the close.
    ///
    /// # Errors
    /// Where the connection breaks without a close, or nothing comes.
    pub fn receive(&mut self) -> Result<Frame> {
        loop {
            match self.socket.read()? {
                Message::Text(text) => return Ok(Frame::Text(text.to_string())),
                Message::Close(frame) => {
                    return Ok(frame.map_or_else(
                        || Frame::Closed(1005, String::new()),
                        |frame| Frame::Closed(frame.code.into(), frame.reason.to_string()),
                    ));
                }
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// All messages up to the close, and the close.
    ///
    /// # Errors
    /// As [`Socket::receive`].
    pub fn rest(&mut self) -> Result<(Vec<String>, u16, String)> {
        let mut messages = Vec::new();
        loop {
            match self.receive()? {
                Frame::Text(text) => messages.push(text),
                Frame::Closed(code, reason) => return Ok((messages, code, reason)),
            }
        }
    }
}
