//! When things are done: by a period or a cron line, in windows of the site's time, with a clock that may be of 1970.
//!
//! | file | does |
//! |---|---|
//! | `text` | [`Schedule`]: `@every 00h00m30s` and `15 3 * * *` |
//! | `window` | [`Windows`]: may it run now, and when may it |
//! | `ticks` | [`Ticks`]: the machine's clocks, so that tests can have others |
//! | `clock` | [`Clock`]: the time of day as far as it is known, over restarts |
//! | `job` | [`Job`]: does something at its times for ever, and says how that went |
//!
//! Periods and waits go by the monotonic clock alone. Uses `agent::cause` and the type of `settings::Window`.

mod clock;
mod job;
#[cfg(test)]
pub(in crate::agent) mod testing;
mod text;
mod ticks;
mod window;

pub use clock::{Clock, Reading};
pub use job::{Job, JobHandle, Options, Status};
pub use text::{Cron, Schedule, ScheduleError};
pub use ticks::{MachineTicks, Sleep, Ticks};
pub use window::{Opening, Windows};
