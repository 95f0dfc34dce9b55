//! New connections, each with a message there and back.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::protocol::{ECHO, MESSAGE};
use super::report::Repeated;

/// A connection that takes longer has failed.
const LONGEST: Duration = Duration::from_secs(10);

/// Makes them for so long, `at_once` at a time.
pub fn measure(to: SocketAddr, at_once: usize, time: Duration) -> Repeated {
    let began = Instant::now();
    let done: Vec<(Vec<Duration>, usize)> = thread::scope(|scope| {
        let running: Vec<_> = (0..at_once)
            .map(|_| scope.spawn(move || again_and_again(to, began, time)))
            .collect();
        let panicked = |_| (Vec::new(), 1);
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(panicked))
            .collect()
    });
    let elapsed = began.elapsed();
    let failed = done.iter().map(|(_, failed)| failed).sum();
    let took = done.into_iter().flat_map(|(took, _)| took).collect();
    Repeated::of(took, failed, elapsed)
}

fn again_and_again(to: SocketAddr, began: Instant, time: Duration) -> (Vec<Duration>, usize) {
    let (mut took, mut failed) = (Vec::new(), 0);
    while began.elapsed() < time {
        let one = Instant::now();
        match open(to) {
            Ok(_) => took.push(one.elapsed()),
            Err(_) => failed += 1,
        }
    }
    (took, failed)
}

/// A connection over which a message has come back: not every way refuses what it can't reach.
///
/// # Errors
///
/// When it can't be made, or doesn't echo.
pub fn open(to: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&to, LONGEST)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LONGEST))?;
    let mut message = [0x5a; MESSAGE + 1];
    message[0] = ECHO;
    stream.write_all(&message)?;
    stream.read_exact(&mut message[1..])?;
    Ok(stream)
}
