use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kdev_common::carrier::CarrierKind;
use kdev_flow::carry::RESUME_LIMIT;
use kdev_identity::{Connector, Fingerprint, Identity};
use kdev_proto::v1::{CarrierStatus, Part, State};
use tokio::io::{DuplexStream, copy_bidirectional, duplex};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::far_end::{ECHO, FarEnd, host};
use super::machine::runtime;
use crate::carriers::{Carriers, Route};
use crate::datagram_flows::{Budget, DatagramFlows, Kind, Reply};

/// After so long a test has failed, whatever it waits for.
const DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn a_carrier_whose_cable_is_out_is_told_of_when_somebody_asks() {
    with_a_carrier(async |carriers, cable| {
        carriers.look().await;
        let [status] = &carriers.status()[..] else {
            panic!("one carrier");
        };
        assert_eq!(part(status).state(), State::Ok);
        assert!(status.round_trip_us > 0);
        assert_eq!(carriers.silent_since_ms(), None);

        cable.cancel();
        carriers.look().await;
        let [status] = &carriers.status()[..] else {
            panic!("one carrier");
        };
        assert_ne!(part(status).state(), State::Ok, "{status:?}");
        assert_eq!(status.round_trip_us, 0, "nothing was measured");
        let since = carriers.silent_since_ms();
        assert_eq!(since, Some(part(status).since_ms));
        carriers.look().await;
        assert_eq!(carriers.silent_since_ms(), since, "it is silent since then");
    });
}

#[test]
fn attempt_after_attempt_that_comes_to_nothing_is_told_of_once() {
    let told = Told::default();
    let _here = tracing::subscriber::set_default(told.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let carriers = Carriers::new(RESUME_LIMIT);
        let nobody = Identity::generate().unwrap().fingerprint();
        for _ in 0..20 {
            let (stream, _) = duplex(64);
            carriers
                .run(1, stream, route(nobody), CancellationToken::new())
                .await;
        }
    });
    assert_eq!(told.0.load(Ordering::Relaxed), 1);
}

#[test]
fn a_carrier_that_is_left_for_a_better_one_goes_with_the_last_flow_of_datagrams() {
    const AFTER: u32 = 500;
    let mut far = FarEnd::new(2);
    let dialled = Arc::clone(&far.dialled);
    runtime().block_on(async {
        let (tasks, ended) = (TaskTracker::new(), CancellationToken::new());
        let carriers = Arc::new(Carriers::new(RESUME_LIMIT));
        let mut run = |arrival: u64, kind: CarrierKind| {
            tasks.spawn(carry(&mut far, &carriers, (arrival, kind), &ended))
        };
        let first = run(1, CarrierKind::PortForward);
        let (replies, mut replied) = mpsc::channel(64);
        let flows = DatagramFlows::new(
            Arc::clone(&carriers),
            Budget::default(),
            replies,
            tasks.clone(),
            ended.clone(),
        );
        let (client, target) = ("198.18.0.9:4000", (host(0)[0], ECHO));
        let (client, target) = (client.parse().unwrap(), target.into());
        let mut answer = async |number: u32| {
            let payload = Bytes::copy_from_slice(&number.to_be_bytes());
            flows.send(Kind::Udp, client, target, payload);
            match replied.recv().await {
                Some(Reply::Datagram { payload, .. }) => payload,
                other => panic!("{other:?}"),
            }
        };
        let is_left = || {
            let better = CarrierKind::Direct.as_str();
            carriers.status().iter().any(|one| one.kind == better)
        };
        let all = async {
            assert_eq!(answer(0).await[..], 0_u32.to_be_bytes());
            let second = run(2, CarrierKind::Direct);
            let (mut number, mut last) = (0, AFTER);
            while number < last {
                number += 1;
                assert_eq!(answer(number).await[..], number.to_be_bytes());
                if !is_left() {
                    last = number + AFTER;
                }
            }
            let dialled = || dialled.load(Ordering::Relaxed);
            assert_eq!(dialled(), 1, "all of them are one flow's");
            let detail = part(&carriers.status()[0]).detail.clone();
            assert!(
                detail.contains("1 flow goes on over the former"),
                "{detail}"
            );
            first.await.unwrap();
            assert!(is_left() && !second.is_finished());
            assert_eq!(answer(7).await[..], 7_u32.to_be_bytes());
            assert_eq!(dialled(), 2);
        };
        tokio::time::timeout(DEADLINE, all)
            .await
            .expect("done until the deadline");
        ended.cancel();
        tasks.close();
        tasks.wait().await;
    });
}

