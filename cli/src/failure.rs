//! How a command ends badly.

use std::fmt;
use std::process::ExitCode;

/// Something that the owner mends in a flag, a file or a setting: exit code 2. Everything else is 1.
#[derive(Debug)]
struct Mistake(String);

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mistake {}

/// An error whose exit code is 2. The message names the file, the key and the mend; several lines are several mistakes.
pub fn mistake(message: String) -> anyhow::Error {
    Mistake(message).into()
}

/// Prints the whole chain on one line, and tells the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let code = if error.chain().any(|cause| cause.is::<Mistake>()) { 2 } else { 1 };
    for line in format!("{error:#}").lines() {
        eprintln!("nexus: {}", crate::text::plain(line));
    }
    ExitCode::from(code)
}
