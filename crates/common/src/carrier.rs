//! What a carrier shows first on the root daemon's carrier socket.

/// Bytes of a token.
pub const TOKEN_LENGTH: usize = 32;
/// Bytes of a key's hash.
const KEY_LENGTH: usize = 32;
/// Bytes of a preamble.
pub const PREAMBLE_LENGTH: usize = TOKEN_LENGTH + KEY_LENGTH + 4 + 1;

/// Over what a carrier leads to the manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CarrierKind {
    /// A port-forward through the API server.
    PortForward,
    /// A connection to the manager's own port, whose descriptor comes with the preamble: nobody need
    /// copy its bytes. The local socket then only tells when either side lets go.
    Direct,
}

impl CarrierKind {
    /// What `kdev status` calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PortForward => "port-forward",
            Self::Direct => "direct",
        }
    }
}

/// See the module. In order: token, key, number (big endian), kind (0 or 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preamble {
    /// What the lease's owner was told on the lease's stream.
    pub token: [u8; TOKEN_LENGTH],
    /// Hash of the manager's key, which the other end has to prove to have.
    pub manager: [u8; KEY_LENGTH],
    /// The carrier's number; one of the same number takes the place of the last.
    pub id: u32,
    /// Over what it leads.
    pub kind: CarrierKind,
}

impl Preamble {
    /// As bytes.
    pub fn encode(&self) -> [u8; PREAMBLE_LENGTH] {
        let mut bytes = [0; PREAMBLE_LENGTH];
        let (token, rest) = bytes.split_at_mut(TOKEN_LENGTH);
        let (manager, rest) = rest.split_at_mut(KEY_LENGTH);
        let (id, kind) = rest.split_at_mut(4);
        token.copy_from_slice(&self.token);
        manager.copy_from_slice(&self.manager);
        id.copy_from_slice(&self.id.to_be_bytes());
        kind[0] = match self.kind {
            CarrierKind::PortForward => 0,
            CarrierKind::Direct => 1,
        };
        bytes
    }

    /// From bytes; `None` when they are no preamble.
    pub fn decode(bytes: &[u8; PREAMBLE_LENGTH]) -> Option<Self> {
        let (token, rest) = bytes.split_first_chunk()?;
        let (manager, rest) = rest.split_first_chunk()?;
        let (id, kind) = rest.split_first_chunk()?;
        let kind = match kind {
            [0] => CarrierKind::PortForward,
            [1] => CarrierKind::Direct,
            _ => return None,
        };
        Some(Self {
            token: *token,
            manager: *manager,
            id: u32::from_be_bytes(*id),
            kind,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preamble_survives_the_way() {
        for kind in [CarrierKind::PortForward, CarrierKind::Direct] {
            let preamble = Preamble {
                token: [1; TOKEN_LENGTH],
                manager: [2; KEY_LENGTH],
                id: 0x0304_0506,
                kind,
            };
            assert_eq!(Preamble::decode(&preamble.encode()), Some(preamble));
        }
        assert_eq!(Preamble::decode(&[9; PREAMBLE_LENGTH]), None);
    }
}