#[test]
fn one_that_was_handed_over_before_another_doesnt_take_its_place() {
    let mut far = FarEnd::new(2);
    runtime().block_on(async {
        let (tasks, ended) = (TaskTracker::new(), CancellationToken::new());
        let carriers = Arc::new(Carriers::new(RESUME_LIMIT));
        let mut run = |arrival: u64, kind: CarrierKind| {
            tasks.spawn(carry(&mut far, &carriers, (arrival, kind), &ended))
        };
        let all = async {
            let younger = run(2, CarrierKind::Direct);
            drop(carriers.place().await);
            run(1, CarrierKind::PortForward).await.unwrap();
            let place = carriers.place().await;
            assert!(!place.is_left() && !younger.is_finished());
            assert_eq!(carriers.status()[0].kind, CarrierKind::Direct.as_str());
        };
        tokio::time::timeout(DEADLINE, all)
            .await
            .expect("done until the deadline");
        ended.cancel();
        tasks.close();
        tasks.wait().await;
    });
}

/// Counts what is told of carriers in the log that everybody has.
#[derive(Clone, Default)]
struct Told(Arc<AtomicUsize>);

impl Subscriber for Told {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().contains("::carriers")
    }

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Uses the far end's next stream as carrier number 1 that arrived so, until it is dead or all is over.
fn carry(
    far: &mut FarEnd,
    carriers: &Arc<Carriers>,
    (arrival, kind): (u64, CarrierKind),
    ended: &CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let near = far.carriers.pop().unwrap();
    near.set_nonblocking(true).unwrap();
    let (carriers, ended) = (Arc::clone(carriers), ended.clone());
    let route = Route {
        kind,
        arrival,
        ..route(far.key)
    };
    async move {
        let stream = UnixStream::from_std(near).unwrap();
        carriers.run(1, stream, route, ended).await;
    }
}

fn route(manager: Fingerprint) -> Route {
    Route {
        connector: Connector::new(Identity::generate().unwrap()),
        manager,
        kind: CarrierKind::Direct,
        arrival: 0,
    }
}

fn part(status: &CarrierStatus) -> &Part {
    status.part.as_ref().unwrap()
}

/// Runs a test with a carrier that is up, and whose cable comes out when the token is cancelled.
fn with_a_carrier(test: impl AsyncFnOnce(Arc<Carriers>, CancellationToken)) {
    let mut far = FarEnd::new(1);
    runtime().block_on(async {
        let (tasks, ended) = (TaskTracker::new(), CancellationToken::new());
        let (near, cable) = (far.carriers.pop().unwrap(), CancellationToken::new());
        near.set_nonblocking(true).unwrap();
        let (stream, other) = duplex(64 << 10);
        let far_side = UnixStream::from_std(near).unwrap();
        tasks.spawn(join(other, far_side, cable.clone(), ended.clone()));
        let carriers = Arc::new(Carriers::new(RESUME_LIMIT));
        let route = route(far.key);
        let (run, until) = (Arc::clone(&carriers), ended.clone());
        tasks.spawn(async move { run.run(1, stream, route, until).await });
        let all = async {
            drop(carriers.place().await);
            test(carriers, cable).await;
        };
        tokio::time::timeout(DEADLINE, all)
            .await
            .expect("done until the deadline");
        ended.cancel();
        tasks.close();
        tasks.wait().await;
    });
}

/// Joins two ends of a cable until it is out; neither hears of that.
async fn join(
    mut one: DuplexStream,
    mut other: UnixStream,
    out: CancellationToken,
    ended: CancellationToken,
) {
    tokio::select! {
        _ = copy_bidirectional(&mut one, &mut other) => {}
        () = out.cancelled() => ended.cancelled().await,
    }
}
