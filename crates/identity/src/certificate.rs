//! What the server shows for itself over https.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::secret::{SecretError, make_directory, write_secret};

/// Names that a certificate of our own is for.
const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// One of our own that is older is made anew. It is valid for a year more at least.
const RENEW_AFTER: Duration = Duration::from_secs(300 * 24 * 3600);

/// Where certificate and key come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// PEM files: the chain, the server's own certificate first, and its key.
    Files {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// One of our own for loopback names, in this directory.
    SelfSigned {
        /// The data directory.
        data_dir: PathBuf,
    },
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file that cannot be read as what it should be.
    #[error("{path} cannot be read as PEM: {source}")]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// No certificate in it.
    #[error("{path} has no certificate in it")]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// Certificate and key that do not go together, or that nobody would accept.
    #[error("the certificate {path} cannot be used: {source}")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// One of our own cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Make(rcgen::Error),
    /// Its file cannot be written.
    #[error("{path} cannot be written: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Its key cannot be written.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl Certificate {
    /// The file of the certificate: what a client has to trust, if it is one of our own.
    pub fn path(&self) -> PathBuf {
        match self {
            Certificate::Files { certificate, .. } => certificate.clone(),
            Certificate::SelfSigned { data_dir } => data_dir.join("tls/certificate.pem"),
        }
    }

    /// What a server needs of it: TLS 1.2 and 1.3, HTTP/1.1. Makes one where that was asked for. Blocks.
    ///
    /// # Errors
    /// What cannot be used, and why.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        let (certificate, key) = match self {
            Certificate::Files { certificate, key } => (certificate.clone(), key.clone()),
            Certificate::SelfSigned { data_dir } => own(data_dir)?,
        };
        let pem = |path: &Path| {
            let path = path.to_owned();
            move |source| CertificateError::Pem { path: path.clone(), source }
        };
        let chain = CertificateDer::pem_file_iter(&certificate).map_err(pem(&certificate))?;
        let chain = chain.collect::<Result<Vec<_>, _>>().map_err(pem(&certificate))?;
        if chain.is_empty() {
            return Err(CertificateError::Empty { path: certificate });
        }
        let key = PrivateKeyDer::from_pem_file(&key).map_err(pem(&key))?;
        let unusable = |source| CertificateError::Unusable { path: certificate.clone(), source };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(unusable)?;
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(unusable)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Certificate and key of our own: those that are there, or new ones.
fn own(data_dir: &Path) -> Result<(PathBuf, PathBuf), CertificateError> {
    let directory = data_dir.join("tls");
    let (certificate, key) = (directory.join("certificate.pem"), directory.join("key.pem"));
    let age = fs::metadata(&certificate).and_then(|file| file.modified()).ok().and_then(|made| made.elapsed().ok());
    if key.exists() && age.is_some_and(|age| age < RENEW_AFTER) {
        return Ok((certificate, key));
    }
    make_directory(&directory)?;
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(CertificateError::Make)?;
    let mut parameters = rcgen::CertificateParams::new(OWN_NAMES.map(str::to_owned)).map_err(CertificateError::Make)?;
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "greenroom on this machine");
    parameters.is_ca = rcgen::IsCa::ExplicitNoCa;
    parameters.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let year = this_year();
    parameters.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(year + 2, 12, 31);
    let made = parameters.self_signed(&pair).map_err(CertificateError::Make)?;
    write_secret(&key, &pair.serialize_pem())?;
    fs::write(&certificate, made.pem()).map_err(|source| CertificateError::Write { path: certificate.clone(), source })?;
    Ok((certificate, key))
}

fn this_year() -> i32 {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
    i32::try_from(days * 400 / 146_097).map_or(1970, |years| 1970 + years)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_our_own_is_made_once_and_can_be_used() {
        let directory = tempfile::tempdir().unwrap();
        let own = Certificate::SelfSigned { data_dir: directory.path().to_owned() };
        own.server_config().unwrap();
        let first = fs::read(own.path()).unwrap();
        own.server_config().unwrap();
        assert_eq!(fs::read(own.path()).unwrap(), first);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = |certificate: &Path, key: &Path| Certificate::Files {
            certificate: certificate.join("tls/certificate.pem"),
            key: key.join("tls/key.pem"),
        };
        for directory in [&a, &b] {
            Certificate::SelfSigned { data_dir: directory.path().to_owned() }.server_config().unwrap();
        }
        assert!(files(a.path(), a.path()).server_config().is_ok());
        assert!(matches!(files(a.path(), b.path()).server_config(), Err(CertificateError::Unusable { .. })));
        let no_certificate = Certificate::Files { certificate: a.path().join("tls/key.pem"), key: a.path().join("tls/key.pem") };
        assert!(matches!(no_certificate.server_config(), Err(CertificateError::Empty { .. })));
    }
}
