//! Slots, and the tags of partitions, which say in which slots their keys are.
//!
//! A cluster gives each of its masters some of 16,384 slots, and a key is in the slot that a checksum says: of what is between
//! the first braces in the key, its tag, or else of all of it.

/// How many slots a cluster has.
#[cfg(any(test, feature = "cluster"))]
pub(crate) const SLOTS: u16 = 16_384;

/// How many partitions there may be.
#[cfg(test)]
pub(crate) const PARTITIONS: [u16; 4] = [1, 16, 64, 256];

/// Tags of 256 ranges of slots of the same size, each with its slot in the middle of its range. They are on disk, and never
/// change.
const TAGS: &str = "\
    021 4zp aio 0ov 21g csv cj9 z1 1d8 5hq 556 90g 3gn baw 7rh f0y 06q a0h id7 0k6 o6o 69n cny gb0 \
    lc0 5l1 51v 1y7 wkn 7og b8p 3za 4z4 02u 0o2 5x9 6yb o2k zu kce 5h5 9md d3k 55r 7kc fmz ft5 j5l \
    i94 f 0kr amk c3z gz gbt 6dm 5lu djl 1ys 512 bes 3cj fpu 72d emk 4kr 465 83d 6t cbt 65c k3 \
    112 5ys hct 1lu 32d bpu 7cj fes 8jc 4o2 42u 0z4 24 6ld k2k os 15r qus hg4 1h5 n5l bt5 bmz 3kc \
    4k6 8ng e0h 46q cb0 60 kw k6o 5y7 11v 1l1 hc0 7za f8p 3og skn 4ov eio 0zp 421 cfp 2p o7 61g \
    qu7 156 1hq 5d8 b0y 3rh faw 7gn bn 6x6 6ay 2m0 e9q a58 iag 0nf ne6 7j7 77p f1i 9l0 5ia h7n 18o \
    247 rt6 6e9 2ip 07a a1x 4fo min fhn 7nw 730 nx9 1ah hni 50f 957 6xr 203 2mt ckm aqt 03e edr 4bk \
    7js flj n85 774 hjm 1el 913 54b c2j fj 2i4 kf5 au4 8z5 0jb iec 7n3 3bz f5m 73t 5me 9h4 1xc h3j \
    7d 6i4 64s g2j 8o3 4jb i4m 82t 33t b5m 7bz 3n3 l3j 5xc hbd 1me gkm 6mt 603 nc 0bk adr 43e 864 \
    374 j85 blj 3js 14b q0k 5el dcu 6ip 2e9 jg 647 iin 0fo 820 47a jx9 330 3nw bhn q4o 10f 9d9 5ah \
    6m0 wh 2x6 60w 4nf 8k7 86p a9q b1i 37p 3j7 je6 58o 9y6 1ia qmh";

/// The tag of the only partition.
const ONLY: &str = "p0";

/// The tags of so many partitions, of those that there may be: their slots are as far from each other as they can be, so that
/// masters with as many slots have as many partitions. The first one is the same for any number of them but 1.
pub(crate) fn tags(partitions: u16) -> Vec<&'static str> {
    if partitions <= 1 {
        return vec![ONLY];
    }
    let all: Vec<_> = TAGS.split_ascii_whitespace().collect();
    let step = all.len() / usize::from(partitions).min(all.len());
    all.into_iter().step_by(step).collect()
}

/// The slot of a key or a channel.
#[cfg(any(test, feature = "cluster"))]
pub(crate) fn slot(key: &[u8]) -> u16 {
    checksum(tag(key).unwrap_or(key)) % SLOTS
}

/// What is between the first `{` of a key and the first `}` after it, if anything is.
#[cfg(any(test, feature = "cluster"))]
fn tag(key: &[u8]) -> Option<&[u8]> {
    let start = key.iter().position(|byte| *byte == b'{')? + 1;
    let length = key[start..].iter().position(|byte| *byte == b'}')?;
    (length > 0).then(|| &key[start..start + length])
}

/// CRC-16/XMODEM.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        let sum = sum ^ u16::from(*byte) << 8;
        (0..8).fold(sum, |sum, _| if sum & 0x8000 == 0 { sum << 1 } else { sum << 1 ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_slots_that_the_specification_says() {
        assert_eq!(checksum(b"123456789"), 0x31c3);
        // as a server says with CLUSTER KEYSLOT
        for (key, expected) in [("foo", 12_182), ("b", 3_300), ("a", 15_495), ("c", 7_365), ("", 0)] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn only_what_is_between_the_first_braces_counts_unless_it_is_empty() {
        let same = |key: &str, of: &str| assert_eq!(slot(key.as_bytes()), checksum(of.as_bytes()) % SLOTS);
        same("{user1000}.following", "user1000");
        same("{user1000}.followers", "user1000");
        same("foo{}{bar}", "foo{}{bar}");
        same("foo{{bar}}zap", "{bar");
        same("foo{bar}{zap}", "bar");
        same("foo{bar", "foo{bar");
        same("foo}bar{zap}", "zap");
    }

    #[test]
    fn tags_never_change() {
        let first = |partitions, count| tags(partitions)[..count].join(" ");
        assert_eq!(first(1, 1), "p0");
        assert_eq!(first(16, 16), "021 06q 4z4 i94 emk 8jc 4k6 4ov bn 247 6xr c2j 7d gkm 6ip 6m0");
        assert_eq!(first(64, 8), "021 21g 1d8 3gn 06q o6o lc0 wkn");
        assert_eq!(first(256, 8), "021 4zp aio 0ov 21g csv cj9 z1");
        let sum = |partitions: u16| checksum(tags(partitions).join(" ").as_bytes());
        assert_eq!([1, 16, 64, 256].map(sum), [0x3e0a, 0xa6a1, 0x260d, 0xde85]);
    }

    #[test]
    fn each_partition_is_in_its_range_of_slots() {
        for partitions in PARTITIONS {
            let tags = tags(partitions);
            assert_eq!(tags.len(), usize::from(partitions));
            let size = SLOTS / partitions;
            for (tag, start) in tags.iter().zip((0..).step_by(size.into())) {
                let slot = slot(tag.as_bytes());
                assert!((start..start + size).contains(&slot), "{tag} of {partitions}: {slot}");
                assert_eq!(slot, super::slot(format!("ws:{{{tag}}}:u:anna").as_bytes()));
            }
        }
    }

    #[test]
    fn masters_with_as_many_slots_have_as_many_partitions() {
        for (partitions, masters) in
            PARTITIONS[1..].iter().flat_map(|it| (1..=16).map(move |count| (*it, count)))
        {
            let mut count = vec![0_u16; masters];
            for tag in tags(partitions) {
                count[usize::from(slot(tag.as_bytes())) * masters / usize::from(SLOTS)] += 1;
            }
            let (least, most) = (count.iter().min().unwrap(), count.iter().max().unwrap());
            assert!(most - least <= 1, "{partitions} partitions, {masters} masters: {count:?}");
        }
    }
}
