//! The agent: what `satellite run` is made of. Each room does one thing and can be tested alone.
//!
//! | room | knows |
//! |---|---|
//! | [`cause`] | why something failed, as a code that machines can count |

pub mod cause;
