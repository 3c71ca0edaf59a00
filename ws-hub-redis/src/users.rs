//! The logs and the logins of users: what is asked of the server, and what it answers.

use crate::link::Value;
use ws_core::CloseFrame;
use ws_hub::{
    Ack, Acked, After, Append, Appended, Held, Key, LogError, LoggedIn, LoginError, LoginRequest, Logout,
    Page, Position, Read, Sent, Standing, close_code,
};

use crate::batch::{chunks, in_chunks};
use crate::codec::{decode_entry, decode_frame, encode_message, encode_user};
use crate::error::Failure;
use crate::partition::Partition;
use crate::reply::{Reply, bytes, number};
use crate::script::{Call, Script, packed, place};
use crate::shared::{Shared, Way};

/// A user, as the scripts know them.
struct Names<'a> {
    user: Vec<u8>,
    partition: &'a Partition,
}

impl<'a> Names<'a> {
    fn new(shared: &'a Shared, user: &impl Key) -> Self {
        let user = encode_user(user);
        Self { partition: shared.partitions.of(&user), user }
    }

    /// Adds the keys of the user and the log.
    fn keys(&self, call: Call) -> Call {
        let keys = &self.partition.keys;
        call.key(keys.user(&self.user)).key(keys.log(&self.user))
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

/// One of a batch, and whose it is.
type Item<'a, T> = (Names<'a>, &'a T);

pub(crate) async fn append<U: Key>(shared: &Shared, batch: &[Append<'_, U>]) -> Vec<Result<Sent, LogError>> {
    let most = usize::try_from(shared.settings.bounds.user_bytes).unwrap_or(usize::MAX);
    let fitting = batch.iter().filter(|append| append.message.len() <= most);
    let fitting: Vec<_> = fitting.map(|append| (Names::new(shared, append.user), append)).collect();
    let chunks = chunks(fitting.iter().map(|(names, append)| (names.partition.number, append.message.len())));
    let call = |chunk: &mut dyn Iterator<Item = &Item<'_, Append<'_, U>>>, call, is_doubtful| {
        append_call(call, chunk, is_doubtful)
    };
    let kind = (Script::Append, Way::Append);
    let sent =
        in_chunks(shared, kind, &fitting, &chunks, call, |reply, (_, append)| read_sent(reply, append));
    let mut sent = sent.await.into_iter();
    let too_large = || Some(Ok(Sent { appended: Appended::TooLarge, elsewhere: 0 }));
    let in_order = batch.iter().map(|it| if it.message.len() > most { too_large() } else { sent.next() });
    in_order.map(|it| it.unwrap_or_else(|| Err(LogError::unknown("no answer")))).collect()
}

fn append_call<U: Key>(
    call: Call,
    chunk: &mut dyn Iterator<Item = &Item<'_, Append<'_, U>>>,
    is_doubtful: bool,
) -> Call {
    let mut last: Option<&[u8]> = None;
    chunk.fold(call, |call, (names, append)| {
        let call = names.keys(call).bytes(names.user.as_slice()).bytes(append.id.get().to_be_bytes());
        let call = call.flag(append.again || is_doubtful);
        let call = call.bytes(append.known.as_ref().map(place).unwrap_or_default());
        // one message for many users is sent once
        let content = append.message.as_bytes();
        let is_same = last.is_some_and(|last| std::ptr::eq(last, content)) && !content.is_empty();
        last = Some(content);
        call.bytes(if is_same { Vec::new() } else { encode_message(append.message) })
    })
}

fn read_sent<U>(reply: &mut Reply, append: &Append<'_, U>) -> Result<Sent, Failure> {
    let (number, previous) = (reply.number()?, reply.id()?);
    let (elsewhere, evicted) = (reply.count()?, reply.count()?);
    let position = Position::new(number, append.id);
    let previous = (number > 1).then_some(previous);
    Ok(Sent { appended: Appended::Logged { position, previous, evicted }, elsewhere })
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
        let call = names.keys(shared.script(Script::Read, names.partition)).bytes(kind);
        match after {
            After::Number(number) => call.number(number),
            _ => call.bytes(from.clone()),
        }
        .page(page)
    };
    let mut reply = Reply::new(shared.ask_one(names.partition, call).await?)?;
    let top = reply.position()?;
    let cursor = reply.number()?;
    let read = read_rest(reply, top, cursor)?;
    Ok(if read.top.is_none() { Read::nothing(after) } else { read })
}

pub(crate) async fn acknowledge<U: Key>(
    shared: &Shared,
    batch: &[Ack<'_, U>],
) -> Vec<Result<Acked, LogError>> {
    let batch: Vec<_> = batch.iter().map(|ack| (Names::new(shared, ack.user), ack)).collect();
    let chunks = chunks(batch.iter().map(|(names, _)| (names.partition.number, 0)));
    let call = |chunk: &mut dyn Iterator<Item = &Item<'_, Ack<'_, U>>>, call, _| {
        chunk.fold(call, |call, (names, ack)| {
            names.keys(call).number(ack.login).number(ack.start).number(ack.upto)
        })
    };
    let kind = (Script::Acknowledge, Way::Repeatable);
    let acked = in_chunks(shared, kind, &batch, &chunks, call, |reply, (names, _)| {
        read_acked(names.partition, reply)
    });
    let flat = acked.await.into_iter().map(|it| it.and_then(|acked| acked.map_err(LogError::from)));
    flat.collect()
}

fn read_acked(partition: &Partition, reply: &mut Reply) -> Result<Result<Acked, Failure>, Failure> {
    let (kind, value) = (reply.bytes()?, reply.next()?);
    Ok(Ok(match kind.as_slice() {
        b"D" => Acked::Done,
        b"S" => Acked::StartsAt(number(&value)?),
        b"X" => Acked::Gone(Some(lost())),
        _ => match frame(value)? {
            // others believed that this node was gone, and the hub asserts its logins in a moment
            None if partition.is_asserting() => {
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
        let call = names.keys(shared.script(Script::Login, names.partition));
        call.bytes(names.user.as_slice())
            .bytes(login.connection.to_be_bytes())
            .number(limit(login.limit))
            .flag(login.replace)
            .bytes(login.after.as_ref().map(place).unwrap_or_default())
            .page(login.page)
    };
    let answer = shared.ask_one(names.partition, call).await.map_err(LogError::from)?;
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

pub(crate) async fn logout<U: Key>(shared: &Shared, batch: &[Logout<'_, U>]) -> Result<(), LogError> {
    let batch: Vec<_> = batch.iter().map(|logout| (Names::new(shared, logout.user), logout)).collect();
    let chunks = chunks(batch.iter().map(|(names, _)| (names.partition.number, 0)));
    let partitions: Vec<_> = chunks.iter().map(|chunk| chunk.partition).collect();
    let answers = shared.ask(&partitions, Way::Repeatable, |at, _| {
        let call = shared.script(Script::Logout, shared.partitions.at(partitions[at]));
        chunks[at].items.iter().fold(call, |call, item| {
            let (names, logout) = &batch[*item];
            let unsent = logout.unsent.map(|it| [it.after, it.acknowledged, it.upto].map(packed).concat());
            let call = names.keys(call).bytes(names.user.as_slice()).bytes(logout.connection.to_be_bytes());
            call.bytes(unsent.unwrap_or_default())
        })
    });
    Ok(answers.await.into_iter().try_for_each(|answer| answer.map(drop))?)
}

pub(crate) async fn reassert<U: Key>(
    shared: &Shared,
    held: &[Held<'_, U>],
) -> Result<Vec<Standing>, LogError> {
    let held: Vec<_> = held.iter().map(|it| (Names::new(shared, it.user), it)).collect();
    let chunks = chunks(held.iter().map(|(names, _)| (names.partition.number, 0)));
    let call = |chunk: &mut dyn Iterator<Item = &Item<'_, Held<'_, U>>>, call, _| {
        chunk.fold(call, |call, (names, it)| {
            let call = names.keys(call).bytes(names.user.as_slice()).bytes(it.connection.to_be_bytes());
            call.number(it.login).number(it.confirmed).number(limit(it.limit)).flag(it.replace)
        })
    };
    let kind = (Script::Reassert, Way::Repeatable);
    let standings = in_chunks(shared, kind, &held, &chunks, call, |reply, _| {
        let (kind, value) = (reply.bytes()?, reply.next()?);
        Ok(match kind.as_slice() {
            b"S" => Standing::StartsAt(number(&value)?),
            b"X" => Standing::Gone(Some(lost())),
            _ => Standing::Gone(frame(value)?),
        })
    });
    standings.await.into_iter().collect()
}

pub(crate) async fn close<U: Key>(shared: &Shared, user: &U, frame: &CloseFrame) -> Result<usize, Failure> {
    frame.check().map_err(Failure::refused)?;
    let names = Names::new(shared, user);
    let key = names.partition.keys.user(&names.user);
    let call = shared.script(Script::Close, names.partition).key(key).bytes(names.user);
    let call = call.bytes(u16::from(frame.code).to_be_bytes()).bytes(frame.reason.as_bytes());
    // a second time it would not count those that it has closed
    let count = number(&shared.ask_once(names.partition, call).await?)?;
    usize::try_from(count).map_err(Failure::unknown)
}

/// Of users, how many connections they have, and the first of their nodes by name.
pub(crate) async fn count(shared: &Shared, users: &[Vec<u8>]) -> Result<Vec<(usize, String)>, LogError> {
    let of = |user: &Vec<u8>| shared.partitions.of(user);
    let chunks = chunks(users.iter().map(|user| (of(user).number, 0)));
    let call = |chunk: &mut dyn Iterator<Item = &Vec<u8>>, call, _| {
        chunk.fold(call, |call: Call, user| call.key(of(user).keys.user(user)))
    };
    let kind = (Script::Count, Way::Repeatable);
    let counts =
        in_chunks(shared, kind, users, &chunks, call, |reply, _| Ok((reply.count()?, reply.text()?)));
    counts.await.into_iter().collect()
}
