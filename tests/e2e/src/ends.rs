//! Both ends of connections that kdev carries, in the test's hands.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use crate::cluster::Cluster;
use crate::desk::{DEMO, Desk};
use crate::laptop::Laptop;
use crate::namespace::Network;
use crate::pod::PodPlace;
use crate::wait;
use crate::workload::Workload;

/// An end that waits for longer than this has been left hanging.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One end.
pub type End = TcpStream;

/// A way from clients to a server, whose both ends are the test's.
#[derive(Debug)]
pub struct Way<'a> {
    client: &'a Network,
    /// Where a client connects to.
    pub address: SocketAddr,
    listener: TcpListener,
}

impl<'a> Way<'a> {
    /// From programs of the laptop to a program of a pod.
    pub fn outward(laptop: &'a Laptop<'_>, pod: &PodPlace) -> Self {
        let (listener, address) = pod.listen();
        Self::new(laptop.network(), address, listener)
    }

    /// From programs of a pod to a program of the laptop, which has the port `http` of a workload in
    /// the session's namespace.
    #[track_caller]
    pub fn inward(desk: &Desk, pod: &'a PodPlace, web: &Workload<'_>) -> Self {
        let laptop = desk.laptop.network();
        let listener = laptop.inside(|| TcpListener::bind("127.0.0.1:0").expect("a port is free"));
        let local = listener.local_addr().expect("it is bound").port();
        let port = format!("{local}:http");
        desk.kdev(&["intercept", "web", "--port", &port]).ok();
        Self::new(&pod.network, web.address(80), listener)
    }

    fn new(client: &'a Network, address: SocketAddr, listener: TcpListener) -> Self {
        listener
            .set_nonblocking(true)
            .expect("a listener may be asked without waiting");
        Self {
            client,
            address,
            listener,
        }
    }

    /// A connection: the client's end, and the server's.
    ///
    /// # Panics
    ///
    /// When it isn't made in time.
    #[track_caller]
    pub fn connect(&self) -> (End, End) {
        // Others may have looked whether somebody listens.
        while self.try_accept().is_some() {}
        let client = self.dial(PATIENCE).expect("the server listens");
        let server = wait::until("the server has the connection", PATIENCE, || {
            self.try_accept()
        });
        (ready(client), server)
    }

    /// Where a client connects to, and who listens at the other end.
    pub fn into_parts(self) -> (SocketAddr, TcpListener) {
        (self.address, self.listener)
    }

    /// Only connects.
    ///
    /// # Errors
    ///
    /// The kernel's own.
    pub fn dial(&self, patience: Duration) -> io::Result<End> {
        self.client.connect(self.address, patience).0
    }

    /// A connection that has come, if there is one.
    #[track_caller]
    pub fn try_accept(&self) -> Option<End> {
        match self.listener.accept() {
            Ok((server, _)) => {
                server.set_nonblocking(false).expect("a stream may wait");
                Some(ready(server))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }
}

fn ready(end: End) -> End {
    let limits = end
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| end.set_write_timeout(Some(PATIENCE)))
        .and_then(|()| end.set_nodelay(true));
    limits.expect("a stream may have limits");
    end
}

/// Ends a connection as a program does that crashed with data unread: by RST.
pub fn reset(end: End) {
    // Fails on a connection that is gone already.
    let _ = SockRef::from(&end).set_linger(Some(Duration::ZERO));
}

/// Shows something of connections into the cluster, and then of connections from there.
#[track_caller]
pub fn both_ways(topic: &str, show: impl Fn(&Desk, &Way<'_>)) {
    let desk = Desk::with_manager();
    let pod = demo_pod(desk.cluster);
    let web = Workload::up(desk.cluster, topic);
    desk.kdev(&["connect", "-n", web.namespace()]).ok();
    show(&desk, &Way::outward(&desk.laptop, &pod));
    show(&desk, &Way::inward(&desk, &pod, &web));
    desk.kdev(&["quit"]).ok();
    web.assert_untouched();
}

/// One of the pods of the demo's workload.
#[track_caller]
pub fn demo_pod(cluster: &Cluster) -> PodPlace {
    PodPlace::all(cluster, DEMO, "app=web").remove(0)
}
