//! Which request the engine works for, in case the work ends in a trap: then the surrounding program reads it from the instance, which can
//! do nothing else any more.

use std::sync::atomic::{AtomicU32, Ordering};

/// The ticket of the request; 0 while the work is for several requests, or for the one that polls.
static TICKET: AtomicU32 = AtomicU32::new(0);

/// Records for which request the engine works from now on; 0 for none in particular.
pub fn work_for(ticket: u32) {
    TICKET.store(ticket, Ordering::Relaxed);
}

/// The ticket that was recorded last.
pub fn ticket() -> u32 {
    TICKET.load(Ordering::Relaxed)
}
