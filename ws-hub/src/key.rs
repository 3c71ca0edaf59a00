//! [`Key`]: the bytes of a user's id, for engines that keep them outside of the process; and those that it takes of the heap.

use std::any::Any;
use std::hash::Hash;
use std::sync::Arc;

/// What an allocation takes besides its length.
const ALLOCATION: usize = 16;

/// A user's id as bytes, for a log on disk or a broker.
///
/// The encoding is injective, and stays the same from release to release: what is stored under an id is found under it.
/// It has no type: choose one type of ids for a log, and keep to it. Integers are big endian.
///
/// ```
/// use ws_hub::Key;
///
/// #[derive(Clone, PartialEq, Eq, Hash)]
/// struct Account(u64);
///
/// impl Key for Account {
///     fn encode(&self, to: &mut Vec<u8>) {
///         self.0.encode(to);
///     }
///
///     fn decode(bytes: &[u8]) -> Option<Self> {
///         u64::decode(bytes).map(Self)
///     }
/// }
///
/// let mut bytes = Vec::new();
/// Account(7).encode(&mut bytes);
/// assert!(Account::decode(&bytes) == Some(Account(7)));
/// ```
pub trait Key: Clone + Eq + Hash + Send + Sync + 'static {
    /// Appends the bytes of the id: at most 512.
    fn encode(&self, to: &mut Vec<u8>);

    /// The id with these bytes; `None` if there is none.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl Key for $integer {
            fn encode(&self, to: &mut Vec<u8>) {
                to.extend(self.to_be_bytes());
            }

            fn decode(bytes: &[u8]) -> Option<Self> {
                Some(Self::from_be_bytes(bytes.try_into().ok()?))
            }
        }
    )*};
}

integers!(u32, u64, u128, i64);

macro_rules! texts {
    ($($text:ty),*) => {$(
        impl Key for $text {
            fn encode(&self, to: &mut Vec<u8>) {
                to.extend(self.as_bytes());
            }

            fn decode(bytes: &[u8]) -> Option<Self> {
                std::str::from_utf8(bytes).ok().map(Self::from)
            }
        }
    )*};
}

texts!(String, Arc<str>);

/// How many bytes of the heap the id of a user takes, if its type is one that is known.
#[inline]
pub(crate) fn heap_of_id<U: 'static>(id: &U) -> usize {
    let id: &dyn Any = id;
    let length = id
        .downcast_ref::<String>()
        .map(String::len)
        .or_else(|| id.downcast_ref::<Arc<str>>().map(|it| it.len()))
        .or_else(|| id.downcast_ref::<Box<str>>().map(|it| it.len()))
        .or_else(|| id.downcast_ref::<Vec<u8>>().map(Vec::len));
    length.map_or(0, |length| length + ALLOCATION)
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    fn assert_same_again<K: Key + Debug>(key: K, expected: &[u8]) {
        let mut bytes = Vec::new();
        key.encode(&mut bytes);
        assert_eq!(bytes, expected);
        assert_eq!(K::decode(&bytes), Some(key));
    }

    #[test]
    fn the_bytes_of_an_id_never_change() {
        assert_same_again(7_u32, &[0, 0, 0, 7]);
        assert_same_again(7_u64, &[0, 0, 0, 0, 0, 0, 0, 7]);
        assert_same_again(-1_i64, &[0xff; 8]);
        assert_same_again(1_u128 << 127, &[[0x80].as_slice(), &[0; 15]].concat());
        assert_same_again("anna".to_owned(), b"anna");
        assert_same_again(Arc::<str>::from("ä"), "ä".as_bytes());
    }

    #[test]
    fn bytes_of_another_id_are_none() {
        assert_eq!(u64::decode(&[0; 7]), None);
        assert_eq!(u32::decode(&[0; 8]), None);
        assert_eq!(String::decode(&[0xff]), None);
    }
}
