/// Who caused a failure. HTTP status, retry advice, bill and contest verdict all derive from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Blame {
    /// The request was wrong; the same request will fail again.
    Caller,
    /// The submitted program failed. Not an error of ours: an [`crate::Outcome`].
    Program,
    /// What we depend on (host, remote pool) failed; a retry may help.
    Backend,
    /// A defect or a lack of capacity of Greenroom itself.
    Us,
}

impl Blame {
    /// The label used in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Blame::Caller => "caller",
            Blame::Program => "program",
            Blame::Backend => "backend",
            Blame::Us => "us",
        }
    }
}
