//! What the programs of this package are fed with: a client's frames, and texts.

/// The key that all frames here are masked with.
pub const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The first byte of a frame: whether it is the last of its message, and its opcode.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A whole text.
    Text = 0x81,
    /// A whole binary message.
    Binary = 0x82,
    /// The first of a binary message's fragments.
    FirstBinary = 0x02,
    /// A fragment that is neither the first nor the last.
    Continuation = 0x00,
    /// The last fragment.
    LastContinuation = 0x80,
}

/// A frame as a client sends it.
///
/// # Panics
///
/// If it is 4 GiB long.
#[must_use]
pub fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("less than 4 GiB");
    let mut frame = vec![kind as u8];
    match length {
        0..126 => frame.extend(&length.to_be_bytes()[3..]),
        126..0x1_0000 => {
            frame.push(126);
            frame.extend(&length.to_be_bytes()[2..]);
        }
        _ => {
            frame.push(127);
            frame.extend(u64::from(length).to_be_bytes());
        }
    }
    frame[1] |= 0x80;
    frame.extend(KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// A binary message in `count` fragments of one length.
///
/// # Panics
///
/// If there are fewer than two, or the payload cannot be cut so.
#[must_use]
pub fn fragments(payload: &[u8], count: usize) -> Vec<u8> {
    assert!(count > 1 && payload.len().is_multiple_of(count), "fragments of one length");
    let frames = payload.chunks(payload.len() / count).enumerate().map(|(index, piece)| {
        let kind = match index {
            0 => Kind::FirstBinary,
            _ if index == count - 1 => Kind::LastContinuation,
            _ => Kind::Continuation,
        };
        frame(kind, piece)
    });
    frames.flatten().collect()
}

/// Bytes of every value.
#[must_use]
pub fn binary(length: usize) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(length).collect()
}

/// English text.
#[must_use]
pub fn ascii(length: usize) -> String {
    "The quick brown fox jumps over the lazy dog. ".chars().cycle().take(length).collect()
}

/// Text in several scripts, with code points of one to four bytes; `length` is in bytes.
#[must_use]
pub fn non_ascii(length: usize) -> String {
    let mut text = String::with_capacity(length);
    for char in "Größe, размер, μέγεθος, 大きさ, 크기, 📏. ".chars().cycle() {
        if text.len() + char.len_utf8() > length {
            break;
        }
        text.push(char);
    }
    // a code point more would be too long
    text.extend(std::iter::repeat_n(' ', length - text.len()));
    text
}
