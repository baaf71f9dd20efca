//! Files of a session: looked at, sent, deleted.

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use futures_util::stream;
use greenroom_backends::{FileInfo, FileKind, FileReader, ListDepth};
use greenroom_wire::azure::{Directory, FileEntry, FilePath, Instant, Shape, content_disposition};

use super::{Asked, json, refused::Refused, turn::FilesTurn};
use crate::reply;

/// `GET /files`.
pub(super) async fn list(asked: &Asked, shape: Shape) -> Result<Response, Refused> {
    let directory = Directory::parse(asked.query.path()?.as_deref(), asked.pool_type())?;
    let depth = if asked.query.recursive()? { ListDepth::All } else { ListDepth::One };
    let turn = FilesTurn::take(asked, &asked.identifier()?).await?;
    let found = turn.files.list(directory.as_str(), depth).await;
    let found = found.map_err(|error| Refused::of_file(error, directory.as_str()))?;
    let entries: Vec<FileEntry> = found.into_iter().map(entry).collect();
    let mut response = json(StatusCode::OK, FileEntry::list(&entries, shape, &asked.version));
    turn.tell(&mut response);
    Ok(response)
}

/// `GET /files/{name}`.
pub(super) async fn get(asked: &Asked, name: &str, shape: Shape) -> Result<Response, Refused> {
    let path = path(asked, name)?;
    let turn = FilesTurn::take(asked, &asked.identifier()?).await?;
    let found = turn.files.stat(path.as_str()).await.map_err(|error| Refused::of_file(error, path.as_str()))?;
    let mut response = json(StatusCode::OK, entry(found).body(shape, &asked.version));
    turn.tell(&mut response);
    Ok(response)
}

/// `GET /files/{name}/content`, `/files/content/{name}` and `/python/downloadFile`. The session's turn is over as soon as
/// the file is open: a slow client holds up nobody.
pub(super) async fn download(asked: &Asked, name: &str) -> Result<Response, Refused> {
    let path = path(asked, name)?;
    let turn = FilesTurn::take(asked, &asked.identifier()?).await?;
    let reader = turn.files.read(path.as_str()).await.map_err(|error| Refused::of_file(error, path.as_str()))?;
    let (size, disposition) = (reader.info().size, content_disposition(&reader.info().name));
    let mut response = Response::new(content(reader));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_LENGTH, size.into());
    if let Ok(disposition) = HeaderValue::from_str(&disposition) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    turn.tell(&mut response);
    Ok(response)
}

/// `DELETE /files/{name}`: 204, and 200 with a message in the old shape.
pub(super) async fn delete(asked: &Asked, name: &str, shape: Shape) -> Result<Response, Refused> {
    let path = path(asked, name)?;
    let turn = FilesTurn::take(asked, &asked.identifier()?).await?;
    turn.files.delete(path.as_str()).await.map_err(|error| Refused::of_file(error, path.as_str()))?;
    let mut response = match shape {
        Shape::New => reply::empty(StatusCode::NO_CONTENT),
        Shape::Old | Shape::Legacy => json(StatusCode::OK, br#"{"message":"file deleted successfully"}"#.to_vec()),
    };
    turn.tell(&mut response);
    Ok(response)
}

/// A file that may exist, by its name and the directory in the query.
fn path(asked: &Asked, name: &str) -> Result<FilePath, Refused> {
    let directory = Directory::parse(asked.query.path()?.as_deref(), asked.pool_type())?;
    Ok(FilePath::to_read(&directory, name)?)
}

/// A file as it is told.
pub(super) fn entry(info: FileInfo) -> FileEntry {
    let seconds = i64::try_from(info.modified_unix_ns.div_euclid(1_000_000_000)).unwrap_or(0);
    let nanos = u32::try_from(info.modified_unix_ns.rem_euclid(1_000_000_000)).unwrap_or(0);
    FileEntry {
        name: info.name,
        directory: info.directory,
        is_directory: info.kind == FileKind::Directory,
        size: info.size,
        modified_at: Instant::from_unix(seconds, nanos),
    }
}

/// The file's bytes, read as the client takes them. A file that gets shorter meanwhile ends the connection: its client was
/// promised more.
fn content(reader: FileReader) -> Body {
    let pieces = stream::try_unfold(reader, |mut reader| async move {
        match reader.next().await {
            Ok(piece) => Ok(piece.map(|piece| (Bytes::from(piece), reader))),
            Err(error) => {
                tracing::info!(%error, "a download is broken off");
                Err(error)
            }
        }
    });
    Body::from_stream(pieces)
}
