//! Every setting, its default, and the reason for the default.
//!
//! The builder methods of [`WebSocketLayer`](crate::WebSocketLayer) and of the client set these, and document them.

use std::num::NonZeroU32;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "deflate")]
use crate::compression::Compression;
use crate::observer::Observer;
use crate::origin::OriginPolicy;

/// How handshakes are judged.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) origin: OriginPolicy,
    /// In the server's order of preference; each one is a token.
    pub(crate) protocols: Vec<Arc<str>>,
    pub(crate) require_protocol: bool,
    pub(crate) handshake_timeout: Option<Duration>,
    #[cfg(feature = "deflate")]
    pub(crate) compression: Option<Compression>,
    /// Shared by the connections.
    pub(crate) connection: Arc<ConnectionConfig>,
}

/// How a connection behaves once it is open. It is public for [`__connection_settings`](crate::__connection_settings) only.
#[derive(Clone)]
#[doc(hidden)]
pub struct ConnectionConfig {
    pub ping_interval: Option<Duration>,
    pub pong_timeout: Duration,
    pub close_timeout: Duration,
    pub idle_timeout: Option<Duration>,
    pub message_timeout: Option<Duration>,
    /// In bytes per second.
    pub min_message_rate: NonZeroU32,
    pub send_timeout: Option<Duration>,
    pub limits: Arc<Limits>,
    /// Whether the limit of a frame was set, so that it is no longer that of a message.
    pub has_max_frame_size: bool,
    pub inbound_messages: usize,
    pub inbound_bytes: usize,
    pub outbound_bytes: usize,
    pub observer: Option<Arc<dyn Observer>>,
}

#[doc(hidden)]
impl ConnectionConfig {
    pub fn set_max_message_size(&mut self, bytes: usize) {
        let limits = Arc::make_mut(&mut self.limits);
        limits.max_message_size = bytes;
        if !self.has_max_frame_size {
            limits.max_frame_size = bytes;
        }
    }

    pub fn set_max_frame_size(&mut self, bytes: usize) {
        Arc::make_mut(&mut self.limits).max_frame_size = bytes;
        self.has_max_frame_size = true;
    }

    /// Calls the observer, if there is one. If it panics, the panic hook logs that, and the connection goes on.
    #[inline]
    pub(crate) fn observe(&self, tell: impl FnOnce(&dyn Observer)) {
        if let Some(observer) = &self.observer {
            let _ = std::panic::catch_unwind(AssertUnwindSafe(|| tell(observer.as_ref())));
        }
    }
}

