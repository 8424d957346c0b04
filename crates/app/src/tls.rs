//! TLS for those who connect to us: certificate and key from files, read again when they change.
//!
//! Owns which certificate is shown. Handshakes and their deadlines are `accept`'s business.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

/// Whoever renews certificates does so days before the old one ends.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A certificate with its key, as they are in their files, or were when they could last be read.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    shown: RwLock<Shown>,
}

#[derive(Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    /// Of the files that it was read from.
    stamps: [Option<Stamp>; 2],
}

/// Tells a file from what it was before.
type Stamp = (SystemTime, u64);

impl Tls {
    /// # Errors
    /// A fragment that says which file is wrong, and how.
    pub fn open(certificate: &Path, key: &Path) -> Result<Arc<Self>, String> {
        let stamps = stamps(certificate, key);
        let shown = RwLock::new(Shown { key: Arc::new(read(certificate, key)?), stamps });
        Ok(Arc::new(Self { certificate: certificate.to_owned(), key: key.to_owned(), shown }))
    }

    /// What makes handshakes, with whatever certificate is the current one.
    ///
    /// # Errors
    /// When the library has no version of TLS, which it has.
    pub fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, String> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let resolver = Arc::clone(self) as Arc<dyn ResolvesServerCert>;
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// Reads the files again whenever they have changed, or SIGHUP says so; for as long as the server runs.
    ///
    /// # Errors
    /// When the process cannot be told of the signal.
    pub async fn keep_fresh(self: Arc<Self>) -> std::io::Result<()> {
        let mut hang_up: Signal = signal(SignalKind::hangup())?;
        loop {
            let asked = tokio::select! {
                () = sleep(LOOK_EVERY) => false,
                _ = hang_up.recv() => true,
            };
            let tls = Arc::clone(&self);
            let read = tokio::task::spawn_blocking(move || tls.read_again(asked)).await;
            match read {
                Ok(Ok(true)) => tracing::info!("read certificate and key again"),
                Ok(Ok(false)) => {}
                Ok(Err(problem)) => tracing::error!("the old certificate is still shown: {problem}"),
                Err(error) => tracing::error!(%error, "failed to look after the certificate"),
            }
        }
    }

    /// Whether there was something new.
    fn read_again(&self, asked: bool) -> Result<bool, String> {
        let stamps = stamps(&self.certificate, &self.key);
        if !asked && stamps == self.shown.read().unwrap_or_else(PoisonError::into_inner).stamps {
            return Ok(false);
        }
        // One of two that are being replaced does not fit the other; they are looked at again in a minute.
        let key = Arc::new(read(&self.certificate, &self.key)?);
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Shown { key, stamps };
        Ok(true)
    }
}

impl ResolvesServerCert for Tls {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner).key))
    }
}

fn stamps(certificate: &Path, key: &Path) -> [Option<Stamp>; 2] {
    let stamp = |found: Metadata| Some((found.modified().ok()?, found.len()));
    [certificate, key].map(|path| std::fs::metadata(path).ok().and_then(stamp))
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, String> {
    let wrong = |path: &Path, problem: String| format!("failed to read {}: {problem}", path.display());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain.map_err(|error| wrong(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong(certificate, "it has no certificate in PEM".to_owned()));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error.to_string()))?;
    CertifiedKey::from_der(chain, secret, &ring::default_provider()).map_err(|error| {
        format!("{} and {} do not go together: {error}", certificate.display(), key.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATES: [&str; 2] =
        [include_str!("tls/fixtures/test_only_a.pem"), include_str!("tls/fixtures/test_only_b.pem")];
    const KEYS: [&str; 2] =
        [include_str!("tls/fixtures/test_only_a.key.pem"), include_str!("tls/fixtures/test_only_b.key.pem")];

    #[test]
    fn a_certificate_is_read_again_when_it_has_changed_and_kept_while_it_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
        let write = |certificate_of: usize, key_of: usize| {
            std::fs::write(&certificate, CERTIFICATES[certificate_of]).unwrap();
            std::fs::write(&key, KEYS[key_of]).unwrap();
        };
        write(0, 0);
        let tls = Tls::open(&certificate, &key).unwrap();
        let shown = || tls.shown.read().unwrap().key.cert[0].clone();
        let first = shown();
        assert_eq!(tls.read_again(false), Ok(false));
        assert_eq!(tls.read_again(true), Ok(true), "whoever asks for it gets it");
        // Of another length, so that it is told apart however coarse the clock of the files is.
        write(1, 0);
        std::fs::write(&certificate, format!("{}\n", CERTIFICATES[1])).unwrap();
        assert!(tls.read_again(false).unwrap_err().contains("do not go together"));
        assert_eq!(shown(), first);
        std::fs::write(&key, KEYS[1]).unwrap();
        assert_eq!(tls.read_again(false), Ok(true));
        assert_ne!(shown(), first);
    }

    #[test]
    fn files_that_are_none_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
        let told = || Tls::open(&certificate, &key).unwrap_err();
        assert!(told().contains("c.pem"), "{}", told());
        std::fs::write(&certificate, "nothing").unwrap();
        assert!(told().contains("c.pem: it has no certificate"), "{}", told());
        std::fs::write(&certificate, CERTIFICATES[0]).unwrap();
        assert!(told().contains("k.pem"), "{}", told());
        std::fs::write(&key, CERTIFICATES[0]).unwrap();
        assert!(told().contains("k.pem"), "{}", told());
    }
}
