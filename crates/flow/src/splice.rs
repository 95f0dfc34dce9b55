//! Joins two TCP connections of the kernel's: half-closes and resets pass both ways.

use std::io;

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

use crate::reset::ResetUnlessClosed;

/// Carries bytes until both directions are closed. Dropping the future, at any time, resets both.
///
/// # Errors
///
/// What broke one of them; both have been reset.
pub async fn splice(one: TcpStream, other: TcpStream) -> io::Result<()> {
    let mut one = ResetUnlessClosed::new(one);
    let mut other = ResetUnlessClosed::new(other);
    copy_bidirectional(&mut one.connection, &mut other.connection).await?;
    one.handle_closed();
    other.handle_closed();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{connection, is_reset, soon};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::task::JoinHandle;

    async fn rig() -> (TcpStream, TcpStream, JoinHandle<io::Result<()>>) {
        let ((client, one), (other, server)) = (connection().await, connection().await);
        (client, server, tokio::spawn(splice(one, other)))
    }

    #[tokio::test]
    async fn an_answer_comes_back_after_the_question_has_ended() {
        let (mut client, mut server, splice) = rig().await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut asked, mut answered) = (String::new(), String::new());
        soon(server.read_to_string(&mut asked)).await.unwrap();
        server.write_all(b"answer").await.unwrap();
        drop(server);
        soon(client.read_to_string(&mut answered)).await.unwrap();
        assert_eq!((&*asked, &*answered), ("question", "answer"));
        soon(splice).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_reset_of_one_side_resets_the_other() {
        let (mut client, server, splice) = rig().await;
        server.set_zero_linger().unwrap();
        drop(server);
        is_reset(&mut client).await;
        soon(splice).await.unwrap().unwrap_err();
    }

    #[tokio::test]
    async fn stopping_it_resets_both() {
        let (mut client, mut server, splice) = rig().await;
        client.write_all(b"x").await.unwrap();
        soon(server.read_exact(&mut [0])).await.unwrap();
        splice.abort();
        for side in [&mut client, &mut server] {
            is_reset(side).await;
        }
    }
}
