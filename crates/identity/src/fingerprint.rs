//! What stands for a public key where everyone may read it.

use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};

/// SHA-256 of a public key's SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), written as 64 lower
/// case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; Self::LENGTH]);

impl Fingerprint {
    /// Bytes of one.
    pub const LENGTH: usize = 32;

    /// Of a key in DER.
    pub fn of_key(subject_public_key_info: &[u8]) -> Self {
        let mut bytes = [0; Self::LENGTH];
        bytes.copy_from_slice(digest(&SHA256, subject_public_key_info).as_ref());
        Self(bytes)
    }

    /// The hash itself.
    pub fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// The first half in hexadecimal: a name that nobody finds a second key for.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(Self::LENGTH);
        text
    }
}

impl From<[u8; Fingerprint::LENGTH]> for Fingerprint {
    fn from(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that isn't a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a key's hash is 64 lower case hexadecimal digits")]
pub struct NotAFingerprint;

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    fn from_str(text: &str) -> Result<Self, NotAFingerprint> {
        let digits: Vec<u8> = text
            .bytes()
            .map(|digit| match digit {
                b'0'..=b'9' => Ok(digit - b'0'),
                b'a'..=b'f' => Ok(digit - b'a' + 10),
                _ => Err(NotAFingerprint),
            })
            .collect::<Result<_, _>>()?;
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
            .collect();
        match <[u8; Self::LENGTH]>::try_from(bytes) {
            Ok(bytes) if digits.len() == 2 * Self::LENGTH => Ok(Self(bytes)),
            _ => Err(NotAFingerprint),
        }
    }
}
