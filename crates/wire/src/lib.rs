//! Piston's wire format: serde types and pure translation
