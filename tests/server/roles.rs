//! What a connection does is what its first message asks for, so that each kind of peer finds its handler on one server.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use ws_core::{Message, WebSocket};
use ws_hub::Member;
use ws_tests::BoxError;

use crate::app::App;

type Result = std::result::Result<(), BoxError>;

/// A handler that has not returned.
struct Running {
    app: Arc<App>,
    role: String,
}

impl Running {
    fn new(app: &Arc<App>, role: &str) -> Self {
        app.handlers().push(role.to_owned());
        Self { app: Arc::clone(app), role: role.to_owned() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut handlers = self.app.handlers();
        if let Some(at) = handlers.iter().position(|role| *role == self.role) {
            handlers.swap_remove(at);
        }
    }
}

pub(crate) async fn serve(app: Arc<App>, mut socket: WebSocket) -> Result {
    let Some(first) = socket.recv().await.transpose()? else { return Ok(()) };
    let _running = Running::new(&app, first.as_text().unwrap_or_default());
    let role: Vec<_> = first.as_text().ok_or("the first message is text")?.split(' ').collect();
    match role[..] {
        ["echo"] => echo(socket).await,
        ["idle"] => {
            // until then it is a handler that does something else
            socket.closed().await;
            Ok(())
        }
        ["count"] => count(socket).await,
        ["late"] => late(&app, socket).await,
        ["close"] => Ok(socket.close(4001, "bye").await.map(drop)?),
        ["flood", size] => flood(socket, size.parse()?).await,
        ["numbers", count, size, pace] => {
            numbers(socket, count.parse()?, size.parse()?, Duration::from_millis(pace.parse()?)).await
        }
        ["user", user] => {
            app.know(user);
            let hub = app.hub.clone();
            Ok(hub
                .attach_with(user.to_owned(), socket, async move |member| attached(&app, member).await)
                .await?)
        }
        _ => Err(format!("a role that there is not: {role:?}").into()),
    }
}

/// Returns every message, and closes with their count at the text `end`.
async fn echo(mut socket: WebSocket) -> Result {
    let mut count = 0;
    while let Some(message) = socket.recv().await {
        let message = message?;
        if message.as_text() == Some("end") {
            socket.close(4000, count.to_string()).await?;
            return Ok(());
        }
        count += 1;
        socket.send(message).await?;
    }
    Ok(())
}

/// Drops every message, and closes with their count at the text `end`.
async fn count(mut socket: WebSocket) -> Result {
    let mut count = 0;
    while let Some(message) = socket.recv().await {
        if message?.as_text() == Some("end") {
            socket.close(4000, count.to_string()).await?;
            return Ok(());
        }
        count += 1;
    }
    Ok(())
}

/// Reads nothing before it is released; then expects numbered messages, and closes with their count at the text `end`.
async fn late(app: &App, mut socket: WebSocket) -> Result {
    let mut released = app.released.subscribe();
    released.wait_for(|released| *released).await?;
    let mut count = 0_u64;
    while let Some(message) = socket.recv().await {
        match message? {
            Message::Binary(bytes) if bytes.starts_with(&count.to_be_bytes()) => count += 1,
            Message::Text(text) if &*text == "end" => {
                socket.close(4000, count.to_string()).await?;
                return Ok(());
            }
            other => return Err(format!("number {count} was expected, and not {other:?}").into()),
        }
    }
    Ok(())
}

/// Sends as fast as it can, until it cannot.
async fn flood(mut socket: WebSocket, size: usize) -> Result {
    loop {
        socket.send(vec![0; size]).await?;
    }
}

/// Sends numbered messages at a pace, and closes with their count.
async fn numbers(mut socket: WebSocket, count: u64, size: usize, pace: Duration) -> Result {
    for number in 0..count {
        let mut message = vec![0; size.max(8)];
        message[..8].copy_from_slice(&number.to_be_bytes());
        socket.send(message).await?;
        if !pace.is_zero() {
            // wakes up early when the connection is over
            tokio::select! {
                () = sleep(pace) => {}
                _ = socket.closed() => break,
            }
        }
    }
    socket.close(4000, count.to_string()).await?;
    Ok(())
}

/// A user of the hub, and what he asks for.
async fn attached(app: &App, mut member: Member<String>) -> Result {
    while let Some(message) = member.recv().await {
        let message = message?;
        let command: Vec<_> = message.as_text().ok_or("a user sends text")?.split(' ').collect();
        match command[..] {
            ["join", room] => {
                // a newer login may have replaced this one, and may have ended
                let _ = member.join(room).await;
                member.send(format!("joined {room}")).await?;
            }
            ["leave", room] => {
                member.leave(room);
                member.send(format!("left {room}")).await?;
            }
            ["say", room, size] => app.send_to_room(room, size.parse()?).await,
            ["total"] => app.tell_total(member.user()).await,
            ["kick"] => {
                app.hub.kick(member.user()).await?;
            }
            _ => return Err(format!("a command that there is not: {command:?}").into()),
        }
    }
    Ok(())
}
