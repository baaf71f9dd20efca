//! A request's body: read within a time, up to a size, inflated up to the same size.

use std::{
    io::Read,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use greenroom_wire::piston::BodyError;
use http_body_util::BodyExt;

/// What is too large is read on, without being kept, so that a client which sends all before it reads gets its
/// answer: closed at once, the connection would be reset. So many times the limit at most, ...
const DISCARDED: u64 = 4;
/// ... and only while it keeps coming.
const DISCARD_PAUSE: Duration = Duration::from_secs(2);

/// A value takes some 80 bytes as long as it is not known what it means, and two of them in JSON. No request needs so
/// many: arguments may be 1 MiB together, files are fewer.
const MAX_VALUES: usize = 1 << 18;

/// serde_json's limit, where it stops with an error.
const PARSED_DEPTH: usize = 128;

/// Bodies up to this size are not counted in [`Room`].
const UNCOUNTED: u64 = 16 * 1024;

/// Advice to who finds no room, seconds.
pub(crate) const BUSY_RETRY_S: u64 = 1;

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("the request body took longer than {} ms", .0.as_millis())]
    Slow(Duration),
    #[error("the request body ended early")]
    Cut,
    #[error("the request body is not valid {0}")]
    Compression(&'static str),
    #[error("the request body has more than {MAX_VALUES} values")]
    TooMany,
    #[error("the server is busy: the requests that it holds are too large together; try again in {BUSY_RETRY_S} s")]
    Busy,
}

impl Unreadable {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Unreadable::Body(error) => StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST),
            Unreadable::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Unreadable::TooMany => StatusCode::PAYLOAD_TOO_LARGE,
            Unreadable::Busy => StatusCode::TOO_MANY_REQUESTS,
            Unreadable::Cut | Unreadable::Compression(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// Whether more of the body may come that nobody waits for.
    fn leaves_the_rest(&self) -> bool {
        matches!(self, Unreadable::Busy | Unreadable::Body(BodyError::TooLarge { .. }))
    }

    /// Whether the connection cannot be used again.
    pub(crate) fn ends_connection(&self) -> bool {
        self.leaves_the_rest() || matches!(self, Unreadable::Slow(_) | Unreadable::Cut)
    }
}

/// How much all requests together may hold of their bodies. Cheap to share by reference.
#[derive(Debug)]
pub(crate) struct Room {
    left: AtomicU64,
}

impl Room {
    pub(crate) fn new(bytes: u64) -> Self {
        Self { left: AtomicU64::new(bytes) }
    }

    /// One who holds nothing of it yet.
    pub(crate) fn holder(&self) -> Held<'_> {
        Held { room: self, bytes: 0 }
    }
}

/// What one request holds of it; dropped, it is given back.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    room: &'a Room,
    bytes: u64,
}

impl Held<'_> {
    /// Holds so many bytes altogether. What is small is not counted: it finds room however large the others are,
    /// and a server has descriptors for only so many.
    pub(crate) fn hold(&mut self, bytes: u64) -> Result<(), Unreadable> {
        let more = if bytes > UNCOUNTED { bytes.saturating_sub(self.bytes) } else { 0 };
        if more > 0 {
            let taken = self.room.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(more));
            taken.map_err(|_| Unreadable::Busy)?;
            self.bytes += more;
        }
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.room.left.fetch_add(self.bytes, Ordering::AcqRel);
        }
    }
}

/// Reads a body whole. What announces itself as too large is refused before it is read.
pub(crate) async fn read<'a>(
    mut body: Body,
    headers: &HeaderMap,
    limit: u64,
    within: Duration,
    room: &'a Room,
) -> Result<(Bytes, Held<'a>), Unreadable> {
    let mut held = room.holder();
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let collected = if announced.is_some_and(|length| length > limit) {
        Err(BodyError::TooLarge { limit }.into())
    } else {
        tokio::time::timeout(within, collect(&mut body, limit, &mut held)).await.unwrap_or(Err(Unreadable::Slow(within)))
    };
    let raw = match collected {
        Ok(raw) => raw,
        Err(unreadable) => {
            if unreadable.leaves_the_rest() {
                discard_beside(body, headers, limit, within);
            }
            return Err(unreadable);
        }
    };
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?").trim().to_ascii_lowercase());
    let bytes = match encoding.as_deref() {
        None | Some("identity" | "") => raw,
        Some("gzip" | "x-gzip") => inflate(flate2::read::MultiGzDecoder::new(&*raw), limit, "gzip")?,
        // By RFC 9110 this is zlib's format; some clients send the bare stream.
        Some("deflate") if raw.first().is_some_and(|byte| byte & 0x0f == 8) => {
            inflate(flate2::read::ZlibDecoder::new(&*raw), limit, "deflate")?
        }
        Some("deflate") => inflate(flate2::read::DeflateDecoder::new(&*raw), limit, "deflate")?,
        Some(other) => return Err(BodyError::ContentEncoding(other.to_owned()).into()),
    };
    held.hold(bytes.len() as u64)?;
    if bytes.len() > MAX_VALUES && values(&bytes) > MAX_VALUES {
        return Err(Unreadable::TooMany);
    }
    Ok((bytes, held))
}

/// How many values of a JSON text are unfolded, about: every one but the first of its array or object has a comma
/// before it, and what is nested too deeply ends the parser's work, which then says so.
fn values(json: &[u8]) -> usize {
    // Text that starts with a NUL among its first bytes is UTF-16 or wider; where its strings end is not worth
    // telling: a comma is a comma then.
    let is_wide = json.iter().take(4).any(|&byte| byte == 0);
    let (mut count, mut depth, mut in_string, mut is_escaped) = (0, 0_usize, false, false);
    for &byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string && !is_wide,
            b',' if !in_string => count += 1,
            b'[' | b'{' if !in_string => (count, depth) = (count + 1, depth + 1),
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > PARSED_DEPTH {
            break;
        }
    }
    count
}

