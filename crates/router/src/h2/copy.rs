//! A copy of a stream, for somebody whose answer nobody hears.

use std::sync::Arc;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, SendStream};
use http::{HeaderMap, Request};
use tokio::sync::mpsc;

use super::pipe::capacity;
use super::upstream::{Opened, Upstream};
use crate::ways::Ways;

/// Frames that wait at most: who is slower than the client by more than that loses the copy.
const WAITING: usize = 256;

enum Frame {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

/// Where copies of a stream's frames go. Each method says whether it is still there, and none waits.
pub(crate) struct Copy(mpsc::Sender<Frame>);

impl Copy {
    pub(crate) fn data(&self, data: &Bytes) -> bool {
        self.0.try_send(Frame::Data(data.clone())).is_ok()
    }

    pub(crate) fn trailers(&self, trailers: &HeaderMap) -> bool {
        self.0.try_send(Frame::Trailers(trailers.clone())).is_ok()
    }

    pub(crate) fn end(&self) -> bool {
        self.0.try_send(Frame::End).is_ok()
    }
}

/// Makes a copy's near end, and the future that is its far one.
pub(crate) fn copy<W: Ways>(
    upstream: Arc<Upstream<W>>,
    request: Request<()>,
    ends: bool,
) -> (Copy, impl Future<Output = ()> + Send) {
    let (sender, mut frames) = mpsc::channel(WAITING);
    let far = async move {
        let Ok(opened) = upstream.open(&request, ends).await else {
            return;
        };
        let Opened {
            response,
            mut send,
            _stream,
        } = opened;
        let say = async {
            if !ends && say(&mut frames, &mut send).await.is_none() {
                send.send_reset(Reason::CANCEL);
            }
        };
        tokio::join!(say, hear(response));
    };
    (Copy(sender), far)
}

/// Hands frames on until the end; `None` when it doesn't come.
async fn say(frames: &mut mpsc::Receiver<Frame>, send: &mut SendStream<Bytes>) -> Option<()> {
    loop {
        match frames.recv().await? {
            Frame::Data(mut data) => {
                while !data.is_empty() {
                    send.reserve_capacity(data.len());
                    let room = capacity(send).await.ok()?;
                    let piece = data.split_to(room.min(data.len()));
                    send.send_data(piece, false).ok()?;
                }
            }
            Frame::Trailers(trailers) => return send.send_trailers(trailers).ok(),
            Frame::End => return send.send_data(Bytes::new(), true).ok(),
        }
    }
}

/// Takes the answer, and forgets it.
async fn hear(response: ResponseFuture) {
    let Ok(response) = response.await else {
        return;
    };
    let mut body = response.into_body();
    while let Some(Ok(data)) = body.data().await {
        if body.flow_control().release_capacity(data.len()).is_err() {
            return;
        }
    }
}
