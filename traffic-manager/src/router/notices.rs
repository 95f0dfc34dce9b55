//! What the log tells of the clients of one port.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kdev_cluster::redirect::ServiceName;
use kdev_router::Limit;

/// Between two lines that say the same of one port: a client that comes again and again mustn't fill the log.
const SELDOM: Duration = Duration::from_secs(60);

/// What is told at most once a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notice {
    /// A client has reached a limit.
    Limit(Limit),
    /// A machine's program was asked in HTTP/2, and doesn't speak it.
    NotHttp2,
    /// A machine didn't take its copy of what a client says.
    CopyBroke,
}

/// See the module.
pub struct Notices {
    service: ServiceName,
    port: u16,
    told: Mutex<BTreeMap<Notice, Seldom>>,
}

impl Notices {
    /// Of a port of a Service.
    pub fn new(service: ServiceName, port: u16) -> Self {
        Self {
            service,
            port,
            told: Mutex::default(),
        }
    }

    /// Tells of it, unless that was told just now.
    pub fn tell(&self, notice: Notice) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let untold = told
            .entry(notice)
            .or_default()
            .handle_event(Instant::now(), SELDOM);
        drop(told);
        let Some(untold) = untold else {
            return;
        };
        let (service, port) = (&self.service, self.port);
        match notice {
            // Nothing is wrong where the server speaks first.
            Notice::Limit(Limit::FirstByte) => tracing::info!(
                %service, port, untold,
                "a client said nothing for so long (KDEV_ROUTER_FIRST_BYTE_MS) that a pod is listened to as well"
            ),
            Notice::Limit(Limit::HeadTime) => tracing::warn!(
                %service, port, untold,
                "a request's head took longer than it may (KDEV_ROUTER_HEAD_MS); its connection goes to a pod, or was \
                 answered 408 where not all of it had"
            ),
            Notice::Limit(Limit::HeadSize) => tracing::warn!(
                %service, port, untold,
                "a request's head was larger than it may be (KDEV_ROUTER_HEAD_BYTES, KDEV_ROUTER_HEADERS), and was \
                 answered 431"
            ),
            Notice::NotHttp2 => tracing::warn!(
                %service, port, untold,
                "a request of HTTP/2 was for a machine whose program doesn't speak it, and was answered 502, or \
                 UNAVAILABLE in gRPC"
            ),
            Notice::CopyBroke => tracing::info!(
                %service, port, untold,
                "a copy for a machine broke off, as its program doesn't take it, or not as fast as it comes"
            ),
        }
    }
}

/// When something was told last, and how often it has happened since.
#[derive(Debug, Default)]
struct Seldom {
    last: Option<Instant>,
    untold: u64,
}

impl Seldom {
    /// It has happened once more: how often it has without being told, if it is to be told now.
    fn handle_event(&mut self, now: Instant, between: Duration) -> Option<u64> {
        if self.last.is_some_and(|last| now < last + between) {
            self.untold += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_all_the_time_is_told_seldom_and_counted() {
        let (mut seldom, start) = (Seldom::default(), Instant::now());
        let mut at = |seconds| seldom.handle_event(start + Duration::from_secs(seconds), SELDOM);
        assert_eq!(at(0), Some(0));
        assert_eq!((at(1), at(59)), (None, None));
        assert_eq!(at(60), Some(2));
        assert_eq!(at(119), None);
        assert_eq!(at(1000), Some(1));
    }
}
