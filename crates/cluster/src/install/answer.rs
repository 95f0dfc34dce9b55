//! Asking the manager's pod, the way a session will reach it, whether it is ready.

use std::time::Duration;

use kube::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::find::find_manager;
use super::names::HEALTH_PORT;
use super::options::Answer;
use crate::portforward;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// What an HTTP server answers at least: `HTTP/1.1 200`.
const STATUS_LENGTH: usize = 12;

/// Asks the newest ready pod for `/readyz` through a port-forward.
pub(super) async fn ask(client: &Client, namespace: &str) -> Answer {
    let asked = tokio::time::timeout(ANSWER_TIMEOUT, ask_readyz(client, namespace));
    match asked.await {
        Ok(Ok(status)) if status.ends_with(" 200") => Answer::Yes,
        Ok(Ok(status)) => Answer::No(format!("the pod answered {status:?}")),
        Ok(Err(why)) => Answer::No(why),
        Err(_) => Answer::No(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
    }
}

async fn ask_readyz(client: &Client, namespace: &str) -> Result<String, String> {
    let pod = find_manager(client, namespace)
        .await
        .map_err(|error| error.to_string())?;
    let forward = portforward::open(client, &pod.namespace, &pod.name, HEALTH_PORT).await;
    let mut stream = forward.map_err(|error| error.to_string())?.into_stream();
    let request = b"GET /readyz HTTP/1.1\r\nHost: manager\r\nConnection: close\r\n\r\n";
    let mut status = [0; STATUS_LENGTH];
    let answered = async {
        stream.write_all(request).await?;
        stream.flush().await?;
        stream.read_exact(&mut status).await
    };
    answered.await.map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&status).into_owned())
}
