//! A server that shuts down in order: on Ctrl-C it closes every connection with 1012 (service restart) and a moment at which
//! to reconnect, refuses new connections with 503, and ends. The page shows what a client sees of it.
//!
//! `cargo run --example shutdown`, open the address that it prints in a few windows, and press Ctrl-C. Start it again, and
//! they reconnect, each at its own moment. `-- 127.0.0.1:9000` changes the address, and port 0 takes a free port.

use std::error::Error;
use std::time::Duration;

use axum::routing::any;
use ws_axum::{CloseCode, Drain, WebSocket, WebSocketLayer, WebSocketUpgrade};
use ws_examples::{ctrl_c, listener, page};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let layer = WebSocketLayer::new();
    let connections = layer.connections();
    let app = page(include_str!("index.html"))
        .route("/clock", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(clock)))
        .layer(layer);

    let drain = Drain::new()
        .code(CloseCode::SERVICE_RESTART)
        .batches(10, Duration::from_millis(200))
        .reconnect_within(Duration::from_secs(5))
        .timeout(Duration::from_secs(10));
    axum::serve(listener("ws", "/clock").await?, app)
        .with_graceful_shutdown(async move {
            ctrl_c().await;
            let drained = connections.drain(drain).await;
            println!("{} closed, {} dropped at the deadline", drained.closed, drained.aborted);
            if drained.remaining > 0 {
                println!("{} are still there: do their handlers block?", drained.remaining);
            }
        })
        .await?;
    Ok(())
}

/// Counts the seconds, so that the page has something to show.
async fn clock(mut socket: WebSocket) -> Result<(), ws_axum::Error> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    for seconds in 0_u64.. {
        tokio::select! {
            _ = ticks.tick() => socket.send(seconds.to_string()).await?,
            // the client has nothing to say; this waits for its end
            message = socket.recv() => match message {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => break,
            },
        }
    }
    Ok(())
}
