//! Where a chunked body ends, RFC 9112 section 7.1. No IO.

use httparse::Status;

/// The longest line of a size and its extensions, or of a trailer.
const LINE: usize = 16 << 10;

/// A body that isn't chunked as it should be: nobody can be sure where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadChunk;

/// Finds the end of a chunked body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chunked {
    next: Next,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Size,
    /// So many bytes of the chunk's data.
    Data(u64),
    /// The line end after the data.
    DataEnd,
    /// A trailer, or the empty line after the last.
    Trailer,
    Done,
}

impl Chunked {
    /// Takes the bytes that follow those taken before, and says how many of them belong to the body. Lines are
    /// taken whole: the rest has to be given again with more after it.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<usize, BadChunk> {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            let step = match self.next {
                Next::Done => break,
                Next::Data(left) => {
                    let count =
                        usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    self.next = match left - count as u64 {
                        0 => Next::DataEnd,
                        left => Next::Data(left),
                    };
                    count
                }
                // Known by its first byte, which may be the last that comes.
                Next::Size if !rest[0].is_ascii_hexdigit() => return Err(BadChunk),
                Next::DataEnd if rest[0] != b'\r' => return Err(BadChunk),
                Next::Size | Next::DataEnd | Next::Trailer => match line(rest)? {
                    Some(line) => {
                        self.next = self.after(line)?;
                        line.len()
                    }
                    None => break,
                },
            };
            taken += step;
        }
        Ok(taken)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.next == Next::Done
    }

    fn after(&self, line: &[u8]) -> Result<Next, BadChunk> {
        match self.next {
            Next::Size => Ok(match size(line)? {
                0 => Next::Trailer,
                size => Next::Data(size),
            }),
            Next::DataEnd if line == b"\r\n" => Ok(Next::Size),
            Next::Trailer if line == b"\r\n" => Ok(Next::Done),
            Next::Trailer => Ok(Next::Trailer),
            Next::DataEnd | Next::Data(_) | Next::Done => Err(BadChunk),
        }
    }
}

/// The line that begins here, with its end; none when that hasn't come. A CR or LF alone, which some take for
/// a line's end and some don't, is an error.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, BadChunk> {
    match bytes.iter().position(|byte| b"\r\n".contains(byte)) {
        None if bytes.len() > LINE => Err(BadChunk),
        None => Ok(None),
        Some(end) => match &bytes[end..] {
            [b'\r'] => Ok(None),
            [b'\r', b'\n', ..] => Ok(Some(&bytes[..end + 2])),
            _ => Err(BadChunk),
        },
    }
}

fn size(line: &[u8]) -> Result<u64, BadChunk> {
    // The parser would take a line without a digit for zero; there is none here.
    match httparse::parse_chunk_size(line) {
        Ok(Status::Complete((length, size))) if length == line.len() => Ok(size),
        _ => Err(BadChunk),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Takes pieces as they come from a connection; how much of all belongs to the body, where it ended.
    fn take(bytes: &[u8], piece: usize) -> Result<Option<usize>, BadChunk> {
        let (mut chunked, mut at, mut end) = (Chunked::default(), 0, 0);
        while end < bytes.len() {
            end = bytes.len().min(end + piece);
            at += chunked.take(&bytes[at..end])?;
            if chunked.is_done() {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_body_ends_after_its_last_line() {
        for (body, rest) in [
            ("0\r\n\r\n", "GET"),
            ("5\r\nhello\r\n0\r\n\r\n", ""),
            ("5;a=b;c=\"d\"\r\nhello\r\n000;x\r\n\r\n", "5\r\n"),
            ("A \r\n0123456789\r\n0\r\n\r\n", "\r\n"),
            ("2\r\n\r\n\r\n0\r\nTrailer: x\r\nOther:y\r\n\r\n", "x"),
        ] {
            let all = format!("{body}{rest}");
            for piece in 1..=all.len() {
                assert_eq!(take(all.as_bytes(), piece), Ok(Some(body.len())), "{all:?}");
            }
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_an_error() {
        for body in [
            "\r\n",
            ";x\r\n",
            " 5\r\nhello\r\n",
            "+5\r\nhello\r\n",
            "0x5\r\nhello\r\n",
            "5\nhello\r\n",
            "5;a\nb\r\nhello\r\n",
            "5;a\rb\r\nhello\r\n",
            "5\r\nhelloX",
            "X",
            "\r",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "-1\r\n",
            "5 5\r\nhello\r\n",
            "10000000000000000\r\n",
            "0\r\nTrailer: a\nb\r\n\r\n",
            "0\r\n\n",
        ] {
            for piece in 1..=body.len() {
                assert_eq!(take(body.as_bytes(), piece), Err(BadChunk), "{body:?}");
            }
        }
        assert_eq!(take(&[b'0'; 1 << 20], 1 << 10), Err(BadChunk));
    }

    proptest! {
        #[test]
        fn a_body_is_found_however_it_is_cut(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            piece in 1..30usize,
            rest in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend(format!("{:x}\r\n", chunk.len()).bytes());
                body.extend(chunk);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\n\r\n");
            let length = body.len();
            body.extend(rest);
            prop_assert_eq!(take(&body, piece), Ok(Some(length)));
        }

        #[test]
        fn any_bytes_are_taken_alike_however_they_are_cut(
            bytes in prop::collection::vec(prop::sample::select(b"05aA;\r\n x".to_vec()), 0..40),
            piece in 1..40usize,
        ) {
            prop_assert_eq!(take(&bytes, piece), take(&bytes, bytes.len().max(1)));
        }
    }
}
