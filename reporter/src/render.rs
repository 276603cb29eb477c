//! A report for people in a terminal, for a document, and for programs.

pub mod json;
pub mod markdown;
pub mod terminal;
pub mod text;
