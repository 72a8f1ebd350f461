//! Text from a client as it may stand in a log line or an error message.
//!
//! Invariant: no control character, no line end and no more than 64 characters come out (log injection).

use std::fmt;

const CHARACTERS_MAX: usize = 64;

/// Shows foreign text escaped and cut.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars().take(CHARACTERS_MAX) {
            write!(f, "{}", character.escape_debug())?;
        }
        if self.0.chars().nth(CHARACTERS_MAX).is_some() { f.write_str("…") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_start_a_line_or_colour_a_terminal() {
        assert_eq!(Shown("a\nERROR b\u{1b}[31m\0").to_string(), "a\\nERROR b\\u{1b}[31m\\0");
    }

    #[test]
    fn foreign_text_is_cut() {
        assert_eq!(Shown(&"x".repeat(1000)).to_string().chars().count(), CHARACTERS_MAX + 1);
    }
}
