//! Frames of RFC 6455: a client's are made beforehand, a server's are read from whatever pieces a read returns.

use anyhow::{Result, bail, ensure};

use super::traffic::Traffic;

pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// In the second byte of a frame.
const MASKED: u8 = 0x80;
const LENGTH_OF_16_BITS: u8 = 0x7e;
const LENGTH_OF_64_BITS: u8 = 0x7f;

/// Appends a frame as a client sends it.
pub(crate) fn encode(out: &mut Vec<u8>, fin: bool, opcode: u8, mask: [u8; 4], payload: &[u8]) {
    out.push(u8::from(fin) << 7 | opcode);
    match payload.len() {
        length @ 0..126 => out.push(MASKED | u8::try_from(length).expect("less than 126")),
        length if u16::try_from(length).is_ok() => {
            out.push(MASKED | LENGTH_OF_16_BITS);
            out.extend_from_slice(&u16::try_from(length).expect("just looked at").to_be_bytes());
        }
        length => {
            out.push(MASKED | LENGTH_OF_64_BITS);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Header {
    fin: bool,
    opcode: u8,
    length: u64,
}

/// The longest header of a frame that isn't masked.
const LONGEST_HEADER: usize = 10;

/// The header that `bytes` begin with, and its length; nothing if there are too few of them.
fn parse_header(bytes: &[u8]) -> Result<Option<(Header, usize)>> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    ensure!(first & 0x70 == 0, "a reserved bit is set in a frame");
    ensure!(second & MASKED == 0, "a server's frame is masked");
    let (length, size) = match second {
        &LENGTH_OF_16_BITS => match rest.first_chunk() {
            Some(length) => (u64::from(u16::from_be_bytes(*length)), 4),
            None => return Ok(None),
        },
        &LENGTH_OF_64_BITS => match rest.first_chunk() {
            Some(length) => (u64::from_be_bytes(*length), LONGEST_HEADER),
            None => return Ok(None),
        },
        length => (u64::from(*length), 2),
    };
    Ok(Some((Header { fin: first & 0x80 != 0, opcode: first & 0x0f, length }, size)))
}

/// What is left of the frame that is being read.
struct Frame {
    fin: bool,
    opcode: u8,
    remaining: usize,
}

/// Reads a server's frames, and compares the messages with those that are expected, byte by byte and in order.
///
/// Nothing is copied or allocated for a message: each piece is compared where it was read to.
#[derive(Default)]
pub(crate) struct Receiver {
    /// The beginning of a header whose end has not come yet.
    partial: [u8; LONGEST_HEADER],
    partial_length: usize,
    frame: Option<Frame>,
    /// The payload of the control frame that is being read.
    control: Vec<u8>,
    /// Which of the prepared messages is the next to come.
    message: usize,
    /// How much of it has come; `None` before its first frame.
    offset: Option<usize>,
}

/// What came in a piece of the stream.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Received {
    pub(crate) messages: usize,
    pub(crate) pings: usize,
}

impl Receiver {
    /// Takes what a read returned. The answers to pings are appended to `pongs`.
    pub(crate) fn receive(
        &mut self,
        mut bytes: &[u8],
        expected: &Traffic,
        pongs: &mut Vec<u8>,
    ) -> Result<Received> {
        let mut received = Received::default();
        loop {
            if self.frame.is_none() {
                let Some(header) = self.header(&mut bytes)? else { return Ok(received) };
                self.frame = Some(self.begin(header, expected)?);
            }
            let frame = self.frame.as_mut().expect("begun above");
            let (part, rest) = bytes.split_at(frame.remaining.min(bytes.len()));
            bytes = rest;
            frame.remaining -= part.len();
            match &mut self.offset {
                Some(offset) if frame.opcode <= BINARY => {
                    let end = *offset + part.len();
                    if expected.payload(self.message)[*offset..end] != *part {
                        bail!("the payload is not that of the message in turn");
                    }
                    *offset = end;
                }
                _ => self.control.extend_from_slice(part),
            }
            if frame.remaining > 0 {
                return Ok(received);
            }
            let (fin, opcode) = (frame.fin, frame.opcode);
            self.frame = None;
            self.end(fin, opcode, expected, pongs, &mut received)?;
        }
    }

    /// The next header, which may have begun in an earlier piece.
    fn header(&mut self, bytes: &mut &[u8]) -> Result<Option<Header>> {
        if self.partial_length == 0
            && let Some((header, size)) = parse_header(bytes)?
        {
            *bytes = &bytes[size..];
            return Ok(Some(header));
        }
        while let Some((first, rest)) = bytes.split_first() {
            self.partial[self.partial_length] = *first;
            self.partial_length += 1;
            *bytes = rest;
            if let Some((header, _)) = parse_header(&self.partial[..self.partial_length])? {
                self.partial_length = 0;
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    fn begin(&mut self, header: Header, expected: &Traffic) -> Result<Frame> {
        let Header { fin, opcode, length } = header;
        let length = usize::try_from(length)?;
        match opcode {
            CONTINUATION | TEXT | BINARY => {
                match self.offset {
                    None if opcode == expected.opcode() => self.offset = Some(0),
                    Some(_) if opcode == CONTINUATION => {}
                    _ => bail!("a frame of opcode {opcode} is out of turn"),
                }
                let end = self.offset.unwrap_or(0).saturating_add(length);
                let size = expected.payload(self.message).len();
                ensure!(end <= size && (end == size || !fin), "a message of {end} bytes instead of {size}");
            }
            CLOSE | PING | PONG => {
                ensure!(fin && length < 126, "a control frame is fragmented or too long");
                self.control.clear();
            }
            _ => bail!("a frame of reserved opcode {opcode}"),
        }
        Ok(Frame { fin, opcode, remaining: length })
    }

    fn end(
        &mut self,
        fin: bool,
        opcode: u8,
        expected: &Traffic,
        pongs: &mut Vec<u8>,
        received: &mut Received,
    ) -> Result<()> {
        match opcode {
            PING => {
                encode(pongs, true, PONG, fastrand::u32(..).to_ne_bytes(), &self.control);
                received.pings += 1;
            }
            PONG => {}
            CLOSE => match self.control.first_chunk() {
                Some(code) => {
                    bail!("the server closed the connection with code {}", u16::from_be_bytes(*code))
                }
                None => bail!("the server closed the connection"),
            },
            _ if fin => {
                self.offset = None;
                self.message = expected.after(self.message);
                received.messages += 1;
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::traffic::Payload;
    use super::*;

    /// As a server sends it.
    fn unmasked(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        encode(&mut frame, fin, opcode, [0; 4], payload);
        let header = frame.len() - payload.len() - 4;
        frame[1] &= 0x7f;
        frame.drain(header..header + 4);
        frame
    }

    fn traffic(size: usize) -> Traffic {
        Traffic::new(Payload::Binary, size, 1, 8)
    }

    fn receive(bytes: &[u8], expected: &Traffic) -> Result<Received> {
        Receiver::default().receive(bytes, expected, &mut Vec::new())
    }

    #[test]
    fn a_frame_is_masked_as_in_the_example_of_the_rfc() {
        let mut frame = Vec::new();
        encode(&mut frame, true, TEXT, [0x37, 0xfa, 0x21, 0x3d], b"Hello");
        assert_eq!(frame, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn each_form_of_the_length_is_read_as_it_was_written() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let frame = unmasked(true, BINARY, &vec![1; length]);
            let (header, size) = parse_header(&frame).unwrap().unwrap();
            assert_eq!(header, Header { fin: true, opcode: BINARY, length: length as u64 });
            assert_eq!(size, frame.len() - length);
        }
    }

    #[test]
    fn messages_are_counted_however_the_stream_is_cut() {
        let expected = traffic(300);
        let mut stream = Vec::new();
        for message in 0..3 {
            stream.extend(unmasked(true, BINARY, expected.payload(message)));
            stream.extend(unmasked(true, PING, b"there?"));
        }
        for size in 1..stream.len() {
            let mut receiver = Receiver::default();
            let mut pongs = Vec::new();
            let mut all = Received::default();
            for piece in stream.chunks(size) {
                let part = receiver.receive(piece, &expected, &mut pongs).unwrap();
                all.messages += part.messages;
                all.pings += part.pings;
            }
            assert_eq!(all, Received { messages: 3, pings: 3 }, "pieces of {size}");
            assert_eq!(pongs.len(), 3 * (6 + "there?".len()));
        }
    }

    #[test]
    fn a_message_may_come_in_fragments_around_a_ping() {
        let expected = traffic(10);
        let (first, second) = expected.payload(0).split_at(4);
        let stream = [
            unmasked(false, BINARY, first),
            unmasked(true, PING, b""),
            unmasked(false, CONTINUATION, second),
            unmasked(true, CONTINUATION, b""),
        ];
        assert_eq!(receive(&stream.concat(), &expected).unwrap(), Received { messages: 1, pings: 1 });
    }

    #[test]
    fn messages_in_another_order_are_an_error() {
        let expected = traffic(16);
        assert!(receive(&unmasked(true, BINARY, expected.payload(1)), &expected).is_err());
    }

    #[test]
    fn an_answer_of_another_length_opcode_or_mask_is_an_error() {
        let expected = traffic(16);
        let payload = expected.payload(0);
        assert!(receive(&unmasked(true, BINARY, &payload[..15]), &expected).is_err());
        assert!(receive(&unmasked(true, BINARY, &[payload, payload].concat()), &expected).is_err());
        assert!(receive(&unmasked(true, TEXT, payload), &expected).is_err());
        assert!(receive(&unmasked(true, CONTINUATION, payload), &expected).is_err());
        let mut masked = Vec::new();
        encode(&mut masked, true, BINARY, [1, 2, 3, 4], payload);
        assert!(receive(&masked, &expected).is_err());
    }

    #[test]
    fn a_close_frame_is_an_error_that_tells_the_code() {
        let error = receive(&unmasked(true, CLOSE, &1009_u16.to_be_bytes()), &traffic(16)).unwrap_err();
        assert!(error.to_string().contains("1009"));
    }
}