/// The builder methods for the settings of a connection, which the layer, a handshake that it has accepted, and a client have
/// in common. The type has a method `fn set_connection(self, impl FnOnce(&mut ConnectionConfig)) -> Self`.
///
/// Not part of the public API: only this crate and the adapter crates use it.
#[doc(hidden)]
#[macro_export]
macro_rules! __connection_settings {
    () => {
        /// How long the peer may be silent before it is sent a ping. Default 20 s. Each connection takes up to 10 % more
        /// or less, so that connections that opened together do not ping together. `None` turns keepalive off.
        ///
        /// # Panics
        ///
        /// If it is zero.
        #[track_caller]
        pub fn ping_interval(self, interval: impl Into<Option<std::time::Duration>>) -> Self {
            let interval = $crate::__checked("ping_interval", interval);
            self.set_connection(|config| config.ping_interval = interval)
        }

        /// How long after a ping the peer has to answer, by the pong or by any other byte. If it does not, the
        /// connection ends, with 1011 if that can still be sent. Default 20 s.
        ///
        /// While reading is paused, because messages wait that the handler does not receive, this side cannot see an
        /// answer, and does not count its absence against the peer. On Linux and Android, over TCP, the kernel then
        /// tells whether the peer is there: the peer's kernel has to acknowledge a ping within this time, and a peer
        /// that is gone is noticed after at most twice this time. This does not work over HTTP/2, and below TLS of a
        /// server. If the outbound buffer is full as well, because the peer does not read, then
        /// [`send_timeout`](Self::send_timeout) applies. In all other cases a peer that is gone is noticed when reading
        /// continues, or when the operating system gives up the connection.
        ///
        /// # Panics
        ///
        /// If it is zero.
        #[track_caller]
        pub fn pong_timeout(self, timeout: std::time::Duration) -> Self {
            $crate::__checked("pong_timeout", timeout);
            self.set_connection(|config| config.pong_timeout = timeout)
        }

        /// How long the peer has to answer our Close frame, counted from the last time that it read anything of what
        /// was sent. Also how long our answer to the peer's Close frame waits for the handler to receive the messages
        /// that came before it. Default 5 s.
        ///
        /// # Panics
        ///
        /// If it is zero.
        #[track_caller]
        pub fn close_timeout(self, timeout: std::time::Duration) -> Self {
            $crate::__checked("close_timeout", timeout);
            self.set_connection(|config| config.close_timeout = timeout)
        }

        /// How long a connection may be without a *message*, in either direction, before it is closed with 1001. Pings
        /// do not count. Default off.
        ///
        /// # Panics
        ///
        /// If it is zero.
        #[track_caller]
        pub fn idle_timeout(self, timeout: impl Into<Option<std::time::Duration>>) -> Self {
            let timeout = $crate::__checked("idle_timeout", timeout);
            self.set_connection(|config| config.idle_timeout = timeout)
        }

        /// How long a message may take from its first byte to its last, in addition to the time that its bytes may take at
        /// the [`min_message_rate`](Self::min_message_rate). Then the connection is closed with 1008. Default 60 s.
        ///
        /// # Panics
        ///
        /// If it is zero.
        #[track_caller]
        pub fn message_timeout(self, timeout: impl Into<Option<std::time::Duration>>) -> Self {
            let timeout = $crate::__checked("message_timeout", timeout);
            self.set_connection(|config| config.message_timeout = timeout)
        }

        /// How fast a message has to come in to take longer than the [`message_timeout`](Self::message_timeout), in bytes
        /// per second, as they are on the wire. Each byte that has come in adds its time at this rate: at 1 KiB/s, a
        /// message of 1 MiB may take 60 s and 1,024 s more. So a slow and steady upload goes on, and a peer that sends a
        /// byte now and then is closed. Default 1 KiB/s.
        ///
        /// # Panics
        ///
        /// If it is 0.
        #[track_caller]
        pub fn min_message_rate(self, bytes_per_second: u32) -> Self {
            let rate = std::num::NonZeroU32::new(bytes_per_second)
                .expect("min_message_rate is 0, at which a message never ends: use at least 1");
            self.set_connection(|config| config.min_message_rate = rate)
        }

        /// How long the peer may read nothing of what was sent before the connection is dropped. Default 30 s.
        ///
        /// # Panics
        ///
        /// If it is zero.
        #[track_caller]
        pub fn send_timeout(self, timeout: impl Into<Option<std::time::Duration>>) -> Self {
            let timeout = $crate::__checked("send_timeout", timeout);
            self.set_connection(|config| config.send_timeout = timeout)
        }

        /// The largest message, in bytes, over all its fragments and after decompression. A larger one closes the
        /// connection with 1009 before memory is allocated for it. Default 1 MiB.
        ///
        /// When a message of 32 KiB or more is dropped, its memory is kept for the next ones: at most 48 MiB in the
        /// process, and for about ten seconds, until a connection's timer or another such message frees it.
        pub fn max_message_size(self, bytes: usize) -> Self {
            self.set_connection(|config| config.set_max_message_size(bytes))
        }

        /// The largest payload of a frame, in bytes on the wire (before decompression). A larger one closes the connection
        /// with 1009. Default the [`max_message_size`](Self::max_message_size), also if that is set later.
        pub fn max_frame_size(self, bytes: usize) -> Self {
            self.set_connection(|config| config.set_max_frame_size(bytes))
        }

        /// How many fragments a message may have. One more closes the connection with 1008. Default 4,096.
        ///
        /// # Panics
        ///
        /// If it is 0.
        #[track_caller]
        pub fn max_fragments(self, fragments: usize) -> Self {
            assert!(
                fragments > 0,
                "max_fragments is 0: a message has at least one; use 1 to refuse fragmentation"
            );
            self.set_connection(|config| {
                std::sync::Arc::make_mut(&mut config.limits).max_fragments = fragments
            })
        }

        /// How much may wait for the handler to receive it. At that many messages, or bytes, reading pauses, and TCP
        /// holds the peer back. A message counts as its payload and 64 bytes more. Default 32 messages or 64 KiB.
        ///
        /// # Panics
        ///
        /// If one of them is 0.
        #[track_caller]
        pub fn inbound_queue(self, messages: usize, bytes: usize) -> Self {
            assert!(messages > 0 && bytes > 0, "an inbound queue of 0 never takes a message: use at least 1");
            self.set_connection(|config| {
                config.inbound_messages = messages;
                config.inbound_bytes = bytes;
            })
        }

        /// How many bytes may wait to be written before `send` waits. Default 64 KiB.
        ///
        /// It is a high-water mark, not a size: memory is allocated when there is something to write, and freed
        /// after that.
        ///
        /// # Panics
        ///
        /// If it is 0.
        #[track_caller]
        pub fn outbound_buffer(self, bytes: usize) -> Self {
            assert!(bytes > 0, "an outbound buffer of 0 bytes never takes a message: use at least 1");
            self.set_connection(|config| config.outbound_bytes = bytes)
        }

        /// Tells `observer` what happens on the connections. Default none.
        pub fn observer(self, observer: impl $crate::Observer) -> Self {
            self.set_connection(|config| config.observer = Some(std::sync::Arc::new(observer)))
        }
    };
}
/// A time that is not zero.
///
/// # Panics
///
/// If it is zero.
#[track_caller]
pub fn checked(name: &str, time: impl Into<Option<Duration>>) -> Option<Duration> {
    let time = time.into();
    assert!(time != Some(Duration::ZERO), "{name} is zero, which no peer can meet: use a longer time");
    time
}

