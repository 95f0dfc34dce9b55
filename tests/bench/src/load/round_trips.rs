//! How long a small message takes there and back.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::protocol::{ECHO, MESSAGE};
use super::report::Repeated;

const SILENCE: Duration = Duration::from_secs(30);

/// Sends one message after the other over one connection; the first quarter of the time is for
/// warming up.
///
/// # Errors
///
/// When the connection fails.
pub fn measure(to: SocketAddr, time: Duration) -> io::Result<Repeated> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.write_all(&[ECHO])?;
    let mut message = [0x5a; MESSAGE];
    let mut round_trip = || {
        let began = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        io::Result::Ok(began.elapsed())
    };
    let begin = Instant::now();
    while begin.elapsed() < time / 4 {
        round_trip()?;
    }
    let mut took = Vec::new();
    let counting = Instant::now();
    while took.is_empty() || begin.elapsed() < time {
        took.push(round_trip()?);
    }
    Ok(Repeated::of(took, 0, counting.elapsed()))
}
