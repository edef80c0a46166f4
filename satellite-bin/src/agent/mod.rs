//! The agent: what `satellite run` is made of. Each room does one thing and can be tested alone.
//!
//! | room | knows |
//! |---|---|
//! | [`audit`] | who did what, for those who have to prove it |
//! | [`cause`] | why something failed, as a code that machines can count |
//! | [`center`] | Ground Control's routes, and what its refusals mean |
//! | [`report`] | what Ground Control is told, and what its answer makes of the account |
//! | [`schedule`] | when things are done, and what time it is |
//! | [`settings`] | what it shall be: flags, environment, files, and what Ground Control publishes |
//! | [`identity`] | who it is: token, certificate, device key, renewal |
//! | [`state`] | what it shall hold, and bringing the store in line with it |
//! | [`byo`] | the same, for a registry of the user's own |
//! | [`run`] | all of it together |
//! | [`life`] | that it lives, and how: troubles, systemd, support bundle |

pub mod audit;
pub mod byo;
pub mod cause;
pub mod center;
pub mod identity;
pub mod life;
pub mod report;
pub mod run;
pub mod schedule;
pub mod settings;
pub mod state;
