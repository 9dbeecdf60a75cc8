//! The thread pool: one caller and any number of helper threads, which park while there is no work.
//!
//! A job is a function over a range that is cut into pieces; the caller and the helpers each take the next piece until none is left. A
//! thread becomes a helper by calling [`help`], which never returns; without helpers the caller computes everything itself. In
//! WebAssembly the helpers are workers that share the memory (`pkg/threads.js`).

#![cfg_attr(not(any(test, target_feature = "atomics")), allow(dead_code, reason = "builds without threads have no helpers"))]

use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use sync::{AtomicBool, AtomicUsize, Condvar, Mutex, Ordering, UnsafeCell, fence, spin_loop};

/// Polls of the shared state before a helper parks: some tens of microseconds, the pause between two products of a token.
const SPINS: usize = if cfg!(loom) { 1 } else { 30_000 };

/// The standard library's synchronisation.
#[cfg(not(loom))]
mod sync {
    pub use std::hint::spin_loop;
    pub use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
    pub use std::sync::{Condvar, Mutex};

    /// Like loom's, whose accesses are calls.
    pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            read(self.0.get())
        }

        pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            write(self.0.get())
        }
    }
}

/// loom's, which tries every order in which the threads' accesses can happen.
#[cfg(loom)]
mod sync {
    pub use loom::cell::UnsafeCell;
    pub use loom::hint::spin_loop;
    pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
    pub use loom::sync::{Condvar, Mutex};
}

/// A function that computes one piece of the range.
type Job<'a> = dyn Fn(Range<usize>) + Sync + 'a;

/// The job that helpers may join: the range `0..total`, in pieces of `piece_size`.
struct Offer {
    job: &'static Job<'static>,
    total: usize,
    piece_size: usize,
}

/// The state that the caller and the helpers share.
struct ThreadPool {
    /// Number of helpers.
    helpers: AtomicUsize,
    /// A caller uses the pool. A second caller (another thread of a test) computes alone.
    busy: AtomicBool,
    /// Number of jobs so far, by which a helper detects a new one.
    jobs: AtomicUsize,
    /// The number of helpers inside the job, plus `OPEN` while others may join.
    gate: AtomicUsize,
    offer: UnsafeCell<Option<Offer>>,
    /// Start of the next piece.
    next: AtomicUsize,
    /// A helper's piece of the current job panicked.
    helper_panicked: AtomicBool,
    /// Number of helpers that are parked or about to park.
    parked: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
}

const OPEN: usize = 1 << 30;

// SAFETY: `offer` is written only by the caller that holds `busy`, while the gate is closed and no helper is inside. It is read only
// inside the gate. The gate's read-modify-writes order these accesses.
unsafe impl Sync for ThreadPool {}

/// A pool without helpers: a macro, because loom's constructors are not `const`, as a static's must be.
macro_rules! pool {
    () => {
        ThreadPool {
            helpers: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
            jobs: AtomicUsize::new(0),
            gate: AtomicUsize::new(0),
            offer: UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            helper_panicked: AtomicBool::new(false),
            parked: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        }
    };
}

#[cfg(not(loom))]
static POOL: ThreadPool = pool!();
#[cfg(loom)]
static POOL: std::sync::LazyLock<ThreadPool> = std::sync::LazyLock::new(|| pool!());

/// Runs `job` over `0..total` on all threads, in pieces of up to `piece_size`, and returns when all pieces are done. If there is only one
/// piece, no helper, or another caller uses the pool, this thread computes the whole range in one call.
pub fn for_ranges(total: usize, piece_size: usize, job: impl Fn(Range<usize>) + Sync) {
    POOL.run(total, piece_size, &job);
}

/// A slice that is divided into parts of equal length, so that several threads can write different parts.
pub struct Parts<'a, T> {
    start: *mut T,
    count: usize,
    part: usize,
    _borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: `take` is the only access, and its callers promise that only one of them has a part at a time.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    /// Divides `slice` into parts of `part` elements. A remainder belongs to no part.
    pub fn new(slice: &'a mut [T], part: usize) -> Self {
        Self { start: slice.as_mut_ptr(), count: slice.len() / part.max(1), part, _borrowed: PhantomData }
    }

    /// Returns part `index`. Panics if there is no such part.
    ///
    /// # Safety
    /// No other reference to this part exists.
    #[allow(clippy::mut_from_ref, reason = "the parts are disjoint, and the caller promises not to take one twice")]
    pub unsafe fn take(&self, index: usize) -> &mut [T] {
        assert!(index < self.count, "part index out of range");
        // SAFETY: the part is inside the borrowed slice, and the caller promises that it has the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(index * self.part), self.part) }
    }
}

