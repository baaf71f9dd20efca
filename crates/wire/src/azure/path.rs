//! What a method and a path ask for.

use super::{api_version::Shape, error::AzureError, percent};

/// A pool's place in the path. Subscription and resource group may be anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolAddress {
    /// As sent, without escapes.
    pub subscription: String,
    /// As sent, without escapes.
    pub resource_group: String,
    /// As sent, without escapes.
    pub name: String,
}

impl PoolAddress {
    /// The path of the pool's management endpoint, without a slash at the end.
    pub fn path(&self) -> String {
        let encode = percent::encode;
        let (subscription, group, name) = (encode(&self.subscription), encode(&self.resource_group), encode(&self.name));
        format!("/subscriptions/{subscription}/resourceGroups/{group}/sessionPools/{name}")
    }
}

/// What is asked for, and of which pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The pool.
    pub pool: PoolAddress,
    /// The operation.
    pub operation: Operation,
}

/// An operation on a pool's sessions. Names of files are as in the path, without escapes: [`super::FilePath`] judges them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `POST /executions`, `/code/execute`, `/execute` or `/python/execute`.
    Execute(Shape),
    /// `GET /executions/{id}`.
    GetExecution(String),
    /// `GET /files` or `/python/files`. `None`: the version settles the shape.
    ListFiles(Option<Shape>),
    /// `POST /files`, `/files/upload` or `/python/uploadFile`.
    Upload(Shape),
    /// `GET /files/{name}`; the version settles the shape.
    GetFile(String),
    /// `GET /files/content/{name}`, `/files/{name}/content`, or both: bytes, whatever the shape.
    Download(String),
    /// `GET /python/downloadFile?filename=`: the same, with the name in the query.
    DownloadNamed,
    /// `DELETE /files/{name}`; the version settles the shape.
    DeleteFile(String),
    /// `GET /session`.
    GetSession,
    /// `DELETE /session`.
    DeleteSession,
    /// `GET /listSessions`.
    ListSessions,
    /// `GET /metadata`.
    Metadata,
    /// `POST /.management/getSession`.
    ManageGet,
    /// `POST /.management/listSessions`.
    ManageList,
    /// `POST /.management/stopSession`.
    ManageStop,
    /// `/mcp`, whatever the method.
    Mcp,
}

impl Call {
    /// Finds the operation. Case does not matter in what the API names, nor do slashes at the end or several in a row:
    /// clients append paths to a base that may end with one. `path` is without its query.
    ///
    /// `None`: the path is not of the data plane, `/subscriptions/{s}/resourceGroups/{g}/sessionPools/{pool}` and below.
    ///
    /// # Errors
    /// The path is ours, and [`AzureError`] says what is wrong with it, or with the method.
    pub fn parse(method: &str, path: &str) -> Result<Option<Call>, AzureError> {
        let raw: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let [subscriptions, subscription, groups, group, pools, pool, rest @ ..] = raw.as_slice() else { return Ok(None) };
        let is_ours = subscriptions.eq_ignore_ascii_case("subscriptions")
            && groups.eq_ignore_ascii_case("resourceGroups")
            && pools.eq_ignore_ascii_case("sessionPools");
        if !is_ours {
            return Ok(None);
        }
        let decode = |segment: &&str| percent::decode(segment).ok_or_else(|| AzureError::Encoding((*segment).to_owned()));
        let pool = PoolAddress { subscription: decode(subscription)?, resource_group: decode(group)?, name: decode(pool)? };
        let rest = rest.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
        let names: Vec<&str> = rest.iter().map(String::as_str).collect();
        let operation = operation(method, &names)?;
        Ok(Some(Call { pool, operation }))
    }
}

impl Operation {
    /// The label in metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Operation::Execute(_) => "azure_execute",
            Operation::GetExecution(_) => "azure_get_execution",
            Operation::ListFiles(_) | Operation::GetFile(_) => "azure_list_files",
            Operation::Upload(_) => "azure_upload",
            Operation::Download(_) | Operation::DownloadNamed => "azure_download",
            Operation::DeleteFile(_) => "azure_delete_file",
            Operation::GetSession | Operation::ManageGet => "azure_get_session",
            Operation::DeleteSession | Operation::ManageStop => "azure_stop_session",
            Operation::ListSessions | Operation::ManageList => "azure_list_sessions",
            Operation::Metadata => "azure_metadata",
            Operation::Mcp => "mcp",
        }
    }
}

