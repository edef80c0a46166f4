//! What is known of a fleet without asking anybody: pure functions of rows. No I/O.
//!
//! | file | says |
//! |---|---|
//! | `health` | how a satellite is, from when it was seen last |
//! | `selector` | which satellites labels choose |
//! | `reference` | the parts of an image reference as satellites report them |
//! | `drift` | what a satellite lacks of what its groups want |

pub mod drift;
pub mod health;
pub mod reference;
pub mod selector;
