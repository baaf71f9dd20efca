//! Sessions as resources, and what a session is made of.

use serde::Serialize;

use super::instant::Instant;

/// A session. Both pages that show one name its end differently: `expireAt` at `/session`, `expiresAt` below `/.management`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its caller's.
    pub identifier: String,
    /// When it came to belong to the identifier.
    pub created_at: Instant,
    /// The last call's.
    pub last_accessed_at: Instant,
    /// When it ends if nobody calls.
    pub expires_at: Instant,
    /// The id of what it runs in.
    pub etag: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DataSession<'a> {
    identifier: &'a str,
    created_at: Instant,
    last_accessed_at: Instant,
    expire_at: Instant,
    etag: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManagedSession<'a> {
    identifier: &'a str,
    etag: &'a str,
    expires_at: Instant,
    created_at: Instant,
    last_accessed_at: Instant,
}

impl SessionInfo {
    fn data(&self) -> DataSession<'_> {
        let Self { identifier, created_at, last_accessed_at, expires_at, etag } = self;
        DataSession { identifier, created_at: *created_at, last_accessed_at: *last_accessed_at, expire_at: *expires_at, etag }
    }

    fn managed(&self) -> ManagedSession<'_> {
        let Self { identifier, created_at, last_accessed_at, expires_at, etag } = self;
        ManagedSession { identifier, etag, expires_at: *expires_at, created_at: *created_at, last_accessed_at: *last_accessed_at }
    }

    /// The body of `GET /session`.
    pub fn body(&self) -> Vec<u8> {
        written(&self.data())
    }

    /// The body of `POST /.management/getSession`.
    pub fn managed_body(&self) -> Vec<u8> {
        written(&self.managed())
    }
}

/// Pages of sessions.
pub mod sessions {
    use super::{DataSession, ManagedSession, SessionInfo, written};
    use serde::Serialize;

    /// Sessions of one page.
    pub const PAGE: usize = 300;

    /// The body of `GET /listSessions`: the page that begins after `skip` of `all`. `next` makes the address of the page
    /// after so many.
    pub fn body(all: &[SessionInfo], skip: usize, next: impl Fn(usize) -> String) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            sessions: Vec<DataSession<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            next_link: Option<String>,
        }
        let (page, next_link) = page(all, skip, next);
        written(&Body { sessions: page.iter().map(SessionInfo::data).collect(), next_link })
    }

    /// The body of `POST /.management/listSessions`.
    pub fn managed_body(all: &[SessionInfo], skip: usize, next: impl Fn(usize) -> String) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            value: Vec<ManagedSession<'a>>,
            count: usize,
            #[serde(skip_serializing_if = "Option::is_none")]
            next_link: Option<String>,
        }
        let (page, next_link) = page(all, skip, next);
        written(&Body { value: page.iter().map(SessionInfo::managed).collect(), count: page.len(), next_link })
    }

    fn page(all: &[SessionInfo], skip: usize, next: impl Fn(usize) -> String) -> (&[SessionInfo], Option<String>) {
        let rest = all.get(skip..).unwrap_or_default();
        match rest.split_at_checked(PAGE) {
            Some((page, rest)) if !rest.is_empty() => (page, Some(next(skip + PAGE))),
            _ => (rest, None),
        }
    }
}

/// The text with which `POST /.management/stopSession` answers.
pub fn stopped(identifier: &str, pool: &str) -> String {
    format!("Session '{identifier}' in session pool '{pool}' stopped.")
}

/// `GET /metadata`: what a pool's sessions are made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The pool's language.
    pub runtimes: Vec<RuntimeInfo>,
    /// What it can import.
    pub pre_installed_packages: Vec<PackageInfo>,
    /// The pool's beginning.
    pub created_at: Instant,
    /// The pool's last change.
    pub last_updated_at: Instant,
    /// What executes cells.
    pub jupyter_kernel: KernelInfo,
}

/// A language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuntimeInfo {
    /// As `Python`.
    pub name: String,
    /// As `3.11.2`.
    pub version: String,
}

/// A package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackageInfo {
    /// As `numpy`.
    pub name: String,
    /// As `1.26.4`.
    pub version: String,
}

/// A kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelInfo {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it comes from.
    pub project_url: String,
    /// For a person.
    pub description: String,
}

impl Metadata {
    /// The body.
    pub fn body(&self) -> Vec<u8> {
        written(self)
    }
}

fn written(body: &impl Serialize) -> Vec<u8> {
    // Strings and numbers: nothing in it can fail to be written.
    serde_json::to_vec(body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn info(identifier: &str) -> SessionInfo {
        SessionInfo {
            identifier: identifier.into(),
            created_at: Instant::from_unix(0, 0),
            last_accessed_at: Instant::from_unix(1, 0),
            expires_at: Instant::from_unix(301, 0),
            etag: "e-1".into(),
        }
    }

    fn json(body: Vec<u8>) -> Value {
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn the_two_views_of_a_session_name_its_end_differently() {
        let (created, accessed, end) =
            ("1970-01-01T00:00:00.0000000Z", "1970-01-01T00:00:01.0000000Z", "1970-01-01T00:05:01.0000000Z");
        assert_eq!(
            json(info("abcd").body()),
            json!({"identifier": "abcd", "createdAt": created, "lastAccessedAt": accessed, "expireAt": end, "etag": "e-1"})
        );
        assert_eq!(
            json(info("abcd").managed_body()),
            json!({"identifier": "abcd", "etag": "e-1", "expiresAt": end, "createdAt": created, "lastAccessedAt": accessed})
        );
    }

    #[test]
    fn a_page_has_300_sessions_and_says_where_the_next_is() {
        let all: Vec<_> = (0..301).map(|n| info(&format!("session-{n}"))).collect();
        let next = |skip| format!("http://x/.management/listSessions?skip={skip}");
        let first = json(sessions::managed_body(&all, 0, next));
        assert_eq!((&first["count"], &first["nextLink"]), (&json!(300), &json!("http://x/.management/listSessions?skip=300")));
        let second = json(sessions::managed_body(&all, 300, next));
        assert_eq!(
            (&second["count"], &second["value"][0]["identifier"], second.get("nextLink")),
            (&json!(1), &json!("session-300"), None)
        );
        let data = json(sessions::body(&all[..2], 0, next));
        assert_eq!((data["sessions"].as_array().map(Vec::len), data.get("nextLink")), (Some(2), None));
        assert_eq!(json(sessions::body(&all, 1000, next)), json!({"sessions": []}));
        assert_eq!(json(sessions::managed_body(&all[..300], 0, next)).get("nextLink"), None);
    }

    #[test]
    fn a_stopped_session_is_told_with_quotes() {
        assert_eq!(stopped("abcd", "default"), "Session 'abcd' in session pool 'default' stopped.");
    }
}
