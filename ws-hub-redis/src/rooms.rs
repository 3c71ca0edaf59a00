//! What goes to rooms and to everyone, and the histories of rooms.

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};
use ws_hub::{Key, Packet, Page, Position, RoomAppend, RoomEntry, RoomRead, RoomSent};

use crate::codec::{TooLong, decode_room_entry, encode_packet, encode_room_message, room_head};
use crate::config::{DEADLINE, millis};
use crate::error::Failure;
use crate::reply::{Reply, number};
use crate::script::{Call, Script, place};
use crate::shared::{PAUSE, Shared};
use crate::site::Request;

impl From<TooLong> for Failure {
    fn from(_: TooLong) -> Self {
        Self::refused("the name of the room, or the list of those who do not get it, is too long")
    }
}

/// How many other nodes have got it, of so many that have.
fn others(shared: &Shared, count: u64, room: Option<&str>) -> usize {
    let is_here = room.is_none_or(|room| shared.rooms().get(room).is_some_and(|it| it.is_subscribed));
    usize::try_from(count.saturating_sub(u64::from(is_here))).unwrap_or(usize::MAX)
}

pub(crate) async fn publish<U: Key>(shared: &Shared, packet: &Packet<U>) -> Result<usize, Failure> {
    let room = packet.room.as_deref();
    let (partition, channel) = if let Some(room) = room {
        let partition = shared.partitions.of(room.as_bytes());
        (partition, partition.keys.room_channel(room))
    } else {
        let first = shared.partitions.at(0);
        (first, first.keys.everyone_channel())
    };
    let bytes = encode_packet(shared.partitions.origin(), packet)?;
    let publish = if shared.partitions.are_many() { "SPUBLISH" } else { "PUBLISH" };
    // a second time it would come twice
    let answer = shared.ask_once(partition, Call::plain(publish, channel).bytes(bytes)).await?;
    Ok(others(shared, number(&answer)?, room))
}

pub(crate) async fn append<U: Key>(
    shared: &Shared,
    append: &RoomAppend<'_, U>,
) -> Result<RoomSent<U>, Failure> {
    let head = room_head(shared.partitions.origin(), append.room)?;
    let message = encode_room_message(append.except, append.message)?;
    let partition = shared.partitions.of(append.room.as_bytes());
    let keys = &partition.keys;
    let call = shared
        .script(Script::AppendToRoom, partition)
        .key(keys.room(append.room))
        .key(keys.history(append.room))
        .bytes(keys.room_channel(append.room))
        .bytes(append.id.get().to_be_bytes())
        .number(append.history.messages() as u64)
        .number(millis(append.history.time()))
        .bytes(head)
        .bytes(message);
    let mut reply = Reply::new(shared.ask_once(partition, call).await?)?;
    let (number, previous, count) = (reply.number()?, reply.id()?, reply.number()?);
    let entry = RoomEntry::new(
        Position::new(number, append.id),
        (number > 1).then_some(previous),
        append.except.to_vec(),
        append.message.clone(),
    );
    Ok(RoomSent { entry, nodes: others(shared, count, Some(append.room)) })
}

pub(crate) async fn read<U: Key>(
    shared: &Shared,
    room: &str,
    after: Option<Position>,
    page: Page,
) -> Result<RoomRead<U>, Failure> {
    let from = after.as_ref().map(place);
    let partition = shared.partitions.of(room.as_bytes());
    let call = || {
        let call = shared.script(Script::ReadRoom, partition);
        call.key(partition.keys.room(room))
            .key(partition.keys.history(room))
            .bytes(from.clone().unwrap_or_default())
            .page(page)
    };
    let mut reply = Reply::new(shared.ask_one(partition, call).await?)?;
    let top = reply.position()?;
    let after = reply.number()?;
    let continuity = reply.continuity()?;
    Ok(RoomRead { entries: reply.entries(after, decode_room_entry)?, top, continuity })
}

/// Ready when what others send to the room comes.
pub(crate) async fn watch(shared: &Shared, room: &str) -> Result<(), Failure> {
    {
        let mut rooms = shared.rooms();
        let state = rooms.entry(room.to_owned()).or_default();
        state.is_wanted = true;
        if state.is_subscribed {
            return Ok(());
        }
    }
    let deadline = Instant::now() + DEADLINE;
    let result = loop {
        let result = ask_to_watch(shared, room, deadline).await;
        let is_undone = result.as_ref().is_err_and(|failure| failure.kind.is_undone());
        if !is_undone || Instant::now() + PAUSE >= deadline {
            break result;
        }
        sleep(PAUSE).await;
    };
    if result.is_err() {
        unwatch(shared, room);
    }
    result
}

async fn ask_to_watch(shared: &Shared, room: &str, deadline: Instant) -> Result<(), Failure> {
    let (answer, answered) = oneshot::channel();
    request(shared, room, Request::Watch { room: room.to_owned(), answer });
    match timeout_at(deadline, answered).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(_) => Err(Failure::refused("the Redis server cannot be reached")),
    }
}

pub(crate) fn unwatch(shared: &Shared, room: &str) {
    if let Some(state) = shared.rooms().get_mut(room) {
        state.is_wanted = false;
    }
    request(shared, room, Request::Unwatch(room.to_owned()));
}

/// Asks the supervisor of the server where the room is.
fn request(shared: &Shared, room: &str, request: Request) {
    let partition = shared.partitions.of(room.as_bytes());
    let (site, _) = shared.routes.target(partition.number, None);
    let _ = site.requests.send(request);
}
