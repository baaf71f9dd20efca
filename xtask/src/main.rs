//! up, test, ci, tidy, bench
fn main() {}