fn operation(method: &str, segments: &[&str]) -> Result<Operation, AzureError> {
    let is = |at: usize, word: &str| segments.get(at).is_some_and(|segment| segment.eq_ignore_ascii_case(word));
    let only = |allowed: &'static str, operation: Operation| {
        let is_allowed = method == allowed || allowed == "GET" && method == "HEAD";
        if is_allowed { Ok(operation) } else { Err(AzureError::Method { allow: allowed }) }
    };
    match segments {
        [_] if is(0, "executions") => only("POST", Operation::Execute(Shape::New)),
        // The published images' own path, which the front end takes, too.
        [_] if is(0, "execute") => only("POST", Operation::Execute(Shape::Old)),
        [_, _] if is(0, "code") && is(1, "execute") => only("POST", Operation::Execute(Shape::Old)),
        [_, _] if is(0, "python") && is(1, "execute") => only("POST", Operation::Execute(Shape::Legacy)),
        [_, _] if is(0, "python") && is(1, "uploadFile") => only("POST", Operation::Upload(Shape::Legacy)),
        [_, _] if is(0, "python") && is(1, "downloadFile") => only("GET", Operation::DownloadNamed),
        [_, _] if is(0, "python") && is(1, "files") => only("GET", Operation::ListFiles(Some(Shape::Legacy))),
        [_, id] if is(0, "executions") => only("GET", Operation::GetExecution((*id).to_owned())),
        [_, names @ ..] if is(0, "files") => file(method, names),
        [_] if is(0, "session") => match method {
            "GET" | "HEAD" => Ok(Operation::GetSession),
            "DELETE" => Ok(Operation::DeleteSession),
            _ => Err(AzureError::Method { allow: "GET, DELETE" }),
        },
        [_] if is(0, "listSessions") => only("GET", Operation::ListSessions),
        [_] if is(0, "metadata") => only("GET", Operation::Metadata),
        [_] if is(0, "mcp") => Ok(Operation::Mcp),
        [_, _] if is(0, ".management") && is(1, "getSession") => only("POST", Operation::ManageGet),
        [_, _] if is(0, ".management") && is(1, "listSessions") => only("POST", Operation::ManageList),
        [_, _] if is(0, ".management") && is(1, "stopSession") => only("POST", Operation::ManageStop),
        _ => Err(AzureError::NotFound),
    }
}

