//! API keys: `gr_<id>_<secret>`. The id finds the record, the secret proves the right to it; only its SHA-256 is kept. (A slow
//! hash is for what people choose; nobody tries 2^256 secrets.)

use std::{fmt, pin::Pin};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::permission::Grants;

/// What every key begins with, so that tools that look for leaked secrets can find it.
pub const KEY_PREFIX: &str = "gr_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// What is kept of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Sixteen hexadecimal digits, random; part of the key, and no secret.
    pub id: String,
    /// What the operator calls it.
    pub name: String,
    /// SHA-256 of the secret's 32 bytes.
    pub secret_sha256: [u8; 32],
    /// What its holder may do.
    pub grants: Grants,
    /// When it was made, seconds since 1970.
    pub created_at_s: u64,
    /// When it was last used, to the minute, seconds since 1970.
    pub last_used_at_s: Option<u64>,
    /// When it was revoked, seconds since 1970.
    pub revoked_at_s: Option<u64>,
}

/// A key itself: shown once, when it is made.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    id: String,
    secret: [u8; SECRET_BYTES],
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({})", self.id)
    }
}

/// A key that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an API key is {KEY_PREFIX}, 16 hexadecimal digits, _ and 43 characters of base64url")]
pub struct MalformedKey;

/// Why a key does not hold. The id is no secret, and what a caller made up as one is escaped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// Not even like a key.
    #[error("the API key is malformed")]
    Malformed,
    /// No record has this secret and this id.
    #[error("no API key {id} has this secret")]
    Unknown {
        /// Which.
        id: String,
    },
    /// The secret is another.
    #[error("the secret of API key {id} is wrong")]
    Wrong {
        /// Which.
        id: String,
    },
    /// It was revoked.
    #[error("API key {id} ({name:?}) was revoked")]
    Revoked {
        /// Which.
        id: String,
        /// What the operator calls it.
        name: String,
    },
}

impl ApiKey {
    /// A new one: an id and 256 random bits.
    ///
    /// # Errors
    /// Where the system has no random bits.
    pub fn new() -> Result<Self, getrandom::Error> {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut secret)?;
        Ok(Self { id: hex(&id), secret })
    }

    /// Reads one as it was shown.
    ///
    /// # Errors
    /// Where it is none.
    pub fn parse(text: &str) -> Result<Self, MalformedKey> {
        let (id, secret) = text.strip_prefix(KEY_PREFIX).and_then(|rest| rest.split_once('_')).ok_or(MalformedKey)?;
        if id.len() != 2 * ID_BYTES || !id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
            return Err(MalformedKey);
        }
        let secret = URL_SAFE_NO_PAD.decode(secret).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(MalformedKey)?;
        Ok(Self { id: id.to_owned(), secret })
    }

    /// As it is shown to who made it, and sent by its holder.
    pub fn reveal(&self) -> String {
        format!("{KEY_PREFIX}{}_{}", self.id, URL_SAFE_NO_PAD.encode(self.secret))
    }

    /// Finds its record.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What is kept of it.
    pub fn record(&self, name: &str, grants: Grants, now_s: u64) -> KeyRecord {
        KeyRecord {
            id: self.id.clone(),
            name: name.to_owned(),
            secret_sha256: self.hash(),
            grants,
            created_at_s: now_s,
            last_used_at_s: None,
            revoked_at_s: None,
        }
    }

    /// The record, if it was made of this key and still counts. How long this takes says nothing about the secret.
    ///
    /// # Errors
    /// The check that failed.
    pub fn verify(&self, record: Option<KeyRecord>) -> Result<KeyRecord, KeyRefusal> {
        let Some(record) = record.filter(|record| record.id == self.id) else {
            return Err(KeyRefusal::Unknown { id: self.id.clone() });
        };
        if !bool::from(self.hash().ct_eq(&record.secret_sha256)) {
            return Err(KeyRefusal::Wrong { id: self.id.clone() });
        }
        if record.revoked_at_s.is_some() {
            return Err(KeyRefusal::Revoked { id: self.id.clone(), name: record.name });
        }
        Ok(record)
    }

    /// What its record is found by.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.secret).into()
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        text.write_fmt(format_args!("{byte:02x}")).unwrap_or_default();
        text
    })
}

