//! The connection of one client to one destination.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::FutureExt as _;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Error, SendStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use super::ahead::{Ahead, Coming, ahead};
use super::body::{Body, Said};
use super::spoken::{Spoken, Watched, watched};
use super::{CONNECTION_WINDOW, SEND_BUFFER, STREAM_WINDOW};
use crate::error::DialError;
use crate::ways::{First, Ways};

/// The head of a response; there is no reason to be strict with the pods.
const HEAD: u32 = 1 << 20;
/// Streams given up of which frames may still come.
const RESET_STREAMS: usize = 1000;

/// What drives a connection.
pub(crate) type Driver<W> = Connection<Watched<Ahead<<W as Ways>::Stream>>, Bytes>;

/// A destination, and the connection to it that takes new streams. One that takes no more goes on with those
/// that it has.
pub(crate) struct Upstream<W: Ways> {
    ways: Arc<W>,
    to: Option<W::Key>,
    drivers: mpsc::Sender<Driver<W>>,
    state: Mutex<State>,
    used: AtomicBool,
}

#[derive(Default)]
struct State {
    current: Option<Current>,
    /// When it could last not be reached, and why.
    failed: Option<(Instant, DialError)>,
}

#[derive(Clone)]
struct Current {
    sender: SendRequest<Bytes>,
    /// Held by each of its streams.
    stream: Arc<()>,
    spoken: Spoken,
}

/// A stream to the destination.
pub(crate) struct Opened {
    pub(crate) response: ResponseFuture,
    pub(crate) send: SendStream<Bytes>,
    pub(crate) spoken: Spoken,
    /// What of the body was said.
    pub(crate) said: Said,
    pub(crate) _stream: Arc<()>,
}

/// Why there is no stream.
#[derive(Debug)]
pub(crate) enum OpenError {
    Dial(DialError),
    /// Of a connection of which so much is known.
    Http2(Error, Spoken),
    /// The client's connection is about to end.
    Ending,
}

impl<W: Ways> Upstream<W> {
    pub(crate) fn new(ways: Arc<W>, to: Option<W::Key>, drivers: mpsc::Sender<Driver<W>>) -> Self {
        Self {
            ways,
            to,
            drivers,
            state: Mutex::default(),
            used: AtomicBool::new(true),
        }
    }

    pub(crate) fn is_pods(&self) -> bool {
        self.to.is_none()
    }

    /// What clients are told where this one doesn't speak HTTP/2; nothing if it may, or is the pods.
    pub(crate) fn not_http2(&self, spoken: &Spoken) -> Option<DialError> {
        let to = self.to.as_ref().filter(|_| spoken.is_something_else())?;
        Some(self.ways.not_http2(to))
    }

    /// Whether a stream was opened since this was last asked.
    pub(crate) fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// Opens a stream, on a new connection where there is none that takes it; what has come of the `body` then travels
    /// with the question for that. Cancel safe.
    pub(crate) async fn open(
        &self,
        request: &Request<()>,
        ends: bool,
        body: Option<&Body>,
    ) -> Result<Opened, OpenError> {
        self.used.store(true, Ordering::Relaxed);
        let arrived = Instant::now();
        let mut state = self.state.lock().await;
        if let Some(current) = &state.current {
            if let Some(opened) = current.try_open(request, ends).await {
                return Ok(opened);
            }
            state.current = None;
        }
        // Those who waited for a dial that failed don't have to see another one fail.
        if let Some((_, error)) = state.failed.as_ref().filter(|(at, _)| *at >= arrived) {
            return Err(OpenError::Dial(error.clone()));
        }
        let spoken = Spoken::default();
        let begun = begin(request, ends, body, &spoken).await;
        let begun = begun.map_err(|error| OpenError::Http2(error, spoken))?;
        let Begun {
            current,
            opened,
            driver,
            coming,
        } = begun;
        let first = coming.said();
        let first = First {
            bytes: &first,
            repeatable: ends && request.method().is_idempotent(),
        };
        match self.ways.dial(self.to.as_ref(), first).await {
            Ok(stream) => coming.come(stream),
            Err(error) => {
                state.failed = Some((Instant::now(), error.clone()));
                return Err(OpenError::Dial(error));
            }
        }
        let driven = self.drivers.send(driver).await;
        driven.map_err(|_| OpenError::Ending)?;
        state.current = Some(current);
        Ok(opened)
    }
}

/// A connection that isn't there yet, and its first stream.
struct Begun<S> {
    current: Current,
    opened: Opened,
    driver: Connection<Watched<Ahead<S>>, Bytes>,
    coming: Coming<S>,
}

/// Begins a connection with all that is said on it first.
async fn begin<S: AsyncRead + AsyncWrite + Unpin>(
    request: &Request<()>,
    ends: bool,
    body: Option<&Body>,
    spoken: &Spoken,
) -> Result<Begun<S>, Error> {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(HEAD)
        .max_concurrent_reset_streams(RESET_STREAMS);
    let (stream, coming) = ahead();
    let shaken = builder.handshake(watched(stream, spoken.clone())).await;
    let (sender, mut driver) = shaken?;
    let current = Current {
        sender,
        stream: Arc::new(()),
        spoken: spoken.clone(),
    };
    let mut opened = current.open(request, ends).await?;
    if let Some(body) = body {
        opened.said = body.say(&mut opened.send)?;
    }
    // It writes all that there is to be said, and then hears nothing.
    match (&mut driver).now_or_never() {
        Some(Err(error)) => Err(error),
        Some(Ok(())) | None => Ok(Begun {
            current,
            opened,
            driver,
            coming,
        }),
    }
}

impl Current {
    /// None when it takes no more streams.
    async fn try_open(&self, request: &Request<()>, ends: bool) -> Option<Opened> {
        let streams = Arc::strong_count(&self.stream) - 1;
        if streams >= self.sender.current_max_send_streams() {
            return None;
        }
        self.open(request, ends).await.ok()
    }

    async fn open(&self, request: &Request<()>, ends: bool) -> Result<Opened, Error> {
        let mut sender = self.sender.clone().ready().await?;
        let (response, send) = sender.send_request(request.clone(), ends)?;
        Ok(Opened {
            response,
            send,
            spoken: self.spoken.clone(),
            said: Said::Nothing,
            _stream: Arc::clone(&self.stream),
        })
    }
}

#[cfg(test)]
#[path = "upstream_tests.rs"]
mod tests;
