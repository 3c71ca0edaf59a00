//! What is measured.

use crate::load::Payload;

/// Messages, handshakes or idle connections.
#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// Each connection has `window` messages in flight, and sends as many as are answered.
    Echo { payload: Payload, size: usize, fragments: usize, window: usize },
    /// One connection sends a message, and the next one when all connections have got it.
    Broadcast { size: usize },
    /// Connections in pairs: what one sends, the server sends on the other, which answers. Their paths are `path/0`, `path/1` …,
    /// of which 0 and 1 are a pair.
    Pairs { path: &'static str, size: usize },
    /// Connections are opened and reset, so many at a time.
    Handshake,
    /// Connections are opened and then silent.
    Idle,
}

/// One row of the matrix.
pub(crate) struct Scenario {
    /// For the command line.
    pub(crate) name: &'static str,
    /// For the report.
    pub(crate) title: &'static str,
    pub(crate) connections: usize,
    pub(crate) load: Load,
}

impl Scenario {
    pub(crate) fn path(&self) -> &'static str {
        match self.load {
            Load::Broadcast { .. } => "/broadcast",
            Load::Pairs { path, .. } => path,
            _ => "/echo",
        }
    }

    /// What is counted.
    pub(crate) fn unit(&self) -> &'static str {
        match self.load {
            Load::Echo { .. } | Load::Pairs { .. } => "message",
            Load::Broadcast { .. } => "delivered message",
            Load::Handshake => "handshake",
            Load::Idle => "connection",
        }
    }
}

/// All of them, in the order of the report.
pub(crate) const SCENARIOS: &[Scenario] = &[
    echo("16B-1", "16 B, 1 in flight", 100, Payload::Binary, 16, 1),
    echo("16B-32", "16 B, 32 in flight", 100, Payload::Binary, 16, 32),
    echo("1KiB-binary", "1 KiB binary, 8 in flight", 100, Payload::Binary, 1 << 10, 8),
    echo("1KiB-ascii", "1 KiB ASCII text, 8 in flight", 100, Payload::Ascii, 1 << 10, 8),
    echo("1KiB-non-ascii", "1 KiB non-ASCII text, 8 in flight", 100, Payload::NonAscii, 1 << 10, 8),
    echo("64KiB", "64 KiB", 20, Payload::Binary, 64 << 10, 1),
    echo("1MiB", "1 MiB", 8, Payload::Binary, 1 << 20, 1),
    echo("16MiB", "16 MiB", 2, Payload::Binary, 16 << 20, 1),
    Scenario {
        name: "fragments",
        title: "1 KiB in 16 fragments",
        connections: 100,
        load: Load::Echo { payload: Payload::Binary, size: 1 << 10, fragments: 16, window: 1 },
    },
    Scenario {
        name: "broadcast",
        title: "64 B to 1,000 connections",
        connections: 1_000,
        load: Load::Broadcast { size: 64 },
    },
    Scenario {
        name: "to-socket",
        title: "64 B to the socket of another of 1,000",
        connections: 1_000,
        load: Load::Pairs { path: "/socket", size: 64 },
    },
    Scenario {
        name: "to-user",
        title: "64 B to one of 1,000 users by id",
        connections: 1_000,
        load: Load::Pairs { path: "/user", size: 64 },
    },
    Scenario { name: "handshake", title: "handshake", connections: 32, load: Load::Handshake },
    Scenario { name: "idle", title: "10,000 idle connections", connections: 10_000, load: Load::Idle },
];

const fn echo(
    name: &'static str,
    title: &'static str,
    connections: usize,
    payload: Payload,
    size: usize,
    window: usize,
) -> Scenario {
    Scenario { name, title, connections, load: Load::Echo { payload, size, fragments: 1, window } }
}

/// The scenario of this name.
pub(crate) fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}
