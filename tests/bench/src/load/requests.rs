//! Requests over HTTP/1.1, small ones and such with large answers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::http::Connection;
use super::protocol::{MESSAGE, Meter, Window};
use super::report::{Repeated, Transfer};

/// A request that takes longer has failed.
const LONGEST: Duration = Duration::from_secs(10);
/// Bytes of a large answer: many are asked for in a row, so that all end in order.
const LARGE: usize = 64 << 20;

/// What is asked, and of whom.
#[derive(Debug, Clone)]
pub struct Requests {
    to: SocketAddr,
    header: String,
    from: String,
}

impl Requests {
    /// Requests to that address with a header line, which `from` has to answer.
    pub fn new(to: SocketAddr, header: &str, from: &str) -> Self {
        Self {
            to,
            header: header.to_owned(),
            from: from.to_owned(),
        }
    }

    /// Makes small ones for so long, `at_once` at a time, each on a `new` connection or on one per client that is
    /// kept; the first quarter of the time is for warming up.
    ///
    /// # Errors
    ///
    /// When a client can't even begin. What fails later is counted.
    pub fn small(&self, at_once: usize, new: bool, time: Duration) -> io::Result<Repeated> {
        runtime()?.block_on(async {
            let mut clients = JoinSet::new();
            let ask = Arc::new(Ask {
                requests: self.clone(),
                bytes: self.bytes(MESSAGE),
                new,
            });
            let begin = Instant::now();
            let (count_from, until) = (begin + time / 4, begin + time);
            for _ in 0..at_once {
                clients.spawn(Arc::clone(&ask).again_and_again(count_from, until));
            }
            let (mut took, mut failed) = (Vec::new(), 0);
            while let Some(done) = clients.join_next().await {
                let (some, failures) = done.map_err(io::Error::other)??;
                took.extend(some);
                failed += failures;
            }
            Ok(Repeated::of(took, failed, count_from.elapsed()))
        })
    }

    /// Asks for large answers, one after the other on one connection, until bytes have been counted for so long.
    ///
    /// # Errors
    ///
    /// When one fails.
    pub fn download(&self, window: Window) -> io::Result<Transfer> {
        runtime()?.block_on(async {
            let mut connection = Connection::open(self.to).await?;
            let request = self.bytes(LARGE);
            let (mut meter, began) = (Meter::new(window), Instant::now());
            loop {
                let mut result = None;
                let mut count = |bytes| {
                    result = result.or_else(|| meter.handle_bytes(bytes, began.elapsed()));
                };
                connection.ask(&request, &self.from, &mut count).await?;
                if let Some(arrived) = result {
                    let gbit_per_second = arrived.rate();
                    return Ok(Transfer { gbit_per_second });
                }
            }
        })
    }

    fn bytes(&self, size: usize) -> Vec<u8> {
        let Self { to, header, .. } = self;
        format!("GET /{size} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: kdev-bench\r\nAccept: */*\r\n{header}\r\n\r\n")
            .into_bytes()
    }
}

/// One thread: what it takes is taken from those who are measured.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

struct Ask {
    requests: Requests,
    bytes: Vec<u8>,
    new: bool,
}

impl Ask {
    async fn again_and_again(
        self: Arc<Self>,
        count_from: Instant,
        until: Instant,
    ) -> io::Result<(Vec<Duration>, usize)> {
        let (mut took, mut failed) = (Vec::new(), 0);
        let mut kept = None;
        // The first one's reason is worth more than its number.
        self.once(&mut kept).await?;
        loop {
            let began = Instant::now();
            if began >= until {
                return Ok((took, failed));
            }
            let result = self.once(&mut kept).await;
            if began >= count_from {
                match result {
                    Ok(()) => took.push(began.elapsed()),
                    Err(_) => failed += 1,
                }
            }
        }
    }

    /// A connection that failed isn't kept.
    async fn once(&self, kept: &mut Option<Connection>) -> io::Result<()> {
        let asked = async {
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => Connection::open(self.requests.to).await?,
            };
            let from = &self.requests.from;
            connection.ask(&self.bytes, from, |_| ()).await?;
            io::Result::Ok(connection)
        };
        let connection = timeout(LONGEST, asked).await;
        let connection = connection.map_err(|_| io::ErrorKind::TimedOut)??;
        if !self.new {
            *kept = Some(connection);
        }
        Ok(())
    }
}
