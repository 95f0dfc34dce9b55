//! Both ends of datagrams: a program that answers them, and a client that knows from the answer who did.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::namespace::Network;

/// How long one answer may take until the datagram, or its answer, is taken for lost.
const LOST: Duration = Duration::from_secs(2);
/// Between two looks of a program whether it is to end.
const LOOK: Duration = Duration::from_millis(50);
/// More than the largest datagram.
const BUFFER: usize = 70_000;

/// Datagrams, and where they came from.
pub type Heard = Vec<(SocketAddr, Vec<u8>)>;

/// A program that answers every datagram with its complement, where the workload's pods answer with what they get.
#[derive(Debug)]
pub struct Responder {
    heard: Arc<Mutex<Heard>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// Starts one in a network, on an address with a port.
    pub fn start(network: &Network, address: &str) -> Self {
        let socket = network.inside(|| UdpSocket::bind(address).expect("the port is free"));
        socket
            .set_read_timeout(Some(LOOK))
            .expect("a socket may have limits");
        let (heard, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (list, told) = (Arc::clone(&heard), Arc::clone(&stop));
        let thread = std::thread::spawn(move || respond(&socket, &list, &told));
        Self {
            heard,
            stop,
            thread: Some(thread),
        }
    }

    /// What it has heard so far, and from whom.
    pub fn heard(&self) -> Heard {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.clone()
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn respond(socket: &UdpSocket, heard: &Mutex<Heard>, told: &AtomicBool) {
    let mut buffer = vec![0; BUFFER];
    while !told.load(Ordering::Acquire) {
        // A timeout, or the last client's port that is closed.
        let Ok((size, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let said = buffer[..size].to_vec();
        let _ = socket.send_to(&complement(&said), from);
        heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((from, said));
    }
}

fn complement(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| !byte).collect()
}

/// Who answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The local program.
    Laptop,
    /// A pod.
    Pod,
}

/// A client that hears only the one that it speaks to, as most programs do.
#[derive(Debug)]
pub struct Client(UdpSocket);

impl Client {
    /// One that speaks to `to`, from a port of its own in `network`.
    pub fn new(network: &Network, to: SocketAddr) -> Self {
        network.inside(|| Self::here(to))
    }

    /// The same in the network where this is called.
    pub fn here(to: SocketAddr) -> Self {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).expect("a port is free");
        socket.connect(to).expect("there is a way");
        socket
            .set_read_timeout(Some(LOST))
            .expect("a socket may have limits");
        Self(socket)
    }

    /// The socket, for whoever needs more.
    pub fn socket(&self) -> &UdpSocket {
        &self.0
    }

    /// Sends a datagram, once, and returns the next answer; `None` when none comes.
    pub fn ask(&self, said: &[u8]) -> Option<Vec<u8>> {
        self.0.send(said).ok()?;
        self.hear()
    }

    fn hear(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; BUFFER];
        match self.0.recv(&mut buffer) {
            Ok(size) => Some(buffer[..size].to_vec()),
            Err(error) => {
                let kinds = [ErrorKind::WouldBlock, ErrorKind::ConnectionRefused];
                assert!(kinds.contains(&error.kind()), "{error}");
                None
            }
        }
    }

    /// Who answers a datagram of a few bytes; `None` when nobody does.
    pub fn who_answers(&self) -> Option<Who> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let said = COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut answer = self.ask(&said);
        // One that comes late is to an earlier one.
        loop {
            match answer {
                None => return None,
                Some(answer) if answer == said => return Some(Who::Pod),
                Some(answer) if answer == complement(&said) => return Some(Who::Laptop),
                Some(_) => answer = self.hear(),
            }
        }
    }

    /// Expects that the local program gets this, unchanged, and that its answer comes back.
    #[track_caller]
    pub fn assert_laptop_answers(&self, said: &[u8]) {
        let answer = self.ask(said);
        let answer = answer.unwrap_or_else(|| panic!("no answer to {} bytes", said.len()));
        assert!(
            answer == complement(said),
            "{} bytes are others",
            said.len()
        );
    }
}
