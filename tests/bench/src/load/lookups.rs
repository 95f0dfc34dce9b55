//! Names of the cluster's, each asked for once, so that no cache has an answer.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use super::report::Repeated;

/// A resolver's own patience.
const LONGEST: Duration = Duration::from_secs(5);

/// How a name server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A datagram each.
    Udp,
    /// All over one connection, for ways that carry no datagrams.
    Tcp,
}

/// Asks for so long, `at_once` at a time.
///
/// # Errors
///
/// When the server can't be asked at all.
pub fn measure(
    server: SocketAddr,
    transport: Transport,
    at_once: usize,
    time: Duration,
) -> io::Result<Repeated> {
    let began = Instant::now();
    let done: Vec<io::Result<(Vec<Duration>, usize)>> = thread::scope(|scope| {
        let running: Vec<_> = (0..at_once)
            .map(|asker| {
                scope.spawn(move || again_and_again(server, transport, asker, began, time))
            })
            .collect();
        let panicked = |_| Err(io::Error::other("a thread panicked"));
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(panicked))
            .collect()
    });
    let elapsed = began.elapsed();
    let (mut took, mut failed) = (Vec::new(), 0);
    for one in done {
        let (some, fewer) = one?;
        took.extend(some);
        failed += fewer;
    }
    Ok(Repeated::of(took, failed, elapsed))
}

fn again_and_again(
    server: SocketAddr,
    transport: Transport,
    asker: usize,
    began: Instant,
    time: Duration,
) -> io::Result<(Vec<Duration>, usize)> {
    let mut asking = Asking::begin(server, transport)?;
    // Another run's names may still be remembered somewhere.
    let salt = std::process::id();
    let (mut took, mut failed, mut number) = (Vec::new(), 0, 0u16);
    while began.elapsed() < time {
        number = number.wrapping_add(1);
        let query = query(number, &fresh_name(salt, asker, number));
        let one = Instant::now();
        match asking.ask(&query) {
            Ok(answer) if answers(&answer, number) => took.push(one.elapsed()),
            _ => failed += 1,
        }
    }
    Ok((took, failed))
}

enum Asking {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Asking {
    fn begin(server: SocketAddr, transport: Transport) -> io::Result<Self> {
        match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                socket.set_read_timeout(Some(LONGEST))?;
                socket.connect(server)?;
                Ok(Self::Udp(socket))
            }
            Transport::Tcp => {
                let stream = TcpStream::connect(server)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(LONGEST))?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    fn ask(&mut self, query: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Udp(socket) => {
                socket.send(query)?;
                let mut answer = vec![0; 1500];
                let length = socket.recv(&mut answer)?;
                answer.truncate(length);
                Ok(answer)
            }
            Self::Tcp(stream) => {
                let length = u16::try_from(query.len()).map_err(io::Error::other)?;
                stream.write_all(&[&length.to_be_bytes(), query].concat())?;
                let mut length = [0; 2];
                stream.read_exact(&mut length)?;
                let mut answer = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut answer)?;
                Ok(answer)
            }
        }
    }
}

/// Every address has a name of this form in a cluster, whether a pod has it or not.
fn fresh_name(salt: u32, asker: usize, number: u16) -> String {
    let [high, low] = number.to_be_bytes();
    let [.., salt] = salt.to_be_bytes();
    let asker = asker % 256;
    format!("{asker}-{salt}-{high}-{low}.default.pod.cluster.local")
}

/// A query for an address, RFC 1035, section 4.1.
fn query(id: u16, name: &str) -> Vec<u8> {
    const RECURSION_DESIRED: [u8; 2] = [1, 0];
    const ONE_QUESTION: [u8; 8] = [0, 1, 0, 0, 0, 0, 0, 0];
    const TYPE_A_CLASS_IN: [u8; 4] = [0, 1, 0, 1];
    let mut query = id.to_be_bytes().to_vec();
    query.extend(RECURSION_DESIRED);
    query.extend(ONE_QUESTION);
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        query.extend(label.bytes());
    }
    query.push(0);
    query.extend(TYPE_A_CLASS_IN);
    query
}

/// Whether an answer belongs to the question and has a record.
fn answers(answer: &[u8], id: u16) -> bool {
    let Some(header) = answer.first_chunk::<12>() else {
        return false;
    };
    let no_error = header[3] & 0x0f == 0;
    let records = u16::from_be_bytes([header[6], header[7]]);
    header[..2] == id.to_be_bytes() && no_error && records > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_what_the_standard_says() {
        let expected = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03web\x04demo\0\0\x01\0\x01";
        assert_eq!(query(0x1234, "web.demo"), expected);
    }

    #[test]
    fn an_answer_without_a_record_is_none() {
        let mut answer = query(7, "web.demo");
        assert!(!answers(&answer, 7));
        answer[7] = 1;
        assert!(answers(&answer, 7));
        assert!(!answers(&answer, 8), "another question's");
        answer[3] = 3;
        assert!(!answers(&answer, 7), "no such name");
    }

    #[test]
    fn no_name_is_asked_for_twice() {
        let names: std::collections::HashSet<_> = (0..16)
            .flat_map(|asker| (0..1000).map(move |number| fresh_name(9, asker, number)))
            .collect();
        assert_eq!(names.len(), 16_000);
    }
}
