//! What has to be true of any bytes that a client or a server sends: for the fuzzer (`fuzz/`), which has nothing
//! else to hold on to inside this crate.

use crate::h1::fuzzing as h1;
use crate::sniff::Sniffer;

/// Reads what a client says, in two ways: all at once, and as it comes in pieces of these sizes. Both find the same.
///
/// # Panics
///
/// When they don't.
pub fn client(bytes: &[u8], pieces: &[u8]) {
    let mut sniffer = Sniffer::default();
    let at_once = Sniffer::default().look(bytes);
    let in_pieces = ends(bytes, pieces).find_map(|end| sniffer.look(&bytes[..end]));
    assert_eq!(at_once, in_pieces);
    h1::requests(bytes, pieces);
    h1::chunks(bytes, pieces);
}

/// Reads what a server answers, as `client`.
///
/// # Panics
///
/// When it finds different things.
pub fn server(bytes: &[u8], pieces: &[u8]) {
    h1::answer_to_get(bytes, pieces);
}

/// Where pieces of these sizes end, the last being all.
pub(crate) fn ends<'a>(bytes: &'a [u8], pieces: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let ends = pieces.iter().scan(0, |end: &mut usize, size| {
        *end += usize::from(*size);
        Some(*end)
    });
    ends.take_while(|end| *end < bytes.len())
        .chain([bytes.len()])
}
