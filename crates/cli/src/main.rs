//! The binary greenroom: commands, configuration, wiring
fn main() {}
