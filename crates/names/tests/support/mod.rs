//! A fake name server, a fake cluster, and a client: the servers with real sockets on loopback.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, MX, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use kdev_names::{
    ClusterLookup, DnsHandle, DnsServer, Limits, LookupError, Policy, ServeError, Whose,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing that is tested takes longer.
pub const DEADLINE: Duration = Duration::from_secs(10);

pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// Fails the test when `future` takes too long.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("it took too long")
}

pub fn query(asked: &str, kind: RecordType) -> Message {
    let mut query = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name(asked), kind));
    query
}

pub fn query_with_edns(asked: &str, kind: RecordType, payload: u16) -> Message {
    let mut query = query(asked, kind);
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    query.set_edns(edns);
    query
}

// ---- zones --------------------------------------------------------------------------------------

/// Names and their records. A name that isn't there is NXDOMAIN, a type that isn't there no data.
#[derive(Clone, Default)]
pub struct Zone {
    records: HashMap<Name, Vec<Record>>,
    failing: Option<ResponseCode>,
}

impl Zone {
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers everything with this code.
    pub fn failing(code: ResponseCode) -> Self {
        Self {
            failing: Some(code),
            ..Self::default()
        }
    }

    pub fn with(mut self, owner: &str, data: RData) -> Self {
        let owner = name(owner);
        let record = Record::from_rdata(owner.clone(), 30, data);
        self.records.entry(owner).or_default().push(record);
        self
    }

    pub fn a(self, owner: &str, address: [u8; 4]) -> Self {
        self.with(owner, RData::A(A(address.into())))
    }

    pub fn txt(self, owner: &str, text: &str) -> Self {
        self.with(owner, RData::TXT(TXT::new(vec![text.to_owned()])))
    }

    pub fn srv(self, owner: &str, port: u16, target: &str) -> Self {
        self.with(owner, RData::SRV(SRV::new(0, 100, port, name(target))))
    }

    pub fn mx(self, owner: &str, target: &str) -> Self {
        self.with(owner, RData::MX(MX::new(10, name(target))))
    }

    pub fn ptr(self, owner: &str, target: &str) -> Self {
        self.with(owner, RData::PTR(PTR(name(target))))
    }

    pub fn cname(self, owner: &str, target: &str) -> Self {
        self.with(owner, RData::CNAME(CNAME(name(target))))
    }

    pub fn answer(&self, query: &Message) -> Message {
        let mut answer = Message::response(query.metadata.id, OpCode::Query);
        answer.metadata.recursion_desired = query.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.add_queries(query.queries.iter().cloned());
        if let Some(code) = self.failing {
            answer.metadata.response_code = code;
            return answer;
        }
        let question = &query.queries[0];
        let Some(records) = self.records.get(&question.name) else {
            answer.metadata.response_code = ResponseCode::NXDomain;
            answer.add_authority(soa());
            return answer;
        };
        let wanted = |record: &&Record| {
            record.record_type() == question.query_type || record.record_type() == RecordType::CNAME
        };
        answer.add_answers(records.iter().filter(wanted).cloned());
        if answer.answers.is_empty() {
            answer.add_authority(soa());
        }
        answer
    }
}

fn soa() -> Record {
    let soa = SOA::new(name("ns."), name("root."), 1, 7200, 1800, 86400, 86400);
    Record::from_rdata(Name::root(), 86400, RData::SOA(soa))
}

// ---- a name server ------------------------------------------------------------------------------

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Udp,
    Tcp,
}

/// A query as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub by: By,
    pub from: SocketAddr,
    pub bytes: Vec<u8>,
}

impl Seen {
    pub fn name(&self) -> String {
        Message::from_vec(&self.bytes).unwrap().queries[0]
            .name
            .to_ascii()
    }
}

/// A name server on loopback, by UDP and TCP on one port.
pub struct NameServer {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    tasks: [JoinHandle<()>; 2],
}

