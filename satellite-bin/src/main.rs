//! The satellite command.
fn main() {}
