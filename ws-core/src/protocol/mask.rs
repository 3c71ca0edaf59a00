//! [`Mask`]: the XOR that hides a client's payload from proxies that might take it for HTTP (RFC 6455 section
//! 5.3).
//!
//! Differs from tungstenite's `apply_mask` in that it remembers its place: a payload may come in pieces of
//! any length. It goes in words, which the compiler turns into vector instructions; there is no pointer cast in it.

/// The key, turned so that its lowest byte belongs to the next byte of payload.
///
/// The key of four zeros, which is the default, changes nothing: it stands for "not masked".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mask(u32);

impl Mask {
    pub(super) fn new(key: [u8; 4]) -> Self {
        Self(u32::from_le_bytes(key))
    }

    /// A key that nobody can guess, from the thread's cryptographic generator.
    pub(super) fn random() -> Self {
        Self(rand::random())
    }

    pub(super) fn key(self) -> [u8; 4] {
        self.0.to_le_bytes()
    }

    /// Masks or unmasks the next bytes of the payload.
    pub(super) fn apply(&mut self, bytes: &mut [u8]) {
        if self.0 == 0 {
            return;
        }
        let key = u64::from(self.0) << 32 | u64::from(self.0);
        let rest = xor_blocks::<128>(bytes, key);
        let rest = xor_blocks::<64>(rest, key);
        let tail = xor_blocks::<8>(rest, key);
        if tail.is_empty() {
            return;
        }
        for (byte, key) in tail.iter_mut().zip(key.to_le_bytes()) {
            *byte ^= key;
        }
        self.skip(tail.len());
    }

    /// Leaves out the next `n` bytes of the payload.
    pub(super) fn skip(&mut self, n: usize) {
        for _ in 0..n % 4 {
            self.0 = self.0.rotate_right(u8::BITS);
        }
    }
}

/// Goes through blocks, whose length is a multiple of eight. Returns the bytes behind them.
#[inline]
fn xor_blocks<const N: usize>(bytes: &mut [u8], key: u64) -> &mut [u8] {
    let (blocks, rest) = bytes.as_chunks_mut::<N>();
    for block in blocks {
        for word in block.as_chunks_mut().0 {
            *word = (u64::from_le_bytes(*word) ^ key).to_le_bytes();
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn reference(bytes: &[u8]) -> Vec<u8> {
        bytes.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key).collect()
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..=u8::MAX).cycle().take(len).collect()
    }

    #[test]
    fn every_length_is_masked_as_the_rfc_says() {
        for len in 0..200 {
            let mut masked = bytes(len);
            Mask::new(KEY).apply(&mut masked);
            assert_eq!(masked, reference(&bytes(len)), "{len}");
        }
    }

    #[test]
    fn pieces_of_any_length_are_masked_as_the_whole() {
        for first in 0..70 {
            for second in 0..70 {
                let mut masked = bytes(200);
                let mut mask = Mask::new(KEY);
                let (front, rest) = masked.split_at_mut(first);
                let (middle, back) = rest.split_at_mut(second);
                mask.apply(front);
                mask.apply(middle);
                mask.apply(back);
                assert_eq!(masked, reference(&bytes(200)), "{first} {second}");
            }
        }
    }

    #[test]
    fn a_slice_at_any_address_is_masked() {
        for start in 0..40 {
            let mut masked = bytes(150);
            Mask::new(KEY).apply(&mut masked[start..]);
            assert_eq!(masked[..start], bytes(150)[..start]);
            assert_eq!(masked[start..], reference(&bytes(150)[start..]), "{start}");
        }
    }

    #[test]
    fn no_mask_changes_nothing() {
        let mut same = bytes(100);
        Mask::default().apply(&mut same);
        assert_eq!(same, bytes(100));
    }
}
