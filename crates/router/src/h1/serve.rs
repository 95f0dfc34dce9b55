//! A client's HTTP/1 connection: one request after the other, each where it belongs.

use std::collections::HashMap;
use std::sync::Arc;

use kdev_rules::Head;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};

use super::answer::Answer;
use super::exchange::{Ended, Exchange};
use super::head::{self, Asked, End, Refused};
use super::kept::{Kept, Left};
use super::pass::{Message, Passed};
use super::upgrade::without_h2c;
use crate::error::RouterError;
use crate::limits::{Limit, Limits};
use crate::peer::Peer;
use crate::serve::{copy, splice, to_pods};
use crate::tap::Tap;
use crate::ways::{First, Ways};

struct Session<'a, C, W: Ways> {
    client: Peer<C>,
    ways: Arc<W>,
    limits: &'a Limits,
    kept: Kept<W::Key, W::Stream>,
    /// Copies of what the client says, by whom they are for.
    taps: HashMap<W::Key, Tap>,
    story: Story,
}

/// Where the client's bytes have been so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    /// Nowhere.
    None,
    /// All on one connection to the pods: whatever comes, they can go on as if there were no router.
    Pods,
    Mixed,
}

/// What the client wants next.
enum Next {
    /// A head of so many bytes.
    Head(usize),
    /// Nothing.
    End,
    TooLarge,
    /// It stopped within a head: it ended, or has been silent for too long.
    Stopped {
        ended: bool,
    },
}

enum Then<S> {
    Next,
    /// Ends the client's connection in order.
    Close,
    /// Passes the client's bytes on as they are.
    Raw(Peer<S>),
}

/// Serves an HTTP/1 client that has spoken since then.
pub(crate) async fn serve<C, W>(
    client: Peer<C>,
    ways: Arc<W>,
    limits: &Limits,
    since: Instant,
) -> Result<(), RouterError>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    W: Ways,
{
    let mut session = Session {
        client,
        ways,
        limits,
        kept: Kept::new(limits.upstreams, limits.idle_upstream),
        taps: HashMap::new(),
        story: Story::None,
    };
    let mut since = Some(since);
    loop {
        let then = match session.next(since.take()).await? {
            Next::Head(length) => session.request(length).await?,
            Next::TooLarge => session.too_large().await?,
            Next::End => Then::Close,
            Next::Stopped { ended } => match session.untouched().await? {
                Some(pods) => Then::Raw(pods),
                None if ended => Then::Close,
                None => session.refuse(Answer::Timeout).await?,
            },
        };
        match then {
            Then::Next => session.client.read.rest(),
            Then::Close => {
                session.close().await;
                return Ok(());
            }
            Then::Raw(upstream) => {
                session.kept.end().await;
                return splice(session.client, upstream).await;
            }
        }
    }
}

impl<C, W> Session<'_, C, W>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    W: Ways,
{
    /// Waits for the next head.
    async fn next(&mut self, mut since: Option<Instant>) -> Result<Next, RouterError> {
        let mut end = End::default();
        loop {
            if let Some(length) = end.find(&self.client.read.buffer) {
                return Ok(match length > self.limits.head_bytes {
                    true => Next::TooLarge,
                    false => Next::Head(length),
                });
            }
            if self.client.read.buffer.len() > self.limits.head_bytes {
                return Ok(Next::TooLarge);
            }
            let begun = end.has_begun();
            if begun {
                since = since.or(Some(Instant::now()));
            }
            let late = since.unwrap_or_else(Instant::now) + self.limits.head_time;
            tokio::select! {
                filled = self.client.read.fill() => match filled {
                    Ok(true) => {}
                    Ok(false) if begun => return Ok(Next::Stopped { ended: true }),
                    Ok(false) => return Ok(Next::End),
                    Err(error) => return Err(RouterError::Client(error)),
                },
                () = sleep_until(late), if begun => {
                    self.ways.handle_limit(Limit::HeadTime);
                    return Ok(Next::Stopped { ended: false });
                }
                left = self.kept.left(), if !begun => match left {
                    // Nobody is left who would have kept the connection.
                    Left::Ended if self.kept.is_empty() => return Ok(Next::End),
                    Left::Ended => {}
                    Left::Idle => self.story = Story::Mixed,
                },
            }
        }
    }

