//! What the server is asked: scripts, which are atomic, and some plain commands.

use ws_hub::{Page, Position};

use crate::config::Bounds;
use crate::keys::Keys;

macro_rules! code {
    ($publish:literal, $file:literal) => {
        concat!(
            "local PUBLISH = ",
            $publish,
            "\n",
            include_str!("scripts/common.lua"),
            include_str!(concat!("scripts/", $file)),
        )
    };
}

macro_rules! scripts {
    ($($script:ident $file:literal)*) => {
        /// A script, by its name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Script {
            $($script,)*
        }

        impl Script {
            pub(crate) const ALL: &[Self] = &[$(Self::$script,)*];

            /// As a server of a cluster gets it, or one that has no others.
            pub(crate) const fn code(self, is_sharded: bool) -> &'static str {
                match self {
                    $(Self::$script if is_sharded => code!("'SPUBLISH'", $file),
                    Self::$script => code!("'PUBLISH'", $file),)*
                }
            }
        }
    };
}

scripts! {
    Acknowledge "acknowledge.lua"
    Append "append.lua"
    AppendToRoom "append_to_room.lua"
    Close "close.lua"
    Count "count.lua"
    Login "login.lua"
    Logout "logout.lua"
    Nodes "nodes.lua"
    Read "read.lua"
    ReadRoom "read_room.lua"
    Reap "reap.lua"
    Reassert "reassert.lua"
    Renew "renew.lua"
}

/// The greatest number that Lua has without gaps.
const MOST: u64 = (1 << 53) - 1;

/// The most that one page has, whatever is asked for.
const PAGE: Page = Page { messages: 1024, bytes: 4 * 1024 * 1024 };

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    Script(Script),
    Plain(&'static str),
}

/// A call of the server.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) what: What,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) args: Vec<Vec<u8>>,
}

impl Call {
    /// A script, with what all of them are given.
    pub(crate) fn script(script: Script, keys: &Keys, node: &str, bounds: &Bounds) -> Self {
        // a key that is not needed, and is not there, would make it wait while a cluster moves the slot
        let has_members = matches!(script, Script::Login | Script::Logout | Script::Reap | Script::Reassert);
        let members = if has_members { keys.members(node) } else { keys.leases() };
        let call = Self {
            what: What::Script(script),
            keys: vec![keys.leases(), keys.pushes(), members],
            args: vec![keys.node_channel(""), node.as_bytes().to_vec()],
        };
        [
            bounds.user_messages,
            bounds.user_bytes,
            bounds.time_to_live,
            bounds.history_messages,
            bounds.history_time,
        ]
        .into_iter()
        .fold(call, Self::number)
    }

    /// A command that is no script.
    pub(crate) fn plain(command: &'static str, key: Vec<u8>) -> Self {
        Self { what: What::Plain(command), keys: vec![key], args: Vec::new() }
    }

    pub(crate) fn key(mut self, key: Vec<u8>) -> Self {
        self.keys.push(key);
        self
    }

    pub(crate) fn bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.args.push(bytes.into());
        self
    }

    /// Numbers that no log has are those that are at least not in this one.
    pub(crate) fn number(self, number: u64) -> Self {
        self.bytes(number.min(MOST).to_string())
    }

    pub(crate) fn flag(self, flag: bool) -> Self {
        self.number(u64::from(flag))
    }

    pub(crate) fn page(self, page: Page) -> Self {
        self.number(page.messages.min(PAGE.messages) as u64).number(page.bytes.min(PAGE.bytes) as u64)
    }

    /// How many bytes it has, about.
    pub(crate) fn size(&self) -> usize {
        self.keys.iter().chain(&self.args).map(|it| it.len() + 16).sum::<usize>() + 64
    }
}

/// The number as the scripts unpack it.
pub(crate) fn packed(number: u64) -> [u8; 8] {
    number.min(MOST).to_be_bytes()
}

/// A number and an id, as the scripts look for them.
pub(crate) fn place(position: &Position) -> Vec<u8> {
    [packed(position.number), position.id.get().to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_exact() {
        assert_eq!(packed(u64::MAX), 9_007_199_254_740_991_u64.to_be_bytes());
        let call = Call::plain("GET", b"key".to_vec()).number(u64::MAX).number(17).flag(true);
        assert_eq!(call.args, [b"9007199254740991".to_vec(), b"17".to_vec(), b"1".to_vec()]);
    }

    #[test]
    fn each_script_has_its_own_code() {
        for (at, script) in Script::ALL.iter().enumerate() {
            assert_eq!(*script as usize, at);
            for (is_sharded, publish) in [(false, "'PUBLISH'"), (true, "'SPUBLISH'")] {
                let code = script.code(is_sharded);
                let common = format!("local PUBLISH = {publish}\n{}", include_str!("scripts/common.lua"));
                assert!(code.starts_with(&common));
                assert_eq!(code.matches("PUBLISH'").count(), 1);
            }
        }
    }
}
