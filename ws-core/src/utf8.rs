//! [`Utf8Bytes`]: text that is cheap to clone, and the buffer that assembles it.
//!
//! The decoder validates text once, while it arrives. This file has the one `unsafe` expression of the project, which reads
//! the validated bytes as `str` without validating them again.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::mem;
use std::ops::Deref;

use bytes::buf::Limit;
use bytes::{BufMut, Bytes};

use crate::pool::{self, LongPayload};

/// UTF-8 text in shared memory.
///
/// In contrast to a `String`, clones share the bytes. In contrast to [`Bytes`], the bytes are always valid UTF-8.
/// It dereferences to [`str`], and converts from `&str` and `String`, and into [`Bytes`].
///
/// ```
/// use ws_core::Utf8Bytes;
///
/// let text = Utf8Bytes::from("grüß dich");
/// let same = text.clone(); // shares the bytes
/// assert_eq!(same, "grüß dich");
///
/// let text = Utf8Bytes::from_static("hello");
/// assert!(text.starts_with("he"));
/// assert!(Utf8Bytes::try_from(bytes::Bytes::from_static(b"\xff")).is_err());
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Utf8Bytes {
    // Invariant: valid UTF-8. Every constructor in this file starts from a `str`, or from bytes that passed
    // `simdutf8` to their end; nothing outside of this file can make one, and `Bytes` is immutable.
    bytes: Bytes,
}

impl Utf8Bytes {
    /// Makes a value of a static string, without an allocation.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self { bytes: Bytes::from_static(text.as_bytes()) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // SAFETY: `bytes` is valid UTF-8, see the invariant of the field.
        #[allow(unsafe_code)]
        unsafe {
            std::str::from_utf8_unchecked(&self.bytes)
        }
    }

    /// The bytes of the text, shared.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Copies `bytes`, if they are UTF-8.
    pub(crate) fn copy_from_slice(bytes: &[u8]) -> Result<Self, InvalidUtf8> {
        match simdutf8::basic::from_utf8(bytes) {
            Ok(_) => Ok(Self { bytes: Bytes::copy_from_slice(bytes) }),
            Err(_) => Err(InvalidUtf8),
        }
    }
}

/// The error of bytes that are not valid UTF-8, in place of a text.
///
/// ```
/// use ws_core::{InvalidUtf8, Utf8Bytes};
///
/// let error: InvalidUtf8 = Utf8Bytes::try_from(bytes::Bytes::from_static(b"\xff")).unwrap_err();
/// assert_eq!(error.to_string(), "the bytes are not valid UTF-8");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not valid UTF-8")]
#[non_exhaustive]
pub struct InvalidUtf8;

/// The payload of a message that is being assembled. Bytes are appended to it, and validated from the front.
#[derive(Debug, Default)]
pub(crate) struct PayloadBuffer {
    bytes: Vec<u8>,
    /// Where the payload begins in `bytes`. One byte is enough, and each idle connection has this field.
    front: u8,
    /// Whether `bytes` was borrowed from the pool and the message is not complete.
    lent: bool,
    // Invariant: `bytes[front..front + valid]` is valid UTF-8. Only `validate` changes `valid`. Validated bytes do not
    // change: `append_limited` writes behind the end, and `unvalidated_mut` gives access to the other bytes only. `front`
    // changes only while there is no payload.
    valid: usize,
}

impl PayloadBuffer {
    fn front(&self) -> usize {
        self.front.into()
    }

