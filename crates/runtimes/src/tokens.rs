//! Enough of a lexer to find declarations in the languages of the Java virtual machine: it knows what is a comment and what
//! is a string, so that a `main` inside them is not found.

/// What a source is made of. Numbers and operators do not matter here and come as words and marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// An identifier, a keyword or a number.
    Word(&'a str),
    /// What stands between the quotes.
    Text(&'a str),
    /// Any other character.
    Mark(char),
}

/// How languages differ in what must be skipped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lexis {
    /// `/* /* */ */` is one comment.
    pub nested_comments: bool,
    /// `"… ${ code } …"`, code which may have strings of its own.
    pub interpolation: bool,
    /// `'text'` is a string, not a character.
    pub single_quoted_strings: bool,
    /// `"""raw text \"""`: a backslash means nothing in it.
    pub raw_triple_quotes: bool,
}

/// Code in strings in code in strings: nobody writes that deep, and each level takes stack.
const MAX_INTERPOLATION_DEPTH: usize = 32;

pub(crate) fn tokens(source: &str, lexis: Lexis) -> Vec<Token<'_>> {
    let mut lexer = Lexer { source, at: 0, interpolations: 0, lexis };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next() {
        tokens.push(token);
    }
    tokens
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    /// How many interpolations are open.
    interpolations: usize,
    lexis: Lexis,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let rest = self.rest();
            let first = rest.chars().next()?;
            if first.is_whitespace() {
                self.at += first.len_utf8();
            } else if rest.starts_with("//") || (self.at == 0 && rest.starts_with("#!")) {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                self.skip_comment();
            } else {
                return Some(self.token(first));
            }
        }
    }

    fn skip_comment(&mut self) {
        let (mut depth, bytes) = (0usize, self.source.as_bytes());
        while self.at < bytes.len() {
            let pair = &bytes[self.at..bytes.len().min(self.at + 2)];
            match pair {
                b"/*" if depth == 0 || self.lexis.nested_comments => {
                    depth += 1;
                    self.at += 2;
                }
                b"*/" => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.at += 1,
            }
        }
    }

    fn token(&mut self, first: char) -> Token<'a> {
        let rest = self.rest();
        if first.is_alphanumeric() || first == '_' || first == '$' {
            let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
            self.at += length;
            return Token::Word(&rest[..length]);
        }
        match first {
            '"' if rest.starts_with("\"\"\"") => self.string("\"\"\"", !self.lexis.raw_triple_quotes),
            '"' => self.string("\"", true),
            '\'' if self.lexis.single_quoted_strings && rest.starts_with("'''") => self.string("'''", true),
            '\'' if self.lexis.single_quoted_strings => self.string("'", true),
            '\'' => self.character(),
            '`' => self.quoted_identifier(),
            _ => {
                self.at += first.len_utf8();
                Token::Mark(first)
            }
        }
    }

    /// From the opening quote to behind the closing one; at the end of the source where there is none.
    fn string(&mut self, quote: &str, escapes: bool) -> Token<'a> {
        self.at += quote.len();
        let start = self.at;
        let interpolation = self.lexis.interpolation && quote.starts_with('"');
        while self.at < self.source.len() {
            let rest = self.rest();
            if rest.starts_with(quote) {
                // `""""` ends a raw string at its last three quotes, not at its first.
                let more = if quote.len() == 3 { rest[3..].bytes().take_while(|&b| b == quote.as_bytes()[0]).count() } else { 0 };
                let text = &self.source[start..self.at + more];
                self.at += quote.len() + more;
                return Token::Text(text);
            }
            if escapes && rest.starts_with('\\') {
                self.at += 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
            } else if interpolation && rest.starts_with("${") && self.interpolations < MAX_INTERPOLATION_DEPTH {
                self.skip_interpolation();
            } else if quote.len() == 1 && rest.starts_with('\n') {
                // Not closed on its line: an error to the compiler, and no reason to lose the rest of the file here.
                break;
            } else {
                self.at += rest.chars().next().map_or(1, char::len_utf8);
            }
        }
        Token::Text(&self.source[start..self.at])
    }

    fn skip_interpolation(&mut self) {
        self.at += 2;
        self.interpolations += 1;
        let mut depth = 1usize;
        while depth > 0 {
            match self.next() {
                Some(Token::Mark('{')) => depth += 1,
                Some(Token::Mark('}')) => depth -= 1,
                Some(_) => {}
                None => break,
            }
        }
        self.interpolations -= 1;
    }

    /// `'x'`, `'\n'`, `'\u0041'`; and a lone quote, which Scala's symbols have (`'name`).
    fn character(&mut self) -> Token<'a> {
        let inner = &self.rest()[1..];
        let length = match inner.chars().next() {
            Some('\\') => inner[1..].chars().next().and_then(|escaped| {
                let behind = 1 + escaped.len_utf8();
                inner[behind..].find('\'').map(|close| behind + close)
            }),
            Some(c) if inner[c.len_utf8()..].starts_with('\'') => Some(c.len_utf8()),
            _ => None,
        };
        match length {
            Some(length) => {
                self.at += length + 2;
                Token::Text(&inner[..length])
            }
            None => {
                self.at += 1;
                Token::Mark('\'')
            }
        }
    }

    fn quoted_identifier(&mut self) -> Token<'a> {
        let inner = &self.rest()[1..];
        match inner.find(['`', '\n']) {
            Some(length) if inner[length..].starts_with('`') => {
                self.at += length + 2;
                Token::Word(&inner[..length])
            }
            _ => {
                self.at += 1;
                Token::Mark('`')
            }
        }
    }
}
