//! That it lives, and how: what is wrong and was, what systemd is told, and what people and machines can ask.
//!
//! | file | does |
//! |---|---|
//! | `troubles` | what is wrong now, and the last things that were; keeps the log small |
//! | `notify` | systemd: ready, status, watchdog |
//! | `bundle` | everything about this machine that helps somebody far away, without its secrets |
//!
//! Knows nothing of the other rooms but causes.

mod bundle;
mod notify;
mod troubles;

pub use bundle::{Bundle, Redactor};
pub use notify::{ready, say, stopping, watchdog};
pub use troubles::{Noted, Troubles};
