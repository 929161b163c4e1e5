//! The pieces of statements as PostgreSQL's own programs write them.

/// A piece of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// A key word, a number, or a name without quotes.
    Word(String),
    /// What stands in double quotes.
    Quoted(String),
    /// Anything else.
    Mark(char),
}

/// Words, quoted identifiers and marks of a statement; string literals are left out.
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    /// Those of a statement.
    pub fn of(text: &'a str) -> Self {
        Self { rest: text }
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            self.rest = self.rest.trim_start();
            let first = self.rest.chars().next()?;
            if first == '"' || first == '\'' {
                let mut value = String::new();
                let mut chars = self.rest[1..].char_indices().peekable();
                let mut end = self.rest.len();
                while let Some((at, c)) = chars.next() {
                    if c != first {
                        value.push(c);
                    } else if chars.peek().is_some_and(|&(_, next)| next == first) {
                        chars.next();
                        value.push(c);
                    } else {
                        end = at + 2;
                        break;
                    }
                }
                self.rest = &self.rest[end..];
                if first == '"' {
                    return Some(Token::Quoted(value));
                }
                continue;
            }
            let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$') || !c.is_ascii();
            let length = self.rest.find(|c| !word(c)).unwrap_or(self.rest.len());
            if length == 0 {
                self.rest = &self.rest[first.len_utf8()..];
                return Some(Token::Mark(first));
            }
            let (head, tail) = self.rest.split_at(length);
            self.rest = tail;
            return Some(Token::Word(head.to_owned()));
        }
    }
}
