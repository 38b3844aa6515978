//! The protocol on the wire: commands in, replies out.

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Simple(&'static str),
    Error(String),
    Number(i64),
    Bulk(Vec<u8>),
    Nothing,
    Array(Vec<Self>),
    /// RESP3 only.
    Map(Vec<(Self, Self)>),
    /// RESP3 only.
    Push(Vec<Self>),
}

impl Reply {
    pub(crate) fn text(text: &str) -> Self {
        Self::Bulk(text.as_bytes().to_vec())
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let line = |out: &mut Vec<u8>, text: String| out.extend_from_slice(text.as_bytes());
        match self {
            Self::Simple(text) => line(out, format!("+{text}\r\n")),
            Self::Error(text) => line(out, format!("-{text}\r\n")),
            Self::Number(number) => line(out, format!(":{number}\r\n")),
            Self::Bulk(bytes) => {
                line(out, format!("${}\r\n", bytes.len()));
                out.extend_from_slice(bytes);
                line(out, "\r\n".to_owned());
            }
            Self::Nothing => line(out, "$-1\r\n".to_owned()),
            Self::Array(parts) => {
                line(out, format!("*{}\r\n", parts.len()));
                for part in parts {
                    part.write(out);
                }
            }
            Self::Map(pairs) => {
                line(out, format!("%{}\r\n", pairs.len()));
                for (name, value) in pairs {
                    name.write(out);
                    value.write(out);
                }
            }
            Self::Push(parts) => {
                line(out, format!(">{}\r\n", parts.len()));
                for part in parts {
                    part.write(out);
                }
            }
        }
    }
}

/// A command's words.
pub(crate) type Command = Vec<Vec<u8>>;

/// Takes the first whole command off `read`; `None`: it is not whole yet.
pub(crate) fn take_command(read: &mut Vec<u8>) -> Option<Command> {
    let mut at = 0;
    let count = number_after(b'*', read, &mut at)?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let length = number_after(b'$', read, &mut at)?;
        let end = at + length;
        let word = read.get(at..end)?.to_vec();
        (read.len() >= end + 2).then_some(())?;
        at = end + 2;
        words.push(word);
    }
    read.drain(..at);
    Some(words)
}

fn number_after(mark: u8, read: &[u8], at: &mut usize) -> Option<usize> {
    let rest = read.get(*at..)?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    assert_eq!(rest.first(), Some(&mark), "a client of ours speaks arrays of strings");
    let number = std::str::from_utf8(&rest[1..end]).ok()?.parse().ok()?;
    *at += end + 2;
    Some(number)
}