/// Divides `out` into parts of `part` numbers and calls `job` with each part's index and numbers, on all threads.
pub fn for_parts(out: &mut [f32], part: usize, job: impl Fn(usize, &mut [f32]) + Sync) {
    let parts = Parts::new(out, part);
    for_ranges(parts.count, 1, |range| {
        for index in range {
            // SAFETY: each index is in exactly one range, and each range is processed by one thread.
            job(index, unsafe { parts.take(index) });
        }
    });
}

/// Makes this thread a helper for the rest of its life.
#[cfg(target_feature = "atomics")]
pub fn help() -> ! {
    POOL.help()
}

impl ThreadPool {
    /// Runs a job; see [`for_ranges`].
    fn run(&self, total: usize, piece_size: usize, job: &Job<'_>) {
        if total == 0 {
            return;
        }
        if total <= piece_size || self.helpers.load(Ordering::Relaxed) == 0 || self.busy.swap(true, Ordering::Acquire) {
            job(0..total);
            return;
        }
        // SAFETY: only the lifetime changes. The job is not used after this function returns or unwinds: helpers read it inside the gate,
        // which is closed and empty by then.
        let job: &Job<'static> = unsafe { std::mem::transmute::<&Job<'_>, &Job<'static>>(job) };
        self.next.store(0, Ordering::Relaxed);
        self.offer.with_mut(|offer| {
            // SAFETY: this caller holds `busy`, and the previous caller left the gate closed and empty.
            unsafe { *offer = Some(Offer { job, total, piece_size }) };
        });
        self.gate.store(OPEN, Ordering::Release);
        self.jobs.fetch_add(1, Ordering::Release);
        // With the fence of `wait_for_job`: either that helper sees the new job, or this thread sees that it parks.
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) > 0 {
            // Under the lock, so that a helper that is about to park either has seen the new job or receives this notification.
            let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.wake.notify_all();
        }
        // Also when a piece panics: the job's data must outlive the helpers' use of it.
        let open = OpenJob(self);
        self.run_pieces(job, total, piece_size);
        drop(open);
        assert!(!self.helper_panicked.swap(false, Ordering::Relaxed), "a piece of the job panicked in another thread");
    }

    /// Joins every job from now on.
    fn help(&self) -> ! {
        self.helpers.fetch_add(1, Ordering::Relaxed);
        let mut seen = 0;
        loop {
            self.wait_for_job(&mut seen);
            self.join_job();
        }
    }

    /// Computes pieces until none is left.
    fn run_pieces(&self, job: &Job<'_>, total: usize, piece_size: usize) {
        loop {
            let start = self.next.fetch_add(piece_size, Ordering::Relaxed);
            if start >= total {
                return;
            }
            job(start..(start + piece_size).min(total));
        }
    }

    /// Joins the offered job, if it is still open. If a piece panics, the caller panics too.
    fn join_job(&self) {
        let enter = |gate: usize| (gate & OPEN != 0).then_some(gate + 1);
        if self.gate.fetch_update(Ordering::AcqRel, Ordering::Relaxed, enter).is_err() {
            return;
        }
        let pieces = AssertUnwindSafe(|| {
            self.offer.with(|offer| {
                // SAFETY: the offer is not written while a helper is inside the gate.
                if let Some(offer) = unsafe { &*offer } {
                    // The caller stays inside `run` until the gate is empty, so the data that the job borrows is alive.
                    self.run_pieces(offer.job, offer.total, offer.piece_size);
                }
            });
        });
        if catch_unwind(pieces).is_err() {
            self.helper_panicked.store(true, Ordering::Relaxed);
        }
        self.gate.fetch_sub(1, Ordering::AcqRel);
    }

    /// Returns when there is a job that `seen` does not include, and updates `seen`.
    fn wait_for_job(&self, seen: &mut usize) {
        let is_new = |seen: &mut usize| {
            let jobs = self.jobs.load(Ordering::Acquire);
            std::mem::replace(seen, jobs) != jobs
        };
        for _ in 0..SPINS {
            if is_new(seen) {
                return;
            }
            spin_loop();
        }
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.parked.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        while !is_new(seen) {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.parked.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A job that helpers may join. Dropping it closes the gate, waits for the helpers inside and lets the next caller in.
struct OpenJob<'a>(&'a ThreadPool);

impl Drop for OpenJob<'_> {
    fn drop(&mut self) {
        let pool = self.0;
        pool.gate.fetch_and(!OPEN, Ordering::AcqRel);
        // The helpers inside finish their last piece. Pieces are short: a helper that takes seconds no longer exists.
        let mut polls = 0u32;
        while pool.gate.load(Ordering::Acquire) != 0 {
            spin_loop();
            polls = polls.wrapping_add(1);
            if polls.is_multiple_of(1 << 20) {
                abort_after_20_seconds(polls >> 20);
            }
        }
        pool.busy.store(false, Ordering::Release);
    }
}

