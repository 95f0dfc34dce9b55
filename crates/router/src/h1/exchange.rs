//! One request and its responses, both ways at once.

use std::future::pending;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use super::body::Body;
use super::head::{self, Answered, Asked, End, Kind};
use super::pass::{Message, PassError, Passed};
use crate::error::RouterError;
use crate::limits::Limits;
use crate::peer::{Peer, Reader, Writer};

/// A request that is being served. Neither direction waits for the other: a server may answer before it has
/// the body, and a client may wait for `100 Continue`.
pub(crate) struct Exchange<'a, C, S> {
    client: &'a mut Peer<C>,
    upstream: &'a mut Peer<S>,
    asked: &'a Asked,
    limits: &'a Limits,
    /// All that the client has said went over this connection, to the pods: where an end isn't certain, they can
    /// go on as if there were no router.
    alone: bool,
    up: Up,
    down: Down,
    /// Both connections may be used again, as far as is known.
    again: bool,
    /// A response that ends when the destination ends, which has to be asked for that.
    to_be_ended: bool,
    /// The client has been told something.
    answered: bool,
    /// What of the request was ready to be sent when the destination stopped listening.
    unsent: usize,
}

/// How a request ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Both connections can be used again.
    Again,
    /// The client can't go on.
    Close,
    /// All that follows, both ways, is for the other side.
    Switch,
    /// Where the request ends can't be known; whether the client has been told something.
    Unclear { answered: bool },
    /// The destination left without a word.
    NoAnswer(Option<io::Error>),
}

/// The direction from the client.
enum Up {
    Sending(Message),
    /// All is sent; the client may leave.
    Watching,
    Over,
}

enum UpEvent {
    Sent,
    /// The client ended, before or after the end of its request.
    Ended,
    More,
    /// The destination doesn't listen any more. It may have said why.
    Deaf,
    Unclear,
}

/// The direction to the client.
enum Down {
    Head(End),
    Interim(Message),
    Final(Message),
    /// All is sent; the destination may leave.
    Watching,
    Over,
}

enum DownEvent {
    /// A head of so many bytes.
    Answered(usize, Answered),
    Unreadable,
    Passed(Passed),
    Unclear,
    Ended,
    More,
    NoAnswer(Option<io::Error>),
}

impl<'a, C, S> Exchange<'a, C, S>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// The request whose head is first in what the client has said, with so many bytes.
    pub(crate) fn new(
        client: &'a mut Peer<C>,
        upstream: &'a mut Peer<S>,
        (head, asked): (usize, &'a Asked),
        limits: &'a Limits,
        alone: bool,
    ) -> Self {
        Self {
            client,
            upstream,
            asked,
            limits,
            alone,
            up: Up::Sending(Message::new(head, asked.body.clone())),
            down: Down::Head(End::default()),
            again: asked.keep_alive,
            to_be_ended: false,
            answered: false,
            unsent: 0,
        }
    }

    /// How many bytes of the request's head have not been sent, if nothing but its head was to be.
    pub(crate) fn unsent(&self) -> usize {
        match &self.up {
            Up::Sending(message) => message.ready(),
            _ => self.unsent,
        }
    }

    /// Serves it.
    ///
    /// # Errors
    ///
    /// When one side broke.
    pub(crate) async fn run(&mut self) -> Result<Ended, RouterError> {
        loop {
            tokio::select! {
                event = up(&mut self.up, &mut self.client.read, &mut self.upstream.write) => {
                    let event = event.map_err(RouterError::Client)?;
                    if let Some(ended) = self.handle_up(event).await {
                        return Ok(ended);
                    }
                }
                event = down(
                    &mut self.down,
                    &mut self.upstream.read,
                    &mut self.client.write,
                    (self.asked, self.limits),
                ) => {
                    if let Some(ended) = self.handle_down(event?) {
                        return Ok(ended);
                    }
                }
            }
            let sending = matches!(self.up, Up::Sending(_));
            if self.to_be_ended && !sending {
                self.to_be_ended = false;
                self.up = Up::Over;
                let _ = self.upstream.write.shutdown().await;
            }
            if !sending && matches!(self.down, Down::Watching | Down::Over) {
                let clean = self.upstream.read.buffer.is_empty();
                return Ok(match self.again && clean {
                    true => Ended::Again,
                    false => Ended::Close,
                });
            }
        }
    }

    /// Lets what can't be read pass until the destination ends.
    fn pass_all(&mut self) {
        self.down = Down::Final(Message::all());
        (self.again, self.to_be_ended) = (false, true);
    }

    async fn handle_up(&mut self, event: UpEvent) -> Option<Ended> {
        match event {
            UpEvent::Sent => self.up = Up::Watching,
            UpEvent::More => self.up = Up::Over,
            UpEvent::Deaf => {
                self.unsent = self.unsent();
                (self.up, self.again) = (Up::Over, false);
            }
            UpEvent::Ended => {
                // A server may stop working for a client that has ended; it learns of it as without a router.
                (self.up, self.again) = (Up::Over, false);
                let _ = self.upstream.write.shutdown().await;
            }
            UpEvent::Unclear if self.alone => return Some(Ended::Switch),
            UpEvent::Unclear => {
                let answered = self.answered;
                return Some(Ended::Unclear { answered });
            }
        }
        None
    }

    fn handle_down(&mut self, event: DownEvent) -> Option<Ended> {
        match event {
            DownEvent::Answered(
                _,
                Answered {
                    kind: Kind::Switch, ..
                },
            ) => {
                return Some(Ended::Switch);
            }
            DownEvent::Answered(_, answered) if self.alone && !answered.certain => {
                return Some(Ended::Switch);
            }
            DownEvent::Answered(length, answered) => {
                self.answered = true;
                self.to_be_ended |= !answered.certain && answered.body == Body::UntilClose;
                let message = Message::new(length, answered.body);
                if answered.kind == Kind::Interim {
                    self.down = Down::Interim(message);
                } else {
                    self.down = Down::Final(message);
                    self.again &= answered.keep_alive;
                }
            }
            DownEvent::Passed(passed) => match &self.down {
                Down::Interim(_) => self.down = Down::Head(End::default()),
                _ => {
                    self.down = Down::Watching;
                    self.again &= passed == Passed::Whole;
                    if passed == Passed::Cut {
                        return Some(Ended::Close);
                    }
                }
            },
            DownEvent::Unclear | DownEvent::Unreadable if self.alone => {
                return Some(Ended::Switch);
            }
            // The client may know where it ends.
            DownEvent::Unclear | DownEvent::Unreadable => self.pass_all(),
            DownEvent::More => (self.down, self.again) = (Down::Over, false),
            DownEvent::Ended => return Some(Ended::Close),
            DownEvent::NoAnswer(error) => return Some(Ended::NoAnswer(error)),
        }
        None
    }
}

