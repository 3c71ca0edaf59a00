//! The lists of the handshake, read by the grammar and byte by byte: another opinion than that of ws-core, which splits them.

/// The items of a list of tokens over all lines (RFC 9110 section 5.6.1); `None` if one is not a token.
#[must_use]
pub fn tokens(lines: &[impl AsRef<[u8]>]) -> Option<Vec<&[u8]>> {
    lists(lines, Reader::token)
}

/// An extension: its name, and its parameters with their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// A token.
    pub name: Vec<u8>,
    /// A value that is quoted stands here without quotes and backslashes.
    pub parameters: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// The extensions of `Sec-WebSocket-Extensions` (RFC 6455 section 9.1) over all lines; `None` if that is not what they are.
#[must_use]
pub fn extensions(lines: &[impl AsRef<[u8]>]) -> Option<Vec<Extension>> {
    lists(lines, |reader| {
        let name = reader.token()?.to_vec();
        let mut parameters = Vec::new();
        while reader.skip(b';') {
            let name = reader.token()?.to_vec();
            let value = if reader.skip(b'=') { Some(reader.value()?) } else { None };
            parameters.push((name, value));
        }
        Some(Extension { name, parameters })
    })
}

/// Reads items with commas between them, of which there may be too many.
fn lists<'a, T>(
    lines: &'a [impl AsRef<[u8]>],
    mut item: impl FnMut(&mut Reader<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let mut items = Vec::new();
    for line in lines {
        let mut reader = Reader(line.as_ref());
        loop {
            while reader.skip(b',') {}
            if reader.0.is_empty() {
                break;
            }
            items.push(item(&mut reader)?);
            if !reader.0.is_empty() && !reader.skip(b',') {
                return None;
            }
        }
    }
    Some(items)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn skip_space(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.0 {
            self.0 = rest;
        }
    }

    /// Skips white space, and then `byte` and the white space behind it, if it is there.
    fn skip(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.0.first() == Some(&byte);
        if found {
            self.0 = &self.0[1..];
            self.skip_space();
        }
        found
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|&byte| !is_token(byte)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        self.skip_space();
        (!token.is_empty()).then_some(token)
    }

    /// A token, or one in quotes, in which each byte may have a backslash in front.
    fn value(&mut self) -> Option<Vec<u8>> {
        let [b'"', rest @ ..] = self.0 else { return self.token().map(<[u8]>::to_vec) };
        let mut value = Vec::new();
        let mut rest = rest.iter();
        loop {
            match *rest.next()? {
                b'"' => break,
                b'\\' => value.push(*rest.next()?),
                byte => value.push(byte),
            }
        }
        self.0 = rest.as_slice();
        self.skip_space();
        (!value.is_empty() && value.iter().all(|&byte| is_token(byte))).then_some(value)
    }
}

fn is_token(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}
