//! A request's body: read within a time, up to a size, inflated up to the same size.

use std::{io::Read, time::Duration};

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
}

impl Unreadable {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Unreadable::Body(error) => StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST),
            Unreadable::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Unreadable::Cut | Unreadable::Compression(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// Whether the rest of the request is not read, so that the connection cannot be used again.
    pub(crate) fn ends_connection(&self) -> bool {
        matches!(self, Unreadable::Slow(_) | Unreadable::Cut | Unreadable::Body(BodyError::TooLarge { .. }))
    }
}

/// Reads a body whole. What announces itself as too large is refused before it is read.
pub(crate) async fn read(mut body: Body, headers: &HeaderMap, limit: u64, within: Duration) -> Result<Bytes, Unreadable> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) {
        // Who asks first has sent nothing yet.
        if !headers.contains_key(header::EXPECT) {
            tokio::spawn(tokio::time::timeout(within, discard(body, limit)));
        }
        return Err(BodyError::TooLarge { limit }.into());
    }
    let raw = match tokio::time::timeout(within, collect(&mut body, limit)).await {
        Ok(Ok(raw)) => raw,
        Ok(Err(unreadable)) => {
            if matches!(unreadable, Unreadable::Body(BodyError::TooLarge { .. })) {
                tokio::spawn(tokio::time::timeout(within, discard(body, limit)));
            }
            return Err(unreadable);
        }
        Err(_) => return Err(Unreadable::Slow(within)),
    };
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?").trim().to_ascii_lowercase());
    match encoding.as_deref() {
        None | Some("identity" | "") => Ok(raw),
        Some("gzip" | "x-gzip") => inflate(flate2::read::MultiGzDecoder::new(&*raw), limit, "gzip"),
        // By RFC 9110 this is zlib's format; some clients send the bare stream.
        Some("deflate") if raw.first().is_some_and(|byte| byte & 0x0f == 8) => {
            inflate(flate2::read::ZlibDecoder::new(&*raw), limit, "deflate")
        }
        Some("deflate") => inflate(flate2::read::DeflateDecoder::new(&*raw), limit, "deflate"),
        Some(other) => Err(BodyError::ContentEncoding(other.to_owned()).into()),
    }
}

/// Reads what nobody wants, beside the answer.
async fn discard(mut body: Body, limit: u64) {
    let mut left = limit.saturating_mul(DISCARDED);
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(DISCARD_PAUSE, body.frame()).await {
        left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
        if left == 0 {
            break;
        }
    }
}

async fn collect(body: &mut Body, limit: u64) -> Result<Bytes, Unreadable> {
    let mut all = BytesMut::new();
    let mut first: Option<Bytes> = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Unreadable::Cut)?.into_data() else { continue };
        let so_far = all.len() + first.as_ref().map_or(0, Bytes::len);
        if (so_far + data.len()) as u64 > limit {
            return Err(BodyError::TooLarge { limit }.into());
        }
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
        read(Body::from(body), &headers, limit, Duration::from_secs(5)).await
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
            read(never, &headers, 10, Duration::from_secs(5)).await,
            Err(Unreadable::Body(BodyError::TooLarge { .. }))
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let never = Body::from_stream(futures_never());
        assert!(matches!(read(never, &HeaderMap::new(), 10, Duration::from_secs(5)).await, Err(Unreadable::Slow(_))));
    }

    fn futures_never() -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> {
        futures_util::stream::pending()
    }
}
