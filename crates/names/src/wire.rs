//! What is read from a DNS message, or changed in it, without touching the rest (RFC 1035 section 4).

use hickory_proto::op::{Header, Message, MessageType, Query};
use hickory_proto::rr::RecordType;
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder, DecodeError};

/// Bytes of a message's header.
pub(crate) const HEADER: usize = 12;
/// Most bytes of a message: it follows a length of 16 bits over TCP.
pub(crate) const MAX_MESSAGE: usize = 65_535;
/// Bytes of a UDP message without EDNS.
pub(crate) const CLASSIC_UDP: usize = 512;

const QR: u8 = 0x80;
const TC: u8 = 0x02;
const TYPE_OPT: u16 = 41;
/// The bits of a label's length that make it a pointer.
const POINTER: u8 = 0xc0;

/// The message's id, if it is that long.
pub(crate) fn id(message: &[u8]) -> Option<u16> {
    read_u16(message, 0)
}

/// Puts another id in.
pub(crate) fn set_id(message: &mut [u8], id: u16) {
    if let Some(field) = message.get_mut(..2) {
        field.copy_from_slice(&id.to_be_bytes());
    }
}

/// Whether the sender had to leave something out.
pub(crate) fn is_truncated(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & TC != 0)
}

/// The four bits of the response code in the header.
pub(crate) fn response_code(message: &[u8]) -> u8 {
    message.get(3).map_or(0, |flags| flags & 0x0f)
}

/// How many records the answer section has.
pub(crate) fn answers(message: &[u8]) -> u16 {
    read_u16(message, 6).unwrap_or(0)
}

/// The query with another type asked; `None` where it has no single question.
pub(crate) fn with_type(query: &[u8], record_type: RecordType) -> Option<Vec<u8>> {
    let head = Head::read(query).ok()?;
    head.question.as_ref()?;
    let mut other = query.to_vec();
    // The question ends with its type and its class.
    let at = head.end.checked_sub(4)?;
    other
        .get_mut(at..at + 2)?
        .copy_from_slice(&u16::from(record_type).to_be_bytes());
    Some(other)
}

/// Header and question of a message, and where all of its questions end.
pub(crate) struct Head {
    pub(crate) header: Header,
    pub(crate) question: Option<Query>,
    end: usize,
}

impl Head {
    /// Reads them. A message with more than one question has none here, and neither has one whose question's name refers to
    /// what stands before it: that is the header, with which the name would change (RFC 1035 section 4.1.4).
    pub(crate) fn read(message: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = BinDecoder::new(message);
        let header = Header::read(&mut decoder)?;
        let is_one = header.counts.queries == 1 && !refers_back(message, HEADER);
        let (question, end) = if is_one {
            let question = Query::read(&mut decoder)?;
            (Some(question), decoder.index())
        } else {
            let end = (0..header.counts.queries).try_fold(HEADER, |at, _| {
                let end = skip_name(message, at)? + 4;
                (end <= message.len()).then_some(end)
            });
            // Of what can't be read nothing is a record.
            (None, end.unwrap_or(message.len()))
        };
        Ok(Self {
            header,
            question,
            end,
        })
    }

    pub(crate) fn is_response(&self) -> bool {
        self.header.message_type == MessageType::Response
    }
}

/// A header alone: an answer to a message of which no more could be read. `flags` is the third byte
/// of that message, of which opcode and RD are kept.
pub(crate) fn bare_answer(id: u16, flags: u8, response_code: u8) -> Vec<u8> {
    let mut answer = vec![0; HEADER];
    set_id(&mut answer, id);
    answer[2] = QR | (flags & 0x79);
    answer[3] = 0x80 | (response_code & 0x0f);
    answer
}

/// The answer without its records, marked as truncated, so that the client asks again over TCP.
pub(crate) fn truncated(answer: &[u8]) -> Option<Vec<u8>> {
    let head = Head::read(answer).ok()?;
    let mut cut = answer.get(..head.end)?.to_vec();
    cut[2] |= TC;
    cut[6..HEADER].fill(0);
    Some(cut)
}

/// Lowers every record's time to live to `most` seconds where it is longer, and changes nothing else: a message in which
/// that would change a name, as one lies where a time to live does, is left as it is. Stops where the
/// message can't be read.
pub(crate) fn cap_ttls(message: &mut [u8], most: u32) {
    let mut lowered = message.to_vec();
    lower_ttls(&mut lowered, most);
    if says_the_same(message, &lowered) {
        message.copy_from_slice(&lowered);
    }
}

/// Whether two messages differ in times to live at most, as far as they can be read.
pub(crate) fn says_the_same(one: &[u8], other: &[u8]) -> bool {
    let (Ok(mut one), Ok(mut other)) = (Message::from_vec(one), Message::from_vec(other)) else {
        // What can't be read as a whole has no name that anybody reads.
        return true;
    };
    for message in [&mut one, &mut other] {
        let sections = [
            &mut message.answers,
            &mut message.authorities,
            &mut message.additionals,
        ];
        for record in sections.into_iter().flatten() {
            record.ttl = 0;
        }
    }
    one == other
}

/// Lowers them without looking what else that changes.
pub(crate) fn lower_ttls(message: &mut [u8], most: u32) {
    let Ok(head) = Head::read(message) else {
        return;
    };
    let counts = head.header.counts;
    let records = [counts.answers, counts.authorities, counts.additionals];
    let mut at = head.end;
    for _ in 0..records.into_iter().map(u32::from).sum() {
        let Some(next) = cap_ttl(message, at, most) else {
            return;
        };
        at = next;
    }
}

/// Does so for the record that begins at `at`; says where the next one begins.
fn cap_ttl(message: &mut [u8], at: usize, most: u32) -> Option<usize> {
    let fields = skip_name(message, at)?;
    let data = fields + 10;
    let next = data + usize::from(read_u16(message, fields + 8)?);
    if next > message.len() {
        return None;
    }
    // OPT has flags where others have their time to live.
    if read_u16(message, fields)? != TYPE_OPT {
        let field: &mut [u8; 4] = message.get_mut(fields + 4..fields + 8)?.try_into().ok()?;
        *field = u32::from_be_bytes(*field).min(most).to_be_bytes();
    }
    Some(next)
}

/// Where the name that begins at `at` ends.
fn skip_name(message: &[u8], at: usize) -> Option<usize> {
    let last = last_label(message, at)?;
    Some(last + if is_pointer(message, last) { 2 } else { 1 })
}

/// Whether the name that begins at `at` ends in a pointer to another one.
fn refers_back(message: &[u8], at: usize) -> bool {
    last_label(message, at).is_some_and(|last| is_pointer(message, last))
}

/// Where the root or the pointer stands with which the name ends that begins at `at`.
fn last_label(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *message.get(at)?;
        match length & POINTER {
            POINTER => return Some(at),
            0x00 if length == 0 => return Some(at),
            0x00 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

fn is_pointer(message: &[u8], at: usize) -> bool {
    message
        .get(at)
        .is_some_and(|length| length & POINTER == POINTER)
}

fn read_u16(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
