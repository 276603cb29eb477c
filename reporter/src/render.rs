//! A report for people in a terminal or a browser, for a document, and for programs.

pub mod html;
pub mod json;
pub mod markdown;
pub mod svg;
pub mod terminal;
pub mod text;
