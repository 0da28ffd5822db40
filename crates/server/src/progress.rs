//! How far the state is applied here, for those who wait for it.
//!
//! Kept beside the state, in a few atomic numbers: whoever applies looks once whether anybody waits, and has nothing more
//! to do while nobody does.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use duet_protocol::Lsn;
use tokio::sync::Notify;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    applied: AtomicU64,
    waiting: AtomicUsize,
    moved: Notify,
    /// Up to where the peer was told that entries are committed because somebody waits for it there.
    announced: AtomicU64,
}

impl Progress {
    /// The state is applied up to here. The order of the two numbers matters: who waits counts itself before it looks.
    pub(crate) fn reached(&self, lsn: Lsn) {
        self.applied.store(lsn.0, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.moved.notify_waiters();
        }
    }

    /// Up to where the state is applied.
    pub(crate) fn applied(&self) -> Lsn {
        Lsn(self.applied.load(Ordering::SeqCst))
    }

    /// Returns once the state is applied up to there.
    pub(crate) async fn until(&self, lsn: Lsn) {
        if self.applied() >= lsn {
            return;
        }
        let _counted = Counted::of(&self.waiting);
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            if self.applied() >= lsn {
                return;
            }
            moved.await;
        }
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Whether the peer has yet to be told that entries up to there are committed; the first one who asks has to tell.
    pub(crate) fn is_news(&self, lsn: Lsn) -> bool {
        self.announced.fetch_max(lsn.0, Ordering::SeqCst) < lsn.0
    }
}

/// One who waits, until it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl Counted<'_> {
    fn of(waiting: &AtomicUsize) -> Counted<'_> {
        waiting.fetch_add(1, Ordering::SeqCst);
        Counted(waiting)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn who_waits_goes_on_when_it_is_reached() {
        let progress = Arc::new(Progress::default());
        progress.reached(Lsn(3));
        progress.until(Lsn(3)).await;
        let its = progress.clone();
        let waiting = tokio::spawn(async move { its.until(Lsn(5)).await });
        while progress.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        progress.reached(Lsn(4));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        progress.reached(Lsn(6));
        waiting.await.unwrap();
        assert_eq!(progress.waiting(), 0);
    }

    #[test]
    fn the_peer_is_told_once() {
        let progress = Progress::default();
        assert!(progress.is_news(Lsn(4)) && !progress.is_news(Lsn(4)) && !progress.is_news(Lsn(3)));
        assert!(progress.is_news(Lsn(5)));
    }
}