/// Cancel safe; the error is the client's.
async fn up<C, S>(
    state: &mut Up,
    client: &mut Reader<C>,
    upstream: &mut Writer<S>,
) -> io::Result<UpEvent>
where
    C: AsyncRead + Unpin,
    S: AsyncWrite + Unpin,
{
    match state {
        Up::Sending(message) => match message.pass(client, upstream).await {
            Ok(Passed::Whole) => Ok(UpEvent::Sent),
            Ok(Passed::Cut) => Ok(UpEvent::Ended),
            Err(PassError::Read(error)) => Err(error),
            Err(PassError::Write(_)) => Ok(UpEvent::Deaf),
            Err(PassError::Unclear) => Ok(UpEvent::Unclear),
        },
        Up::Watching if !client.buffer.is_empty() => Ok(UpEvent::More),
        Up::Watching => match client.fill().await? {
            true => Ok(UpEvent::More),
            false => Ok(UpEvent::Ended),
        },
        Up::Over => pending().await,
    }
}

/// Cancel safe.
async fn down<C, S>(
    state: &mut Down,
    upstream: &mut Reader<S>,
    client: &mut Writer<C>,
    (asked, limits): (&Asked, &Limits),
) -> Result<DownEvent, RouterError>
where
    C: AsyncWrite + Unpin,
    S: AsyncRead + Unpin,
{
    match state {
        Down::Head(end) => Ok(answer(end, upstream, asked, limits).await),
        Down::Interim(message) | Down::Final(message) => {
            match message.pass(upstream, client).await {
                Ok(passed) => Ok(DownEvent::Passed(passed)),
                Err(PassError::Read(error)) => Err(RouterError::Upstream(error)),
                Err(PassError::Write(error)) => Err(RouterError::Client(error)),
                Err(PassError::Unclear) => Ok(DownEvent::Unclear),
            }
        }
        Down::Watching if !upstream.buffer.is_empty() => Ok(DownEvent::More),
        Down::Watching => match upstream.fill().await {
            Ok(true) => Ok(DownEvent::More),
            Ok(false) | Err(_) => Ok(DownEvent::Ended),
        },
        Down::Over => pending().await,
    }
}

/// Reads the head of a response. Cancel safe.
async fn answer<S: AsyncRead + Unpin>(
    end: &mut End,
    upstream: &mut Reader<S>,
    asked: &Asked,
    limits: &Limits,
) -> DownEvent {
    loop {
        if let Some(length) = end.find(&upstream.buffer) {
            let head = &upstream.buffer[..length];
            return match head::response(head, limits.headers, asked) {
                Ok(answered) => DownEvent::Answered(length, answered),
                Err(_) => DownEvent::Unreadable,
            };
        }
        if upstream.buffer.len() > limits.head_bytes {
            return DownEvent::Unreadable;
        }
        match upstream.fill().await {
            Ok(true) => {}
            Ok(false) | Err(_) if !upstream.buffer.is_empty() => return DownEvent::Unreadable,
            Ok(false) => return DownEvent::NoAnswer(None),
            Err(error) => return DownEvent::NoAnswer(Some(error)),
        }
    }
}
