use serde::Serialize;

use super::{
    api_version::{ApiVersion, Shape},
    kept::ErrorDetail,
    shell::ShellStatus,
    value::CellValue,
};

/// What an execution wrote and is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// As far as it was kept.
    pub stdout: String,
    /// As far as it was kept; of a cell that raised, with its traceback.
    pub stderr: String,
    /// The last expression's.
    pub value: CellValue,
    /// Wall-clock time of the execution alone, milliseconds.
    pub wall_ms: u64,
}

impl Output {
    /// Keeps so many characters of each stream.
    pub fn cut(&mut self, chars: Option<usize>) {
        let Some(chars) = chars else { return };
        for stream in [&mut self.stdout, &mut self.stderr] {
            if let Some((end, _)) = stream.char_indices().nth(chars) {
                stream.truncate(end);
            }
        }
    }
}

/// How far an execution is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExecutionStatus {
    /// It goes on.
    Running,
    /// It came to its end.
    Succeeded,
    /// It raised, ran out of time, or took its session down.
    Failed,
    /// Its session was stopped meanwhile.
    Canceled,
}

impl ExecutionStatus {
    const ALL: [Self; 4] = [Self::Running, Self::Succeeded, Self::Failed, Self::Canceled];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            ExecutionStatus::Running => "Running",
            ExecutionStatus::Succeeded => "Succeeded",
            ExecutionStatus::Failed => "Failed",
            ExecutionStatus::Canceled => "Canceled",
        }
    }

    /// The status of this word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

/// An execution of a cell, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// The operation's id.
    pub id: String,
    /// The session's identifier.
    pub identifier: String,
    /// `Synchronous` or `Asynchronous`, in the caller's spelling.
    pub execution_type: String,
    /// How far it is.
    pub status: ExecutionStatus,
    /// There as soon as it is over.
    pub output: Option<Output>,
    /// Of a command: how it ended.
    pub exit: Option<ShellStatus>,
    /// What went wrong that was not the program's doing.
    pub error: Option<ErrorDetail>,
}

impl Execution {
    /// The body, in this shape.
    pub fn body(&self, shape: Shape, version: &ApiVersion) -> Vec<u8> {
        let written = match shape {
            Shape::New => serde_json::to_vec(&self.new_shape(version)),
            Shape::Old => {
                #[derive(Serialize)]
                struct Body<'a> {
                    #[serde(rename = "$id")]
                    id: &'static str,
                    properties: OldShape<'a>,
                }
                serde_json::to_vec(&Body { id: "1", properties: self.old_shape("2") })
            }
            Shape::Legacy => serde_json::to_vec(&self.old_shape("1")),
        };
        // Strings, numbers and JSON that was checked: nothing in it can fail to be written.
        written.unwrap_or_default()
    }

    fn old_shape(&self, id: &'static str) -> OldShape<'_> {
        let status = if self.status == ExecutionStatus::Succeeded { "Success" } else { "Failure" };
        let (stdout, stderr, value, wall_ms) = match &self.output {
            Some(Output { stdout, stderr, value, wall_ms }) => (stdout.as_str(), stderr.as_str(), value, *wall_ms),
            None => ("", "", &CellValue::Absent, 0),
        };
        OldShape { id, status, stdout, stderr, result: value, execution_result: value, execution_time_in_milliseconds: wall_ms }
    }

    fn new_shape(&self, version: &ApiVersion) -> NewShape<'_> {
        let has_ids = version.has_reference_ids();
        let result = self.output.as_ref().map(|output| NewResult {
            reference: has_ids.then_some("2"),
            stdout: &output.stdout,
            stderr: &output.stderr,
            execution_result: &output.value,
            execution_time_in_milliseconds: output.wall_ms,
        });
        NewShape {
            reference: has_ids.then_some("1"),
            id: &self.id,
            identifier: &self.identifier,
            execution_type: &self.execution_type,
            status: self.status.as_str(),
            result,
            error: self.error.as_ref(),
        }
    }
}

/// The old shape's properties; the legacy shape's whole body. Some servers write the value under one name, some under the
/// other, and clients read either: both are there.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OldShape<'a> {
    #[serde(rename = "$id")]
    id: &'static str,
    status: &'static str,
    stdout: &'a str,
    stderr: &'a str,
    result: &'a CellValue,
    execution_result: &'a CellValue,
    execution_time_in_milliseconds: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewShape<'a> {
    #[serde(rename = "$id", skip_serializing_if = "Option::is_none")]
    reference: Option<&'static str>,
    id: &'a str,
    identifier: &'a str,
    execution_type: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<NewResult<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a ErrorDetail>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewResult<'a> {
    #[serde(rename = "$id", skip_serializing_if = "Option::is_none")]
    reference: Option<&'static str>,
    stdout: &'a str,
    stderr: &'a str,
    execution_result: &'a CellValue,
    execution_time_in_milliseconds: u64,
}

/// The headers that tell where an execution's time went; on executions of cells only. Times are decimal milliseconds.
pub mod headers {
    /// What they say, times in microseconds.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Timing {
        /// Whether the identifier had no session before.
        pub is_new_allocation: bool,
        /// Waiting for the session.
        pub allocation_us: u64,
        /// Before that: reading and checking the request.
        pub preparation_us: u64,
        /// The cell itself.
        pub execution_us: u64,
        /// From the cell's start to its answer, as the server sees it.
        pub request_us: u64,
        /// Reading its answer.
        pub read_us: u64,
        /// Allocation and execution.
        pub overall_us: u64,
        /// From the request's first byte to this answer.
        pub service_us: u64,
        /// The session's own id.
        pub session: String,
    }

    impl Timing {
        /// Names and values.
        pub fn headers(&self) -> [(&'static str, String); 10] {
            [
                ("x-ms-new-allocation", self.is_new_allocation.to_string()),
                ("x-ms-allocation-retries", "0".to_owned()),
                ("x-ms-allocation-time", ms(self.allocation_us)),
                ("x-ms-preparation-time", ms(self.preparation_us)),
                ("x-ms-container-execution-duration", (self.execution_us / 1000).to_string()),
                ("x-ms-execution-request-time", ms(self.request_us)),
                ("x-ms-execution-read-response-time", ms(self.read_us)),
                ("x-ms-overall-execution-time", ms(self.overall_us)),
                ("x-ms-total-execution-service-time", ms(self.service_us)),
                ("x-ms-session-guid", self.session.clone()),
            ]
        }
    }

    fn ms(us: u64) -> String {
        format!("{}.{:03}", us / 1000, us % 1000)
    }
}

#[cfg(test)]
mod tests;
