//! How messages become bytes on a stream: as tonic does it, but without 16 KiB of buffers for each stream.
//!
//! A flow is a stream, and thousands of flows are idle. Buffers begin small here; a message that is larger
//! makes its room at once.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

/// Bytes that a stream's buffer has room for before anything large was sent.
const BUFFER: usize = 256;
/// Bytes after which messages that are ready are sent, tonic's own number.
const YIELD_AFTER: usize = 32 * 1024;

/// Protocol Buffers with small buffers; named by the generated code.
#[derive(Debug, Clone)]
pub struct FlowCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for FlowCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for FlowCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = FlowEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        FlowEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(settings())
    }
}

/// Makes room for a whole message before it writes one.
#[derive(Debug, Clone)]
pub struct FlowEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for FlowEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.reserve(message.encoded_len());
        let written = message.encode(into);
        written.map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        settings()
    }
}

fn settings() -> BufferSettings {
    BufferSettings::new(BUFFER, YIELD_AFTER)
}
