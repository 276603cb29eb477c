//! Secrets read from files, kept out of logs.

use std::io::Read;
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;

/// No token or password is longer; a larger file is a wrong path.
const SIZE_LIMIT: u64 = 4096;

/// A token or password. `Debug` and `Display` never show it.
#[derive(Clone)]
pub struct Secret(String);

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("can't read the secret file {}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the secret file {} is empty", path.display())]
    Empty { path: PathBuf },
    #[error("the secret file {} holds more than one line or more than {SIZE_LIMIT} bytes", path.display())]
    NotOneLine { path: PathBuf },
}

impl Secret {
    /// The one line of a file, without surrounding white space.
    pub fn read(path: &Path) -> Result<Secret, SecretError> {
        let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(unreadable)?;
        file.take(SIZE_LIMIT + 1).read_to_string(&mut text).map_err(unreadable)?;
        let secret = text.trim();
        if secret.is_empty() {
            return Err(SecretError::Empty { path: path.to_owned() });
        }
        if text.len() as u64 > SIZE_LIMIT || secret.chars().any(char::is_control) {
            return Err(SecretError::NotOneLine { path: path.to_owned() });
        }
        Ok(Secret(secret.to_owned()))
    }

    /// The secret itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in a time that does not tell how much of a guess was right.
    pub fn matches(&self, guess: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(guess).into()
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Secret(secret)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_read_and_anything_else_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let read = |content: &str| {
            std::fs::write(&path, content).unwrap();
            Secret::read(&path).map(|secret| secret.expose().to_owned()).map_err(|error| error.to_string())
        };
        assert_eq!(read("abc\n").as_deref(), Ok("abc"));
        assert_eq!(read("  a b \r\n").as_deref(), Ok("a b"));
        assert!(read(" \n").unwrap_err().ends_with("is empty"));
        assert!(read("a\nb\n").unwrap_err().contains("more than one line"));
        assert!(read(&"x".repeat(5000)).unwrap_err().contains("more than 4096 bytes"));
        assert!(
            Secret::read(&folder.path().join("none")).unwrap_err().to_string().starts_with("can't read the secret")
        );
    }

    #[test]
    fn debug_hides_it() {
        assert_eq!(format!("{:?}", Secret::from("hunter2".to_owned())), "[secret]");
    }
}
