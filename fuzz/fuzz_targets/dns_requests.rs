//! What the machine's programs ask: packets, a TCP stream of them, and names.
#![no_main]

use kdev_names::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    fuzzing::request(data);
    fuzzing::stream(data);
    if let Ok(text) = str::from_utf8(data) {
        fuzzing::domain(text);
    }
});
