use std::sync::{Arc, Mutex};

use kdev_proto::v1::FlowOpen;
use kdev_proto::v1::flow_failed::Reason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::frame::Failed;
use crate::outgoing::{Frames, Outgoing, outgoing};
use crate::socket::carry_socket;
use crate::testing::{connection, is_reset, soon};
use crate::{CHUNK, Carrier};

/// Both sides of a carrier that breaks when `broken` is cancelled: what is under way is lost.
fn carrier(broken: &CancellationToken) -> (Stream, Stream) {
    let (to_other, from_one) = outgoing();
    let (to_one, from_other) = outgoing();
    let side = |outgoing: Outgoing, frames: Frames| {
        let incoming = frames.map(Ok).boxed();
        Stream {
            outgoing,
            incoming,
            carrier: Carrier::default(),
            said: Bytes::new(),
        }
        .until(broken.clone().cancelled_owned())
    };
    (side(to_other, from_other), side(to_one, from_one))
}

/// The side that comes with another carrier.
struct Comes {
    to_other: mpsc::Sender<Resumed>,
    broken: Arc<Mutex<CancellationToken>>,
    /// Notified when there is a better one.
    better: Arc<Notify>,
}

impl Resume for Comes {
    async fn moved(&mut self) -> Moved {
        self.better.notified().await;
        Moved::Away
    }

    async fn resume(&mut self, received: u64) -> Option<Resumed> {
        let broken = CancellationToken::new();
        let (mut stream, other) = carrier(&broken);
        let resumed = Resumed {
            stream: other,
            received,
            answer: true,
        };
        self.to_other.send(resumed).await.ok()?;
        let answer = stream.incoming.next().await?.ok()?.kind;
        let Some(kdev_proto::v1::flow_frame::Kind::Opened(opened)) = answer else {
            panic!("no answer: {answer:?}")
        };
        *self.broken.lock().unwrap() = broken;
        Some(Resumed {
            stream,
            received: opened.received,
            answer: false,
        })
    }
}

/// The side that waits for it.
struct Waits(mpsc::Receiver<Resumed>);

impl Resume for Waits {
    async fn moved(&mut self) -> Moved {
        match self.0.recv().await {
            Some(resumed) => Moved::Here(resumed),
            None => std::future::pending().await,
        }
    }

    async fn resume(&mut self, _: u64) -> Option<Resumed> {
        self.0.recv().await
    }
}

/// Two programs whose connections are joined by a flow.
struct Rig {
    programs: [TcpStream; 2],
    sides: [JoinHandle<Outcome>; 2],
    broken: Arc<Mutex<CancellationToken>>,
    better: Arc<Notify>,
}

impl Rig {
    async fn new() -> Self {
        let (one, one_carried) = connection().await;
        let (other, other_carried) = connection().await;
        let token = CancellationToken::new();
        let (near, far) = carrier(&token);
        let broken = Arc::new(Mutex::new(token));
        let (to_other, resumed) = mpsc::channel(1);
        let better = Arc::default();
        let comes = Comes {
            to_other,
            broken: Arc::clone(&broken),
            better: Arc::clone(&better),
        };
        let sides = [
            tokio::spawn(carry_socket(one_carried, near, comes)),
            tokio::spawn(carry_socket(other_carried, far, Waits(resumed))),
        ];
        Self {
            programs: [one, other],
            sides,
            broken,
            better,
        }
    }
}

/// One side of a flow whose other side is the test.
async fn alone() -> (TcpStream, Stream, JoinHandle<Outcome>) {
    let (program, carried) = connection().await;
    let (near, far) = carrier(&CancellationToken::new());
    (
        program,
        far,
        tokio::spawn(carry_socket(carried, near, None::<Waits>)),
    )
}

#[tokio::test]
async fn an_answer_comes_back_after_the_question_has_ended() {
    let Rig {
        programs: [mut one, mut other],
        sides,
        ..
    } = Rig::new().await;
    one.write_all(b"question").await.unwrap();
    one.shutdown().await.unwrap();
    let (mut asked, mut answered) = (String::new(), String::new());
    soon(other.read_to_string(&mut asked)).await.unwrap();
    other.write_all(b"answer").await.unwrap();
    drop(other);
    soon(one.read_to_string(&mut answered)).await.unwrap();
    assert_eq!((&*asked, &*answered), ("question", "answer"));
    for side in sides {
        assert_eq!(soon(side).await.unwrap(), Outcome::Closed);
    }
}

