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

pub mod audit;
pub mod cause;
pub mod center;
pub mod identity;
pub mod report;
pub mod schedule;
pub mod settings;
