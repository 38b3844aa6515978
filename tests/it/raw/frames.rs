//! An HTTP/2 peer that writes its frames by hand (RFC 9113 §4), so that it can write wrong ones.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// Error codes (RFC 9113 §7).
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// An answer with this status that ended.
    Answered(u16),
    /// An answer with this status that was broken off.
    Cut(u16),
    /// No answer, and this error.
    Reset(u32),
    /// The whole connection was given up with this error.
    GoAway(u32),
    /// The connection was closed without a word.
    Closed,
}

pub(super) struct Peer {
    pub(super) stream: TcpStream,
    read: Vec<u8>,
}

/// A frame: its type, its flags, its stream, its payload.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A field section in which every field is a literal that is not indexed (RFC 7541 §6.2.2).
pub(super) fn fields(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut section = Vec::new();
    for (name, value) in fields {
        section.push(0);
        for text in [name, value] {
            length(&mut section, text.len());
            section.extend_from_slice(text);
        }
    }
    section
}

/// A number with a prefix of seven bits (RFC 7541 §5.1).
fn length(section: &mut Vec<u8>, length: usize) {
    if length < 127 {
        section.push(u8::try_from(length).unwrap());
        return;
    }
    section.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        section.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    section.push(u8::try_from(rest).unwrap());
}

impl Peer {
    /// Says hello on a new connection.
    pub(super) async fn new(mut stream: TcpStream) -> Self {
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        hello.extend(frame(SETTINGS, 0, 0, &[]));
        stream.write_all(&hello).await.unwrap();
        Self { stream, read: Vec::new() }
    }

    /// Sends bytes, as far as the other side takes them.
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        let _ = timeout(Duration::from_secs(20), self.stream.write_all(bytes)).await.expect("within 20 seconds");
    }

    /// Sends a head without a body, and gives what becomes of it.
    pub(super) async fn ask(&mut self, stream: u32, section: &[u8]) -> Fate {
        self.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, section)).await;
        self.fate(stream).await
    }

    /// Reads until the fate of a stream is known. What has to be acknowledged is.
    pub(super) async fn fate(&mut self, wanted: u32) -> Fate {
        let mut status = None;
        loop {
            let Some((kind, flags, stream, payload)) = self.next().await else {
                return status.map_or(Fate::Closed, Fate::Cut);
            };
            let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            match kind {
                SETTINGS if flags & ACK == 0 => self.send(&frame(SETTINGS, ACK, 0, &[])).await,
                PING if flags & ACK == 0 => self.send(&frame(PING, ACK, 0, &payload)).await,
                GOAWAY if code(4) != 0 => return Fate::GoAway(code(4)),
                RST_STREAM if stream == wanted => return status.map_or(Fate::Reset(code(0)), Fate::Cut),
                HEADERS if stream == wanted && status.is_none() => status = Some(status_of(&payload)),
                _ => {}
            }
            if matches!(kind, HEADERS | DATA) && stream == wanted && flags & END_STREAM != 0 {
                return Fate::Answered(status.expect("a head before the end"));
            }
        }
    }

    /// The next frame; `None` at the end of the connection.
    async fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        loop {
            if let Some(&[a, b, c, kind, flags, d, e, f, g]) = self.read.first_chunk::<9>() {
                let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap();
                if self.read.len() >= 9 + length {
                    let frame: Vec<u8> = self.read.drain(..9 + length).collect();
                    return Some((kind, flags, u32::from_be_bytes([d, e, f, g]), frame[9..].to_vec()));
                }
            }
            let read = timeout(Duration::from_secs(20), self.stream.read_buf(&mut self.read)).await;
            if !matches!(read.expect("a frame or the end within 20 seconds"), Ok(1..)) {
                return None;
            }
        }
    }
}

/// The status, which is the first field of an answer (RFC 7541 appendix A has the common ones at 8 to 14).
fn status_of(section: &[u8]) -> u16 {
    const COMMON: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    let mut rest = section;
    while rest[0] & 0xe0 == 0x20 {
        rest = &rest[1..];
    }
    match rest[0] {
        first @ 0x88..=0x8e => COMMON[usize::from(first - 0x88)],
        0x08 | 0x18 | 0x48 => {
            let size = usize::from(rest[1] & 0x7f);
            let text = &rest[2..2 + size];
            let digits = if rest[1] & 0x80 == 0 { text.to_vec() } else { digits(text) };
            String::from_utf8(digits).unwrap().parse().unwrap()
        }
        other => panic!("{other:#x} is not how a status begins"),
    }
}

/// Three digits in the Huffman code of RFC 7541 appendix B: 0, 1 and 2 have five bits, the others six.
fn digits(code: &[u8]) -> Vec<u8> {
    let bits = code.iter().fold(String::new(), |bits, byte| bits + &format!("{byte:08b}"));
    let mut rest = bits.as_str();
    let mut digits = Vec::new();
    while digits.len() < 3 {
        let five = u8::from_str_radix(&rest[..5], 2).unwrap();
        let (digit, taken) =
            if five < 3 { (five, 5) } else { (u8::from_str_radix(&rest[..6], 2).unwrap() - 0b01_1001 + 3, 6) };
        digits.push(b'0' + digit);
        rest = &rest[taken..];
    }
    digits
}
