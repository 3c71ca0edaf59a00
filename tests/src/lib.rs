//! What the behaviour suite is written against: a server of any adapter, and a client that can misbehave.
