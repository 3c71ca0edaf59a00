//! Requests to nodes that are not part of the account.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::news::{ask, connect, edit, parse};

/// How long it is waited for a node that says nothing.
const PATIENCE: Duration = Duration::from_secs(15);

/// The status and the answer of a node; `None` if there is none.
pub(crate) async fn ask_node(
    address: &str,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> Option<(u16, Value)> {
    let request = http::Request::builder().method(method).uri(path).header("Host", "example.com");
    let request = edit(request).header("Content-Type", "application/json");
    let body = body.map_or_else(String::new, |body| body.to_string());
    let asking = async {
        let mut http = connect(address).await?;
        ask(&mut http, request, body).await.ok()
    };
    let (answer, text) = timeout(PATIENCE, asking).await.ok()??;
    let is_json = answer.headers().get("content-type").is_some_and(|it| it == "application/json");
    Some((answer.status().as_u16(), if is_json { parse(&text) } else { Value::String(text) }))
}

/// Pushes news to somebody who never reads it; whether it was taken.
pub(crate) async fn push_probe(address: &str) -> bool {
    let news = json!({ "title": "probe" });
    let answer = ask_node(address, "POST", "/users/nobody/news", Some(news)).await;
    answer.is_some_and(|(status, _)| [200, 202].contains(&status))
}