impl NameServer {
    /// Answers each query with the messages that `script` makes of it.
    pub async fn scripted(script: impl Fn(&Seen) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let (udp, tcp) = both_sockets().await;
        let address = udp.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(script);
        let tasks = [
            tokio::spawn(serve_udp(udp, script.clone(), seen.clone())),
            tokio::spawn(serve_tcp(tcp, script, seen.clone())),
        ];
        Self {
            address,
            seen,
            tasks,
        }
    }

    /// Answers from a zone.
    pub async fn of(zone: Zone) -> Self {
        Self::scripted(move |seen| {
            let query = Message::from_vec(&seen.bytes).unwrap();
            vec![zone.answer(&query).to_vec().unwrap()]
        })
        .await
    }

    /// Takes queries and never answers.
    pub async fn silent() -> Self {
        Self::scripted(|_| Vec::new()).await
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn names(&self) -> Vec<String> {
        self.seen().iter().map(Seen::name).collect()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn both_sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

type Script = dyn Fn(&Seen) -> Vec<Vec<u8>> + Send + Sync;

async fn serve_udp(socket: UdpSocket, script: Arc<Script>, seen: Arc<Mutex<Vec<Seen>>>) {
    let mut buffer = vec![0; 65_535];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let query = Seen {
            by: By::Udp,
            from,
            bytes: buffer[..length].to_vec(),
        };
        let answers = script(&query);
        seen.lock().unwrap().push(query);
        for answer in answers {
            socket.send_to(&answer, from).await.unwrap();
        }
    }
}

async fn serve_tcp(listener: TcpListener, script: Arc<Script>, seen: Arc<Mutex<Vec<Seen>>>) {
    loop {
        let (mut stream, from) = listener.accept().await.unwrap();
        let (script, seen) = (script.clone(), seen.clone());
        tokio::spawn(async move {
            while let Some(bytes) = read_framed(&mut stream).await {
                let query = Seen {
                    by: By::Tcp,
                    from,
                    bytes,
                };
                let answers = script(&query);
                seen.lock().unwrap().push(query);
                if answers.is_empty() {
                    return;
                }
                for answer in answers {
                    write_framed(&mut stream, &answer).await;
                }
            }
        });
    }
}

/// The next message, or `None` at the end of the stream.
pub async fn read_framed(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = stream.read_u16().await.ok()?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await.ok()?;
    Some(message)
}

pub async fn write_framed(stream: &mut TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).unwrap();
    stream.write_u16(length).await.unwrap();
    stream.write_all(message).await.unwrap();
}

// ---- a cluster ----------------------------------------------------------------------------------

/// How the fake cluster is.
#[derive(Clone)]
pub enum Cluster {
    Zone(Zone),
    /// No carrier to the manager.
    Away,
    /// The manager never answers.
    Hanging,
    /// Not a DNS message.
    Rubbish,
}

/// A cluster that records what it is asked.
#[derive(Clone)]
pub struct FakeCluster {
    cluster: Arc<Mutex<Cluster>>,
    seen: Arc<watch::Sender<Vec<Message>>>,
}

impl FakeCluster {
    pub fn new(cluster: Cluster) -> Self {
        Self {
            cluster: Arc::new(Mutex::new(cluster)),
            seen: Arc::new(watch::Sender::default()),
        }
    }

    pub fn becomes(&self, cluster: Cluster) {
        *self.cluster.lock().unwrap() = cluster;
    }

    pub fn seen(&self) -> Vec<Message> {
        self.seen.borrow().clone()
    }

    /// Waits until so many queries have come.
    pub async fn asked(&self, queries: usize) {
        let mut seen = self.seen.subscribe();
        seen.wait_for(|seen| seen.len() >= queries).await.unwrap();
    }

