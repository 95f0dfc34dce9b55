//! Requests to the test workload, each on a connection of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::namespace::Network;
use crate::wait;

/// How long one request may take before it counts as failed.
const REQUEST: Duration = Duration::from_secs(5);
/// Between two requests: two cores serve the cluster as well.
const PACE: Duration = Duration::from_millis(3);

/// Asks who answers at `address`; the workload says the name of its pod.
///
/// # Errors
///
/// What went wrong with the connection, or with the answer.
pub fn who_answers(address: SocketAddr) -> io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&address, REQUEST)?;
    connection.set_read_timeout(Some(REQUEST))?;
    connection.set_write_timeout(Some(REQUEST))?;
    connection.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let wrong = || io::Error::other(format!("no answer of the workload's: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(wrong)?;
    let page: Value = serde_json::from_str(body).map_err(|_| wrong())?;
    match page["pod"].as_str() {
        Some(pod) if head.starts_with("HTTP/1.1 200") => Ok(pod.to_owned()),
        _ => Err(wrong()),
    }
}

/// Requests that are made one after the other until they are stopped.
#[derive(Debug)]
pub struct Requests {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    thread: Option<JoinHandle<Tally>>,
}

/// What became of them.
#[derive(Default)]
pub struct Tally {
    /// How many each answered.
    pub answered: BTreeMap<String, usize>,
    /// What went wrong with the others, and when since the start.
    pub failed: Vec<(Duration, String)>,
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.failed.first(), self.failed.last());
        let count = self.failed.len();
        write!(
            f,
            "answered {:?}, {count} failed: {first:?} to {last:?}",
            self.answered
        )
    }
}

impl Requests {
    /// Starts to make them from within `network`.
    pub fn start(network: Network, address: SocketAddr) -> Self {
        let (stop, made) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (told, count) = (Arc::clone(&stop), Arc::clone(&made));
        let thread = std::thread::spawn(move || {
            network.inside(|| {
                let (began, mut tally) = (Instant::now(), Tally::default());
                while !told.load(Ordering::Acquire) {
                    match who_answers(address) {
                        Ok(pod) => *tally.answered.entry(pod).or_default() += 1,
                        Err(error) => tally.failed.push((began.elapsed(), error.to_string())),
                    }
                    count.fetch_add(1, Ordering::AcqRel);
                    std::thread::park_timeout(PACE);
                }
                tally
            })
        });
        Self {
            stop,
            made,
            thread: Some(thread),
        }
    }

    /// Waits until so many more have been made.
    pub fn more(&self, count: usize) {
        let wanted = self.made.load(Ordering::Acquire) + count;
        wait::until_true("requests are made", Duration::from_secs(30), || {
            self.made.load(Ordering::Acquire) >= wanted
        });
    }

    /// Stops them.
    pub fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Release);
        let thread = self.thread.take().expect("only this takes it");
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
