//! A client's HTTP/2 connection.

use std::collections::HashMap;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::Request;
use kdev_rules::Head;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, timeout};

use super::copy::{Copier, Copy};
use super::stream::Failed;
use super::upstream::{Driver, Upstream};
use super::{
    ANSWER_BUFFER, CONNECTION_WINDOW, OVERHEARD_FRAME, OVERHEARD_TABLE, OVERHEARD_WINDOW,
    STREAM_WINDOW, STREAMS, head, stream,
};
use crate::error::RouterError;
use crate::limits::{Limit, Limits};
use crate::ways::Ways;

/// How long upstream connections may take to end in order.
const FAREWELL: Duration = Duration::from_secs(5);

struct Session<'a, W: Ways> {
    ways: Arc<W>,
    limits: &'a Limits,
    upstreams: HashMap<Option<W::Key>, Arc<Upstream<W>>>,
    drivers: mpsc::Sender<Driver<W>>,
    streams: JoinSet<Result<(), Failed>>,
    /// Those who get copies.
    copiers: HashMap<W::Key, Copier<W>>,
}

/// Serves an HTTP/2 client from its preface on.
pub(crate) async fn serve<C, W>(client: C, ways: Arc<W>, limits: &Limits) -> Result<(), RouterError>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    W: Ways,
{
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(ANSWER_BUFFER)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .enable_connect_protocol();
    if W::OVERHEARD {
        builder
            .initial_window_size(OVERHEARD_WINDOW)
            .max_frame_size(OVERHEARD_FRAME)
            .header_table_size(OVERHEARD_TABLE);
    }
    let shaken = builder.handshake(client).await;
    let mut client = shaken.map_err(RouterError::Http2)?;
    let (drivers, mut new_drivers) = mpsc::channel(1);
    let mut connections = JoinSet::new();
    let mut session = Session {
        ways,
        limits,
        upstreams: HashMap::new(),
        drivers,
        streams: JoinSet::new(),
        copiers: HashMap::new(),
    };
    let ways = Arc::clone(&session.ways);
    let mut ending = pin!(ways.ending().fuse());
    let mut sweep = interval_at(Instant::now() + limits.idle_upstream, limits.idle_upstream);
    loop {
        tokio::select! {
            stream = client.accept() => match stream {
                Some(Ok((request, respond))) => session.handle_stream(request, respond),
                Some(Err(error)) => return Err(RouterError::Http2(error)),
                None => break,
            },
            Some(driver) = new_drivers.recv() => drop(connections.spawn(drive::<W>(driver))),
            Some(ended) = session.streams.join_next() => match ended {
                Ok(Err(failed)) => session.handle_failed(failed)?,
                Ok(Ok(())) => {}
                Err(error) => tracing::error!(%error, "a stream broke off"),
            },
            Some(_) = connections.join_next() => {}
            _ = sweep.tick() => session.end_idle(),
            // It is told, goes on with what it has, and then ends.
            () = &mut ending => client.graceful_shutdown(),
        }
    }
    // The client has ended. What is left of its streams ends as these learn of it, and then the connections
    // that they were on.
    drop(new_drivers);
    let Session {
        mut streams,
        upstreams,
        ..
    } = session;
    drop(upstreams);
    let farewell = async {
        while streams.join_next().await.is_some() {}
        while connections.join_next().await.is_some() {}
    };
    let _ = timeout(FAREWELL, farewell).await;
    Ok(())
}

impl<W: Ways> Session<'_, W> {
    fn handle_stream(&mut self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        if request.headers().len() > self.limits.headers {
            self.ways.handle_limit(Limit::HeadSize);
            return stream::too_many_headers(&request, &mut respond);
        }
        let (parts, body) = request.into_parts();
        let whose = |head: &Head<'_>| (self.ways.route(head), self.ways.copies(Some(head)));
        let (to, copies) = head::show(&parts, whose);
        let new = |to: &Option<W::Key>| {
            let ways = Arc::clone(&self.ways);
            Arc::new(Upstream::new(ways, to.clone(), self.drivers.clone()))
        };
        let mut upstream = |to| {
            let upstream = self.upstreams.entry(to);
            Arc::clone(upstream.or_insert_with_key(new))
        };
        let ends = body.is_end_stream();
        let copies = copies.into_iter().filter_map(|to| {
            let copier = self.copiers.entry(to.clone());
            let copier = copier.or_insert_with(|| Copier::new(&self.ways, to));
            copier.copy(&parts, ends)
        });
        let near: Vec<Copy> = copies.collect();
        let upstreams = (upstream(to), upstream(None));
        let request = Request::from_parts(parts, body);
        let serve = stream::serve(request, respond, upstreams, near);
        self.streams.spawn(serve);
    }

    /// A client that has nothing but the pods sees what it would see without a router.
    fn handle_failed(&self, failed: Failed) -> Result<(), RouterError> {
        match failed {
            Failed::Pods(error) if self.has_only_pods() => Err(RouterError::Pods(error)),
            Failed::Lost(_) if self.has_only_pods() => {
                let error = io::ErrorKind::ConnectionReset.into();
                Err(RouterError::Upstream(error))
            }
            // The stream has been refused.
            Failed::Pods(_) => Ok(()),
            Failed::Lost(lost) => {
                lost.tell();
                Ok(())
            }
        }
    }

    /// Whether nobody but the pods is concerned when the client's connection breaks.
    fn has_only_pods(&self) -> bool {
        self.upstreams.keys().all(Option::is_none)
    }

    /// Ends connections that no stream has used for a while; those used last time are given another turn.
    fn end_idle(&mut self) {
        self.upstreams
            .retain(|_, upstream| Arc::strong_count(upstream) > 1 || upstream.was_used());
    }
}

async fn drive<W: Ways>(driver: Driver<W>) {
    if let Err(error) = driver.await {
        tracing::debug!(%error, "a connection to a destination broke");
    }
}
