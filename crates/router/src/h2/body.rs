//! The data of one direction of a stream.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt as _;
use h2::{Error, RecvStream, SendStream};
use http::HeaderMap;

/// Of so much at most it is known what has come; one frame more may be.
const COME: usize = 16 << 10;

/// What has come and wasn't handed on, and what is still to come.
#[derive(Debug)]
pub(crate) struct Body {
    come: VecDeque<Bytes>,
    rest: RecvStream,
}

/// What of a body was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    Nothing,
    /// What had come.
    Come,
    /// That, and that nothing comes after it.
    All,
}

impl From<RecvStream> for Body {
    fn from(rest: RecvStream) -> Self {
        let come = VecDeque::new();
        Self { come, rest }
    }
}

impl Body {
    /// Looks what has come, and doesn't wait for more.
    pub(crate) fn look(&mut self) {
        let mut count = 0;
        while count < COME {
            // What else there is to be told is told again.
            let Some(Some(Ok(data))) = self.rest.data().now_or_never() else {
                return;
            };
            count += data.len();
            self.come.push_back(data);
        }
    }

    /// Says what has come, as far as that is known. It stays what hasn't been handed on.
    ///
    /// # Errors
    ///
    /// The stream takes nothing more.
    pub(crate) fn say(&self, to: &mut SendStream<Bytes>) -> Result<Said, Error> {
        let mut said = Said::Nothing;
        let mut come = self.come.iter().peekable();
        while let Some(data) = come.next() {
            let ends = come.peek().is_none() && self.rest.is_end_stream();
            to.send_data(data.clone(), ends)?;
            said = if ends { Said::All } else { Said::Come };
        }
        Ok(said)
    }

    /// What has come has been handed on; what it was.
    pub(crate) fn handle_said(&mut self) -> impl Iterator<Item = Bytes> {
        let said = std::mem::take(&mut self.come);
        self.release(said.iter().map(Bytes::len).sum());
        said.into_iter()
    }

    /// Whether all is handed on.
    pub(crate) fn is_over(&self) -> bool {
        self.come.is_empty() && self.rest.is_end_stream()
    }

    /// The next data; none before trailers and the end.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        match self.come.pop_front() {
            Some(data) => Poll::Ready(Some(Ok(data))),
            None => self.rest.poll_data(cx),
        }
    }

    /// What comes after all data.
    pub(crate) fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, Error>> {
        self.rest.poll_trailers(cx)
    }

    /// So many bytes have been handed on, and as many more may come.
    pub(crate) fn release(&mut self, count: usize) {
        // Fails only on a stream that is over.
        let _ = self.rest.flow_control().release_capacity(count);
    }
}
