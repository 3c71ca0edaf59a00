//! axum with its own extractor. Nothing is tuned but the limits.

#[tokio::main]
async fn main() -> std::io::Result<()> {
    ws_bench_servers::axum_ws::serve(|upgrade| upgrade).await
}