/// The store failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyStoreError(pub String);

/// What a store answers, later.
pub type Stored<'a, T> = Pin<Box<dyn Future<Output = Result<T, KeyStoreError>> + Send + 'a>>;

/// Where records are kept. What another process writes there (`greenroom keys`) is seen by the next call.
pub trait KeyStore: Send + Sync {
    /// The record with the secret of this SHA-256, also if it is revoked.
    fn of_secret(&self, secret_sha256: [u8; 32]) -> Stored<'_, Option<KeyRecord>>;

    /// Notes that the key of this id was used. Nobody waits for it, and one that is lost is only imprecise.
    fn used(&self, id: &str, now_s: u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_can_be_read_as_it_was_shown_and_holds_against_its_record() {
        let key = ApiKey::new().unwrap();
        let read = ApiKey::parse(&key.reveal()).unwrap();
        assert_eq!(read, key);
        assert_eq!(read.verify(Some(key.record("n", Grants::all(), 7))), Ok(key.record("n", Grants::all(), 7)));
    }

    #[test]
    fn the_record_does_not_have_the_secret() {
        let key = ApiKey::new().unwrap();
        let record = serde_json::to_string(&key.record("n", Grants::all(), 7)).unwrap();
        let secret = key.reveal().rsplit_once('_').unwrap().1.to_owned();
        assert!(!record.contains(&secret), "{record}");
        assert!(!record.contains(&format!("{:?}", key.secret)), "{record}");
        assert!(!format!("{key:?}").contains(&secret));
    }

    #[test]
    fn a_wrong_secret_is_refused_in_its_first_bit_and_its_last() {
        let key = ApiKey::new().unwrap();
        let record = key.record("n", Grants::all(), 7);
        for byte in [0, SECRET_BYTES - 1] {
            let mut wrong = key.clone();
            wrong.secret[byte] ^= 1;
            assert_eq!(wrong.verify(Some(record.clone())), Err(KeyRefusal::Wrong { id: key.id.clone() }));
        }
    }

    #[test]
    fn an_unknown_key_is_refused_and_so_is_another_ones_record() {
        let (key, other) = (ApiKey::new().unwrap(), ApiKey::new().unwrap());
        assert_eq!(key.verify(None), Err(KeyRefusal::Unknown { id: key.id.clone() }));
        assert_eq!(key.verify(Some(other.record("n", Grants::all(), 7))), Err(KeyRefusal::Unknown { id: key.id.clone() }));
    }

    #[test]
    fn a_revoked_key_is_refused_only_to_who_has_its_secret() {
        let key = ApiKey::new().unwrap();
        let revoked = KeyRecord { revoked_at_s: Some(9), ..key.record("n", Grants::all(), 7) };
        assert_eq!(key.verify(Some(revoked.clone())), Err(KeyRefusal::Revoked { id: key.id.clone(), name: "n".to_owned() }));
        let mut wrong = key.clone();
        wrong.secret[0] ^= 1;
        assert_eq!(wrong.verify(Some(revoked.clone())), Err(KeyRefusal::Wrong { id: key.id.clone() }));
    }

    #[test]
    fn what_is_no_key_is_not_read_as_one() {
        let good = ApiKey::new().unwrap().reveal();
        assert!(ApiKey::parse(&good).is_ok());
        let upper = good.replacen(&good[3..19], "ABCDEF0123456789", 1);
        for bad in
            ["", "gr_", "gr__", "gr_12_34", &good[1..], &format!("{good}="), &format!("{good}A"), &good[..good.len() - 1], &upper]
        {
            assert_eq!(ApiKey::parse(bad), Err(MalformedKey), "{bad}");
        }
    }

    #[test]
    fn no_two_keys_are_alike() {
        let (a, b) = (ApiKey::new().unwrap(), ApiKey::new().unwrap());
        assert!(a.id != b.id && a.secret != b.secret);
    }
}
