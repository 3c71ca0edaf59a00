//! [`Pump`]: does what the mailbox of a connection says.
//!
//! Both the handler and the pump run inside of the connection's own task: what a turn of either sends leaves in one write, and
//! a message to an idle connection wakes one task once.

use std::hash::Hash;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_sink::Sink as _;
use ws_core::{CloseFrame, Sender};

use crate::calls::BACKOFF;
use crate::mailbox::Next;
use crate::session::{Answer, Session};

/// Sends what there is for a connection, until it is over, and then ends its login.
pub(crate) struct Pump<'a, U: Clone + Eq + Hash + Send + Sync + 'static> {
    session: &'a Session<U>,
    sender: &'a Sender,
    /// While something is under way: an idle connection holds no room for it.
    busy: Option<Box<Busy<'a>>>,
    ending: Option<BoxFuture<'a, ()>>,
    end: Option<End>,
}

/// How a connection came to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything is sent, and nothing more comes.
    Finished,
    /// It is over, or will be.
    Broken,
}

struct Busy<'a> {
    /// Waits for room in the outbound buffer.
    room: Option<Sender>,
    /// Up to which message the client has got everything when this is ready, and whether it answered.
    ping: Option<BoxFuture<'a, (u64, bool)>>,
    call: Option<BoxFuture<'a, Answer>>,
    backoff: Duration,
}

impl Busy<'_> {
    fn is_over(&self) -> bool {
        self.room.is_none() && self.ping.is_none() && self.call.is_none() && self.backoff == BACKOFF.0
    }
}

impl<'a, U> Pump<'a, U>
where
    U: Clone + Eq + Hash + Send + Sync + 'static,
{
    pub(crate) fn new(session: &'a Session<U>, sender: &'a Sender) -> Self {
        Self { session, sender, busy: None, ending: None, end: None }
    }

    /// Whether nothing has happened for the connection since this task last asked.
    pub(crate) fn is_quiet(&self, cx: &Context<'_>) -> bool {
        self.busy.is_none() && self.end.is_none() && self.session.is_quiet(cx)
    }

    /// Does what is to be done. Ready when the login is over, and the closing handshake; it can be polled again. `is_over`
    /// says that the connection is.
    pub(crate) fn poll(&mut self, is_over: bool, cx: &mut Context<'_>) -> Poll<End> {
        if self.end.is_none() {
            let (end, frame) = if is_over { (End::Broken, None) } else { ready!(self.work(cx)) };
            self.end = Some(end);
            self.busy = None;
            let (session, sender) = (self.session, self.sender);
            self.ending = Some(Box::pin(async move {
                // a new login need not wait for the closing handshake, nor the client for an engine that does not answer
                tokio::join!(session.leave(), async {
                    if let Some(frame) = frame {
                        let _ = sender.close_with(frame).await;
                    }
                });
            }));
        }
        if let Some(ending) = &mut self.ending {
            ready!(ending.as_mut().poll(cx));
            self.ending = None;
        }
        Poll::Ready(self.end.unwrap_or(End::Broken))
    }

    /// Does what the mailbox says, until nothing more is to be done, or the connection is to be closed with a frame.
    fn work(&mut self, cx: &mut Context<'_>) -> Poll<(End, Option<CloseFrame>)> {
        let broken = Poll::Ready((End::Broken, None));
        loop {
            if let Some(busy) = &mut self.busy {
                if let Some((upto, has_come)) = poll_taken(&mut busy.ping, cx) {
                    if !has_come {
                        return broken;
                    }
                    self.session.with_mailbox(|mailbox, _| mailbox.ponged(upto));
                }
                if let Some(answer) = poll_taken(&mut busy.call, cx) {
                    busy.backoff =
                        if answer.is_failure() { (busy.backoff * 2).min(BACKOFF.1) } else { BACKOFF.0 };
                    self.session.answered(answer);
                }
            }
            let wants_room = match self.session.next(cx) {
                Next::Wait { wants_room } => wants_room,
                Next::Close(frame) => return Poll::Ready((End::Broken, Some(frame))),
                Next::Done => return Poll::Ready((End::Finished, None)),
                Next::Broken => return broken,
                next => {
                    self.begin(&next);
                    continue;
                }
            };
            if !wants_room {
                self.rest();
                return Poll::Pending;
            }
            match self.poll_room(cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return broken,
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn busy(&mut self) -> &mut Busy<'a> {
        let new = || Box::new(Busy { room: None, ping: None, call: None, backoff: BACKOFF.0 });
        self.busy.get_or_insert_with(new)
    }

    /// Begins what takes a while.
    fn begin(&mut self, next: &Next) {
        let (session, sender) = (self.session, self.sender);
        let busy = self.busy();
        let backoff = busy.backoff;
        match *next {
            Next::Read(after) => busy.call = Some(Box::pin(session.read(after, backoff))),
            Next::Acknowledge { start, upto } => {
                busy.call = Some(Box::pin(session.acknowledge(start, upto, backoff)));
            }
            Next::Ping(upto) => {
                busy.ping = Some(Box::pin(async move { (upto, sender.ping().await.is_ok()) }));
            }
            Next::Wait { .. } | Next::Close(_) | Next::Done | Next::Broken => {}
        }
    }

    /// Ready when there is room in the outbound buffer, or, with `false`, when there never will be.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let sender = self.sender;
        let room = self.busy().room.get_or_insert_with(|| sender.clone());
        Pin::new(room).poll_ready(cx).map(|result| result.is_ok())
    }

    /// There is room.
    fn rest(&mut self) {
        if let Some(busy) = &mut self.busy {
            busy.room = None;
            self.busy.take_if(|busy| busy.is_over());
        }
    }
}

/// The output of a future, which is gone then.
fn poll_taken<T>(future: &mut Option<BoxFuture<'_, T>>, cx: &mut Context<'_>) -> Option<T> {
    let Poll::Ready(output) = future.as_mut()?.as_mut().poll(cx) else { return None };
    *future = None;
    Some(output)
}