/// Below `/files`. A name may have several segments: clients send `/mnt/data/x` as it is.
fn file(method: &str, names: &[&str]) -> Result<Operation, AzureError> {
    let is_content = |segment: &&str| segment.eq_ignore_ascii_case("content");
    match (names, method) {
        ([], "GET" | "HEAD") => Ok(Operation::ListFiles(None)),
        ([], "POST") => Ok(Operation::Upload(Shape::New)),
        ([], _) => Err(AzureError::Method { allow: "GET, POST" }),
        ([upload], "POST") if upload.eq_ignore_ascii_case("upload") => Ok(Operation::Upload(Shape::Old)),
        ([content, name @ .., last], "GET" | "HEAD") if is_content(content) => {
            let is_doubled = is_content(last) && !name.is_empty();
            Ok(Operation::Download(if is_doubled { name.join("/") } else { [name, &[*last]].concat().join("/") }))
        }
        ([name @ .., last], "GET" | "HEAD") if is_content(last) && !name.is_empty() => Ok(Operation::Download(name.join("/"))),
        (name, "GET" | "HEAD") => Ok(Operation::GetFile(name.join("/"))),
        (name, "DELETE") => Ok(Operation::DeleteFile(name.join("/"))),
        _ => Err(AzureError::Method { allow: "GET, DELETE" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: &str = "/subscriptions/s-1/resourceGroups/rg/sessionPools/pool";

    fn below(method: &str, path: &str) -> Result<Operation, AzureError> {
        Call::parse(method, &format!("{BASE}{path}")).map(|call| call.unwrap().operation)
    }

    #[test]
    fn every_path_of_the_contract_is_found() {
        let text = str::to_owned;
        for (method, path, operation) in [
            ("POST", "/executions", Operation::Execute(Shape::New)),
            ("POST", "/execute", Operation::Execute(Shape::Old)),
            ("POST", "/code/execute", Operation::Execute(Shape::Old)),
            ("POST", "/python/execute", Operation::Execute(Shape::Legacy)),
            ("GET", "/executions/8148371f-1", Operation::GetExecution(text("8148371f-1"))),
            ("POST", "/files/upload", Operation::Upload(Shape::Old)),
            ("POST", "/files", Operation::Upload(Shape::New)),
            ("POST", "/python/uploadFile", Operation::Upload(Shape::Legacy)),
            ("GET", "/files", Operation::ListFiles(None)),
            ("GET", "/python/files", Operation::ListFiles(Some(Shape::Legacy))),
            ("GET", "/files/a.txt", Operation::GetFile(text("a.txt"))),
            ("GET", "/files/content", Operation::GetFile(text("content"))),
            ("GET", "/files/upload", Operation::GetFile(text("upload"))),
            ("GET", "/files/content/a%20b.txt", Operation::Download(text("a b.txt"))),
            ("GET", "/files/content/a.txt/content", Operation::Download(text("a.txt"))),
            ("GET", "/files/a.txt/content", Operation::Download(text("a.txt"))),
            ("HEAD", "/files/a.txt/content", Operation::Download(text("a.txt"))),
            ("GET", "/files/content/content", Operation::Download(text("content"))),
            ("GET", "/files/content//mnt/data/a.txt", Operation::Download(text("mnt/data/a.txt"))),
            ("GET", "/python/downloadFile", Operation::DownloadNamed),
            ("DELETE", "/files/a.txt", Operation::DeleteFile(text("a.txt"))),
            ("DELETE", "/files/content", Operation::DeleteFile(text("content"))),
            ("GET", "/session", Operation::GetSession),
            ("DELETE", "/session", Operation::DeleteSession),
            ("GET", "/listSessions", Operation::ListSessions),
            ("GET", "/metadata", Operation::Metadata),
            ("POST", "/.management/stopSession", Operation::ManageStop),
            ("POST", "/.management/getSession", Operation::ManageGet),
            ("POST", "/.management/listSessions", Operation::ManageList),
            ("POST", "/mcp", Operation::Mcp),
            ("DELETE", "/mcp/", Operation::Mcp),
        ] {
            assert_eq!(below(method, path), Ok(operation), "{method} {path}");
        }
    }

    #[test]
    fn case_and_additional_slashes_do_not_matter() {
        for path in [
            "/SUBSCRIPTIONS/s-1/resourcegroups/rg/sessionpools/pool/CODE/Execute/",
            "//subscriptions/s-1/resourceGroups/rg/sessionPools/pool//code/execute",
        ] {
            let call = Call::parse("POST", path).unwrap().unwrap();
            assert_eq!((call.pool.path().as_str(), call.operation), (BASE, Operation::Execute(Shape::Old)), "{path}");
        }
    }

    #[test]
    fn what_is_not_the_data_planes_is_left_to_others() {
        for path in [
            "/",
            "/api/v2/execute",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools/p",
            "/subscriptions/s/resourceGroups/g/sessionPools",
            "/x/subscriptions/s/resourceGroups/g/sessionPools/p/executions",
        ] {
            assert_eq!(Call::parse("POST", path), Ok(None), "{path}");
        }
    }

    #[test]
    fn wrong_methods_and_paths_are_told_apart() {
        assert_eq!(below("GET", "/executions"), Err(AzureError::Method { allow: "POST" }));
        assert_eq!(below("PUT", "/files/a"), Err(AzureError::Method { allow: "GET, DELETE" }));
        assert_eq!(below("POST", "/.management/getsession").map(|operation| operation.label()), Ok("azure_get_session"));
        for path in ["", "/", "/nothing", "/code", "/python/nothing", "/executions/a/b", "/.management"] {
            assert_eq!(below("POST", path), Err(AzureError::NotFound), "{path}");
        }
        assert!(matches!(below("GET", "/files/%zz"), Err(AzureError::Encoding(_))));
    }

    proptest! {
        #[test]
        fn any_path_can_be_read(method in "(GET|POST|DELETE|[A-Z]{0,4})", path in "(/|[a-z%.0-9]{0,4}|files|content|sessionPools|executions){0,20}") {
            for path in [path.clone(), format!("{BASE}{path}")] {
                if let Ok(Some(call)) = Call::parse(&method, &path) {
                    prop_assert!(!call.operation.label().is_empty() && call.pool.path().is_ascii());
                }
            }
        }
    }
}
