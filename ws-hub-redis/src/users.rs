//! The logs and the logins of users: what is asked of the server, and what it answers.

use crate::link::Value;
use ws_core::CloseFrame;
use ws_hub::{
    Ack, Acked, After, Append, Appended, Held, Key, LogError, LoggedIn, LoginError, LoginRequest, Logout,
    Page, Position, Read, Sent, Standing, close_code,
};

use crate::codec::{decode_entry, decode_frame, encode_message, encode_user};
use crate::error::Failure;
use crate::reply::{Reply, bytes, number};
use crate::script::{Call, Script, packed, place};
use crate::shared::Shared;

/// How much one script does: the server does nothing else meanwhile.
const ITEMS: usize = 128;
const BYTES: usize = 256 * 1024;

/// The names of a user: that of the id, and the keys of the user and the log.
struct Names {
    user: Vec<u8>,
    hash: Vec<u8>,
    log: Vec<u8>,
}

impl Names {
    fn new(shared: &Shared, user: &impl Key) -> Self {
        let user = encode_user(user);
        Self { hash: shared.keys.user(&user), log: shared.keys.log(&user), user }
    }

    fn keys(&self, call: Call) -> Call {
        call.key(self.hash.clone()).key(self.log.clone())
    }
}

/// The rest of a read, from the place after which it is on.
fn read_rest(mut reply: Reply, top: Option<Position>, cursor: u64) -> Result<Read, Failure> {
    let after = reply.number()?;
    let continuity = reply.continuity()?;
    let mut read = Read::nothing(After::Number(after));
    (read.cursor, read.top, read.continuity) = (cursor, top, continuity);
    read.entries = reply.entries(after, decode_entry)?;
    Ok(read)
}

/// The frame for a login that is of data that the server has lost: the client comes back, and gets what there is.
fn lost() -> CloseFrame {
    CloseFrame::new(close_code::OVERFLOW, "messages were lost before they were read")
}

/// Parts of a batch, each for one script.
fn chunks(sizes: impl IntoIterator<Item = usize>) -> Vec<std::ops::Range<usize>> {
    let mut chunks = Vec::new();
    let (mut start, mut bytes, mut end) = (0, 0, 0);
    for size in sizes {
        if end > start && (end - start == ITEMS || bytes + size > BYTES) {
            chunks.push(start..end);
            (start, bytes) = (end, 0);
        }
        bytes += size;
        end += 1;
    }
    if end > start {
        chunks.push(start..end);
    }
    chunks
}

/// The same failure for each of a batch.
fn repeat<T>(failure: &Failure, count: usize) -> impl Iterator<Item = Result<T, LogError>> {
    (0..count).map(|_| Err(failure.clone().into()))
}

