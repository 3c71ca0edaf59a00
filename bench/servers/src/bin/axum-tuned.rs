//! As `axum`, tuned for little memory as far as its documentation goes, and messages stay as fast as without, but for long
//! ones: the read buffer, which tungstenite recommends to make small for many connections, has 1 KiB in place of 128 KiB,
//! and a message is written when it is sent.

#[tokio::main]
async fn main() -> std::io::Result<()> {
    ws_bench_servers::axum_ws::serve(|upgrade| upgrade.read_buffer_size(1024).write_buffer_size(0)).await
}
