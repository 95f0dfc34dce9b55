//! What others write into the machine's resolver file.
#![no_main]

use kdev_host::resolver::{Place, RESOLV_CONF, ResolverFacts, choose, fuzzing};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    fuzzing::file(&text);
    let facts = ResolverFacts {
        path: RESOLV_CONF.into(),
        place: Place::File,
        text: text.to_string(),
        uplinks: false,
    };
    assert!(!choose(&facts).reason.is_empty());
});