#[tokio::test]
async fn a_connection_that_breaks_resets_the_other_one() {
    let Rig {
        programs: [one, mut other],
        sides: [near, far],
        ..
    } = Rig::new().await;
    one.set_zero_linger().unwrap();
    drop(one);
    is_reset(&mut other).await;
    assert_eq!(soon(near).await.unwrap(), Outcome::ResetByNear);
    assert_eq!(soon(far).await.unwrap(), Outcome::ResetByFlow);
}

#[tokio::test]
async fn a_flow_that_nobody_resumes_resets_its_connection() {
    let (mut program, far, side) = alone().await;
    drop(far);
    is_reset(&mut program).await;
    assert_eq!(soon(side).await.unwrap(), Outcome::ResetByFlow);
}

#[tokio::test]
async fn whoever_breaks_the_protocol_loses_the_flow_and_its_carrier_and_touches_no_other_flow() {
    let hostile: [&[FlowFrame]; 6] = [
        &[frame::ack(7, 0)],
        &[frame::opened()],
        &[frame::open(FlowOpen::default())],
        &[frame::failed(&Failed::new(Reason::Refused, ""))],
        &[frame::end(), frame::data("more".into())],
        &[FlowFrame { kind: None }],
    ];
    for frames in hostile {
        let Rig {
            programs: [mut one, mut other],
            sides: bystander,
            broken,
            ..
        } = Rig::new().await;
        let shared = broken.lock().unwrap().clone();
        let (mut program, carried) = connection().await;
        let (near, far) = carrier(&shared);
        let near = Stream {
            carrier: Carrier::new(shared.clone()),
            ..near
        };
        let side = tokio::spawn(carry_socket(carried, near, None::<Waits>));
        one.write_all(b"before").await.unwrap();
        for frame in frames {
            far.outgoing.send(frame.clone()).await.unwrap();
        }
        assert_eq!(soon(side).await.unwrap(), Outcome::ResetByFlow);
        assert!(shared.is_cancelled(), "{frames:?}");
        one.write_all(b" and after").await.unwrap();
        one.shutdown().await.unwrap();
        other.shutdown().await.unwrap();
        let mut heard = String::new();
        soon(other.read_to_string(&mut heard)).await.unwrap();
        assert_eq!(heard, "before and after");
        for side in bystander {
            assert_eq!(soon(side).await.unwrap(), Outcome::Closed);
        }
        // What came in order before is handed on; then it is reset.
        let mut rest = Vec::new();
        let end = soon(program.read_to_end(&mut rest)).await;
        assert!(rest.is_empty());
        assert!(end.is_err() || frames.len() > 1, "{frames:?}");
    }
}

#[tokio::test]
async fn stopping_it_resets_the_connection() {
    let (mut program, _far, side) = alone().await;
    program.write_all(b"x").await.unwrap();
    side.abort();
    is_reset(&mut program).await;
}

#[tokio::test]
async fn a_program_that_doesnt_read_may_still_write() {
    const FLOOD: usize = 16 << 20;
    let Rig {
        programs: [one, other],
        sides: _sides,
        ..
    } = Rig::new().await;
    let (_never_read, mut upload) = one.into_split();
    let (mut read, mut flood) = other.into_split();
    // Stops somewhere, when nobody has room for more.
    let flooding = tokio::spawn(async move { flood.write_all(&vec![0; FLOOD]).await });
    let uploading = tokio::spawn(async move {
        upload.write_all(&vec![7; FLOOD]).await.unwrap();
        upload
    });
    let (mut got, mut buffer) = (0, vec![0; CHUNK]);
    while got < FLOOD {
        got += soon(read.read(&mut buffer)).await.unwrap();
    }
    drop(soon(uploading).await.unwrap());
    assert!(!flooding.is_finished());
    flooding.abort();
}

