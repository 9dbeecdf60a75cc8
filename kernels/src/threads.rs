//! Work shared by threads: one caller and any number of helpers, which park while there is nothing to do.
//!
//! A job is a function over a range that is cut into pieces; whoever is free takes the next piece. Helpers join by calling
//! [`help`] and never come back; where nobody does, the caller computes everything itself. In WebAssembly the helpers are
//! workers that share the memory (`pkg/threads.js`).

#![cfg_attr(not(any(test, target_feature = "atomics")), allow(dead_code, reason = "nobody helps where there are no threads"))]

use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// Looks at the shared state before a helper parks: some tens of microseconds, the pause between two products of a token.
const SPINS: usize = 30_000;

/// A function that computes one range.
type Job<'a> = dyn Fn(Range<usize>) + Sync + 'a;

/// The job that is offered.
struct Offer {
    job: &'static Job<'static>,
    total: usize,
    grain: usize,
}

/// Threads and the job that they share.
struct Team {
    /// Helpers that have joined.
    helpers: AtomicUsize,
    /// A caller is at work; a second one (another thread of a test) computes alone.
    busy: AtomicBool,
    /// Counts jobs, so that a helper sees a new one.
    jobs: AtomicUsize,
    /// `OPEN` while helpers may join the job, plus the number of those inside.
    gate: AtomicUsize,
    offer: UnsafeCell<Option<Offer>>,
    /// Where the next piece begins.
    next: AtomicUsize,
    /// Helpers that are parked, or about to be.
    parked: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
}

const OPEN: usize = 1 << 30;

// SAFETY: `offer` is written only by the caller that holds `busy`, while the gate is shut and nobody is inside, and read only
// inside the gate. The gate's read-modify-writes order one before the other.
unsafe impl Sync for Team {}

static TEAM: Team = Team::new();

/// Computes `0..total` in pieces of `grain`, by all threads that are there. Returns when all of it is done.
pub fn for_ranges(total: usize, grain: usize, job: impl Fn(Range<usize>) + Sync) {
    TEAM.run(total, grain, &job);
}

/// A slice in parts of equal length, of which threads take different ones.
pub struct Parts<'a, T> {
    start: *mut T,
    count: usize,
    part: usize,
    _borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: `take` is the only access, and its callers take each part once at a time.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub fn new(slice: &'a mut [T], part: usize) -> Self {
        Self { start: slice.as_mut_ptr(), count: slice.len() / part.max(1), part, _borrowed: PhantomData }
    }

    /// # Safety
    /// Nobody has this part now.
    #[allow(clippy::mut_from_ref, reason = "the parts are disjoint, and the caller promises not to take one twice")]
    pub unsafe fn take(&self, index: usize) -> &mut [T] {
        assert!(index < self.count, "a part beyond the slice");
        // SAFETY: the part is inside the borrowed slice, and the caller promises that it is the only one to have it.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(index * self.part), self.part) }
    }
}

/// Cuts `out` into parts of `part` numbers and computes each by one thread; `job` gets its index.
pub fn for_parts(out: &mut [f32], part: usize, job: impl Fn(usize, &mut [f32]) + Sync) {
    let parts = Parts::new(out, part);
    for_ranges(parts.count, 1, |range| {
        for index in range {
            // SAFETY: every index is in one range, and every range is computed by one thread.
            job(index, unsafe { parts.take(index) });
        }
    });
}

/// Makes this thread a helper, for as long as it lives.
#[cfg(target_feature = "atomics")]
pub fn help() -> ! {
    TEAM.help()
}

