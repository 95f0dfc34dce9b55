//! The machine's side: connects to a manager whose key it knows.

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, ClientConfig, Resumption};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::settings::{ALPN, Proof, provider};
use crate::{ClientStream, Fingerprint, Identity, buffered};

/// Makes connections as one identity.
#[derive(Debug, Clone)]
pub struct Connector {
    identity: Identity,
}

impl Connector {
    /// Connects as `identity`.
    pub fn new(identity: Identity) -> Self {
        Self { identity }
    }

    /// Speaks TLS over `stream`. Has ended when the other side has proven to have the key `expected`;
    /// whether it takes this side's is seen only by what it answers then.
    ///
    /// # Errors
    ///
    /// `InvalidData` when it has another key or doesn't speak the same TLS; any other when the stream
    /// broke.
    pub async fn connect<S>(&self, expected: Fingerprint, stream: S) -> io::Result<ClientStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = self.config(expected).map_err(io::Error::other)?;
        // There is no name: the key is all that counts.
        let name = ServerName::try_from("kdev.invalid").map_err(io::Error::other)?;
        let mut stream = TlsConnector::from(Arc::new(config))
            .connect(name, buffered(stream))
            .await?;
        stream.get_mut().0.get_mut().gather();
        Ok(stream)
    }

    fn config(&self, expected: Fingerprint) -> Result<ClientConfig, Error> {
        let provider = provider();
        let verifier = Pinned {
            expected,
            proof: Proof::new(&provider),
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
                Arc::clone(&self.identity.key),
            )));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_sni = false;
        // Each connection proves its keys anew.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// Takes one key and no other.
#[derive(Debug)]
struct Pinned {
    expected: Fingerprint,
    proof: Proof,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if Fingerprint::of_key(key) == self.expected {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Proof::too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.proof.verify(message, key, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        Proof::schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
