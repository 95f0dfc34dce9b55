//! What comes over a port-forward.
#![no_main]

use arbitrary::Unstructured;
use kdev_cluster::portforward::fuzzing;
use libfuzzer_sys::fuzz_target;

/// A port whose bytes are text, so that announcements are found.
const PORT: u16 = u16::from_le_bytes(*b"ok");

fuzz_target!(|data: &[u8]| {
    let mut rest = Unstructured::new(data);
    let next = || {
        let length = rest.arbitrary::<u8>().ok().filter(|_| !rest.is_empty())?;
        let length = rest.len().min(length.into());
        rest.bytes(length).ok()
    };
    fuzzing::messages(PORT, std::iter::from_fn(next));
});
