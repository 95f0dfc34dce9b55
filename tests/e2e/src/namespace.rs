//! Looking from within a network namespace, so that errors are the kernel's own and not some program's
//! words for them.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

/// A network namespace.
#[derive(Debug)]
pub struct Network(File);

impl Network {
    /// That of a process.
    pub fn of(pid: i32) -> io::Result<Self> {
        File::open(format!("/proc/{pid}/ns/net")).map(Self)
    }

    /// Its number, by which two are told apart.
    pub fn id(&self) -> u64 {
        self.0.metadata().expect("an open file has metadata").ino()
    }

    /// Runs something on a thread within it.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Connects from within, and says how long that took.
    pub fn connect(&self, to: SocketAddr, deadline: Duration) -> (io::Result<TcpStream>, Duration) {
        self.inside(|| {
            let began = Instant::now();
            let connected = TcpStream::connect_timeout(&to, deadline);
            (connected, began.elapsed())
        })
    }
}
