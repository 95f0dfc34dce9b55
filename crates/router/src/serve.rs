//! A client's connection from its first byte.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::RouterError;
use crate::limits::{Limit, Limits};
use crate::peer::{Peer, Reader};
use crate::sniff::{Protocol, Sniffer};
use crate::tap::{Tap, tap};
use crate::ways::{First, Ways};
use crate::{h1, h2, tls};

/// What is held of each direction of a connection that is passed on as it is.
const RAW: usize = 16 << 10;

/// Serves a client's connection until it ends, each request where [`Ways::route`] says, TLS as a whole. What is
/// neither goes to the pods as it is.
///
/// Dropping the future, at any time, drops all connections that it has.
///
/// # Errors
///
/// When the connection didn't end in order. It should then be reset: an end would look like one of the
/// destination's. For that, `client` may be a `&mut` to a connection.
pub async fn serve<C, W>(client: C, ways: Arc<W>, limits: &Limits) -> Result<(), RouterError>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    W: Ways,
{
    let mut client = Peer::new(client);
    let (speaks, pods) = first_word(&mut client.read, &*ways, limits).await?;
    let since = Instant::now();
    let protocol = match speaks {
        true => listen(&mut client.read, &*ways, limits, since).await?,
        false => Protocol::Other,
    };
    tracing::debug!(?protocol, "connection");
    let pods = pods.filter(|_| protocol == Protocol::Other);
    match protocol {
        Protocol::Http1 => h1::serve(client, ways, limits, since).await,
        Protocol::Http2 => h2::serve(client.into_stream(), ways, limits).await,
        Protocol::Tls => tls::serve(client, ways, limits, since).await,
        Protocol::Other => match pods {
            Some(pods) => pass_on_to(pods, client, ways).await,
            None => pass_on(client, ways).await,
        },
    }
}

/// Passes all that a client says on to where what isn't HTTP goes, without a look at it.
///
/// # Errors
///
/// See [`serve()`].
pub async fn pass<C, W>(client: C, ways: Arc<W>) -> Result<(), RouterError>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    W: Ways,
{
    pass_on(Peer::new(client), ways).await
}

/// Passes a connection on to the pods as it is.
pub(crate) async fn pass_on<C, W>(client: Peer<C>, ways: Arc<W>) -> Result<(), RouterError>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    W: Ways,
{
    pass_on_to(to_pods(&*ways).await?, client, ways).await
}

async fn pass_on_to<C, W>(
    mut pods: Peer<W::Stream>,
    client: Peer<C>,
    ways: Arc<W>,
) -> Result<(), RouterError>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    W: Ways,
{
    pods.write.taps = ways
        .copies(None)
        .into_iter()
        .map(|to| copy(&ways, to))
        .collect();
    splice(client, pods).await
}

/// Waits for a client's first word: whether it comes before the client's end. For who says nothing for a while there is a
/// connection to the pods, as theirs may be the first word; where it is, the client's isn't waited for.
async fn first_word<C: AsyncRead + Unpin, W: Ways>(
    client: &mut Reader<C>,
    ways: &W,
    limits: &Limits,
) -> Result<(bool, Option<Peer<W::Stream>>), RouterError> {
    if let Ok(heard) = timeout(limits.first_byte, client.fill()).await {
        return Ok((heard.map_err(RouterError::Client)?, None));
    }
    ways.handle_limit(Limit::FirstByte);
    let dialled = tokio::select! {
        biased;
        heard = client.fill() => return Ok((heard.map_err(RouterError::Client)?, None)),
        dialled = to_pods(ways) => dialled,
    };
    let mut pods = match dialled {
        Ok(pods) => pods,
        // What the client has to say may not be for the pods.
        Err(error) => {
            let heard = timeout(limits.first_byte, client.fill()).await;
            let heard = heard.map_err(|_| error)?;
            return Ok((heard.map_err(RouterError::Client)?, None));
        }
    };
    let speaks = tokio::select! {
        biased;
        heard = client.fill() => heard.map_err(RouterError::Client)?,
        heard = pods.read.fill() => {
            heard.map_err(RouterError::Upstream)?;
            false
        }
    };
    Ok((speaks, Some(pods)))
}

/// Reads on until it is known what a client speaks that has spoken since then.
async fn listen<C: AsyncRead + Unpin, W: Ways>(
    client: &mut Reader<C>,
    ways: &W,
    limits: &Limits,
    since: Instant,
) -> Result<Protocol, RouterError> {
    let mut sniffer = Sniffer::default();
    let until = since + limits.head_time;
    loop {
        if let Some(protocol) = sniffer.look(&client.buffer) {
            return Ok(protocol);
        }
        if client.buffer.len() > limits.head_bytes {
            return Ok(Protocol::Http1);
        }
        match timeout_at(until, client.fill()).await {
            Ok(Ok(true)) => {}
            // Whatever it is, it is the pods' business.
            Ok(Ok(false)) => return Ok(Protocol::Other),
            Err(_) => {
                ways.handle_limit(Limit::HeadTime);
                return Ok(Protocol::Other);
            }
            Ok(Err(error)) => return Err(RouterError::Client(error)),
        }
    }
}

/// Begins a copy of what a client says.
pub(crate) fn copy<W: Ways>(ways: &Arc<W>, to: W::Key) -> Tap {
    let (tap, tapped) = tap();
    ways.spawn_copy(tapped, to);
    tap
}

/// A connection to the pods.
pub(crate) async fn to_pods<W: Ways>(ways: &W) -> Result<Peer<W::Stream>, RouterError> {
    let dialled = ways.dial(None, First::NOTHING).await;
    dialled.map(Peer::new).map_err(RouterError::Pods)
}

/// Passes bytes on until both directions are closed.
pub(crate) async fn splice<C, S>(client: Peer<C>, upstream: Peer<S>) -> Result<(), RouterError>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut client = client.into_stream();
    let mut upstream = upstream.into_stream();
    let copied = copy_bidirectional_with_sizes(&mut client, &mut upstream, RAW, RAW).await;
    copied.map(|_| ()).map_err(RouterError::Raw)
}