#[tokio::test]
async fn every_byte_arrives_though_the_carrier_breaks_again_and_again() {
    const CUTS: u32 = 50;
    let mut rig = Rig::new().await;
    let sent: Arc<Vec<u8>> = Arc::new(
        (0..40_000_000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect(),
    );
    let broken = Arc::clone(&rig.broken);
    let cutting = tokio::spawn(async move {
        for _ in 0..CUTS {
            tokio::time::sleep(Duration::from_millis(3)).await;
            broken.lock().unwrap().cancel();
        }
    });
    let programs = rig.programs.map(|program| {
        let (mut read, mut write) = program.into_split();
        let said = Arc::clone(&sent);
        let say = tokio::spawn(async move {
            write.write_all(&said).await.unwrap();
            write.shutdown().await.unwrap();
        });
        let hear = tokio::spawn(async move {
            let mut got = Vec::new();
            read.read_to_end(&mut got).await.unwrap();
            got
        });
        (say, hear)
    });
    for (say, hear) in programs {
        soon(say).await.unwrap();
        assert!(soon(hear).await.unwrap() == *sent);
    }
    for side in &mut rig.sides {
        assert_eq!(soon(side).await.unwrap(), Outcome::Closed);
    }
    soon(cutting).await.unwrap();
}

#[tokio::test]
async fn a_flow_that_leaves_its_carrier_for_a_better_one_loses_nothing() {
    let Rig {
        programs: [mut one, mut other],
        sides: _sides,
        broken,
        better,
    } = Rig::new().await;
    let first = broken.lock().unwrap().clone();
    let said: Vec<u8> = (0..1_000_000_u32).map(|at| (at / 7) as u8).collect();
    let expected = said.clone();
    let saying = tokio::spawn(async move {
        for part in said.chunks(100_000) {
            one.write_all(part).await.unwrap();
            better.notify_one();
            tokio::task::yield_now().await;
        }
        one.shutdown().await.unwrap();
        one
    });
    let mut heard = Vec::new();
    soon(other.read_to_end(&mut heard)).await.unwrap();
    assert!(heard == expected, "{} bytes", heard.len());
    assert!(!first.is_cancelled(), "nothing broke it");
    let now = broken.lock().unwrap().clone();
    now.cancel();
    assert!(!first.is_cancelled(), "the flow is on another one");
    soon(saying).await.unwrap();
}

#[tokio::test]
async fn a_carrier_may_be_replaced_before_this_side_has_noticed_that_it_broke() {
    let (mut program, carried) = connection().await;
    let (near, _silent) = carrier(&CancellationToken::new());
    let (to_side, resumed) = mpsc::channel(1);
    let side = tokio::spawn(carry_socket(carried, near, Waits(resumed)));
    program.write_all(b"hello").await.unwrap();
    let (other, mut mine) = carrier(&CancellationToken::new());
    let resumed = Resumed {
        stream: other,
        received: 0,
        answer: true,
    };
    to_side.send(resumed).await.map_err(drop).unwrap();
    assert_eq!(
        soon(mine.incoming.next()).await.unwrap().unwrap(),
        frame::opened()
    );
    let again = soon(mine.incoming.next()).await.unwrap().unwrap();
    assert_eq!(again, frame::data(Bytes::from("hello")));
    side.abort();
}

/// A program behind another stack: gone, for all that can be seen, as soon as both sides have ended.
struct Program {
    says: mpsc::Receiver<Said>,
    heard_end: watch::Receiver<bool>,
}

impl NearRead for Program {
    async fn next(&mut self, _: Allowed<'_>) -> Said {
        self.says.recv().await.unwrap_or(Said::Reset)
    }

    async fn gone(&mut self) {
        let _ = self.heard_end.wait_for(|ended| *ended).await;
        // Its last words are still to be taken.
        if !self.says.is_empty() {
            std::future::pending().await
        }
    }
}

struct Hears(watch::Sender<bool>);

impl NearWrite for Hears {
    async fn write(&mut self, bytes: Bytes) -> Result<usize, Gone> {
        Ok(bytes.len())
    }

    async fn end(&mut self) -> Result<(), Gone> {
        self.0.send_replace(true);
        Ok(())
    }
}

#[tokio::test]
async fn what_a_program_says_after_the_far_end_has_ended_arrives_though_it_then_goes() {
    const PIECES: usize = 60;
    let (mut far, far_carried) = connection().await;
    let (near, other) = carrier(&CancellationToken::new());
    let (_to_far, resumed) = mpsc::channel(1);
    let far_side = tokio::spawn(carry_socket(far_carried, other, Waits(resumed)));
    let (ended, heard_end) = watch::channel(false);
    let (say, says) = mpsc::channel(PIECES + 1);
    let (_to_near, resumed) = mpsc::channel(1);
    let program = Program {
        says,
        heard_end: heard_end.clone(),
    };
    let near_side = tokio::spawn(carry(program, Hears(ended), near, Waits(resumed)));
    far.shutdown().await.unwrap();
    let mut heard = heard_end;
    soon(heard.wait_for(|ended| *ended)).await.unwrap();
    for _ in 0..PIECES {
        say.try_send(Said::Data(vec![7; CHUNK].into())).unwrap();
    }
    say.try_send(Said::End).unwrap();
    let mut got = Vec::new();
    soon(far.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got.len(), PIECES * CHUNK);
    drop(far);
    assert_eq!(soon(far_side).await.unwrap(), Outcome::Closed);
    assert_eq!(soon(near_side).await.unwrap(), Outcome::Closed);
}
