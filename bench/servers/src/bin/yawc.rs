//! `yawc` on hyper, as in its documentation. Nothing is tuned but the limits; UTF-8 is checked, which is off by default.

use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use ws_bench_servers::{MAX_MESSAGE_SIZE, serve_http1};
use yawc::frame::OpCode;
use yawc::{Options, Result, UpgradeFut, WebSocket};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    serve_http1(upgrade).await
}

async fn upgrade(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>> {
    // here, the limit is the least that is too long
    let options = Options::default().with_limits(MAX_MESSAGE_SIZE + 1, MAX_MESSAGE_SIZE + 1).with_utf8();
    let (response, socket) = WebSocket::upgrade_with_options(&mut request, options)?;
    tokio::spawn(echo(socket));
    Ok(response)
}

async fn echo(socket: UpgradeFut) -> Result<()> {
    let mut socket = socket.await?;
    while let Some(frame) = socket.next().await {
        if let OpCode::Text | OpCode::Binary = frame.opcode() {
            socket.send(frame).await?;
        }
    }
    Ok(())
}