/// Aborts 20 seconds after the first of a series of calls, which are numbered by `call` from 1. A helper that no longer exists (its worker
/// was ended) occupies the gate for ever. The instance is then unusable, and the trap makes the package replace it.
#[cold]
fn abort_after_20_seconds(call: u32) {
    use std::cell::Cell;
    thread_local! {
        static SINCE: Cell<f64> = const { Cell::new(0.0) };
    }
    let now = crate::clock::now_ms();
    if call == 1 {
        SINCE.set(now);
    }
    if now - SINCE.get() >= 20_000.0 {
        std::process::abort();
    }
}

/// `npm run test:long -- loom`: every order of the accesses of a caller and its helpers, up to some preemptions.
#[cfg(all(test, loom))]
mod models {
    use super::*;
    use std::sync::Arc;

    const JOBS: usize = 2;

    /// Runs `JOBS` jobs of `pieces` pieces; each piece writes its own cell, which loom checks for races, once.
    fn jobs_with(helpers: usize, pieces: usize, preemptions: usize) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(preemptions);
        model.check(move || {
            let pool = Arc::new(pool!());
            pool.helpers.store(helpers, Ordering::Relaxed);
            let threads: Vec<_> = (0..helpers)
                .map(|_| {
                    let pool = Arc::clone(&pool);
                    loom::thread::spawn(move || {
                        let mut seen = 0;
                        while seen < JOBS {
                            pool.wait_for_job(&mut seen);
                            pool.join_job();
                        }
                    })
                })
                .collect();
            for _ in 0..JOBS {
                let written: Vec<_> = (0..pieces).map(|_| UnsafeCell::new(0)).collect();
                let written = Shared(written);
                pool.run(pieces, 1, &|range| {
                    for cell in &written.get()[range] {
                        // SAFETY: each piece is computed by one thread.
                        cell.with_mut(|count| unsafe { *count += 1 });
                    }
                });
                for cell in written.get() {
                    // SAFETY: the job is over.
                    assert_eq!(cell.with(|count| unsafe { *count }), 1);
                }
            }
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }

    struct Shared(Vec<UnsafeCell<u32>>);
    // SAFETY: each piece is computed by one thread.
    unsafe impl Sync for Shared {}
    impl Shared {
        fn get(&self) -> &[UnsafeCell<u32>] {
            &self.0
        }
    }

    #[test]
    fn one_helper() {
        jobs_with(1, 3, 3);
    }

    #[test]
    fn two_helpers() {
        jobs_with(2, 2, 2);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    /// A separate pool per test, because helpers never return.
    fn pool(helpers: usize) -> Arc<ThreadPool> {
        let pool = Arc::new(pool!());
        for _ in 0..helpers {
            let pool = Arc::clone(&pool);
            std::thread::spawn(move || pool.help());
        }
        while pool.helpers.load(Ordering::Relaxed) < helpers {
            std::thread::yield_now();
        }
        pool
    }

    #[test]
    fn every_piece_is_computed_once_for_any_number_of_helpers() {
        for helpers in [0, 1, 3] {
            let pool = pool(helpers);
            for round in 0..300usize {
                let (total, piece_size) = (1 + round * 7 % 190, 1 + round % 5);
                let counts: Vec<AtomicU64> = (0..total).map(|_| AtomicU64::new(0)).collect();
                pool.run(total, piece_size, &|range| {
                    for index in range {
                        counts[index].fetch_add(1, Ordering::Relaxed);
                    }
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{helpers} helpers, round {round}");
                if round % 100 == 99 {
                    // Long enough for the helpers to park.
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            }
        }
    }

    #[test]
    fn a_piece_that_panics_in_any_thread_makes_the_caller_panic_and_the_pool_goes_on() {
        let pool = pool(2);
        for bad in 0..40 {
            let computed = AtomicU64::new(0);
            let run = AssertUnwindSafe(|| {
                pool.run(40, 1, &|range| {
                    assert!(range.start != bad, "a test's panic");
                    computed.fetch_add(1, Ordering::Relaxed);
                });
            });
            assert!(catch_unwind(run).is_err(), "piece {bad}");
            assert_eq!(pool.gate.load(Ordering::Relaxed), 0);
            let after = AtomicU64::new(0);
            pool.run(40, 1, &|_| {
                after.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(after.load(Ordering::Relaxed), 40, "after a panic in piece {bad}");
        }
    }

    #[test]
    fn helpers_compute_some_pieces() {
        let pool = pool(1);
        let caller = std::thread::current().id();
        let helped = AtomicU64::new(0);
        for _ in 0..50 {
            pool.run(64, 1, &|_| {
                if std::thread::current().id() != caller {
                    helped.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(std::time::Duration::from_micros(100));
            });
        }
        assert!(helped.load(Ordering::Relaxed) > 0);
    }
}
