use super::*;
use crate::lease::Grace;
use crate::sessions::Sessions;
use futures::FutureExt as _;
use kdev_flow::carry::Resumed;
use kdev_flow::frame::Failed;
use kdev_flow::outgoing::{Frames, outgoing};
use kdev_proto::v1::FlowFrame;
use std::future::ready;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The manager's side, and the machine's.
struct Rig {
    machine: Machine,
    tasks: TaskTracker,
}

/// The machine's end of a stream that waits.
struct Far {
    says: Outgoing,
    hears: Frames,
}

impl Far {
    async fn next(&mut self) -> Kind {
        self.hears.next().await.unwrap().kind.unwrap()
    }

    async fn flow(&mut self) -> Bytes {
        match self.next().await {
            Kind::Open(open) => open.flow,
            other => panic!("{other:?}"),
        }
    }
}

impl Rig {
    fn new() -> Self {
        let machine = Machine {
            session: Sessions::new(Grace::default()).expect("a"),
            streams: Arc::default(),
            flows: ResumableFlows::default(),
        };
        let tasks = TaskTracker::new();
        Self { machine, tasks }
    }

    /// The machine has one more stream wait.
    fn waits(&self) -> Far {
        let (to_machine, hears) = outgoing();
        let (says, of_machine) = outgoing();
        let waiting = Waiting {
            outgoing: to_machine,
            incoming: of_machine.map(Ok).boxed(),
            carrier: Carrier::default(),
        };
        self.machine.streams.add(waiting, &self.tasks);
        Far { says, hears }
    }

    /// The machine comes with a flow over a carrier of another stream.
    fn comes(&self, flow: &[u8]) {
        let resumed = Resumed {
            stream: Stream::broken(Carrier::default(), Bytes::new()),
            received: 0,
            answer: false,
        };
        let came = self
            .machine
            .flows
            .resume(&self.machine.session, flow, 1, resumed);
        assert!(came.is_ok());
    }

    async fn take(&self, words: Words, left: CancellationToken) -> Result<Taken, NotTaken> {
        let client = Purpose::Client(([10, 0, 0, 1], 1).into());
        let taken = self
            .machine
            .take("i", client, ready(words), left.cancelled());
        taken.await
    }
}

fn words(once: bool) -> Words {
    let bytes = Bytes::from_static(b"words");
    Words { bytes, once }
}

fn never() -> CancellationToken {
    CancellationToken::new()
}

#[tokio::test(start_paused = true)]
async fn a_question_that_isnt_answered_is_asked_again_for_the_same_flow() {
    let rig = Rig::new();
    let mut first = rig.waits();
    let far = async {
        let flow = first.flow().await;
        assert_eq!(first.next().await, Kind::Data(words(true).bytes));
        let mut second = rig.waits();
        drop(first);
        assert_eq!(second.flow().await, flow);
        assert_eq!(second.next().await, Kind::Data(words(true).bytes));
        second.says.send(frame::opened()).await.unwrap();
        second
    };
    let (taken, _second) = tokio::join!(rig.take(words(true), never()), far);
    assert_eq!(taken.unwrap().stream.said, words(true).bytes);
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_the_machine_took_without_anybody_hearing_it_goes_on_when_it_comes() {
    for asked_again in [true, false] {
        let rig = Rig::new();
        let mut first = rig.waits();
        let far = async {
            let flow = first.flow().await;
            drop(first);
            if asked_again {
                let mut second = rig.waits();
                second.flow().await;
                let before = Failed::new(Reason::TakenBefore, "");
                second.says.send(frame::failed(&before)).await.unwrap();
            }
            rig.comes(&flow);
        };
        let (taken, ()) = tokio::join!(rig.take(words(true), never()), far);
        let mut taken = taken.unwrap();
        assert!(taken.stream.incoming.next().await.is_none(), "it broke");
        let resumed = kdev_flow::carry::Resume::resume(&mut taken.registered, 0).await;
        assert!(resumed.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn words_that_may_be_heard_once_arent_given_to_somebody_else() {
    // Neither while it is waited for, nor when nobody is left who could come with it.
    for (once, session_over, expected) in [
        (true, false, NotTaken::Unknown),
        (true, true, NotTaken::Unknown),
        (false, false, NotTaken::Left),
    ] {
        let (rig, left) = (Rig::new(), never());
        let mut first = rig.waits();
        let far = async {
            first.flow().await;
            first.next().await;
            left.cancel();
            if session_over {
                rig.machine.session.over.cancel();
            }
            first
        };
        let began = tokio::time::Instant::now();
        let (taken, _first) = tokio::join!(rig.take(words(once), left.clone()), far);
        let why = taken.err().unwrap();
        assert_eq!((why, why.is_unheard()), (expected, !once));
        let waits = once && !session_over;
        assert_eq!(began.elapsed() > PATIENCE, waits);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_machine_refuses_it_hasnt_heard() {
    let rig = Rig::new();
    let mut first = rig.waits();
    let far = async {
        first.flow().await;
        let refused = Failed::new(Reason::Refused, "");
        first.says.send(frame::failed(&refused)).await.unwrap();
        first
    };
    let (taken, _first) = tokio::join!(rig.take(words(true), never()), far);
    assert_eq!(taken.err(), Some(NotTaken::Refused));
}

#[tokio::test(start_paused = true)]
async fn a_flow_that_is_over_isnt_waited_for_and_one_that_the_machine_only_tried_is_asked_for_again()
 {
    for (reason, expected) in [
        (Reason::OverBefore, NotTaken::Unknown),
        (Reason::TakenBefore, NotTaken::Refused),
    ] {
        let rig = Rig::new();
        let mut first = rig.waits();
        let far = async {
            first.flow().await;
            drop(first);
            let mut second = rig.waits();
            second.flow().await;
            second
                .says
                .send(frame::failed(&Failed::new(reason, "")))
                .await
                .unwrap();
            if reason == Reason::OverBefore {
                return (second, None);
            }
            let mut third = rig.waits();
            third.flow().await;
            let refused = Failed::new(Reason::Refused, "");
            third.says.send(frame::failed(&refused)).await.unwrap();
            (second, Some(third))
        };
        let (taken, _streams) = tokio::join!(rig.take(words(true), never()), far);
        assert_eq!(taken.err(), Some(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_once_the_intercept_is_over() {
    let (rig, left) = (Rig::new(), never());
    let mut waits = rig.waits();
    left.cancel();
    let taken = rig.take(words(true), left).await;
    assert_eq!(taken.err(), Some(NotTaken::Left));
    let asked: Option<FlowFrame> = waits.hears.next().now_or_never().flatten();
    assert!(asked.is_none());
}
