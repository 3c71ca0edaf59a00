//! A [`RedisBackplane`](ws_hub_redis::RedisBackplane) over a server that the tests start, seen from outside.

mod conformance;
mod server;
