//! Ground Control: the fleet server.
//!
//! A room a folder; dependencies point down this list only.
//!
//! | module | is | may use |
//! |---|---|---|
//! | [`central`] | where state artifacts and robot accounts live: Harbor, any registry, or the one embedded here | – |

pub mod central;
