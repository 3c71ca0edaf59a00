//! [`Limits`]: how long a connection may take or be silent, and how much of HTTP/2 it may hold.

use std::time::Duration;

use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto::Builder;

use super::streams::Streams;

/// From which time on a limit counts as none: 100 years. hyper adds its limit to the time of the clock, which can
/// overflow.
const NO_LIMIT: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The largest window of HTTP/2 (RFC 9113 section 6.9.1).
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// The window of a connection before anything is said about it (RFC 9113 section 6.9.2). It cannot be smaller.
const INITIAL_WINDOW: u32 = 65_535;

/// How much hyper takes from a response, or a WebSocket, and holds for a peer that does not read, on each stream.
const SEND_BUFFER: usize = 64 * 1024;

/// The limits of each connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) header_read_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) keep_alive_interval: Option<Duration>,
    pub(super) keep_alive_timeout: Option<Duration>,
    max_streams: u32,
    stream_window: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_read_timeout: Some(Duration::from_secs(10)),
            idle_timeout: Some(Duration::from_secs(75)),
            keep_alive_interval: Some(Duration::from_secs(20)),
            keep_alive_timeout: Some(Duration::from_secs(20)),
            max_streams: 200,
            stream_window: 64 * 1024,
        }
    }
}

/// A time that was set; `None` for no limit.
#[track_caller]
pub(super) fn time(name: &str, time: impl Into<Option<Duration>>) -> Option<Duration> {
    let time = time.into();
    assert!(
        time != Some(Duration::ZERO),
        "{name} is zero, which no client can meet: use a longer time, or `None` for no limit"
    );
    time.filter(|time| *time < NO_LIMIT)
}

impl Limits {
    #[track_caller]
    pub(super) fn set_max_streams(&mut self, count: u32) {
        assert!(
            count > 0,
            "http2_max_concurrent_streams is zero, which allows no request: use a larger number"
        );
        self.max_streams = count;
        self.check_window();
    }

    #[track_caller]
    pub(super) fn set_stream_window(&mut self, bytes: u32) {
        assert!(bytes > 0, "http2_stream_window is zero, so that no client can send: use a larger window");
        self.stream_window = bytes;
        self.check_window();
    }

    #[track_caller]
    fn check_window(&self) {
        let Self { max_streams, stream_window, .. } = self;
        assert!(
            max_streams.checked_mul(*stream_window).is_some_and(|window| window <= LARGEST_WINDOW),
            "{max_streams} streams with a window of {stream_window} bytes each are more than the {LARGEST_WINDOW} bytes \
             that HTTP/2 has for a connection: set a smaller http2_stream_window, or fewer http2_max_concurrent_streams"
        );
    }

    /// The window of the connection has the window of each stream, so that what nobody reads on some of them is never what
    /// others lack.
    fn connection_window(&self) -> u32 {
        (self.max_streams * self.stream_window).max(INITIAL_WINDOW)
    }

    /// What hyper does of it.
    pub(super) fn builder(&self, streams: Streams) -> Builder<Streams> {
        // hyper counts the time since the last response as that for the next head
        let next_head = [self.header_read_timeout, self.idle_timeout].into_iter().flatten().min();
        let mut builder = Builder::new(streams);
        builder.http1().timer(TokioTimer::new()).header_read_timeout(next_head);
        builder
            .http2()
            .timer(TokioTimer::new())
            .enable_connect_protocol()
            .keep_alive_interval(self.keep_alive_interval)
            .keep_alive_timeout(self.keep_alive_timeout.unwrap_or(NO_LIMIT))
            .max_concurrent_streams(self.max_streams)
            .initial_stream_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window())
            .max_send_buf_size(SEND_BUFFER);
        builder
    }
}