    pub fn names(&self) -> Vec<String> {
        let seen = self.seen();
        seen.iter()
            .map(|query| query.queries[0].name.to_ascii())
            .collect()
    }
}

impl ClusterLookup for FakeCluster {
    async fn lookup(&self, query: Bytes, _: Whose) -> Result<Bytes, LookupError> {
        let query = Message::from_vec(&query).unwrap();
        self.seen.send_modify(|seen| seen.push(query.clone()));
        let cluster = self.cluster.lock().unwrap().clone();
        match cluster {
            Cluster::Zone(zone) => Ok(zone.answer(&query).to_vec().unwrap().into()),
            Cluster::Away => Err(LookupError::Away),
            Cluster::Hanging => std::future::pending().await,
            Cluster::Rubbish => Ok(Bytes::from_static(b"rubbish")),
        }
    }
}

// ---- the server under test ----------------------------------------------------------------------

/// A running server between a fake outside and a fake cluster.
pub struct Split {
    pub outside: NameServer,
    pub cluster: FakeCluster,
    pub handle: DnsHandle,
    pub cancel: CancellationToken,
    pub running: JoinHandle<Result<(), ServeError>>,
}

impl Split {
    pub async fn of(outside: Zone, cluster: Zone) -> Self {
        Self::new(
            NameServer::of(outside).await,
            Cluster::Zone(cluster),
            Limits::default(),
        )
        .await
    }

    pub async fn new(outside: NameServer, cluster: Cluster, limits: Limits) -> Self {
        let server = DnsServer::bind(LOOPBACK, 0, limits).await.unwrap();
        let handle = server.handle();
        handle.set_policy(Some(policy("dev")));
        handle.set_upstreams([outside.address]);
        let cluster = FakeCluster::new(cluster);
        let cancel = CancellationToken::new();
        let running = tokio::spawn(server.run(cluster.clone(), cancel.clone()));
        Self {
            outside,
            cluster,
            handle,
            cancel,
            running,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.handle.local_addr()
    }

    /// Asks by UDP.
    pub async fn ask(&self, asked: &str, kind: RecordType) -> Message {
        self.send(&query(asked, kind)).await
    }

    /// Asks by UDP and checks that the answer is one to this query.
    pub async fn send(&self, query: &Message) -> Message {
        let bytes = self.send_raw(&query.to_vec().unwrap()).await;
        checked(query, &bytes)
    }

    pub async fn send_raw(&self, packet: &[u8]) -> Vec<u8> {
        let socket = self.socket().await;
        socket.send(packet).await.unwrap();
        receive(&socket).await
    }

    /// A client's socket.
    pub async fn socket(&self) -> UdpSocket {
        let socket = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
        socket.connect(self.address()).await.unwrap();
        socket
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.unwrap()
    }

    pub async fn ask_by_tcp(&self, query: &Message) -> Message {
        let mut stream = self.connect().await;
        write_framed(&mut stream, &query.to_vec().unwrap()).await;
        let bytes = soon(read_framed(&mut stream)).await.unwrap();
        checked(query, &bytes)
    }
}

impl Drop for Split {
    fn drop(&mut self) {
        self.running.abort();
    }
}

pub fn policy(namespace: &str) -> Policy {
    let prefixes = ["10.96.0.0/12".parse().unwrap()];
    Policy::new("cluster.local", namespace, ["dev", "shop"], prefixes).unwrap()
}

pub async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_535];
    let length = soon(socket.recv(&mut buffer)).await.unwrap();
    buffer.truncate(length);
    buffer
}

pub fn checked(query: &Message, answer: &[u8]) -> Message {
    let answer = Message::from_vec(answer).unwrap();
    assert_eq!(answer.metadata.message_type, MessageType::Response);
    assert_eq!(answer.metadata.id, query.metadata.id);
    assert_eq!(answer.queries, query.queries);
    assert!(answer.queries[0].name.eq_case(&query.queries[0].name));
    assert!(answer.metadata.recursion_desired && answer.metadata.recursion_available);
    answer
}

/// The data of the answer's records, as text.
pub fn data(answer: &Message) -> Vec<String> {
    answer
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect()
}

pub fn code(answer: &Message) -> ResponseCode {
    answer.metadata.response_code
}
