use super::{api_version::ApiVersion, error::AzureError, percent};

/// The parameters of a request. Names are compared without case, as the service does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the text behind the question mark. Values keep their escapes until they are asked for.
    pub fn parse(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent::decode(name).unwrap_or_default().to_ascii_lowercase(), value.to_owned())
        };
        Self(pairs.map(pair).collect())
    }

    /// The version. `required` is false for the legacy paths, whose clients send none.
    ///
    /// # Errors
    /// [`AzureError::Validation`]: there is none and one is required, or it is no version at all.
    pub fn api_version(&self, required: Required) -> Result<ApiVersion, AzureError> {
        let text = match self.value("api-version")?.filter(|text| !text.is_empty()) {
            Some(text) => text,
            None if required == Required::No => return Ok(ApiVersion::latest()),
            None => {
                let latest = ApiVersion::latest();
                return Err(AzureError::Validation(format!(
                    "the query parameter 'api-version' is required: add api-version={}",
                    latest.as_str()
                )));
            }
        };
        ApiVersion::parse(&text).ok_or_else(|| {
            let latest = ApiVersion::latest();
            AzureError::Validation(format!("the api-version is no date such as '{}'", latest.as_str()))
        })
    }

    /// A parameter in which a plus sign is itself: none of those that hold one may hold a blank.
    ///
    /// # Errors
    /// [`AzureError::Validation`]: its escapes are broken, or it is there twice with different values.
    pub(super) fn value(&self, name: &str) -> Result<Option<String>, AzureError> {
        let mut values = self.0.iter().filter(|(given, _)| given == name).map(|(_, value)| value);
        let Some(first) = values.next() else { return Ok(None) };
        if values.any(|value| value != first) {
            return Err(AzureError::Validation(format!("the query parameter '{name}' is there twice, with different values")));
        }
        let decoded = percent::decode(first);
        decoded
            .map(Some)
            .ok_or_else(|| AzureError::Validation(format!("the query parameter '{name}' is not percent-encoded UTF-8")))
    }

    /// A parameter that names a file or a directory: a plus sign is a blank, as forms write it.
    ///
    /// # Errors
    /// As [`Query::value`].
    pub(super) fn name(&self, name: &str) -> Result<Option<String>, AzureError> {
        let with_blanks = Self(self.0.iter().map(|(given, value)| (given.clone(), value.replace('+', "%20"))).collect());
        with_blanks.value(name)
    }

    /// The file of `/python/downloadFile`.
    ///
    /// # Errors
    /// [`AzureError::Validation`]: there is none, or as [`Query::value`].
    pub fn file_name(&self) -> Result<String, AzureError> {
        let missing = || AzureError::Validation("the query parameter 'filename' is required".to_owned());
        self.name("filename")?.ok_or_else(missing)
    }

    /// `path`: the directory below `/mnt/data`.
    ///
    /// # Errors
    /// As [`Query::value`].
    pub fn path(&self) -> Result<Option<String>, AzureError> {
        self.name("path")
    }

    /// Whether files of directories below are listed, too.
    ///
    /// # Errors
    /// [`AzureError::Validation`]: neither true nor false.
    pub fn recursive(&self) -> Result<bool, AzureError> {
        match self.value("recursive")?.map(|value| value.to_ascii_lowercase()).as_deref() {
            None | Some("" | "false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(AzureError::Validation("the query parameter 'recursive' must be true or false".to_owned())),
        }
    }

    /// How many sessions a listing leaves out.
    ///
    /// # Errors
    /// [`AzureError::Validation`]: no whole number.
    pub fn skip(&self) -> Result<usize, AzureError> {
        let wrong = || AzureError::Validation("the query parameter 'skip' must be a whole number, not below 0".to_owned());
        self.value("skip")?.filter(|value| !value.is_empty()).map_or(Ok(0), |value| {
            if value.bytes().all(|byte| byte.is_ascii_digit()) { value.parse().map_err(|_| wrong()) } else { Err(wrong()) }
        })
    }
}

/// Whether something has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Required {
    /// It has.
    Yes,
    /// It has not.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(Some(text))
    }

    #[test]
    fn the_order_and_the_case_of_parameters_do_not_matter() {
        for text in ["identifier=a%20b&api-version=2025-10-02-preview", "API-Version=2025-10-02-preview&&Identifier=a%20b"] {
            assert_eq!(query(text).value("identifier"), Ok(Some("a b".to_owned())));
            assert_eq!(query(text).api_version(Required::Yes), Ok(ApiVersion::latest()));
        }
        assert_eq!(query("fileName=a+b%2B.txt").file_name(), Ok("a b+.txt".to_owned()));
        assert_eq!(query("identifier=a+b").value("identifier"), Ok(Some("a+b".to_owned())));
    }

    #[test]
    fn a_missing_version_is_refused_and_an_unknown_one_is_not() {
        assert!(matches!(query("identifier=abcd").api_version(Required::Yes), Err(AzureError::Validation(_))));
        assert_eq!(query("identifier=abcd").api_version(Required::No), Ok(ApiVersion::latest()));
        assert_eq!(query("api-version=2031-01-01").api_version(Required::Yes).unwrap().as_str(), "2031-01-01");
        assert!(query("api-version=").api_version(Required::Yes).is_err());
        assert_eq!(query("api-version=").api_version(Required::No), Ok(ApiVersion::latest()), "as some write that there is none");
    }

    #[test]
    fn what_is_said_twice_must_be_the_same() {
        assert_eq!(query("identifier=abcd&identifier=abcd").value("identifier"), Ok(Some("abcd".to_owned())));
        assert!(query("identifier=abcd&identifier=abce").value("identifier").is_err());
    }

    #[test]
    fn parameters_of_listings_are_checked() {
        assert_eq!((query("").skip(), query("skip=300").skip()), (Ok(0), Ok(300)));
        for wrong in ["skip=-1", "skip=1.5", "skip=+1", "skip=99999999999999999999999", "skip=%zz"] {
            assert!(query(wrong).skip().is_err(), "{wrong}");
        }
        assert_eq!(query("recursive=True").recursive(), Ok(true));
        assert!(query("recursive=0").recursive().is_err());
    }
}
