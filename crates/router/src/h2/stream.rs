//! One stream of the client's, and the one that it becomes.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt as _;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Error, Reason, RecvStream, SendStream};
use http::{Request, Response, StatusCode};

use super::answer::Asked;
use super::body::{Body, Said};
use super::copy::Copy;
use super::head;
use super::pipe::{Reset, pipe, reason_of};
use super::spoken::Spoken;
use super::upstream::{OpenError, Opened, Upstream};
use crate::error::DialError;
use crate::ways::Ways;

/// Why a stream could not be served.
pub(crate) enum Failed {
    /// The pods can't be reached.
    Pods(DialError),
    /// The connection to its destination broke.
    Lost(Lost),
}

/// A stream whose destination is lost.
pub(crate) struct Lost {
    respond: SendResponse<Bytes>,
    asked: Asked,
}

impl Lost {
    /// Tells the client, in gRPC with the status that a client gives to a connection that breaks.
    pub(crate) fn tell(mut self) {
        let text = "kdev: the connection to the destination broke";
        if !self.asked.is_grpc() || !self.asked.unavailable(&mut self.respond, text) {
            self.respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

/// How a stream ended.
enum Ended {
    /// Both directions, as far as both sides wanted.
    Done,
    /// The client reset it; the destination has to be told.
    ByClient(Option<Reason>),
    /// The destination reset it, before or in its response.
    ByUpstream(Option<Reason>),
    /// The destination had not looked at it when it said GOAWAY, so that it may be asked for again, RFC 9113
    /// section 6.8.
    Unseen,
}

/// Serves a stream. What failed concerns the whole connection, where it has nothing but the pods.
pub(crate) async fn serve<W: Ways>(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    (mut upstream, pods): (Arc<Upstream<W>>, Arc<Upstream<W>>),
    mut copies: Vec<Copy>,
) -> Result<(), Failed> {
    let (parts, body) = request.into_parts();
    let asked = Asked::of(&parts.method, &parts.headers);
    let ends = body.is_end_stream();
    let mut body = Body::from(body);
    body.look();
    let request = head::request(parts);
    // What is gone from the body can't be said again.
    let mut again = ends;
    loop {
        let opened = tokio::select! {
            opened = upstream.open(&request, ends, Some(&body)) => opened,
            _ = poll_fn(|cx| respond.poll_reset(cx)) => return Ok(()),
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(OpenError::Dial(error)) if upstream.is_pods() => {
                respond.send_reset(Reason::REFUSED_STREAM);
                return Err(Failed::Pods(error));
            }
            Err(OpenError::Dial(error)) if error.is_for_pods() => {
                upstream = Arc::clone(&pods);
                continue;
            }
            Err(OpenError::Dial(error)) => {
                asked.unreachable(&mut respond, error.body());
                return Ok(());
            }
            Err(OpenError::Http2(error, spoken)) => {
                tracing::debug!(%error, "a destination takes no stream");
                return end(respond, asked, error.reason(), &spoken, &upstream);
            }
            Err(OpenError::Ending) => return Ok(()),
        };
        let spoken = opened.spoken.clone();
        match exchange(&mut body, &mut respond, opened, ends, &mut copies).await {
            Ended::Unseen if again => again = false,
            Ended::Unseen => {
                respond.send_reset(Reason::REFUSED_STREAM);
                return Ok(());
            }
            Ended::ByUpstream(reason) => return end(respond, asked, reason, &spoken, &upstream),
            Ended::Done | Ended::ByClient(_) => return Ok(()),
        }
    }
}

/// Ends a stream as its destination did, or says that it doesn't speak HTTP/2.
fn end<W: Ways>(
    mut respond: SendResponse<Bytes>,
    asked: Asked,
    reason: Option<Reason>,
    spoken: &Spoken,
    upstream: &Upstream<W>,
) -> Result<(), Failed> {
    if let Some(reason) = reason {
        respond.send_reset(reason);
        return Ok(());
    }
    match upstream.not_http2(spoken) {
        Some(why) => {
            asked.unreachable(&mut respond, why.body());
            Ok(())
        }
        None => Err(Failed::Lost(Lost { respond, asked })),
    }
}

/// Refuses a stream whose head has too many lines.
pub(crate) fn too_many_headers(request: &Request<RecvStream>, respond: &mut SendResponse<Bytes>) {
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    let asked = Asked::of(request.method(), request.headers());
    let text = "kdev doesn't take a request with so many header lines.\n";
    asked.say(respond, status, text);
}

/// Passes a stream on, both ways at once.
async fn exchange(
    body: &mut Body,
    respond: &mut SendResponse<Bytes>,
    opened: Opened,
    ends: bool,
    copies: &mut Vec<Copy>,
) -> Ended {
    let Opened {
        response,
        mut send,
        spoken: _,
        said,
        _stream,
    } = opened;
    if said != Said::Nothing {
        for data in body.handle_said() {
            copies.retain(|copy| copy.data(&data));
        }
    }
    if said == Said::All {
        copies.retain(Copy::end);
    }
    let ends = ends || said == Said::All;
    let ended = {
        let mut up = pin!(async {
            match ends {
                true => Ok(()),
                false => pipe(body, &mut send, copies).await,
            }
        });
        let mut down = pin!(down(response, respond));
        let mut sent = false;
        let mut answered: Option<SendStream<Bytes>> = None;
        loop {
            if sent && answered.is_some() {
                break Ended::Done;
            }
            tokio::select! {
                passed = &mut up, if !sent => match passed {
                    Err(Reset::Source(reason)) => break Ended::ByClient(reason),
                    // Where the destination doesn't want the rest, its response says what it made of it.
                    Ok(()) | Err(Reset::Target(_)) => sent = true,
                },
                ended = &mut down, if answered.is_none() => match ended {
                    Ok(send) => answered = Some(send),
                    Err(ended) => break ended,
                },
                reason = client_reset(&mut answered), if answered.is_some() => {
                    break Ended::ByClient(reason);
                }
            }
        }
    };
    if let Ended::ByClient(reason) = ended {
        send.send_reset(reason.unwrap_or(Reason::CANCEL));
    }
    ended
}

/// Waits until the client resets a stream whose response it has.
async fn client_reset(answered: &mut Option<SendStream<Bytes>>) -> Option<Reason> {
    match answered {
        Some(send) => poll_fn(|cx| send.poll_reset(cx).map(reason_of)).await,
        None => std::future::pending().await,
    }
}

/// Passes the response on; what it was sent by can be watched for resets.
async fn down(
    mut response: ResponseFuture,
    respond: &mut SendResponse<Bytes>,
) -> Result<SendStream<Bytes>, Ended> {
    while let Some(interim) = unless_reset(respond, |cx| response.poll_informational(cx)).await? {
        let interim = interim.map_err(|error| by_upstream(&error))?;
        let sent = respond.send_informational(interim);
        sent.map_err(|error| Ended::ByClient(error.reason()))?;
    }
    let response = unless_reset(respond, |cx| response.poll_unpin(cx)).await?;
    let (parts, body) = response.map_err(|error| by_upstream(&error))?.into_parts();
    let ends = body.is_end_stream();
    let mut body = Body::from(body);
    let sent = respond.send_response(Response::from_parts(parts, ()), ends);
    let mut send = sent.map_err(|error| Ended::ByClient(error.reason()))?;
    if !ends {
        pipe(&mut body, &mut send, &mut Vec::new())
            .await
            .map_err(|reset| match reset {
                Reset::Source(reason) => Ended::ByUpstream(reason),
                Reset::Target(reason) => Ended::ByClient(reason),
            })?;
    }
    Ok(send)
}

/// Waits for something of the destination's, unless the client resets the stream.
async fn unless_reset<T>(
    respond: &mut SendResponse<Bytes>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Result<T, Ended> {
    poll_fn(|cx| match respond.poll_reset(cx) {
        Poll::Ready(reset) => Poll::Ready(Err(Ended::ByClient(reason_of(reset)))),
        Poll::Pending => poll(cx).map(Ok),
    })
    .await
}

fn by_upstream(error: &Error) -> Ended {
    match error.is_go_away() && error.is_remote() {
        true => Ended::Unseen,
        false => Ended::ByUpstream(error.reason()),
    }
}
