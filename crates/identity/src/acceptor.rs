//! The manager's side: learns whose key it is that connects.

use std::io;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage, ServerConfig};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::settings::{ALPN, Proof, provider};
use crate::{Fingerprint, Identity, IdentityError, ServerStream, buffered};

/// Takes connections as one identity.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl Acceptor {
    /// Takes connections as `identity`.
    ///
    /// # Errors
    ///
    /// When the TLS library doesn't take the key.
    pub fn new(identity: &Identity) -> Result<Self, IdentityError> {
        let provider = provider();
        let verifier = Anyone {
            proof: Proof::new(&provider),
        };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(verifier));
        let mut config = builder.with_cert_resolver(Arc::new(
            AlwaysResolvesServerRawPublicKeys::new(Arc::clone(&identity.key)),
        ));
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Each connection proves its keys anew.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Speaks TLS over `stream` and says which key the other side has proven to have. Whether that one
    /// is welcome is the caller's question: not a byte has been exchanged inside the connection yet.
    ///
    /// # Errors
    ///
    /// `InvalidData` when the other side proves nothing or doesn't speak the same TLS; any other when
    /// the stream broke.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(ServerStream<S>, Fingerprint)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut stream = self.0.accept(buffered(stream)).await?;
        let keys = stream.get_ref().1.peer_certificates();
        let Some(key) = keys.and_then(<[_]>::first) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let fingerprint = Fingerprint::of_key(key);
        stream.get_mut().0.get_mut().gather();
        stream.get_mut().0.get_mut().gather();
        Ok((stream, fingerprint))
    }
}

/// Takes every key whose owner proves to be it.
#[derive(Debug)]
struct Anyone {
    proof: Proof,
}

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
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
