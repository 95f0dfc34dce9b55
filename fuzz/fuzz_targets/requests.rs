//! Heads, bodies in chunks and first bytes of a client's, and answers of a server's, cut anywhere.
#![no_main]

use arbitrary::Arbitrary;
use kdev_router::fuzzing;
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Said<'a> {
    pieces: [u8; 6],
    bytes: &'a [u8],
}

fuzz_target!(|said: Said<'_>| {
    fuzzing::client(said.bytes, &said.pieces);
    fuzzing::server(said.bytes, &said.pieces);
});
