use crate::Coded;

pub const ROWS: &[Coded] = &[];
