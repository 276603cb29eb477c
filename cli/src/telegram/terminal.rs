//! Who answers questions: a person at a terminal, or nobody.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use anyhow::{Context, Result, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Far longer than any token.
const LONGEST: usize = 512;

pub enum Asked {
    Terminal,
    Nobody,
    #[cfg(test)]
    Script(std::collections::VecDeque<String>),
}

impl Asked {
    /// Stdin and stderr, if a person sits there: stdout may be kept for later.
    pub fn here() -> Asked {
        if io::stdin().is_terminal() && io::stderr().is_terminal() { Asked::Terminal } else { Asked::Nobody }
    }

    pub fn is_nobody(&self) -> bool {
        matches!(self, Asked::Nobody)
    }

    /// One line; `None` when there is nobody.
    pub fn shown(&mut self, question: &str) -> Result<Option<String>> {
        match self {
            Asked::Nobody => Ok(None),
            #[cfg(test)]
            Asked::Script(answers) => Ok(answers.pop_front()),
            Asked::Terminal => {
                ask(question)?;
                let mut line = String::new();
                let read = io::stdin().lock().read_line(&mut line).context("cannot read the answer")?;
                if read == 0 {
                    bail!("interrupted, nothing was changed");
                }
                Ok(Some(line.trim().to_owned()))
            }
        }
    }

    /// The same, without showing what is typed.
    pub fn hidden(&mut self, question: &str) -> Result<Option<String>> {
        if !matches!(self, Asked::Terminal) {
            return self.shown(question);
        }
        ask(question)?;
        let stdin = io::stdin();
        let before = tcgetattr(&stdin).context("cannot look at the terminal")?;
        let mut quiet = before.clone();
        // Ctrl-C comes as a character: a process that it ended here would leave the terminal mute.
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcsetattr(&stdin, OptionalActions::Now, &quiet).context("cannot hide what is typed")?;
        let _restored = Restore(before);
        let line = line_of(stdin.lock().bytes());
        // The end of the line was not shown either.
        let _ = writeln!(io::stderr());
        line.map(Some)
    }
}

fn ask(question: &str) -> Result<()> {
    let mut stderr = io::stderr();
    stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush()).context("cannot ask")
}

struct Restore(Termios);

impl Drop for Restore {
    fn drop(&mut self) {
        // There is nothing else to try.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// What is typed up to Enter, with the keys that a terminal would have handled.
fn line_of(bytes: impl Iterator<Item = io::Result<u8>>) -> Result<String> {
    let mut line = Vec::new();
    for byte in bytes {
        match byte.context("cannot read the answer")? {
            b'\r' | b'\n' => break,
            // Ctrl-C and Ctrl-D.
            3 | 4 => bail!("interrupted, nothing was changed"),
            8 | 0x7f => _ = line.pop(),
            // Ctrl-U.
            0x15 => line.clear(),
            byte => line.push(byte),
        }
        if line.len() > LONGEST {
            bail!("this is no token: it is longer than {LONGEST} characters");
        }
    }
    Ok(String::from_utf8_lossy(&line).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_what_they_do_on_a_terminal() {
        let check = |typed: &str, expected: Option<&str>| {
            let line = line_of(typed.bytes().map(Ok));
            assert_eq!(line.ok().as_deref(), expected, "{typed:?}");
        };
        check("1:abc\nrest", Some("1:abc"));
        check("1:abd\u{7f}c\r", Some("1:abc"));
        check("wrong\u{15}1:a\n", Some("1:a"));
        check("1:a\u{3}", None);
        check(&"x".repeat(513), None);
    }
}
