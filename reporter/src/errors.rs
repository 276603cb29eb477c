//! Errors for people.

/// An error and what is behind it, on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let said = source.to_string();
        // Some libraries say the reason in their own message too.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_twice() {
        let inner = std::io::Error::other("no route");
        assert_eq!(chain(&inner), "no route");
        #[derive(Debug, thiserror::Error)]
        #[error("asking")]
        struct Outer(#[source] std::io::Error);
        assert_eq!(chain(&Outer(inner)), "asking: no route");
    }
}
