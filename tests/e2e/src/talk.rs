//! Conversations with somebody who repeats everything: data both ways, all of them checked.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::text::{Reader, Received, Text, Writer};
use crate::wait;

/// How long one read or write may take, disturbed in whatever way.
const PATIENCE: Duration = Duration::from_secs(70);

/// A conversation that goes on until it is ended.
#[derive(Debug)]
pub struct Talk {
    stop: Arc<AtomicBool>,
    heard: Arc<AtomicU64>,
    speaker: JoinHandle<io::Result<u64>>,
    listener: JoinHandle<io::Result<Received>>,
}

impl Talk {
    /// Starts one over a connection to somebody who repeats everything, at `rate` bytes per second.
    pub fn start(connection: TcpStream, number: u64, rate: u64) -> Self {
        connection
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| connection.set_write_timeout(Some(PATIENCE)))
            .expect("a stream may have limits");
        let (stop, heard) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let text = Text::new(number);
        let mut writer = Writer::new(text.clone(), rate);
        let (told, mut to) = (
            Arc::clone(&stop),
            connection.try_clone().expect("a stream has two halves"),
        );
        let speaker = std::thread::spawn(move || {
            // A tenth of a second each, so that a slow talk isn't one of bursts.
            let piece = (rate / 10).max(1);
            while !told.load(Ordering::Acquire) {
                writer.write_some(&mut to, piece)?;
            }
            to.shutdown(Shutdown::Write)?;
            Ok(writer.written)
        });
        let (count, mut from) = (Arc::clone(&heard), connection);
        let listener = std::thread::spawn(move || {
            let mut reader = Reader::new(text);
            while reader.read_some(&mut from, u64::MAX)? > 0 {
                count.store(reader.received.bytes, Ordering::Release);
            }
            Ok(reader.received)
        });
        Self {
            stop,
            heard,
            speaker,
            listener,
        }
    }

    /// Bytes that were repeated so far.
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Acquire)
    }

    /// Waits until something more is heard.
    #[track_caller]
    pub fn more(&self, deadline: Duration) {
        let before = self.heard();
        wait::until_true("a talk goes on", deadline, || self.heard() > before);
    }

    /// Ends it in order.
    ///
    /// # Panics
    ///
    /// When it broke, or not every byte was repeated.
    #[track_caller]
    pub fn end(self) -> Received {
        self.stop.store(true, Ordering::Release);
        let said = self.speaker.join().expect("a talk's thread doesn't panic");
        let heard = self.listener.join().expect("a talk's thread doesn't panic");
        let (said, heard) = match (said, heard) {
            (Ok(said), Ok(heard)) => (said, heard),
            failed => panic!("a talk broke: {failed:?}"),
        };
        assert_eq!(heard.bytes, said, "not all was repeated");
        heard
    }
}

/// Repeats everything to everybody who connects, until this is dropped.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts to.
    pub fn start(listener: TcpListener) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        listener
            .set_nonblocking(true)
            .expect("a listener may be asked without waiting");
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Acquire) {
                match listener.accept() {
                    // Ends with its connection.
                    Ok((connection, _)) => drop(std::thread::spawn(|| repeat(connection))),
                    Err(_) => std::thread::park_timeout(Duration::from_millis(5)),
                }
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn repeat(mut connection: TcpStream) -> io::Result<()> {
    connection.set_nonblocking(false)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match connection.read(&mut buffer)? {
            0 => return connection.shutdown(Shutdown::Write),
            count => connection.write_all(&buffer[..count])?,
        }
    }
}
