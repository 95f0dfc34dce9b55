//! What has to be true of any messages that come over a forward: for the fuzzer (`fuzz/`), which has
//! nothing else to hold on to inside this module.

use bytes::Bytes;

use super::channel::{Channels, DATA, Frame};
use super::{PodError, PodErrorKind, ProtocolError};

/// Reads messages until one of them breaks the protocol.
pub fn messages<'a>(port: u16, messages: impl IntoIterator<Item = &'a [u8]>) {
    let mut channels = Channels::new(port);
    let mut announced = [false; 2];
    for message in messages {
        let read = channels.handle_message(Bytes::copy_from_slice(message));
        let Some((&channel, rest)) = message.split_first() else {
            assert_eq!(read, Ok(Frame::Nothing));
            continue;
        };
        let Some(is_announced) = announced.get_mut(usize::from(channel)) else {
            assert_eq!(read, Err(ProtocolError::UnknownChannel(channel)));
            return;
        };
        if !*is_announced {
            if rest != port.to_le_bytes() {
                assert_eq!(read, Err(ProtocolError::Announcement(channel)));
                return;
            }
            assert_eq!(read, Ok(Frame::Nothing));
            *is_announced = true;
        } else if rest.is_empty() {
            assert_eq!(read, Ok(Frame::Nothing));
        } else if channel == DATA {
            assert_eq!(read, Ok(Frame::Data(Bytes::copy_from_slice(rest))));
        } else {
            let Ok(Frame::Failed(PodError { kind, message })) = read else {
                panic!("an error that isn't told: {read:?}")
            };
            let refused = message.to_lowercase().contains("connection refused");
            assert_eq!(kind == PodErrorKind::Refused, refused);
            return;
        }
    }
}
