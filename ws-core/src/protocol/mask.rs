//! [`Mask`]: the XOR that hides a client's payload from proxies that might take it for HTTP (RFC 6455 section
//! 5.3).
//!
//! Differs from tungstenite's `apply_mask` in that it remembers its place: a payload may come in pieces of
//! any length. It is written on arrays of a fixed length, which the compiler turns into vector instructions;
//! there is no pointer cast in it.

/// The key, turned so that its first byte belongs to the next byte of payload.
///
/// The key of four zeros, which is the default, changes nothing: it stands for "not masked".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mask([u8; 4]);

impl Mask {
    pub(super) fn new(key: [u8; 4]) -> Self {
        Self(key)
    }

    /// A key that nobody can guess, from the thread's cryptographic generator.
    pub(super) fn random() -> Self {
        Self(rand::random())
    }

    pub(super) fn key(self) -> [u8; 4] {
        self.0
    }

    /// Masks or unmasks the next bytes of the payload.
    pub(super) fn apply(&mut self, bytes: &mut [u8]) {
        if self.0 == [0; 4] {
            return;
        }
        // two vector registers at a time, then words for what is short, then the odd bytes: both lengths are a multiple
        // of the key's, so that the key stands right for all of them
        let (blocks, rest) = bytes.as_chunks_mut::<32>();
        if !blocks.is_empty() {
            xor_blocks(blocks, &self.repeated());
        }
        let (words, tail) = rest.as_chunks_mut::<8>();
        xor_blocks(words, &self.repeated());
        if tail.is_empty() {
            return;
        }
        for (byte, key) in tail.iter_mut().zip(self.repeated::<8>()) {
            *byte ^= key;
        }
        self.skip(tail.len());
    }

    /// Leaves out the next `n` bytes of the payload.
    pub(super) fn skip(&mut self, n: usize) {
        self.0.rotate_left(n % 4);
    }

    fn repeated<const N: usize>(self) -> [u8; N] {
        std::array::from_fn(|index| self.0[index % 4])
    }
}

fn xor_blocks<const N: usize>(blocks: &mut [[u8; N]], key: &[u8; N]) {
    for block in blocks {
        for (byte, key) in block.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
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
