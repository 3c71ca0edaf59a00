//! The names of keys and channels.

/// What all names of one partition begin with. The braces make Redis Cluster keep all of its keys on one server, where a script
/// can use them.
#[derive(Clone, Debug)]
pub(crate) struct Keys(String);

/// The version of the names and values here, which nodes of different versions have to agree on; and how many partitions there
/// are.
pub(crate) fn schema(partitions: usize) -> String {
    format!("1:{partitions}")
}

impl Keys {
    pub(crate) fn new(prefix: &str, tag: &str) -> Self {
        Self(format!("{prefix}:{{{tag}}}:"))
    }

    fn name(&self, kind: &str, rest: &[u8]) -> Vec<u8> {
        [self.0.as_bytes(), kind.as_bytes(), rest].concat()
    }

    /// The schema that the server's data have.
    pub(crate) fn schema(&self) -> Vec<u8> {
        self.name("v", b"")
    }

    /// Nodes, and when their leases end.
    pub(crate) fn leases(&self) -> Vec<u8> {
        self.name("n", b"")
    }

    /// Nodes, and the number of the last thing that was pushed to each.
    pub(crate) fn pushes(&self) -> Vec<u8> {
        self.name("s", b"")
    }

    /// The users who are logged in at a node.
    pub(crate) fn members(&self, node: &str) -> Vec<u8> {
        self.name("m:", node.as_bytes())
    }

    pub(crate) fn user(&self, user: &[u8]) -> Vec<u8> {
        self.name("u:", user)
    }

    pub(crate) fn log(&self, user: &[u8]) -> Vec<u8> {
        self.name("q:", user)
    }

    pub(crate) fn room(&self, room: &str) -> Vec<u8> {
        self.name("r:", room.as_bytes())
    }

    pub(crate) fn history(&self, room: &str) -> Vec<u8> {
        self.name("h:", room.as_bytes())
    }

    /// The channel of a node; without a name, what the scripts put one behind.
    pub(crate) fn node_channel(&self, node: &str) -> Vec<u8> {
        self.name("c:", node.as_bytes())
    }

    pub(crate) fn room_channel(&self, room: &str) -> Vec<u8> {
        self.name("r:", room.as_bytes())
    }

    pub(crate) fn everyone_channel(&self) -> Vec<u8> {
        self.name("all", b"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_change() {
        let keys = Keys::new("chat", "p0");
        let names = [
            (keys.schema(), "chat:{p0}:v"),
            (keys.leases(), "chat:{p0}:n"),
            (keys.pushes(), "chat:{p0}:s"),
            (keys.members("node"), "chat:{p0}:m:node"),
            (keys.user(b"anna"), "chat:{p0}:u:anna"),
            (keys.log(b"anna"), "chat:{p0}:q:anna"),
            (keys.room("lobby"), "chat:{p0}:r:lobby"),
            (keys.history("lobby"), "chat:{p0}:h:lobby"),
            (keys.node_channel("node"), "chat:{p0}:c:node"),
            (keys.room_channel("lobby"), "chat:{p0}:r:lobby"),
            (keys.everyone_channel(), "chat:{p0}:all"),
        ];
        for (name, expected) in names {
            assert_eq!(name, expected.as_bytes());
        }
    }
}
