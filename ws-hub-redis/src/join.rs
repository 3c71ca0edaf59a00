//! Waiting for several things at once.

use std::future::poll_fn;
use std::task::Poll;

use futures_core::future::BoxFuture;

/// What all of them come to, in their order.
pub(crate) async fn join_all<T>(futures: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(|it| (Some(it), None)).collect();
    poll_fn(|cx| {
        for (future, value) in &mut futures {
            let Some(waiting) = future else { continue };
            if let Poll::Ready(ready) = waiting.as_mut().poll(cx) {
                (*future, *value) = (None, Some(ready));
            }
        }
        if futures.iter().all(|(future, _)| future.is_none()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    futures.into_iter().filter_map(|(_, value)| value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_are_waited_for_and_stay_in_order() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let slow = Box::pin(async { receiver.await.unwrap() });
        let fast = Box::pin(async {
            sender.send(1).unwrap();
            2
        });
        assert_eq!(join_all(vec![slow as BoxFuture<'_, _>, fast]).await, [1, 2]);
        assert_eq!(join_all::<()>(Vec::new()).await, []);
    }
}
