use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Longer than any execution may take; a server that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request, sent as it stands: nothing is added but Host and Content-Length.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    /// Sent in pieces of so many bytes, its length unsaid.
    chunk_bytes: Option<usize>,
}

impl Request {
    /// Without body and headers.
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.to_owned(), target: target.to_owned(), headers: Vec::new(), body: None, chunk_bytes: None }
    }

    /// With this header, too.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// With this body, as `application/json`.
    pub fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json").body(body.to_string())
    }

    /// With its body sent in pieces of so many bytes (`Transfer-Encoding: chunked`).
    pub fn chunked(mut self, bytes: usize) -> Self {
        self.chunk_bytes = Some(bytes);
        self
    }

    /// The method.
    pub fn method(&self) -> &str {
        &self.method
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// As sent.
    pub headers: Vec<(String, String)>,
    /// As sent, chunks joined.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header, whatever its name's case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none: the suite's tests fail by panics.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in the answer {} {:?}", self.status, self.text()))
    }
}

/// A connection that stays open.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// Where nobody listens.
    pub fn open(host: &str) -> Result<Self> {
        let stream = TcpStream::connect(host).with_context(|| format!("cannot connect to {host}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::new(stream), host: host.to_owned() })
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// Where the server hangs up, is silent, or speaks no HTTP.
    pub fn send(&mut self, request: &Request) -> Result<Response> {
        // A server may answer and hang up before it has read all of a body that is too large.
        let sent = self.begin(request);
        let response = self.read(request.method == "HEAD");
        response.or_else(|error| sent.context("cannot send the request").and(Err(error)))
    }

    /// Sends a request, and leaves its answer unread.
    ///
    /// # Errors
    /// Where the server hangs up.
    pub fn begin(&mut self, request: &Request) -> Result<()> {
        let mut message = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", request.method, request.target, self.host).into_bytes();
        for (name, value) in &request.headers {
            write!(message, "{name}: {value}\r\n")?;
        }
        let body = request.body.as_deref().unwrap_or_default();
        match request.chunk_bytes {
            Some(bytes) => {
                message.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in body.chunks(bytes.max(1)) {
                    write!(message, "{:x}\r\n", chunk.len())?;
                    message.extend_from_slice(chunk);
                    message.extend_from_slice(b"\r\n");
                }
                message.extend_from_slice(b"0\r\n\r\n");
            }
            None => {
                if request.body.is_some() {
                    write!(message, "Content-Length: {}\r\n", body.len())?;
                }
                message.extend_from_slice(b"\r\n");
                message.extend_from_slice(body);
            }
        }
        self.reader.get_mut().write_all(&message)?;
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            bail!("the server hung up");
        }
        Ok(line.trim_end_matches("\r\n").to_owned())
    }

    fn read(&mut self, is_head: bool) -> Result<Response> {
        let line = self.line()?;
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
        let status = status.with_context(|| format!("no status line: {line:?}"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').with_context(|| format!("no header: {line:?}"))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut response = Response { status, headers, body: Vec::new() };
        if is_head || matches!(status, 204 | 304) || status < 200 {
            return Ok(response);
        }
        if response.header("transfer-encoding").is_some_and(|encoding| encoding.eq_ignore_ascii_case("chunked")) {
            loop {
                let line = self.line()?;
                let size = usize::from_str_radix(&line, 16).with_context(|| format!("no chunk size: {line:?}"))?;
                let mut chunk = vec![0; size];
                self.reader.read_exact(&mut chunk)?;
                self.line()?;
                if size == 0 {
                    return Ok(response);
                }
                response.body.append(&mut chunk);
            }
        }
        let length: usize = response.header("content-length").context("neither length nor chunks")?.parse()?;
        response.body = vec![0; length];
        self.reader.read_exact(&mut response.body)?;
        Ok(response)
    }
}