/// Reads a body on that nobody wants, beside the answer.
pub(crate) fn discard_beside(body: Body, headers: &HeaderMap, limit: u64, within: Duration) {
    // Who asks before sending has not sent it.
    if !headers.contains_key(header::EXPECT) && !axum::body::HttpBody::is_end_stream(&body) {
        tokio::spawn(tokio::time::timeout(within, discard(body, limit)));
    }
}

/// Reads what nobody wants.
async fn discard(mut body: Body, limit: u64) {
    let mut left = limit.saturating_mul(DISCARDED);
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(DISCARD_PAUSE, body.frame()).await {
        left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
        if left == 0 {
            break;
        }
    }
}

async fn collect(body: &mut Body, limit: u64, held: &mut Held<'_>) -> Result<Bytes, Unreadable> {
    let mut all = BytesMut::new();
    let mut first: Option<Bytes> = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Unreadable::Cut)?.into_data() else { continue };
        let so_far = all.len() + first.as_ref().map_or(0, Bytes::len);
        if (so_far + data.len()) as u64 > limit {
            return Err(BodyError::TooLarge { limit }.into());
        }
        held.hold((so_far + data.len()) as u64)?;
        // Most bodies are one piece: no copy then.
        match first.take() {
            None if all.is_empty() => first = Some(data),
            None => all.extend_from_slice(&data),
            Some(one) => {
                all.extend_from_slice(&one);
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| all.freeze()))
}

fn inflate(mut from: impl Read, limit: u64, name: &'static str) -> Result<Bytes, Unreadable> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells "exactly" from "too much"; a bomb is never unpacked further.
    from.by_ref().take(limit + 1).read_to_end(&mut bytes).map_err(|_| Unreadable::Compression(name))?;
    if bytes.len() as u64 > limit {
        return Err(BodyError::TooLarge { limit }.into());
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    async fn read_with(body: Vec<u8>, encoding: &'static str, limit: u64) -> Result<Bytes, Unreadable> {
        let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, encoding.parse().unwrap())]);
        let room = Room::new(1 << 20);
        read(Body::from(body), &headers, limit, Duration::from_secs(5), &room).await.map(|(bytes, _)| bytes)
    }

    #[tokio::test]
    async fn compressed_bodies_are_inflated_up_to_the_limit() {
        let text = vec![b'x'; 1000];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        zlib.write_all(&text).unwrap();
        let zlib = zlib.finish().unwrap();
        assert_eq!(read_with(gzip.clone(), "gzip", 1000).await.unwrap(), text);
        assert_eq!(read_with(zlib, "deflate", 1000).await.unwrap(), text);
        let bomb = read_with(gzip, "gzip", 999).await.unwrap_err();
        assert_eq!(bomb.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(read_with(b"no gzip".to_vec(), "gzip", 999).await.unwrap_err().status(), StatusCode::BAD_REQUEST);
        assert_eq!(read_with(Vec::new(), "br", 999).await.unwrap_err().status(), StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn a_body_of_exactly_the_limit_is_read() {
        assert_eq!(read_with(vec![b'x'; 10], "identity", 10).await.unwrap().len(), 10);
        assert_eq!(read_with(vec![b'x'; 11], "identity", 10).await.unwrap_err().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn what_announces_itself_as_too_large_is_not_read() {
        let headers = HeaderMap::from_iter([(header::CONTENT_LENGTH, 1_000_000.into())]);
        let never = Body::from_stream(futures_never());
        assert!(matches!(
            read(never, &headers, 10, Duration::from_secs(5), &Room::new(0)).await,
            Err(Unreadable::Body(BodyError::TooLarge { .. }))
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let never = Body::from_stream(futures_never());
        let (headers, room) = (HeaderMap::new(), Room::new(0));
        let read = read(never, &headers, 10, Duration::from_secs(5), &room).await;
        assert!(matches!(read, Err(Unreadable::Slow(_))));
    }

    #[tokio::test]
    async fn large_bodies_share_their_room_and_give_it_back() {
        let (room, headers) = (Room::new(100_000), HeaderMap::new());
        let with = |len: usize| read(Body::from(vec![b' '; len]), &headers, 1 << 20, Duration::from_secs(5), &room);
        let first = with(60_000).await.unwrap();
        assert_eq!(with(60_000).await.unwrap_err().status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(with(1000).await.is_ok(), "a small one always finds room");
        drop(first);
        assert!(with(60_000).await.is_ok());
        assert_eq!(room.left.into_inner(), 100_000);
    }

    #[tokio::test]
    async fn a_body_of_very_many_values_is_not_unfolded() {
        let crowd = [b"[".as_slice(), &b"0,".repeat(MAX_VALUES), b"0]"].concat();
        assert_eq!(read_with(crowd, "identity", 1 << 20).await.unwrap_err().status(), StatusCode::PAYLOAD_TOO_LARGE);
        let deep = b"[".repeat(MAX_VALUES + 1);
        assert!(read_with(deep, "identity", 1 << 20).await.is_ok(), "the parser stops soon, and says why");
        let text = [br#"["\""#.as_slice(), &b",".repeat(MAX_VALUES), br#""]"#].concat();
        assert!(read_with(text, "identity", 1 << 20).await.is_ok(), "commas in a string are no values");
    }

    #[test]
    fn values_are_counted_outside_of_strings() {
        assert_eq!(values(br#"{"a,\",[": [1, 2, {"b": ","}], "\\": 3}"#), 6);
        assert_eq!(values(&"[\"\",1]".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()), 2);
    }

    fn futures_never() -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> {
        futures_util::stream::pending()
    }
}