    /// Serves the request whose head has so many bytes.
    async fn request(&mut self, length: usize) -> Result<Then<W::Stream>, RouterError> {
        let bytes = &self.client.read.buffer[..length];
        let whose = |head: &Head<'_>| (self.ways.route(head), self.ways.copies(Some(head)));
        let (asked, (mut to, copies)) = match head::request(bytes, self.limits.headers, whose) {
            Ok(request) => request,
            Err(Refused::TooManyHeaders) => return self.too_large().await,
            Err(Refused::Unclear(unclear)) => {
                return match self.untouched().await? {
                    Some(pods) => Ok(Then::Raw(pods)),
                    None => self.refuse(Answer::BadRequest(unclear.0)).await,
                };
            }
        };
        let length = match asked.offers_h2c {
            true => self.decline_h2c(length),
            false => length,
        };
        let mut old = self.kept.take(to.as_ref());
        // What copies have heard of a request that is said again.
        let mut heard = 0;
        loop {
            let reused = old.is_some();
            let mut upstream = match old.take() {
                Some(upstream) => upstream,
                None => match self
                    .ways
                    .dial(to.as_ref(), self.first(length, &asked))
                    .await
                {
                    Ok(stream) => Peer::new(stream),
                    Err(error) if to.is_none() => return Err(RouterError::Pods(error)),
                    Err(error) if error.is_for_pods() => {
                        to = None;
                        old = self.kept.take(None);
                        continue;
                    }
                    Err(error) => return self.unreachable(length, asked, error.body()).await,
                },
            };
            self.story = match (self.story, &to) {
                (Story::None, None) => Story::Pods,
                (Story::Pods, None) if reused => Story::Pods,
                _ => Story::Mixed,
            };
            let head = match reused && asked.repeatable {
                true => Some(self.client.read.buffer[..length].to_vec()),
                false => None,
            };
            let alone = self.story == Story::Pods;
            upstream.write.taps = self.tapped(&copies);
            upstream.write.heard = std::mem::take(&mut heard);
            let request = (length, &asked);
            let (client, limits) = (&mut self.client, self.limits);
            let mut exchange = Exchange::new(client, &mut upstream, request, limits, alone);
            let ended = exchange.run().await?;
            if let (Ended::NoAnswer(_), Some(head)) = (&ended, head) {
                let sent = length - exchange.unsent();
                self.client.read.put_back(&head[..sent]);
                let taps = std::mem::take(&mut upstream.write.taps);
                self.taps.extend(copies.iter().cloned().zip(taps));
                heard = sent;
                continue;
            }
            if !matches!(ended, Ended::Switch) {
                let taps = std::mem::take(&mut upstream.write.taps);
                self.taps.extend(copies.into_iter().zip(taps));
            }
            return match ended {
                Ended::Again => {
                    self.kept.put(to, upstream).await;
                    Ok(Then::Next)
                }
                Ended::Switch => Ok(Then::Raw(upstream)),
                Ended::Unclear { answered: false } => {
                    self.refuse(Answer::BadRequest("a chunk's size is unclear"))
                        .await
                }
                Ended::NoAnswer(Some(error)) => Err(RouterError::Upstream(error)),
                Ended::Close | Ended::NoAnswer(None) => {
                    let _ = upstream.write.shutdown().await;
                    Ok(Then::Close)
                }
                Ended::Unclear { answered: true } => Ok(Then::Close),
            };
        }
    }

    /// Takes the offer to go on in HTTP/2 out of a head of so many bytes; how many it has then. Accepted, it would
    /// give all later requests of the client's to whose the first one is.
    fn decline_h2c(&mut self, length: usize) -> usize {
        let head = without_h2c(&self.client.read.buffer[..length]);
        self.client.read.replace(length, &head);
        head.len()
    }

    /// What has come of a request with a head of so many bytes, and nothing of the next one, which may be somebody else's.
    fn first(&self, length: usize, asked: &Asked) -> First<'_> {
        let come = &self.client.read.buffer;
        let mut request = Message::new(length, asked.body.clone());
        First {
            bytes: &come[..request.come(come)],
            repeatable: asked.repeatable,
        }
    }

    /// Those who get a copy, each of all that is for them of this client.
    fn tapped(&mut self, copies: &[W::Key]) -> Vec<Tap> {
        let taps = copies.iter().map(|to| {
            let known = self.taps.remove(to).filter(|tap| !tap.is_broken());
            known.unwrap_or_else(|| copy(&self.ways, to.clone()))
        });
        taps.collect()
    }

    /// The pods, as long as nobody else has heard anything of the client.
    async fn untouched(&mut self) -> Result<Option<Peer<W::Stream>>, RouterError> {
        match self.story {
            Story::None => to_pods(&*self.ways).await.map(Some),
            Story::Pods => Ok(self.kept.take(None)),
            Story::Mixed => Ok(None),
        }
    }

    async fn too_large(&mut self) -> Result<Then<W::Stream>, RouterError> {
        self.ways.handle_limit(Limit::HeadSize);
        self.refuse(Answer::HeadTooLarge).await
    }

    async fn refuse(&mut self, answer: Answer<'_>) -> Result<Then<W::Stream>, RouterError> {
        let sent = self.client.write.write_all(&answer.bytes(true, true)).await;
        sent.map_err(RouterError::Client)?;
        Ok(Then::Close)
    }

    /// Answers a request in the place of a destination that can't be reached.
    async fn unreachable(
        &mut self,
        head: usize,
        asked: Asked,
        text: &str,
    ) -> Result<Then<W::Stream>, RouterError> {
        self.story = Story::Mixed;
        let drains = !asked.expects && asked.body.length().is_none_or(|it| it <= self.limits.drain);
        let keep = asked.keep_alive && drains;
        let answer = Answer::BadGateway(text).bytes(!asked.is_head, !keep);
        let sent = self.client.write.write_all(&answer).await;
        sent.map_err(RouterError::Client)?;
        let mut body = Message::new(head, asked.body);
        if keep && body.drain(&mut self.client.read, self.limits.drain).await == Passed::Whole {
            return Ok(Then::Next);
        }
        Ok(Then::Close)
    }

    /// Ends all connections in order. The client may still be sending: were it not read, its system would
    /// throw the last answer away, RFC 9112 section 9.6.
    async fn close(mut self) {
        self.kept.end().await;
        if self.client.write.shutdown().await.is_err() {
            return;
        }
        let mut all = Message::all();
        let drained = all.drain(&mut self.client.read, self.limits.drain);
        let _ = timeout(self.limits.linger, drained).await;
    }
}
