//! What name servers answer, the machine's own and the cluster's.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| kdev_names::fuzzing::answer(data));
