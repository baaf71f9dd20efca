//! Who is asking, and what they may do.
#![forbid(unsafe_code)]
