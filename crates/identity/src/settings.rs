//! What both ends agree on: one version of TLS, two cipher suites, one kind of key.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use rustls::{DigitallySignedStruct, Error, PeerIncompatible, SignatureScheme};

/// The protocol inside, so that nothing else can be spoken by mistake (RFC 7301).
pub(crate) const ALPN: &[u8] = b"kdev";

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        // The first is the fastest where the processor knows AES, the second elsewhere.
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..default_provider()
    })
}

/// Proof that the other side has the private half of the key that it shows.
#[derive(Debug)]
pub(crate) struct Proof(WebPkiSupportedAlgorithms);

impl Proof {
    pub(crate) fn new(provider: &CryptoProvider) -> Self {
        Self(provider.signature_verification_algorithms)
    }

    pub(crate) fn verify(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.0)
    }

    pub(crate) fn schemes() -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    /// Nobody gets here: TLS 1.2 isn't offered.
    pub(crate) fn too_old() -> Error {
        PeerIncompatible::Tls12NotOfferedOrEnabled.into()
    }
}
