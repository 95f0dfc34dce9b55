//! Passes the data and the trailers of one direction of a stream on.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use h2::{Error, Reason, SendStream};

use super::body::Body;
use super::copy::Copy;

/// Which side ended a stream before its end, and with which code; none when its connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reset {
    /// The one that speaks.
    Source(Option<Reason>),
    /// The one that is spoken to.
    Target(Option<Reason>),
}

/// Passes on until the end. A side that doesn't take what is said keeps the other from saying more: its
/// window opens only as far as data has been taken.
pub(crate) async fn pipe(
    from: &mut Body,
    to: &mut SendStream<Bytes>,
    copies: &mut Vec<Copy>,
) -> Result<(), Reset> {
    loop {
        let data = poll_fn(|cx| {
            if let Poll::Ready(reset) = to.poll_reset(cx) {
                return Poll::Ready(Err(Reset::Target(reason_of(reset))));
            }
            from.poll_data(cx).map(Ok)
        });
        match data.await? {
            Some(Ok(data)) => {
                copies.retain(|copy| copy.data(&data));
                if send(data, from, to).await? {
                    copies.retain(Copy::end);
                    return Ok(());
                }
            }
            Some(Err(error)) => return Err(Reset::Source(error.reason())),
            None => break,
        }
    }
    let trailers = poll_fn(|cx| {
        if let Poll::Ready(reset) = to.poll_reset(cx) {
            return Poll::Ready(Err(Reset::Target(reason_of(reset))));
        }
        from.poll_trailers(cx).map(Ok)
    });
    let sent = match trailers.await? {
        Ok(Some(trailers)) => {
            copies.retain(|copy| copy.trailers(&trailers));
            to.send_trailers(trailers)
        }
        Ok(None) => {
            copies.retain(Copy::end);
            to.send_data(Bytes::new(), true)
        }
        Err(error) => return Err(Reset::Source(error.reason())),
    };
    sent.map_err(|error| Reset::Target(error.reason()))
}

/// Hands data on as the other side's window allows, and says whether the end went with it.
async fn send(mut data: Bytes, from: &mut Body, to: &mut SendStream<Bytes>) -> Result<bool, Reset> {
    loop {
        let room = match data.len() {
            0 => 0,
            length => {
                to.reserve_capacity(length);
                capacity(to).await.map_err(Reset::Target)?
            }
        };
        let piece = data.split_to(room.min(data.len()));
        let count = piece.len();
        let ends = data.is_empty() && from.is_over();
        if count > 0 || ends {
            let sent = to.send_data(piece, ends);
            sent.map_err(|error| Reset::Target(error.reason()))?;
        }
        from.release(count);
        if data.is_empty() {
            return Ok(ends);
        }
    }
}

/// How much may be sent now, of what was reserved.
pub(super) async fn capacity(to: &mut SendStream<Bytes>) -> Result<usize, Option<Reason>> {
    poll_fn(|cx| {
        if let Poll::Ready(reset) = to.poll_reset(cx) {
            return Poll::Ready(Err(reason_of(reset)));
        }
        match to.capacity() {
            0 => to.poll_capacity(cx).map(|capacity| match capacity {
                Some(Ok(capacity)) => Ok(capacity),
                Some(Err(error)) => Err(error.reason()),
                None => Err(Some(Reason::CANCEL)),
            }),
            capacity => Poll::Ready(Ok(capacity)),
        }
    })
    .await
}

/// The code of what ended a stream, as a side that is watched for resets tells of it.
pub(crate) fn reason_of(reset: Result<Reason, Error>) -> Option<Reason> {
    match reset {
        Ok(reason) => Some(reason),
        Err(error) => error.reason(),
    }
}
