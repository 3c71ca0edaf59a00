//! The ledger: what was answered, against what has come.

use std::collections::HashMap;
use std::fmt;

use super::News;
use super::editor::{Editor, Fate};
use super::reader::Reader;

/// Something that must not be.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Answered with `sent` or `stored`, and not got.
    Lost,
    /// Answered with `dropped`, and got.
    DroppedAndGot,
    /// At two positions.
    Twice,
    /// Positions without those between them, or in another order.
    Hole,
    /// Accepted one after the other, and not in this order.
    Order,
    /// Something else at a position where there was something before.
    Changed,
    /// Got, and never pushed.
    MadeUp,
    /// A client's position that is not known any more.
    Forgotten,
    /// Unread news that was removed.
    Evicted,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}

/// Everything that is wrong with what the editors were answered and the reader has got, after they have read to the end.
pub(super) fn audit(editors: &[Editor], reader: &Reader) -> Vec<Finding> {
    let mut findings = reader.findings.clone();
    let mut found = |kind, text| findings.push(Finding { kind, text: format!("{}: {text}", reader.name) });
    let mut places: HashMap<News, Vec<u64>> = HashMap::new();
    let mut expected = 1;
    for (number, (_, news)) in &reader.got {
        if *number != expected {
            found(Kind::Hole, format!("nothing from {expected} to {}", number - 1));
        }
        expected = number + 1;
        places.entry(*news).or_default().push(*number);
        let is_known = editors.get(news.editor).is_some_and(|it| it.fates.contains_key(&news.number));
        if !is_known {
            found(Kind::MadeUp, format!("{news} at {number}"));
        }
    }
    for editor in editors {
        if editor.evicted > 0 {
            found(Kind::Evicted, format!("{} for editor {}", editor.evicted, editor.index));
        }
        let mut last_accepted = 0;
        for (number, fate) in &editor.fates {
            let news = News { editor: editor.index, number: *number };
            let places = places.get(&news).map_or(&[][..], Vec::as_slice);
            match (fate, places) {
                (Fate::Sent | Fate::Stored, []) => found(Kind::Lost, format!("{news}, answered {fate:?}")),
                (Fate::Dropped, [place, ..]) => found(Kind::DroppedAndGot, format!("{news} at {place}")),
                _ => {}
            }
            if places.len() > 1 {
                found(Kind::Twice, format!("{news} at {places:?}, answered {fate:?}"));
            }
            if fate.is_accepted()
                && let Some(place) = places.first()
            {
                if *place < last_accepted {
                    found(Kind::Order, format!("{news} at {place}, after one at {last_accepted}"));
                }
                last_accepted = *place;
            }
        }
    }
    findings
}
