//! A client's TLS connection: nothing of it can be read but the name of the server that the client asks for.

use std::sync::Arc;

use kdev_rules::Head;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use crate::error::RouterError;
use crate::limits::{Limit, Limits};
use crate::peer::{Peer, Reader};
use crate::serve::{copy, pass_on, splice};
use crate::ways::{First, Ways};

/// Serves a client's TLS connection: all of it goes to whose it is by its server's name, or to the pods.
pub(crate) async fn serve<C, W>(
    mut client: Peer<C>,
    ways: Arc<W>,
    limits: &Limits,
    since: Instant,
) -> Result<(), RouterError>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    W: Ways,
{
    let Some(name) = server_name(&mut client.read, &*ways, limits, since).await? else {
        return pass_on(client, ways).await;
    };
    let head = Head::of_tls(name.as_bytes());
    let (to, copies) = (ways.route(&head), ways.copies(Some(&head)));
    let first = First {
        bytes: &client.read.buffer,
        // More than the client's first message may have come.
        repeatable: false,
    };
    let dialled = match ways.dial(to.as_ref(), first).await {
        Err(error) if error.is_for_pods() => ways.dial(None, First::NOTHING).await,
        dialled => dialled,
    };
    let mut upstream = dialled.map(Peer::new).map_err(RouterError::Destination)?;
    let taps = copies.into_iter().map(|to| copy(&ways, to));
    upstream.write.taps = taps.collect();
    splice(client, upstream).await
}

/// Reads a client's first message until it is known whether it names a server; nothing of it is used.
async fn server_name<C: AsyncRead + Unpin, W: Ways>(
    client: &mut Reader<C>,
    ways: &W,
    limits: &Limits,
    since: Instant,
) -> Result<Option<String>, RouterError> {
    let mut hello = Acceptor::default();
    let (mut fed, until) = (0, since + limits.first_byte);
    loop {
        let mut rest = &client.buffer[fed..];
        fed = client.buffer.len();
        while !rest.is_empty() {
            if hello.read_tls(&mut rest).is_err() {
                return Ok(None);
            }
            match hello.accept() {
                Ok(None) => {}
                Ok(Some(whole)) => {
                    let name = whole.client_hello().server_name().map(str::to_owned);
                    return Ok(name);
                }
                // Whatever it is, it is the pods' business.
                Err(_) => return Ok(None),
            }
        }
        if fed > limits.head_bytes {
            return Ok(None);
        }
        match timeout_at(until, client.fill()).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return Ok(None),
            Err(_) => {
                ways.handle_limit(Limit::FirstByte);
                return Ok(None);
            }
            Ok(Err(error)) => return Err(RouterError::Client(error)),
        }
    }
}
