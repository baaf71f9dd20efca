use serde::Serialize;

use super::{
    api_version::{ApiVersion, Shape},
    instant::Instant,
};

/// A file or a directory of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Its own name, without directories.
    pub name: String,
    /// The directory it is in, below `/mnt/data`; empty at the top.
    pub directory: String,
    /// Whether it is a directory itself.
    pub is_directory: bool,
    /// Bytes.
    pub size: u64,
    /// The last change of its content.
    pub modified_at: Instant,
}

impl FileEntry {
    /// The body that tells of one file: of an upload, or of a look at it. The old shapes tell it as a list.
    pub fn body(&self, shape: Shape, version: &ApiVersion) -> Vec<u8> {
        match shape {
            Shape::New => written(&self.new_shape(version)),
            Shape::Old | Shape::Legacy => Self::list(std::slice::from_ref(self), shape, version),
        }
    }

    /// The body that tells of several. The old shapes know no directories, and tell of none.
    pub fn list(entries: &[Self], shape: Shape, version: &ApiVersion) -> Vec<u8> {
        let files = || entries.iter().filter(|entry| !entry.is_directory);
        match shape {
            Shape::New => {
                #[derive(Serialize)]
                #[serde(rename_all = "camelCase")]
                struct Body<'a> {
                    value: Vec<NewShape<'a>>,
                    next_link: Option<String>,
                }
                written(&Body { value: entries.iter().map(|entry| entry.new_shape(version)).collect(), next_link: None })
            }
            Shape::Old => {
                #[derive(Serialize)]
                struct Body<'a> {
                    #[serde(rename = "$id")]
                    id: &'static str,
                    value: Vec<Item<'a>>,
                }
                #[derive(Serialize)]
                struct Item<'a> {
                    #[serde(rename = "$id")]
                    id: String,
                    properties: Properties<'a>,
                }
                #[derive(Serialize)]
                #[serde(rename_all = "camelCase")]
                struct Properties<'a> {
                    #[serde(rename = "$id")]
                    id: String,
                    filename: String,
                    size: u64,
                    last_modified_time: &'a Instant,
                }
                let item = |(index, entry): (usize, &'_ FileEntry)| (index * 2 + 2, entry.path());
                let value = files().enumerate().map(|(index, entry)| {
                    let (id, filename) = item((index, entry));
                    Item {
                        id: id.to_string(),
                        properties: Properties {
                            id: (id + 1).to_string(),
                            filename,
                            size: entry.size,
                            last_modified_time: &entry.modified_at,
                        },
                    }
                });
                written(&Body { id: "1", value: value.collect() })
            }
            Shape::Legacy => {
                #[derive(Serialize)]
                struct Body<'a> {
                    #[serde(rename = "$id")]
                    id: &'static str,
                    #[serde(rename = "$values")]
                    values: Vec<Item<'a>>,
                }
                #[derive(Serialize)]
                struct Item<'a> {
                    #[serde(rename = "$id")]
                    id: String,
                    filename: String,
                    size: u64,
                    last_modified_time: &'a Instant,
                }
                let values = files().enumerate().map(|(index, entry)| Item {
                    id: (index + 2).to_string(),
                    filename: entry.path(),
                    size: entry.size,
                    last_modified_time: &entry.modified_at,
                });
                written(&Body { id: "1", values: values.collect() })
            }
        }
    }

    /// The name with its directory.
    fn path(&self) -> String {
        if self.directory.is_empty() { self.name.clone() } else { format!("{}/{}", self.directory, self.name) }
    }

    fn new_shape(&self, version: &ApiVersion) -> NewShape<'_> {
        NewShape {
            name: &self.name,
            r#type: if self.is_directory { "directory" } else { "file" },
            content_type: (!self.is_directory).then(|| content_type(&self.name)),
            size_in_bytes: if self.is_directory { 0 } else { self.size },
            last_modified_at: &self.modified_at,
            directory: version.has_directories().then_some(&self.directory),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewShape<'a> {
    name: &'a str,
    r#type: &'static str,
    content_type: Option<&'static str>,
    size_in_bytes: u64,
    last_modified_at: &'a Instant,
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<&'a str>,
}