pub(crate) async fn append<U: Key>(shared: &Shared, batch: &[Append<'_, U>]) -> Vec<Result<Sent, LogError>> {
    let most = usize::try_from(shared.settings.bounds.user_bytes).unwrap_or(usize::MAX);
    let fitting: Vec<_> = batch.iter().filter(|append| append.message.len() <= most).collect();
    let chunks = chunks(fitting.iter().map(|append| append.message.len()));
    let answers = shared.ask(chunks.len(), true, |at, is_doubtful| {
        append_call(shared, &fitting[chunks[at].clone()], is_doubtful)
    });
    let mut sent = Vec::with_capacity(fitting.len());
    for (chunk, answer) in chunks.iter().zip(answers.await) {
        match answer.and_then(|value| read_sent(value, &fitting[chunk.clone()])) {
            Ok(answers) => sent.extend(answers.into_iter().map(Ok)),
            Err(failure) => sent.extend(repeat(&failure, chunk.len())),
        }
    }
    let mut sent = sent.into_iter();
    let too_large = || Some(Ok(Sent { appended: Appended::TooLarge, elsewhere: 0 }));
    let in_order = batch.iter().map(|it| if it.message.len() > most { too_large() } else { sent.next() });
    in_order.map(|it| it.unwrap_or_else(|| Err(LogError::unknown("no answer")))).collect()
}

fn append_call<U: Key>(shared: &Shared, chunk: &[&Append<'_, U>], is_doubtful: bool) -> Call {
    let mut last: Option<&[u8]> = None;
    chunk.iter().fold(shared.script(Script::Append), |call, append| {
        let names = Names::new(shared, append.user);
        let call = names.keys(call).bytes(names.user).bytes(append.id.get().to_be_bytes());
        let call = call.flag(append.again || is_doubtful);
        let call = call.bytes(append.known.as_ref().map(place).unwrap_or_default());
        // one message for many users is sent once
        let content = append.message.as_bytes();
        let is_same = last.is_some_and(|last| std::ptr::eq(last, content)) && !content.is_empty();
        last = Some(content);
        call.bytes(if is_same { Vec::new() } else { encode_message(append.message) })
    })
}

fn read_sent<U>(value: Value, chunk: &[&Append<'_, U>]) -> Result<Vec<Sent>, Failure> {
    let mut reply = Reply::new(value)?;
    let sent = chunk.iter().map(|append| {
        let (number, previous) = (reply.number()?, reply.id()?);
        let (elsewhere, evicted) = (reply.count()?, reply.count()?);
        let position = Position::new(number, append.id);
        let previous = (number > 1).then_some(previous);
        Ok(Sent { appended: Appended::Logged { position, previous, evicted }, elsewhere })
    });
    sent.collect()
}

pub(crate) async fn read<U: Key>(
    shared: &Shared,
    user: &U,
    after: After,
    page: Page,
) -> Result<Read, Failure> {
    let names = Names::new(shared, user);
    let (kind, from) = match &after {
        After::Cursor => ("C", Vec::new()),
        After::Number(number) => ("N", number.to_string().into_bytes()),
        After::Position(position) => ("P", place(position)),
    };
    let call = || {
        let call = names.keys(shared.script(Script::Read)).bytes(kind);
        match after {
            After::Number(number) => call.number(number),
            _ => call.bytes(from.clone()),
        }
        .page(page)
    };
    let mut reply = Reply::new(shared.ask_one(call).await?)?;
    let top = reply.position()?;
    let cursor = reply.number()?;
    let read = read_rest(reply, top, cursor)?;
    Ok(if read.top.is_none() { Read::nothing(after) } else { read })
}

pub(crate) async fn acknowledge<U: Key>(
    shared: &Shared,
    batch: &[Ack<'_, U>],
) -> Vec<Result<Acked, LogError>> {
    let chunks = chunks(batch.iter().map(|_| 0));
    let answers = shared.ask(chunks.len(), true, |at, _| {
        batch[chunks[at].clone()].iter().fold(shared.script(Script::Acknowledge), |call, ack| {
            let call = Names::new(shared, ack.user).keys(call);
            call.number(ack.login).number(ack.start).number(ack.upto)
        })
    });
    let mut acked = Vec::with_capacity(batch.len());
    for (chunk, answer) in chunks.iter().zip(answers.await) {
        let read = |value| {
            let mut reply = Reply::new(value)?;
            chunk.clone().map(|_| read_acked(shared, &mut reply)).collect::<Result<Vec<_>, Failure>>()
        };
        match answer.and_then(read) {
            Ok(answers) => acked.extend(answers.into_iter().map(|it| it.map_err(LogError::from))),
            Err(failure) => acked.extend(repeat(&failure, chunk.len())),
        }
    }
    acked
}

fn read_acked(shared: &Shared, reply: &mut Reply) -> Result<Result<Acked, Failure>, Failure> {
    let (kind, value) = (reply.bytes()?, reply.next()?);
    Ok(Ok(match kind.as_slice() {
        b"D" => Acked::Done,
        b"S" => Acked::StartsAt(number(&value)?),
        b"X" => Acked::Gone(Some(lost())),
        _ => match frame(value)? {
            // others believed that this node was gone, and the hub asserts its logins in a moment
            None if shared.is_asserting() => {
                return Ok(Err(Failure::refused("the login is not asserted yet")));
            }
            frame => Acked::Gone(frame),
        },
    }))
}

/// The frame of a close, if there was one.
fn frame(value: Value) -> Result<Option<CloseFrame>, Failure> {
    let bytes = bytes(value)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    decode_frame(&bytes).map(Some).map_err(|_| Failure::unknown("a close frame on the server is damaged"))
}

pub(crate) async fn login<U: Key>(
    shared: &Shared,
    login: &LoginRequest<'_, U>,
) -> Result<LoggedIn, LoginError> {
    let names = Names::new(shared, login.user);
    let call = || {
        let call = names.keys(shared.script(Script::Login));
        call.bytes(names.user.clone())
            .bytes(login.connection.to_be_bytes())
            .number(limit(login.limit))
            .flag(login.replace)
            .bytes(login.after.as_ref().map(place).unwrap_or_default())
            .page(login.page)
    };
    let answer = shared.ask_one(call).await.map_err(LogError::from)?;
    read_logged_in(answer).map_err(LogError::from)?.ok_or(LoginError::TooMany)
}

/// One more than there may be logins; 0 is as many as come.
fn limit(limit: Option<usize>) -> u64 {
    limit.map_or(0, |limit| (limit as u64).saturating_add(1))
}

/// `None` if there are too many.
fn read_logged_in(value: Value) -> Result<Option<LoggedIn>, Failure> {
    let mut reply = Reply::new(value)?;
    if reply.bytes()? == b"MANY" {
        return Ok(None);
    }
    let login = reply.number()?;
    let top = reply.position()?;
    let cursor = reply.number()?;
    Ok(Some(LoggedIn { login, read: read_rest(reply, top, cursor)? }))
}

pub(crate) async fn logout<U: Key>(shared: &Shared, batch: &[Logout<'_, U>]) -> Result<(), Failure> {
    let chunks = chunks(batch.iter().map(|_| 0));
    let answers = shared.ask(chunks.len(), true, |at, _| {
        batch[chunks[at].clone()].iter().fold(shared.script(Script::Logout), |call, logout| {
            let names = Names::new(shared, logout.user);
            let unsent = logout.unsent.map(|it| [it.after, it.acknowledged, it.upto].map(packed).concat());
            let call = names.keys(call).bytes(names.user).bytes(logout.connection.to_be_bytes());
            call.bytes(unsent.unwrap_or_default())
        })
    });
    answers.await.into_iter().try_for_each(|answer| answer.map(drop))
}

pub(crate) async fn reassert<U: Key>(
    shared: &Shared,
    held: &[Held<'_, U>],
) -> Result<Vec<Standing>, Failure> {
    let chunks = chunks(held.iter().map(|_| 0));
    let answers = shared.ask(chunks.len(), true, |at, _| {
        held[chunks[at].clone()].iter().fold(shared.script(Script::Reassert), |call, it| {
            let names = Names::new(shared, it.user);
            let call = names.keys(call).bytes(names.user).bytes(it.connection.to_be_bytes());
            call.number(it.login).number(it.confirmed).number(limit(it.limit)).flag(it.replace)
        })
    });
    let mut standings = Vec::with_capacity(held.len());
    for (chunk, answer) in chunks.iter().zip(answers.await) {
        let mut reply = Reply::new(answer?)?;
        for _ in chunk.clone() {
            let (kind, value) = (reply.bytes()?, reply.next()?);
            standings.push(match kind.as_slice() {
                b"S" => Standing::StartsAt(number(&value)?),
                b"X" => Standing::Gone(Some(lost())),
                _ => Standing::Gone(frame(value)?),
            });
        }
    }
    Ok(standings)
}

pub(crate) async fn close<U: Key>(shared: &Shared, user: &U, frame: &CloseFrame) -> Result<usize, Failure> {
    frame.check().map_err(Failure::refused)?;
    let names = Names::new(shared, user);
    let call = shared.script(Script::Close).key(names.hash).bytes(names.user);
    let call = call.bytes(u16::from(frame.code).to_be_bytes()).bytes(frame.reason.as_bytes());
    // a second time it would not count those that it has closed
    let count = number(&shared.ask_once(call).await?)?;
    usize::try_from(count).map_err(Failure::unknown)
}

/// Of users, how many connections they have, and the first of their nodes by name.
pub(crate) async fn count(shared: &Shared, users: &[Vec<u8>]) -> Result<Vec<(usize, String)>, Failure> {
    let chunks = chunks(users.iter().map(|_| 0));
    let answers = shared.ask(chunks.len(), true, |at, _| {
        let users = users[chunks[at].clone()].iter();
        users.fold(shared.script(Script::Count), |call, user| call.key(shared.keys.user(user)))
    });
    let mut counts = Vec::with_capacity(users.len());
    for (chunk, answer) in chunks.iter().zip(answers.await) {
        let mut reply = Reply::new(answer?)?;
        for _ in chunk.clone() {
            counts.push((reply.count()?, reply.text()?));
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_so_that_no_script_takes_long() {
        assert_eq!(chunks([]), []);
        assert_eq!(chunks([0; 300]), [0..128, 128..256, 256..300]);
        assert_eq!(chunks([BYTES, 1, BYTES + 1, BYTES - 1, 1]), [0..1, 1..2, 2..3, 3..5]);
    }
}
