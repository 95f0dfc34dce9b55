//! Connections that are open and do nothing.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::connections;

/// How many are made at a time.
const AT_ONCE: usize = 128;

/// Opens so many, each of which has carried a message.
///
/// # Errors
///
/// The first failure.
pub fn open(to: SocketAddr, count: usize) -> io::Result<Vec<TcpStream>> {
    let left = AtomicUsize::new(count);
    let opened: Vec<io::Result<Vec<TcpStream>>> = thread::scope(|scope| {
        let running: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| {
                    let mut open = Vec::new();
                    let less = |left: usize| left.checked_sub(1);
                    while left
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
                        .is_ok()
                    {
                        open.push(connections::open(to)?);
                    }
                    Ok(open)
                })
            })
            .collect();
        let panicked = |_| Err(io::Error::other("a thread panicked"));
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(panicked))
            .collect()
    });
    let mut all = Vec::with_capacity(count);
    for some in opened {
        all.extend(some?);
    }
    Ok(all)
}