/// What a file of this name usually holds.
pub fn content_type(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default();
    match extension.as_str() {
        "txt" | "log" => "text/plain; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "htm" | "html" => "text/html; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "py" => "text/x-python; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "xml" => "application/xml",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        "webp" => "image/webp",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        _ => "application/octet-stream",
    }
}

/// The value of Content-Disposition for a download (RFC 6266): a program may have put anything into the name.
pub fn content_disposition(name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%') || c == ' ' { c } else { '_' }).collect();
    if plain == name {
        return format!("attachment; filename=\"{plain}\"");
    }
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", super::percent::encode(name))
}

fn written(body: &impl Serialize) -> Vec<u8> {
    // Strings and numbers: nothing in it can fail to be written.
    serde_json::to_vec(body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, directory: &str, size: u64) -> FileEntry {
        let modified_at = Instant::from_unix(1_714_634_467, 992_261_700);
        FileEntry { name: name.into(), directory: directory.into(), is_directory: false, size, modified_at }
    }

    fn folder(name: &str) -> FileEntry {
        FileEntry { is_directory: true, ..entry(name, "", 40) }
    }

    fn list(entries: &[FileEntry], shape: Shape, version: &str) -> String {
        String::from_utf8(FileEntry::list(entries, shape, &ApiVersion::parse(version).unwrap())).unwrap()
    }

    /// The contract's example of an upload.
    #[test]
    fn the_old_shape_numbers_objects_depth_first() {
        assert_eq!(
            list(&[entry("test1.txt", "", 16)], Shape::Old, "2024-02-02-preview"),
            r#"{"$id":"1","value":[{"$id":"2","properties":{"$id":"3","filename":"test1.txt","size":16,"lastModifiedTime":"2024-05-02T07:21:07.9922617Z"}}]}"#
        );
        let two = list(&[entry("a", "", 1), folder("d"), entry("b", "d", 2)], Shape::Old, "2024-02-02-preview");
        assert!(
            two.contains(r#"{"$id":"4","properties":{"$id":"5","filename":"d/b","size":2"#) && !two.contains(r#""filename":"d","#),
            "{two}"
        );
        assert_eq!(list(&[], Shape::Old, "2024-02-02-preview"), r#"{"$id":"1","value":[]}"#);
    }

    #[test]
    fn the_legacy_shape_has_its_own_names() {
        assert_eq!(
            list(&[entry("test.txt", "", 123)], Shape::Legacy, "2023-08-01-preview"),
            r#"{"$id":"1","$values":[{"$id":"2","filename":"test.txt","size":123,"last_modified_time":"2024-05-02T07:21:07.9922617Z"}]}"#
        );
    }

    #[test]
    fn the_new_shape_is_the_recorded_one() {
        assert_eq!(
            list(&[entry("cert.txt", "", 7)], Shape::New, "2024-10-02-preview"),
            r#"{"value":[{"name":"cert.txt","type":"file","contentType":"text/plain; charset=utf-8","sizeInBytes":7,"lastModifiedAt":"2024-05-02T07:21:07.9922617Z"}],"nextLink":null}"#
        );
        let latest = list(&[entry("b.bin", "d", 7), folder("d")], Shape::New, "2025-10-02-preview");
        assert!(latest.contains(r#""contentType":"application/octet-stream","sizeInBytes":7,"lastModifiedAt":"2024-05-02T07:21:07.9922617Z","directory":"d"}"#), "{latest}");
        assert!(latest.contains(r#"{"name":"d","type":"directory","contentType":null,"sizeInBytes":0"#), "{latest}");
        let one = entry("cert.txt", "", 7).body(Shape::New, &ApiVersion::parse("2025-02-02-preview").unwrap());
        assert!(one.starts_with(br#"{"name":"cert.txt""#));
    }

    #[test]
    fn a_name_cannot_write_headers() {
        assert_eq!(content_disposition("a b.txt"), "attachment; filename=\"a b.txt\"");
        assert_eq!(
            content_disposition("a\nb\r\nX-Evil: 1\"ä"),
            "attachment; filename=\"a_b__X-Evil: 1__\"; filename*=UTF-8''a%0Ab%0D%0AX-Evil%3A%201%22%C3%A4"
        );
    }
}
