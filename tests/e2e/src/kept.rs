//! Many requests to the test workload on one connection.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use h2::client::SendRequest;
use serde_json::Value;

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// A kept-alive connection of HTTP/1.1.
#[derive(Debug)]
pub struct Kept(BufReader<TcpStream>);

impl Kept {
    /// Connects.
    ///
    /// # Errors
    ///
    /// What went wrong with the connection.
    pub fn connect(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Who answers a request with these header lines, each with its line end.
    ///
    /// # Errors
    ///
    /// What went wrong with the connection, or with the answer.
    pub fn who_answers(&mut self, lines: &str) -> io::Result<String> {
        let (status, body) = self.get("/", lines)?;
        let page: Value = serde_json::from_slice(&body).map_err(io::Error::other)?;
        match page["pod"].as_str() {
            Some(pod) if status == 200 => Ok(pod.to_owned()),
            _ => Err(io::Error::other(format!("{status}: {page}"))),
        }
    }

    /// Asks for a page.
    ///
    /// # Errors
    ///
    /// What went wrong with the connection.
    pub fn get(&mut self, path: &str, lines: &str) -> io::Result<(u16, Vec<u8>)> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: web\r\n{lines}\r\n");
        self.0.get_mut().write_all(request.as_bytes())?;
        let head = self.head()?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let length = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, length)| length.parse().ok());
        let (Some(status), Some(length)) = (status, length) else {
            return Err(io::Error::other(format!("not an answer: {head:?}")));
        };
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((status, body))
    }

    /// Changes to another protocol, and back comes the head of the answer.
    ///
    /// # Errors
    ///
    /// What went wrong with the connection.
    pub fn upgrade(&mut self, lines: &str) -> io::Result<String> {
        let request = format!(
            "GET /upgrade HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{lines}\r\n"
        );
        self.0.get_mut().write_all(request.as_bytes())?;
        self.head()
    }

    /// Sends some bytes, and waits for as many.
    ///
    /// # Errors
    ///
    /// What went wrong with the connection.
    pub fn exchange(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.0.get_mut().write_all(bytes)?;
        let mut back = vec![0; bytes.len()];
        self.0.read_exact(&mut back)?;
        Ok(back)
    }

    fn head(&mut self) -> io::Result<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(head)
    }
}

/// A connection of HTTP/2 with prior knowledge; to be used within a runtime.
pub struct Http2(SendRequest<bytes::Bytes>);

impl Http2 {
    /// Connects; the connection lives in a task of the runtime's.
    ///
    /// # Errors
    ///
    /// What went wrong with the connection.
    pub async fn connect(to: SocketAddr) -> io::Result<Self> {
        let stream = tokio::net::TcpStream::connect(to).await?;
        let (requests, connection) = h2::client::handshake(stream)
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self(requests))
    }

    /// Who answers a request with this value of the header `x-user`.
    ///
    /// # Errors
    ///
    /// What went wrong with the connection, or with the answer.
    pub async fn who_answers(&self, user: &str) -> io::Result<String> {
        let ask = async {
            let request = http::Request::get("http://web/")
                .header("x-user", user)
                .body(())
                .map_err(io::Error::other)?;
            let mut requests = self.0.clone().ready().await.map_err(io::Error::other)?;
            let (answer, _) = requests
                .send_request(request, true)
                .map_err(io::Error::other)?;
            let body = answer.await.map_err(io::Error::other)?.into_body();
            let page = read_all(body).await.map_err(io::Error::other)?;
            let page: Value = serde_json::from_slice(&page).map_err(io::Error::other)?;
            Ok(page["pod"].as_str().unwrap_or_default().to_owned())
        };
        tokio::time::timeout(ANSWER, ask).await?
    }

    /// Sends each piece on one stream once the one before has come back, as a gRPC method with streams both
    /// ways does: who answers, and the status at the end.
    ///
    /// # Errors
    ///
    /// What went wrong with the connection, or what came back instead.
    pub async fn talk(&self, user: &str, pieces: &[&str]) -> io::Result<(String, String)> {
        let talk = async {
            let request = http::Request::post("http://web/bidi")
                .header("x-user", user)
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(())
                .map_err(io::Error::other)?;
            let mut requests = self.0.clone().ready().await.map_err(io::Error::other)?;
            let (answer, mut say) = requests
                .send_request(request, false)
                .map_err(io::Error::other)?;
            let mut body = answer.await.map_err(io::Error::other)?.into_body();
            let mut heard = String::new();
            let mut expected = String::new();
            let mut who = None;
            for piece in pieces {
                say.send_data((*piece).to_owned().into(), false)
                    .map_err(io::Error::other)?;
                expected.push_str(piece);
                while who.is_none() || heard.len() < expected.len() {
                    let more = body.data().await.ok_or(io::ErrorKind::UnexpectedEof)?;
                    let more = more.map_err(io::Error::other)?;
                    let _ = body.flow_control().release_capacity(more.len());
                    heard.push_str(&String::from_utf8_lossy(&more));
                    if who.is_none()
                        && let Some((first, rest)) = heard.split_once('\n')
                    {
                        (who, heard) = (Some(first.to_owned()), rest.to_owned());
                    }
                }
                if heard != expected {
                    return Err(io::Error::other(format!(
                        "{expected:?} came back as {heard:?}"
                    )));
                }
            }
            say.send_data(bytes::Bytes::new(), true)
                .map_err(io::Error::other)?;
            while body.data().await.is_some() {}
            let trailers = body.trailers().await.map_err(io::Error::other)?;
            let status = trailers
                .and_then(|all| Some(all.get("grpc-status")?.to_str().ok()?.to_owned()))
                .unwrap_or_default();
            Ok((who.unwrap_or_default(), status))
        };
        tokio::time::timeout(ANSWER, talk).await?
    }
}

/// Reads a body to its end.
pub(crate) async fn read_all(mut body: h2::RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        let _ = body.flow_control().release_capacity(piece.len());
        all.extend_from_slice(&piece);
    }
    Ok(all)
}
