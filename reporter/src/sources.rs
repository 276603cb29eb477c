//! Asking the parts of the stack.

pub mod http;
