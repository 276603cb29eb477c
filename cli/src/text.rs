//! Writing to the terminal.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};
pub use nexus_reporter::render::terminal::{Paint, ago, clock, duration, local, plain, shorten, table};
pub use nexus_reporter::report::format::count;

/// Prints to stdout. A closed pipe (`nexus incidents | head`) is no error.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write the output"),
        _ => Ok(()),
    }
}

/// Colour, when stdout is a terminal and nobody said NO_COLOR.
pub fn paint_for_stdout() -> Paint {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    Paint::new(wanted && io::stdout().is_terminal())
}
