//! The memory of each thread: counted, and limited as in WebAssembly, so that an input that asks for too much fails at once.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Bytes that one thread may hold. What is allocated beyond that fails: as an error where the crate expects it, otherwise by ending the process.
const LIMIT: usize = 1 << 30;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call is passed on to the system's allocator with the caller's arguments, or answered with null, which is allowed at any time.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that ends has no counters any more.
        let held = HELD.try_with(Cell::get).unwrap_or(0).saturating_add(layout.size());
        if held > LIMIT {
            return std::ptr::null_mut();
        }
        let _ = HELD.try_with(|cell| cell.set(held));
        let _ = MOST.try_with(|cell| cell.set(cell.get().max(held)));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let _ = HELD.try_with(|cell| cell.set(cell.get().saturating_sub(layout.size())));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What `work` returns, and the most bytes that this thread held meanwhile besides those that it held before.
pub fn most_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    MOST.set(before);
    let result = work();
    (result, MOST.get() - before)
}
