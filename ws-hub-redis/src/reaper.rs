//! Tidies up after nodes that are gone: their logins are over, and what they left behind goes to others.

use crate::error::Failure;
use crate::link::{Link, Value};
use crate::reply::{list, number};
use crate::script::{Call, Script};
use crate::shared::Shared;

/// Users whose logins are ended with one call.
const USERS: u64 = 128;

/// Tidies up after nodes. What fails is done by another node, or the next time.
pub(crate) async fn reap(shared: &Shared, dead: &[String]) {
    let after = u64::try_from(shared.settings.reaped_after().as_millis()).unwrap_or(u64::MAX);
    for node in dead {
        let Some(lines) = shared.state.borrow().lines.clone() else { return };
        match end_all_of(shared, &lines.link, node, after).await {
            Ok(()) => tracing::info!(node, "tidied up after a node that is gone"),
            Err(failure) => {
                tracing::warn!(
                    node,
                    error = &failure as &dyn std::error::Error,
                    "a node that is gone is left"
                );
            }
        }
    }
}

/// Ends all logins of a node whose lease ended so many milliseconds ago.
pub(crate) async fn end_all_of(shared: &Shared, link: &Link, node: &str, after: u64) -> Result<(), Failure> {
    let members = shared.keys.members(node);
    loop {
        let some = Call::plain("SRANDMEMBER", members.clone()).number(USERS);
        let users = list(one(link, some).await?)?;
        let call = shared.script_of(Script::Reap, node).number(after);
        let call = users.into_iter().fold(call, |call, user| call.key(shared.keys.user(&user)).bytes(user));
        let left = one(link, call).await?;
        if left == Value::Int(-1) || number(&left)? == 0 {
            return Ok(());
        }
    }
}

async fn one(link: &Link, call: Call) -> Result<Value, Failure> {
    link.call(&[call]).await.pop().unwrap_or_else(|| Err(Failure::unknown("no answer")))
}
