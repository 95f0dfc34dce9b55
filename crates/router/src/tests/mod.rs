//! The router between a client and destinations, all on connections of the kernel's.

mod bulk;
mod copies;
mod foreseen;
mod h1;
mod h1_edges;
mod h2;
mod h2_ends;
mod h2_first;
mod h2c;
mod random;
mod raw;
mod smuggling;
mod tls;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kdev_rules::Head;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::ways::First;
use crate::{DialError, Limit, Limits, RouterError, Tapped, Ways, serve};
use foreseen::Foreseen;

/// What clients are told when `down` is asked for.
pub(crate) const DOWN: &str = "kdev: the machine of ann@laptop is away, 100%\n";

/// What `passing` refuses goes to the pods. Requests with `x-to: NAME` go to NAME, the others to `pods`; with `x-copy: NAME` NAME gets a copy. What isn't
/// HTTP is copied to `tap`, where there is one.
pub(crate) struct Ports {
    pub(crate) to: HashMap<&'static str, SocketAddr>,
    /// The limits that the client has reached.
    pub(crate) reached: Arc<Mutex<Vec<Limit>>>,
    /// What each question for a connection came with, and whether that is repeatable.
    pub(crate) asked: Arc<Mutex<Vec<(String, bool)>>>,
}

impl Ways for Ports {
    type Stream = Foreseen;
    type Key = String;

    fn route(&self, head: &Head<'_>) -> Option<String> {
        // Of TLS only a name is seen.
        let of_tls = || value(head, "host").filter(|_| head.method().is_empty());
        value(head, "x-to").or_else(of_tls)
    }

    fn handle_limit(&self, limit: Limit) {
        self.reached.lock().unwrap().push(limit);
    }

    fn copies(&self, head: Option<&Head<'_>>) -> Vec<String> {
        let to = match head {
            Some(head) if head.method().is_empty() => None,
            Some(head) => value(head, "x-copy"),
            None => self.to.contains_key("tap").then(|| "tap".to_owned()),
        };
        to.into_iter().collect()
    }

    fn spawn_copy(self: &Arc<Self>, copy: Tapped, to: String) {
        let ways = Arc::clone(self);
        tokio::spawn(async move { copy.serve(ways, to, &patient()).await });
    }

    fn spawn(&self, _: &String, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    async fn dial(&self, to: Option<&String>, first: First<'_>) -> Result<Foreseen, DialError> {
        let bytes = String::from_utf8_lossy(first.bytes).into_owned();
        self.asked.lock().unwrap().push((bytes, first.repeatable));
        let port = self.to.get(to.map_or("pods", String::as_str));
        let down = || match to.map(String::as_str) {
            Some("passing") => DialError::new(DOWN).pass_to_pods(),
            _ => DialError::new(DOWN),
        };
        let port = port.ok_or_else(down)?;
        let stream = TcpStream::connect(port).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Ok(Foreseen {
            stream,
            first: first.bytes.to_vec(),
        })
    }
}

fn value(head: &Head<'_>, name: &str) -> Option<String> {
    let mut found = None;
    head.any_value(&name.parse().unwrap(), |value| {
        found = Some(String::from_utf8(value.to_vec()).unwrap());
        true
    });
    found
}

/// A client, the router, and where requests may go.
pub(crate) struct Rig {
    pub(crate) client: TcpStream,
    pub(crate) router: JoinHandle<Result<(), RouterError>>,
    pub(crate) reached: Arc<Mutex<Vec<Limit>>>,
    pub(crate) asked: Arc<Mutex<Vec<(String, bool)>>>,
    listeners: HashMap<&'static str, TcpListener>,
}

/// Limits that no test waits for.
pub(crate) fn patient() -> Limits {
    Limits {
        first_byte: Duration::from_secs(60),
        head_time: Duration::from_secs(60),
        ..Limits::default()
    }
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(patient(), &["pods", "ann", "bob"]).await
    }

    pub(crate) async fn with(limits: Limits, names: &[&'static str]) -> Self {
        let mut listeners = HashMap::new();
        let mut ports = HashMap::new();
        for name in names {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            ports.insert(*name, listener.local_addr().unwrap());
            listeners.insert(*name, listener);
        }
        let (client, mut near) = connection().await;
        let reached = Arc::<Mutex<Vec<Limit>>>::default();
        let asked = Arc::<Mutex<Vec<(String, bool)>>>::default();
        let ways = Ports {
            to: ports,
            reached: Arc::clone(&reached),
            asked: Arc::clone(&asked),
        };
        let router = tokio::spawn(async move {
            let served = serve(&mut near, Arc::new(ways), &limits).await;
            if served.is_err() {
                near.set_zero_linger().unwrap();
            }
            served
        });
        Self {
            client,
            router,
            reached,
            asked,
            listeners,
        }
    }

    /// The next connection to a destination.
    pub(crate) async fn accept(&self, name: &str) -> TcpStream {
        Self::accept_from(&self.listeners, name).await
    }

    /// The same while the client is borrowed.
    async fn accept_from(listeners: &HashMap<&str, TcpListener>, name: &str) -> TcpStream {
        let (stream, _) = soon(listeners[name].accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    pub(crate) fn listener(&mut self, name: &str) -> TcpListener {
        self.listeners.remove(name).unwrap()
    }

    /// Expects the client to be closed in order, and then the router to be done.
    pub(crate) async fn ends(mut self) {
        ends(&mut self.client).await;
        drop(self.client);
        soon(self.router).await.unwrap().unwrap();
    }
}

/// Waits for what has to happen, however busy the machine.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("in time")
}

/// Both ends of a connection.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (here, there) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (here, (there, _)) = (here.unwrap(), there.unwrap());
    here.set_nodelay(true).unwrap();
    there.set_nodelay(true).unwrap();
    (here, there)
}

pub(crate) async fn says(stream: &mut TcpStream, bytes: impl AsRef<[u8]>) {
    soon(stream.write_all(bytes.as_ref())).await.unwrap();
}

/// Expects exactly these bytes next.
#[track_caller]
pub(crate) fn hears(stream: &mut TcpStream, bytes: impl AsRef<[u8]>) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let bytes = bytes.as_ref();
        let mut heard = vec![0; bytes.len()];
        let mut count = 0;
        while count < heard.len() {
            let read =
                tokio::time::timeout(Duration::from_secs(30), stream.read(&mut heard[count..]));
            match read.await {
                Ok(Ok(read @ 1..)) => count += read,
                other => {
                    let heard = String::from_utf8_lossy(&heard[..count]);
                    let bytes = String::from_utf8_lossy(bytes);
                    panic!("{caller}: {other:?} after {heard:?} of {bytes:?}");
                }
            }
        }
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(shown(&heard), shown(bytes), "{caller}");
    }
}

/// Expects the end, and nothing before.
pub(crate) async fn ends(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    soon(stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&rest), "");
}

/// Expects a reset, and nothing before.
pub(crate) async fn is_reset(stream: &mut TcpStream) {
    let read = soon(stream.read(&mut [0; 8])).await;
    let error = read.expect_err("no more data");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}