impl Team {
    const fn new() -> Self {
        Self {
            helpers: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
            jobs: AtomicUsize::new(0),
            gate: AtomicUsize::new(0),
            offer: UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            parked: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    fn run(&self, total: usize, grain: usize, job: &Job<'_>) {
        if total == 0 {
            return;
        }
        if total <= grain || self.helpers.load(Ordering::Relaxed) == 0 || self.busy.swap(true, Ordering::Acquire) {
            job(0..total);
            return;
        }
        // SAFETY: only the lifetime is changed. Nobody uses the job after this function: helpers read it inside the gate, and
        // the gate is shut and empty when the function ends.
        let job: &Job<'static> = unsafe { std::mem::transmute::<&Job<'_>, &Job<'static>>(job) };
        self.next.store(0, Ordering::Relaxed);
        // SAFETY: this caller holds `busy`, and the last one left the gate shut and empty.
        unsafe { *self.offer.get() = Some(Offer { job, total, grain }) };
        self.gate.store(OPEN, Ordering::Release);
        self.jobs.fetch_add(1, Ordering::SeqCst);
        if self.parked.load(Ordering::SeqCst) > 0 {
            // Under the lock, so that a helper that is about to park has either seen the new job or hears this.
            let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
            self.wake.notify_all();
        }
        self.pieces(job, total, grain);
        self.gate.fetch_and(!OPEN, Ordering::AcqRel);
        // Those inside finish their last piece. Pieces are short: whoever takes seconds is gone, with its thread.
        let mut looks = 0u32;
        while self.gate.load(Ordering::Acquire) != 0 {
            spin_loop();
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(1 << 20) {
                give_up_after_seconds(looks >> 20);
            }
        }
        self.busy.store(false, Ordering::Release);
    }

    /// Takes part in every job from now on.
    fn help(&self) -> ! {
        self.helpers.fetch_add(1, Ordering::Relaxed);
        let mut seen = 0;
        loop {
            self.wait_for_job(&mut seen);
            self.take_part();
        }
    }

    /// Takes pieces until none is left.
    fn pieces(&self, job: &Job<'_>, total: usize, grain: usize) {
        loop {
            let start = self.next.fetch_add(grain, Ordering::Relaxed);
            if start >= total {
                return;
            }
            job(start..(start + grain).min(total));
        }
    }

    /// Joins the offered job, if it is still open.
    fn take_part(&self) {
        let enter = |gate: usize| (gate & OPEN != 0).then_some(gate + 1);
        if self.gate.fetch_update(Ordering::AcqRel, Ordering::Relaxed, enter).is_err() {
            return;
        }
        // SAFETY: inside the gate the offer is not written.
        if let Some(offer) = unsafe { &*self.offer.get() } {
            // The caller waits inside `run` until the gate is empty, so what the job borrows is alive.
            self.pieces(offer.job, offer.total, offer.grain);
        }
        self.gate.fetch_sub(1, Ordering::AcqRel);
    }

    /// Comes back when there is a job that `seen` does not count.
    fn wait_for_job(&self, seen: &mut usize) {
        let is_new = |seen: &mut usize| {
            let jobs = self.jobs.load(Ordering::SeqCst);
            std::mem::replace(seen, jobs) != jobs
        };
        for _ in 0..SPINS {
            if is_new(seen) {
                return;
            }
            spin_loop();
        }
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.parked.fetch_add(1, Ordering::SeqCst);
        while !is_new(seen) {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.parked.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A helper that broke down (a bug, a worker that was ended) leaves the gate occupied for ever. The instance is then of no use,
/// and a panic lets the package replace it.
#[cold]
fn give_up_after_seconds(looks: u32) {
    use std::cell::Cell;
    thread_local! {
        static SINCE: Cell<f64> = const { Cell::new(0.0) };
    }
    let now = crate::clock::now_ms();
    if looks == 1 {
        SINCE.set(now);
    }
    assert!(now - SINCE.get() < 20_000.0, "a helping thread is gone");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    /// A team of its own: helpers never come back.
    fn team(helpers: usize) -> Arc<Team> {
        let team = Arc::new(Team::new());
        for _ in 0..helpers {
            let team = Arc::clone(&team);
            std::thread::spawn(move || team.help());
        }
        while team.helpers.load(Ordering::Relaxed) < helpers {
            std::thread::yield_now();
        }
        team
    }

    #[test]
    fn every_piece_is_computed_once_however_many_help() {
        for helpers in [0, 1, 3] {
            let team = team(helpers);
            for round in 0..300usize {
                let (total, grain) = (1 + round * 7 % 190, 1 + round % 5);
                let counts: Vec<AtomicU64> = (0..total).map(|_| AtomicU64::new(0)).collect();
                team.run(total, grain, &|range| {
                    for index in range {
                        counts[index].fetch_add(1, Ordering::Relaxed);
                    }
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{helpers} helpers, round {round}");
                if round % 100 == 99 {
                    // Long enough for helpers to park.
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            }
        }
    }

    #[test]
    fn helpers_compute_a_part() {
        let team = team(1);
        let caller = std::thread::current().id();
        let helped = AtomicU64::new(0);
        for _ in 0..50 {
            team.run(64, 1, &|_| {
                if std::thread::current().id() != caller {
                    helped.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(std::time::Duration::from_micros(100));
            });
        }
        assert!(helped.load(Ordering::Relaxed) > 0);
    }
}
