use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use proptest::prelude::*;
use tokio::runtime::Builder;

use super::*;
use crate::policy::Policy;
use crate::server::{DnsHandle, Limits};
use crate::test_messages::{query, with_edns};

/// Answers with the same bytes, whatever is asked, under the id of the query.
struct Parrot(Vec<u8>);

impl ClusterLookup for Parrot {
    async fn lookup(&self, query: Bytes, _: Whose) -> Result<Bytes, LookupError> {
        let mut answer = self.0.clone();
        wire::set_id(&mut answer, wire::id(&query).unwrap());
        Ok(answer.into())
    }
}

/// Notes whose the names are that it is asked for, and is away.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<Whose>>>);

impl ClusterLookup for Noting {
    async fn lookup(&self, _: Bytes, whose: Whose) -> Result<Bytes, LookupError> {
        self.0.lock().unwrap().push(whose);
        Err(LookupError::Away)
    }
}

/// What a server without upstreams answers to `packet` when the cluster answers `from_cluster`.
fn answer(packet: &[u8], from_cluster: Vec<u8>, client: Client) -> Option<Vec<u8>> {
    answer_by(Parrot(from_cluster), packet, client)
}

fn answer_by(cluster: impl ClusterLookup, packet: &[u8], client: Client) -> Option<Vec<u8>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
    let shared = Arc::new(Shared::new(address, Limits::default()));
    let policy = Policy::new("cluster.local", "dev", ["dev"], []).unwrap();
    DnsHandle::new(shared.clone()).set_policy(Some(policy));
    let resolver = Resolver::new(cluster, shared);
    Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(resolver.answer(packet, client))
}

fn damaged(message: &Message) -> impl Strategy<Value = Vec<u8>> + use<> {
    let bytes = message.to_vec().unwrap();
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
    (damage, prop::collection::vec(any::<u8>(), 0..20)).prop_map(move |(damage, tail)| {
        let mut bytes = bytes.clone();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.extend(tail);
        bytes
    })
}

proptest! {
    #[test]
    fn whatever_comes_from_both_sides_the_answer_is_the_clients(
        packet in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            damaged(&query("web.dev.", RecordType::A)),
            damaged(&query("db-0.db.", RecordType::A)),
            damaged(&with_edns(query("web.dev.svc.", RecordType::SRV), 1232)),
        ],
        from_cluster in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            damaged(&query("web.dev.svc.cluster.local.", RecordType::A).into_response()),
        ],
        tcp in any::<bool>(),
    ) {
        let client = if tcp { Client::Tcp } else { Client::Udp };
        if let Some(answer) = answer(&packet, from_cluster, client) {
            prop_assert_eq!(wire::id(&answer), wire::id(&packet));
            prop_assert!(answer[2] & 0x80 != 0, "an answer says that it is one");
            let read = Message::from_vec(&answer);
            prop_assert!(read.is_ok(), "{:?}", read);
        } else {
            prop_assert!(packet.len() < 3 || packet[2] & 0x80 != 0);
        }
    }
}

#[test]
fn a_newer_edns_than_ours_is_refused_for_the_clusters_names() {
    let mut newer = with_edns(query("web.dev.svc.", RecordType::A), 1232);
    newer.edns.as_mut().unwrap().set_version(1);
    let answer = answer(&newer.to_vec().unwrap(), Vec::new(), Client::Udp).unwrap();
    let answer = Message::from_vec(&answer).unwrap();
    // 16 is BADSIG as well, RFC 6895 section 2.3.
    assert_eq!(u16::from(answer.metadata.response_code), 16);
    assert_eq!(answer.edns.unwrap().version(), 0);
}

#[test]
fn a_name_of_two_labels_is_the_outsides_unless_that_has_no_such_name() {
    let asked = Noting::default();
    let packet = query("sts-0.stsh.", RecordType::A).to_vec().unwrap();
    let answer = answer_by(asked.clone(), &packet, Client::Udp).unwrap();
    assert_eq!(*asked.0.lock().unwrap(), []);
    // The outside couldn't be asked.
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn a_silent_cluster_is_bothered_once_in_the_respite_until_it_answers() {
    let counters = Counters::default();
    let respite = Duration::from_secs(1);
    let now = Instant::now();
    let may = |after| counters.may_bother_cluster(now + Duration::from_millis(after), respite);
    assert!(may(0) && may(1));
    counters.cluster_silent(Some("away".to_owned()), now);
    assert!(!may(0) && !may(999));
    assert!(may(1000));
    assert!(!may(1001) && !may(1999));
    assert!(may(2000));
    // That it failed to find out is an answer.
    counters.cluster_gave_failure("SERVFAIL".to_owned());
    assert!(may(2000));
    counters.cluster_silent(Some("away".to_owned()), now);
    counters.cluster_answered();
    assert!(may(0));
}

#[test]
fn a_name_that_ends_in_a_namespace_is_waited_for_as_one_of_the_cluster() {
    let asked = Noting::default();
    for name in [
        "web.",
        "web.dev.",
        "web.dev.svc.",
        "web.dev.svc.cluster.local.",
    ] {
        let packet = query(name, RecordType::A).to_vec().unwrap();
        answer_by(asked.clone(), &packet, Client::Udp).unwrap();
    }
    use Whose::{Anybody, Cluster};
    assert_eq!(
        *asked.0.lock().unwrap(),
        [Anybody, Cluster, Cluster, Cluster]
    );
}
