//! Several at a time, in the order in which they are given out.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Calls `work` for each item on `threads` threads; what it gives, in the order of the items, or the first error.
pub fn each<T: Sync, R: Send>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> Result<R, String> + Sync,
) -> Result<Vec<R>, String> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let worker = || -> Result<(), String> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else { return Ok(()) };
            let result = work(item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?;
            done.lock().map_err(|_| "a thread failed")?.push((number, result));
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a thread failed".to_owned())?)
    })?;
    let mut done = done.into_inner().map_err(|_| "a thread failed")?;
    done.sort_unstable_by_key(|(number, _)| *number);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items_and_an_error_ends_it() {
        let items: Vec<u32> = (0..100).collect();
        assert_eq!(each(&items, 3, |item| Ok(item * 2)).unwrap()[99], 198);
        let worked = AtomicUsize::new(0);
        let failed = each(&items, 1, |item| {
            worked.fetch_add(1, Ordering::Relaxed);
            if *item == 7 { Err("seven".to_owned()) } else { Ok(()) }
        });
        assert_eq!((failed, worked.into_inner()), (Err("seven".to_owned()), 8));
    }
}