/// What was negotiated for one connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// permessage-deflate (RFC 7692).
    #[cfg(feature = "deflate")]
    pub(crate) deflate: Option<Deflate>,
}

/// How our messages are compressed. Those of the peer are inflated in any case. Neither side keeps a context.
#[cfg(feature = "deflate")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deflate {
    pub(crate) compression: Compression,
    /// Base-2 logarithm of the size of our window, 9 to 15, if the client asked for a smaller one than the default.
    pub(crate) window_bits: Option<u8>,
}

/// How much a peer may send in one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[doc(hidden)]
pub struct Limits {
    /// In bytes, over all fragments, and after decompression.
    pub max_message_size: usize,
    /// In bytes, as they are on the wire.
    pub max_frame_size: usize,
    pub max_fragments: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // a browser sends cookies with an upgrade from any page
            origin: OriginPolicy::same_origin(),
            protocols: Vec::new(),
            require_protocol: false,
            // as Netty and Python's `websockets`
            handshake_timeout: Some(Duration::from_secs(10)),
            // memory, and CRIME/BREACH
            #[cfg(feature = "deflate")]
            compression: None,
            connection: Arc::new(ConnectionConfig::default()),
        }
    }
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            // below the 30–60 s after which proxies close an idle connection
            ping_interval: Some(Duration::from_secs(20)),
            pong_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(5),
            // a quiet connection may still be needed
            idle_timeout: None,
            // a peer may send one message for ever, byte by byte
            message_timeout: Some(Duration::from_secs(60)),
            // even a bad mobile network is faster
            min_message_rate: NonZeroU32::MIN.saturating_add(1023),
            // a peer may stop reading
            send_timeout: Some(Duration::from_secs(30)),
            limits: Arc::default(),
            has_max_frame_size: false,
            // enough to keep the transport busy while the handler works, little enough for 10,000 connections
            inbound_messages: 32,
            inbound_bytes: 64 * 1024,
            outbound_bytes: 64 * 1024,
            observer: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_message_size: 1024 * 1024, max_frame_size: 1024 * 1024, max_fragments: 4096 }
    }
}

impl std::fmt::Debug for ConnectionConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectionConfig")
            .field("ping_interval", &self.ping_interval)
            .field("pong_timeout", &self.pong_timeout)
            .field("close_timeout", &self.close_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("message_timeout", &self.message_timeout)
            .field("min_message_rate", &self.min_message_rate)
            .field("send_timeout", &self.send_timeout)
            .field("limits", &self.limits)
            .field("inbound_messages", &self.inbound_messages)
            .field("inbound_bytes", &self.inbound_bytes)
            .field("outbound_bytes", &self.outbound_bytes)
            .finish_non_exhaustive()
    }
}
