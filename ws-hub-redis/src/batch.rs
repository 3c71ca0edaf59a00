//! Batches of things that are asked of scripts, in parts of which each has one script.

use ws_hub::LogError;

use crate::error::Failure;
use crate::reply::Reply;
use crate::script::{Call, Script};
use crate::shared::{Shared, Way};

/// How much one script does: the server does nothing else meanwhile.
const ITEMS: usize = 128;
const BYTES: usize = 256 * 1024;

/// Items of a batch, for one script.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) partition: usize,
    /// Their places in the batch.
    pub(crate) items: Vec<usize>,
    bytes: usize,
}

/// Parts of a batch, of whose items these are the partitions and sizes.
pub(crate) fn chunks(items: impl IntoIterator<Item = (usize, usize)>) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for (at, (partition, size)) in items.into_iter().enumerate() {
        let last = chunks.iter_mut().rev().find(|chunk| chunk.partition == partition);
        match last.filter(|chunk| chunk.items.len() < ITEMS && chunk.bytes + size <= BYTES) {
            Some(chunk) => {
                chunk.items.push(at);
                chunk.bytes += size;
            }
            None => chunks.push(Chunk { partition, items: vec![at], bytes: size }),
        }
    }
    chunks
}

/// Asks for each part of a batch with one call, which `call` adds its items to; it is told whether the call may have been done
/// already. `read` reads the answers, in their order.
pub(crate) async fn in_chunks<T, R>(
    shared: &Shared,
    (script, way): (Script, Way),
    items: &[T],
    chunks: &[Chunk],
    call: impl Fn(&mut dyn Iterator<Item = &T>, Call, bool) -> Call,
    read: impl Fn(&mut Reply, &T) -> Result<R, Failure>,
) -> Vec<Result<R, LogError>> {
    let partitions: Vec<_> = chunks.iter().map(|chunk| chunk.partition).collect();
    let answers = shared.ask(&partitions, way, |at, is_doubtful| {
        let script = shared.script(script, shared.partitions.at(partitions[at]));
        call(&mut chunks[at].items.iter().map(|item| &items[*item]), script, is_doubtful)
    });
    let mut results: Vec<Option<Result<R, LogError>>> = items.iter().map(|_| None).collect();
    for (chunk, answer) in chunks.iter().zip(answers.await) {
        let read_all = |value| {
            let mut reply = Reply::new(value)?;
            chunk
                .items
                .iter()
                .map(|item| read(&mut reply, &items[*item]))
                .collect::<Result<Vec<_>, Failure>>()
        };
        match answer.and_then(read_all) {
            Ok(all) => {
                for (item, result) in chunk.items.iter().zip(all) {
                    results[*item] = Some(Ok(result));
                }
            }
            Err(failure) => {
                for item in &chunk.items {
                    results[*item] = Some(Err(failure.clone().into()));
                }
            }
        }
    }
    results.into_iter().map(|it| it.unwrap_or_else(|| Err(LogError::unknown("no answer")))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(items: impl IntoIterator<Item = (usize, usize)>) -> Vec<(usize, usize)> {
        chunks(items).into_iter().map(|chunk| (chunk.partition, chunk.items.len())).collect()
    }

    #[test]
    fn a_batch_is_cut_so_that_no_script_takes_long() {
        assert_eq!(lengths([]), []);
        assert_eq!(lengths([(0, 0); 300]), [(0, 128), (0, 128), (0, 44)]);
        let sizes = [BYTES, 1, BYTES + 1, BYTES - 1, 1].map(|size| (0, size));
        assert_eq!(lengths(sizes), [(0, 1), (0, 1), (0, 1), (0, 2)]);
    }

    #[test]
    fn each_partition_has_its_own_scripts_with_its_items_in_order() {
        let chunks = chunks([(1, 0), (0, 0), (1, 0), (2, 0), (1, 0)]);
        let items: Vec<_> = chunks.iter().map(|chunk| (chunk.partition, chunk.items.as_slice())).collect();
        assert_eq!(items, [(1, &[0, 2, 4][..]), (0, &[1]), (2, &[3])]);
    }
}
