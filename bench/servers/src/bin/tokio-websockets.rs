//! `tokio-websockets`, as in its example `echo_server`, with the limit and outgoing frames of that size in place of none.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio_websockets::{Config, Error, Limits, ServerBuilder};
use ws_bench_servers::{MAX_MESSAGE_SIZE, listen};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = listen()?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(tokio::task::unconstrained(echo(stream)));
    }
}

async fn echo(stream: TcpStream) -> Result<(), Error> {
    let (_request, mut socket) = ServerBuilder::new()
        .config(Config::default().frame_size(MAX_MESSAGE_SIZE))
        .limits(Limits::default().max_payload_len(Some(MAX_MESSAGE_SIZE)))
        .accept(stream)
        .await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() || message.is_binary() {
            socket.send(message).await?;
        }
    }
    Ok(())
}
