//! Key pairs.

use std::fmt;
use std::sync::Arc;

use ring::rand::SystemRandom;
use ring::signature::Ed25519KeyPair;
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use crate::Fingerprint;

/// The key pair of a process, which never leaves it.
#[derive(Clone)]
pub struct Identity {
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) fingerprint: Fingerprint,
}

/// No key pair can be made.
#[derive(Debug, thiserror::Error)]
#[error("no key pair can be made: {0}")]
pub struct IdentityError(String);

impl Identity {
    /// Makes a new one, Ed25519 (RFC 8410).
    ///
    /// # Errors
    ///
    /// When the system has no random numbers.
    pub fn generate() -> Result<Self, IdentityError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|error| IdentityError(error.to_string()))?;
        let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.as_ref()))
            .map_err(|error| IdentityError(error.to_string()))?;
        let public = key
            .public_key()
            .ok_or_else(|| IdentityError("it has no public half".to_owned()))?;
        let fingerprint = Fingerprint::of_key(&public);
        // With raw public keys, what is sent in a certificate's place is the key.
        let public = CertificateDer::from(public.to_vec());
        Ok(Self {
            key: Arc::new(CertifiedKey::new(vec![public], key)),
            fingerprint,
        })
    }

    /// What others may know of it.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.fingerprint).finish()
    }
}

impl From<rustls::Error> for IdentityError {
    fn from(error: rustls::Error) -> Self {
        Self(error.to_string())
    }
}
