use super::*;
use futures::future::{join, join_all};
use kdev_rules::Head;
use std::sync::atomic::AtomicUsize;
use tokio::io::DuplexStream;
use tokio::sync::Semaphore;

/// Nobody can be reached, which is known when the gate opens.
struct Away {
    gate: Semaphore,
    dials: AtomicUsize,
}

impl Ways for Away {
    type Stream = DuplexStream;
    type Key = ();

    fn route(&self, _: &Head<'_>) -> Option<()> {
        Some(())
    }

    async fn dial(&self, _: Option<&()>, _: First<'_>) -> Result<DuplexStream, DialError> {
        self.dials.fetch_add(1, Ordering::Relaxed);
        drop(self.gate.acquire().await.unwrap());
        Err(DialError::new("away"))
    }
}

#[tokio::test]
async fn those_who_wait_for_the_same_dial_share_its_failure() {
    let ways = Arc::new(Away {
        gate: Semaphore::new(0),
        dials: AtomicUsize::new(0),
    });
    let (drivers, _none) = mpsc::channel(1);
    let upstream = Upstream::new(Arc::clone(&ways), Some(()), drivers);
    let request = Request::new(());
    let all = join_all((0..50).map(|_| upstream.open(&request, true, None)));
    let (opened, ()) = join(all, async { ways.gate.add_permits(1) }).await;
    for opened in opened {
        assert!(matches!(opened, Err(OpenError::Dial(_))));
    }
    assert_eq!(ways.dials.load(Ordering::Relaxed), 1);
    // Who comes later is worth another try.
    assert!(upstream.open(&request, true, None).await.is_err());
    assert_eq!(ways.dials.load(Ordering::Relaxed), 2);
}
