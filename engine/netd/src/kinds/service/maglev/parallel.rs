//! Work over tables, spread over the processors.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// So many slots are worth a thread: they take about half a millisecond, a thread begins within a tenth of that.
const SLOTS_PER_THREAD: u64 = 65_536;

/// What `make` makes of each item, in their order; `slots` is how many slots all of it is about, together.
pub fn in_parallel<T: Sync, R: Send>(items: &[T], slots: u64, make: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let worth = usize::try_from(slots / SLOTS_PER_THREAD).unwrap_or(usize::MAX);
    let threads = processors.min(worth).min(items.len());
    if threads < 2 {
        return items.iter().map(make).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut made = Vec::new();
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some(item) = items.get(at)
        {
            made.push((at, make(item)));
        }
        made
    };
    let mut made: Vec<(usize, R)> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut made = work();
        for other in others {
            made.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        made
    });
    made.sort_unstable_by_key(|&(at, _)| at);
    made.into_iter().map(|(_, made)| made).collect()
}
