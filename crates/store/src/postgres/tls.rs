//! How a connection is made and protected.
//!
//! As libpq has it, `require` is about being overheard: the connection is encrypted, with whoever it is. Who it is, is only
//! looked at with `verify-ca` and `verify-full`, which both want the certificate to be for the host.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::postgres::address::{Address, Trust};
use crate::postgres::failure::{OpenError, Trouble, described};

/// What a server says without being asked. Whoever polls it drives the connection; it ends with the connection.
pub(super) type Messages =
    Box<dyn FnMut(&mut Context<'_>) -> Poll<Option<Result<AsyncMessage, tokio_postgres::Error>>> + Send>;

pub(super) async fn connect(address: &Address) -> Result<(Client, Messages), Trouble> {
    match &address.tls {
        None => connect_with(address, NoTls).await,
        Some(config) => connect_with(address, MakeRustlsConnect::new(ClientConfig::clone(config))).await,
    }
}

fn connect_with<T>(address: &Address, tls: T) -> impl Future<Output = Result<(Client, Messages), Trouble>>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let connecting = address.config.connect(tls);
    async {
        let (client, mut connection) =
            connecting.await.map_err(|error| Trouble::NoLink(described(&error)))?;
        let messages: Messages = Box::new(move |context| connection.poll_message(context));
        Ok((client, messages))
    }
}

/// What encrypts the connections, if anything may.
pub(super) fn config(
    mode: SslMode,
    trust: Trust,
    root_certificates: Option<&str>,
) -> Result<Option<Arc<ClientConfig>>, OpenError> {
    if mode == SslMode::Disable {
        return Ok(None);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| OpenError::Url(error.to_string()))?;
    let config = match trust {
        Trust::Anybody => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Whoever { provider }))
        }
        Trust::Verified => builder.with_root_certificates(roots(root_certificates)?),
    };
    Ok(Some(Arc::new(config.with_no_client_auth())))
}

fn roots(file: Option<&str>) -> Result<RootCertStore, OpenError> {
    let Some(file) = file else {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    };
    let failed = |problem: &dyn std::fmt::Display| OpenError::Url(format!("`sslrootcert` {file}: {problem}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| failed(&error))? {
        let certificate = certificate.map_err(|error| failed(&error))?;
        roots.add(certificate).map_err(|error| failed(&error))?;
    }
    if roots.is_empty() {
        return Err(failed(&"there is no certificate in it"));
    }
    Ok(roots)
}

/// Takes every certificate, and sees to it that the other side has its key.
#[derive(Debug)]
struct Whoever {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Whoever {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
