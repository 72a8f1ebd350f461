//! Assertions that failed inside a node: it goes on without that part, but a simulation ends there.
//!
//! Owns the process's panic hook. Invariant: a panic is told to the thread on which it happened, once.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on panics are kept for `take` and not printed.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let text = info.to_string().replace('\n', " ");
            LAST.with(|last| last.borrow_mut().get_or_insert(text).truncate(2_000));
        }));
    });
}

/// The first panic of this thread since the last call.
pub fn take() -> Option<String> {
    LAST.with(|last| last.borrow_mut().take())
}
