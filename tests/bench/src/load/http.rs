//! HTTP/1.1 as far as it is needed here: a request's path is the number of bytes that its answer has, and an
//! answer says whose it is.

use std::io;
use std::net::SocketAddr;

use httparse::{EMPTY_HEADER, Request, Response, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::protocol::{CHUNK, GET};

/// Where an answer says whose it is.
const NAME: &str = "x-answered-by";
/// No head here has more lines.
const LINES: usize = 32;
/// Bytes of what is read of a side that says little.
const LITTLE: usize = 4096;

/// Answers the requests of a connection whose first byte has been read.
pub(super) async fn serve(mut stream: TcpStream, source: &[u8], name: &str) -> io::Result<()> {
    let mut heard = vec![GET];
    loop {
        while let Some((length, size)) = asked(&heard)? {
            heard.drain(..length);
            answer(&mut stream, source, name, size).await?;
        }
        heard.reserve(LITTLE);
        if stream.read_buf(&mut heard).await? == 0 {
            return Ok(());
        }
    }
}

/// How long a request is, and its answer's body.
fn asked(bytes: &[u8]) -> io::Result<Option<(usize, usize)>> {
    let mut lines = [EMPTY_HEADER; LINES];
    let mut request = Request::new(&mut lines);
    let Status::Complete(length) = request.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let number = request.path.and_then(|path| path.strip_prefix('/'));
    let size = number.and_then(|number| number.parse().ok());
    let size = size.ok_or_else(|| io::Error::other("the path is no number"))?;
    Ok(Some((length, size)))
}

async fn answer(stream: &mut TcpStream, source: &[u8], name: &str, size: usize) -> io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n{NAME}: {name}\r\n\r\n");
    let mut first = head.into_bytes();
    // A small answer is one write.
    let mut left = size;
    let with_head = left.min(LITTLE);
    first.extend_from_slice(&source[..with_head]);
    left -= with_head;
    stream.write_all(&first).await?;
    while left > 0 {
        let next = left.min(source.len());
        stream.write_all(&source[..next]).await?;
        left -= next;
    }
    Ok(())
}

/// A client's connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let buffer = vec![0; LITTLE];
        Ok(Self { stream, buffer })
    }

    /// Sends a request and reads its answer, which has to be this server's. Says of every piece of the body how
    /// many bytes have come.
    pub(super) async fn ask(
        &mut self,
        request: &[u8],
        from: &str,
        mut arrived: impl FnMut(usize),
    ) -> io::Result<()> {
        self.stream.write_all(request).await?;
        let mut heard = 0;
        let (head, size) = loop {
            let count = self.stream.read(&mut self.buffer[heard..]).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            heard += count;
            if let Some(found) = answered(&self.buffer[..heard], from)? {
                break found;
            }
        };
        let mut left = size.checked_sub(heard - head).ok_or_else(too_much)?;
        arrived(heard - head);
        if left > CHUNK {
            self.buffer.resize(CHUNK, 0);
        }
        while left > 0 {
            let count = self.stream.read(&mut self.buffer).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left = left.checked_sub(count).ok_or_else(too_much)?;
            arrived(count);
        }
        Ok(())
    }
}

/// How long an answer's head is, and its body.
fn answered(bytes: &[u8], from: &str) -> io::Result<Option<(usize, usize)>> {
    let mut lines = [EMPTY_HEADER; LINES];
    let mut response = Response::new(&mut lines);
    let Status::Complete(length) = response.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let status = response.code.unwrap_or_default();
    let value = |name: &str| {
        let mut lines = response.headers.iter();
        let line = lines.find(|line| line.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(line.value).ok()
    };
    let whose = value(NAME).unwrap_or("nobody known");
    if status != 200 || whose != from {
        let what = format!("answered {status} by {whose} instead of 200 by {from}");
        return Err(io::Error::other(what));
    }
    let size = value("content-length").and_then(|size| size.parse().ok());
    let size = size.ok_or_else(|| io::Error::other("an answer of unknown length"))?;
    Ok(Some((length, size)))
}

fn too_much() -> io::Error {
    io::Error::other("more came than was asked for")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn a_request_is_as_long_as_its_head_and_asks_for_as_much_as_its_path_says() {
        let request = b"GET /64 HTTP/1.1\r\nhost: x\r\n\r\n";
        assert_eq!(asked(request).unwrap(), Some((request.len(), 64)));
        assert_eq!(asked(&request[..20]).unwrap(), None);
        assert!(asked(b"GET /some HTTP/1.1\r\n\r\n").is_err());
    }

    #[test]
    fn an_answer_of_somebody_else_or_of_another_status_is_none() {
        let answer = |status: &str, name: &str| {
            format!("HTTP/1.1 {status}\r\ncontent-length: 3\r\nX-Answered-By: {name}\r\n\r\nabc")
        };
        let good = answer("200 OK", "pod");
        let head = good.len() - 3;
        assert_eq!(answered(good.as_bytes(), "pod").unwrap(), Some((head, 3)));
        for other in [answer("200 OK", "laptop"), answer("502 Bad Gateway", "pod")] {
            assert!(answered(other.as_bytes(), "pod").is_err(), "{other}");
        }
    }

    #[tokio::test]
    async fn every_byte_of_small_and_large_bodies_arrives_on_one_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            assert_eq!(stream.read_u8().await?, GET);
            serve(stream, &[0x5a; CHUNK], "pod").await
        });
        let mut connection = Connection::open(to).await.unwrap();
        for size in [0, 64, LITTLE, LITTLE + 1, 3 * CHUNK + 5, 64] {
            let request = format!("GET /{size} HTTP/1.1\r\nhost: x\r\n\r\n");
            let mut count = 0;
            let asked = connection.ask(request.as_bytes(), "pod", |more| count += more);
            asked.await.unwrap();
            assert_eq!(count, size);
        }
        drop(connection);
        server.await.unwrap().unwrap();
    }
}