    /// The length of the payload in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.front()
    }

    /// How many bytes fit without a new allocation.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity() - self.front()
    }

    /// How many bytes of memory are not borrowed from the pool. The pool bounds those that are.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn owned(&self) -> usize {
        if self.lent { 0 } else { self.capacity() }
    }

    /// Prepares for a message of at least `length` bytes. For a long message, borrows memory from the pool if it has some.
    pub(crate) fn begin(&mut self, length: usize) {
        if length < pool::LONG || self.bytes.capacity() > 0 {
            return;
        }
        self.front = pool::FRONT;
        match pool::borrow(length.saturating_add(self.front())) {
            Some(kept) => {
                self.bytes = kept;
                self.lent = true;
            }
            None => self.bytes.reserve_exact(self.front()),
        }
        self.bytes.resize(self.front(), 0);
    }

    /// Reserves memory for exactly `additional` more bytes.
    pub(crate) fn reserve_exact(&mut self, additional: usize) {
        if self.bytes.capacity() - self.bytes.len() < additional {
            self.settle();
            self.bytes.reserve_exact(additional);
        }
    }

    /// Frees the memory that the payload does not use.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.settle();
        self.bytes.shrink_to_fit();
    }

    /// Tells the pool that the memory does not count as borrowed any more.
    fn settle(&mut self) {
        if mem::take(&mut self.lent) {
            pool::settle(self.bytes.capacity());
        }
    }

    /// Appends `bytes`.
    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve_exact(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// Where to read up to `limit` more bytes to. The memory must be reserved.
    pub(crate) fn append_limited(&mut self, limit: usize) -> Limit<&mut Vec<u8>> {
        (&mut self.bytes).limit(limit)
    }

    /// The bytes from `from` on. They must not be validated yet.
    ///
    /// # Panics
    ///
    /// If `from` is among the validated bytes, or behind the end.
    pub(crate) fn unvalidated_mut(&mut self, from: usize) -> &mut [u8] {
        assert!(from >= self.valid, "bytes that passed validation are not changed");
        let from = self.front() + from;
        &mut self.bytes[from..]
    }

    /// Validates the bytes that were appended since the last call. A code point that is not complete is left for the next
    /// call.
    ///
    /// # Errors
    ///
    /// At the first byte that makes the text invalid whatever follows.
    pub(crate) fn validate(&mut self) -> Result<(), InvalidUtf8> {
        match simdutf8::compat::from_utf8(&self.bytes[self.front() + self.valid..]) {
            Ok(_) => self.valid = self.len(),
            Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
            Err(_) => return Err(InvalidUtf8),
        }
        Ok(())
    }

    /// The whole payload as text.
    ///
    /// # Errors
    ///
    /// If the last code point is not complete.
    pub(crate) fn into_text(mut self) -> Result<Utf8Bytes, InvalidUtf8> {
        self.validate()?;
        if self.valid == self.len() { Ok(Utf8Bytes { bytes: self.into_bytes() }) } else { Err(InvalidUtf8) }
    }

    /// The whole payload as bytes.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        self.settle();
        let bytes = mem::take(&mut self.bytes);
        if self.front == 0 && bytes.capacity() < pool::LONG {
            bytes.into()
        } else {
            Bytes::from_owner(LongPayload::new(bytes, self.front()))
        }
    }
}

impl Drop for PayloadBuffer {
    fn drop(&mut self) {
        self.settle();
    }
}

impl Deref for Utf8Bytes {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Utf8Bytes {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<[u8]> for Utf8Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Borrow<str> for Utf8Bytes {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl Hash for Utf8Bytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // `Borrow<str>` requires the hash of `str`
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl From<&str> for Utf8Bytes {
    fn from(text: &str) -> Self {
        Self { bytes: Bytes::copy_from_slice(text.as_bytes()) }
    }
}

impl From<String> for Utf8Bytes {
    fn from(text: String) -> Self {
        Self { bytes: text.into() }
    }
}

impl From<&String> for Utf8Bytes {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl TryFrom<Bytes> for Utf8Bytes {
    type Error = InvalidUtf8;

    fn try_from(bytes: Bytes) -> Result<Self, InvalidUtf8> {
        match simdutf8::basic::from_utf8(&bytes) {
            Ok(_) => Ok(Self { bytes }),
            Err(_) => Err(InvalidUtf8),
        }
    }
}

impl From<Utf8Bytes> for Bytes {
    fn from(text: Utf8Bytes) -> Self {
        text.bytes
    }
}

impl From<Utf8Bytes> for String {
    fn from(text: Utf8Bytes) -> Self {
        text.as_str().to_owned()
    }
}

impl PartialEq<str> for Utf8Bytes {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Utf8Bytes {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<String> for Utf8Bytes {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(chunks: &[&[u8]]) -> Result<Utf8Bytes, InvalidUtf8> {
        let mut buffer = PayloadBuffer::default();
        for chunk in chunks {
            buffer.extend_from_slice(chunk);
            buffer.validate()?;
        }
        buffer.into_text()
    }

    #[test]
    fn a_code_point_may_be_split_at_any_byte() {
        let text = "aß€😀".as_bytes();
        for split in 0..=text.len() {
            let (front, back) = text.split_at(split);
            assert_eq!(buffer(&[front, back]).unwrap(), "aß€😀");
        }
    }

    #[test]
    fn the_first_bad_byte_is_refused_before_the_rest_comes() {
        let mut buffer = PayloadBuffer::default();
        buffer.extend_from_slice(b"\xf4");
        buffer.validate().expect("the start of a code point");
        buffer.extend_from_slice(b"\x90");
        buffer.validate().expect_err("no code point continues like this");
    }

    #[test]
    fn a_code_point_cut_off_at_the_end_is_refused() {
        assert_eq!(buffer(&[b"ok", b"\xe2\x82"]), Err(InvalidUtf8));
    }

    #[test]
    #[should_panic(expected = "not changed")]
    fn validated_bytes_cannot_be_changed() {
        let mut buffer = PayloadBuffer::default();
        buffer.extend_from_slice(b"ok");
        buffer.validate().unwrap();
        buffer.unvalidated_mut(1);
    }
}
