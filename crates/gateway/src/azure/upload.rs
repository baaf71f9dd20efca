//! Uploads, as clients really send them: in chunks, under a wrong content type, with `/mnt/data/` before the name.

use std::time::Duration;

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use futures_util::{StreamExt, stream};
use greenroom_backends::FILE_BYTES_MAX;
use greenroom_wire::azure::{self, AzureError, Directory, FileEntry, FilePath, PartName, Shape};
use multer::Multipart;

use super::{Asked, files::entry, json, refused::Refused, turn::FilesTurn};
use crate::body::{self, Held, Unreadable};

/// The largest upload: the largest file, and what surrounds it.
pub(super) const UPLOAD_BYTES: u64 = FILE_BYTES_MAX + 64 * 1024;
/// An upload may take as long as a body of any other kind for each so many bytes of it.
const BYTES_PER_TIME: u64 = 16 << 20;
/// The first line is looked for in so many bytes.
const START_BYTES: usize = 1024;
/// Files of one upload.
const MOST_FILES: usize = 100;

/// A file that was sent.
struct Sent {
    path: FilePath,
    content: Vec<Bytes>,
}

/// `POST /files`, `/files/upload` and `/python/uploadFile`.
pub(super) async fn upload(asked: &Asked, shape: Shape, body: Body) -> Result<Response, Refused> {
    let directory = Directory::parse(asked.query.path()?.as_deref(), asked.pool_type());
    let headers = &asked.parts.headers;
    let within = asked.gateway.config.body_timeout;
    let (sent, held) = match directory {
        Ok(directory) => read(body, headers, within, &directory, asked.state().uploads.holder()).await?,
        Err(error) => {
            body::discard_beside(body, headers, asked.gateway.config.body_bytes, within);
            return Err(error.into());
        }
    };
    let turn = FilesTurn::take(asked, &asked.identifier()?).await?;
    let mut written = Vec::with_capacity(sent.len());
    for Sent { path, content } in sent {
        let failed = |error| Refused::of_file(error, path.as_str());
        let mut writer = turn.files.create(path.as_str()).await.map_err(failed)?;
        for piece in content {
            writer.write(piece).await.map_err(failed)?;
        }
        written.push(entry(writer.finish().await.map_err(failed)?));
    }
    drop(held);
    let body = match (shape, written.as_slice()) {
        (Shape::New, [first, ..]) => first.body(shape, &asked.version),
        _ => FileEntry::list(&written, shape, &asked.version),
    };
    let mut response = json(StatusCode::OK, body);
    turn.tell(&mut response);
    Ok(response)
}

/// Reads all files of the body, before any session is taken.
async fn read<'a>(
    body: Body,
    headers: &HeaderMap,
    within: Duration,
    directory: &Directory,
    held: Held<'a>,
) -> Result<(Vec<Sent>, Held<'a>), Refused> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > UPLOAD_BYTES) {
        body::discard_beside(body, headers, UPLOAD_BYTES, within);
        return Err(AzureError::TooLarge { limit: FILE_BYTES_MAX }.into());
    }
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        body::discard_beside(body, headers, UPLOAD_BYTES, within);
        return Err(AzureError::Body { status: 415, message: "an upload must not be compressed".to_owned() }.into());
    }
    // So much per piece: what is large may take longer, and what is slow may not.
    let pieces = u32::try_from(announced.unwrap_or(UPLOAD_BYTES) / BYTES_PER_TIME + 1).unwrap_or(1);
    let whole = within.saturating_mul(pieces);
    match tokio::time::timeout(whole, parts(body, headers, directory, held)).await {
        Ok(read) => read,
        Err(_) => Err(Unreadable::Slow(whole).into()),
    }
}

async fn parts<'a>(
    body: Body,
    headers: &HeaderMap,
    directory: &Directory,
    mut held: Held<'a>,
) -> Result<(Vec<Sent>, Held<'a>), Refused> {
    let invalid = |message: String| Refused::from(AzureError::Validation(message));
    let mut incoming = body.into_data_stream();
    let mut start: Vec<Bytes> = Vec::new();
    let mut first = Vec::new();
    while first.len() < START_BYTES && !first.contains(&b'\n') {
        match incoming.next().await {
            Some(Ok(piece)) => {
                first.extend_from_slice(&piece[..piece.len().min(START_BYTES)]);
                start.push(piece);
            }
            Some(Err(_)) => return Err(Unreadable::Cut.into()),
            None => break,
        }
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = azure::boundary(content_type, &first);
    let boundary = boundary.ok_or_else(|| invalid("an upload must be multipart/form-data with a file in it".to_owned()))?;
    let all = stream::iter(start.into_iter().map(Ok)).chain(incoming);
    let mut multipart = Multipart::new(all, boundary);
    let broken = |error: multer::Error| match error {
        multer::Error::StreamReadFailed(_) | multer::Error::IncompleteStream => Unreadable::Cut.into(),
        error => invalid(format!("the multipart body cannot be read: {error}")),
    };
    let (mut sent, mut bytes) = (Vec::<Sent>::new(), 0_u64);
    while let Some(mut field) = multipart.next_field().await.map_err(broken)? {
        let disposition = field.headers().get(header::CONTENT_DISPOSITION).map(|value| value.as_bytes()).unwrap_or_default();
        let Some(name) = PartName::parse(disposition).file else {
            // Whatever else a form has is not asked for.
            while field.chunk().await.map_err(broken)?.is_some() {}
            continue;
        };
        if sent.len() == MOST_FILES {
            return Err(invalid(format!("an upload may have {MOST_FILES} files")));
        }
        let path = FilePath::to_write(directory, &name)?;
        let mut content = Vec::new();
        while let Some(piece) = field.chunk().await.map_err(broken)? {
            bytes += piece.len() as u64;
            if bytes > FILE_BYTES_MAX {
                return Err(AzureError::TooLarge { limit: FILE_BYTES_MAX }.into());
            }
            held.hold(bytes)?;
            content.push(piece);
        }
        // Of two files of one name, the last counts.
        sent.retain(|before| before.path != path);
        sent.push(Sent { path, content });
    }
    if sent.is_empty() {
        return Err(invalid("the upload has no file: send it in the field 'file', with a filename".to_owned()));
    }
    Ok((sent, held))
}
