//! Bytes per second, with one or several streams.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::protocol::{Arrived, CHUNK, DOWN, Meter, UP, Window};
use super::report::Transfer;

/// Longer than this nobody waits for a byte.
const SILENCE: Duration = Duration::from_secs(30);

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the server.
    Up,
    /// From it.
    Down,
}

/// Transfers over `streams` connections that begin together.
///
/// # Errors
///
/// When one of them fails: a sum without it would mean nothing.
pub fn measure(
    to: SocketAddr,
    direction: Direction,
    streams: usize,
    window: Window,
) -> io::Result<Transfer> {
    let connected = (0..streams).map(|_| connect(to));
    let connected: Vec<TcpStream> = connected.collect::<io::Result<_>>()?;
    let start = Barrier::new(streams);
    let arrived: Vec<io::Result<Arrived>> = thread::scope(|scope| {
        let running: Vec<_> = connected
            .iter()
            .map(|stream| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    match direction {
                        Direction::Up => upload(stream, window),
                        Direction::Down => download(stream, window),
                    }
                })
            })
            .collect();
        let panicked = |_| Err(io::Error::other("a stream's thread panicked"));
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(panicked))
            .collect()
    });
    let mut gbit_per_second = 0.0;
    for one in arrived {
        gbit_per_second += one?.rate();
    }
    Ok(Transfer { gbit_per_second })
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    Ok(stream)
}

fn upload(mut stream: &TcpStream, window: Window) -> io::Result<Arrived> {
    let answered = AtomicBool::new(false);
    thread::scope(|scope| {
        let answer = scope.spawn(|| {
            let mut answer = [0; Arrived::BYTES];
            let result = (&*stream).read_exact(&mut answer);
            answered.store(true, Ordering::Relaxed);
            result.map(|()| Arrived::from_bytes(answer))
        });
        let mut header = vec![UP];
        header.extend(window.to_bytes());
        let mut sent = stream.write_all(&header);
        let chunk = vec![0x5a; CHUNK];
        while sent.is_ok() && !answered.load(Ordering::Relaxed) {
            sent = stream.write_all(&chunk);
        }
        if sent.is_err() {
            // Nobody will answer what didn't arrive.
            let _ = stream.shutdown(Shutdown::Both);
        }
        let arrived = answer
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the reader panicked")));
        sent.and(arrived)
    })
}

fn download(mut stream: &TcpStream, window: Window) -> io::Result<Arrived> {
    stream.write_all(&[DOWN])?;
    let mut meter = Meter::new(window);
    let mut buffer = vec![0; CHUNK];
    let began = Instant::now();
    let mut result = None;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return result.ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
        }
        if result.is_none() {
            result = meter.handle_bytes(count, began.elapsed());
            if result.is_some() {
                // What is on its way is read to the end: closing over it would be a reset.
                stream.write_all(b".")?;
            }
        }
    }
}
