//! The words of a command line, as a POSIX shell or `cmd.exe` takes them apart.

use std::iter::Peekable;
use std::str::Chars;

/// A word, as bytes: an escape may stand for any.
pub(super) type Word = Vec<u8>;

/// The words of `line`, which may go over several lines.
///
/// # Errors
/// A quote that does not end.
pub(super) fn of(line: &str) -> Result<Vec<Word>, String> {
    if is_of_cmd(line) { of_cmd(line) } else { Posix::default().words(line) }
}

/// Whether carets escape in `line`, or double quotes are the only ones and percent signs stand
/// between them.
fn is_of_cmd(line: &str) -> bool {
    let carets = ["^\"", "^\n", "^\r\n"].iter().any(|mark| line.contains(mark));
    carets || (!line.contains('\'') && line.contains("\"%\""))
}

fn unended(quote: char) -> String {
    format!("the command has a {quote} that does not end")
}

/// The words that are complete, and the one that is not.
#[derive(Debug, Default)]
struct Posix {
    words: Vec<Word>,
    word: Option<Word>,
}

impl Posix {
    fn words(mut self, line: &str) -> Result<Vec<Word>, String> {
        let mut rest = line.chars().peekable();
        while let Some(character) = rest.next() {
            match character {
                '\'' => self.single(&mut rest)?,
                '"' => self.double(&mut rest)?,
                '$' if rest.peek() == Some(&'\'') => {
                    rest.next();
                    self.ansi(&mut rest)?;
                }
                '\\' => match rest.next() {
                    Some('\n') | None => {}
                    Some('\r') if rest.peek() == Some(&'\n') => drop(rest.next()),
                    Some(character) => self.push(character),
                },
                // The command is over. Inside a word people forgot the quotes of a URL.
                '|' | ';' | '&' if self.word.is_none() => break,
                character if character.is_whitespace() => self.end(),
                character => self.push(character),
            }
        }
        self.end();
        Ok(self.words)
    }

    fn push(&mut self, character: char) {
        let word = self.word.get_or_insert_default();
        word.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }

    fn end(&mut self) {
        self.words.extend(self.word.take());
    }

    fn single(&mut self, rest: &mut Peekable<Chars<'_>>) -> Result<(), String> {
        self.word.get_or_insert_default();
        for character in rest {
            if character == '\'' {
                return Ok(());
            }
            self.push(character);
        }
        Err(unended('\''))
    }

    fn double(&mut self, rest: &mut Peekable<Chars<'_>>) -> Result<(), String> {
        self.word.get_or_insert_default();
        while let Some(character) = rest.next() {
            match character {
                '"' => return Ok(()),
                '\\' => match rest.next() {
                    Some('\n') | None => {}
                    Some(escaped @ ('"' | '\\' | '$' | '`')) => self.push(escaped),
                    Some(other) => {
                        self.push('\\');
                        self.push(other);
                    }
                },
                character => self.push(character),
            }
        }
        Err(unended('"'))
    }

    /// `$'…'`, which browsers write where a text has line ends or exclamation marks.
    fn ansi(&mut self, rest: &mut Peekable<Chars<'_>>) -> Result<(), String> {
        self.word.get_or_insert_default();
        while let Some(character) = rest.next() {
            match character {
                '\'' => return Ok(()),
                '\\' => self.escape(rest),
                character => self.push(character),
            }
        }
        Err(unended('\''))
    }

    fn escape(&mut self, rest: &mut Peekable<Chars<'_>>) {
        let Some(kind) = rest.next() else { return };
        match kind {
            'n' => self.push('\n'),
            'r' => self.push('\r'),
            't' => self.push('\t'),
            'x' => {
                let byte = u8::try_from(digits(rest, Digits { radix: 16, most: 2 })).unwrap_or(0);
                self.word.get_or_insert_default().push(byte);
            }
            '0'..='7' => {
                let first = kind.to_digit(8).unwrap_or(0);
                let more = rest.clone().take_while(|c| c.is_digit(8)).take(2).count();
                let tail = digits(rest, Digits { radix: 8, most: 2 });
                let number = first * 8_u32.pow(u32::try_from(more).unwrap_or(0)) + tail;
                self.word.get_or_insert_default().push(u8::try_from(number).unwrap_or(0));
            }
            'u' | 'U' => {
                let most = if kind == 'u' { 4 } else { 8 };
                let unit = digits(rest, Digits { radix: 16, most });
                self.push(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            other => self.push(other),
        }
    }
}

/// How a number is written.
#[derive(Clone, Copy)]
struct Digits {
    radix: u32,
    most: usize,
}

fn digits(rest: &mut Peekable<Chars<'_>>, of: Digits) -> u32 {
    let mut number = 0_u32;
    for _ in 0..of.most {
        let Some(digit) = rest.peek().and_then(|digit| digit.to_digit(of.radix)) else { break };
        number = number.wrapping_mul(of.radix).wrapping_add(digit);
        rest.next();
    }
    number
}

/// The words that a program gets from `cmd.exe`: carets are taken away first, then quotes.
fn of_cmd(line: &str) -> Result<Vec<Word>, String> {
    let (mut words, mut word): (Vec<Word>, Option<String>) = (Vec::new(), None);
    let line = without_carets(line);
    let mut rest = line.chars().peekable();
    let mut is_quoted = false;
    while let Some(character) = rest.next() {
        match character {
            '\\' if matches!(rest.peek(), Some('"' | '\\')) => {
                word.get_or_insert_default().extend(rest.next());
            }
            // Two quotes inside quotes are one that is meant.
            '"' if is_quoted && rest.peek() == Some(&'"') => {
                rest.next();
                word.get_or_insert_default().push('"');
            }
            '"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            '|' | '&' if !is_quoted && word.is_none() => break,
            character if character.is_whitespace() && !is_quoted => {
                words.extend(word.take().map(String::into_bytes));
            }
            character => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word.take().map(String::into_bytes));
    if is_quoted { Err(unended('"')) } else { Ok(words) }
}

/// `line` as `cmd.exe` passes it on: a caret outside of quotes escapes what follows it.
fn without_carets(line: &str) -> String {
    let line = line.replace("\r\n", "\n");
    let mut out = String::with_capacity(line.len());
    let mut rest = line.chars().peekable();
    let mut is_quoted = false;
    while let Some(character) = rest.next() {
        match character {
            '^' if !is_quoted => match rest.next() {
                // A line end that is meant is written twice.
                Some('\n') if rest.peek() == Some(&'\n') => out.extend(rest.next()),
                Some('\n') => out.push(' '),
                other => out.extend(other),
            },
            '"' => {
                is_quoted = !is_quoted;
                out.push('"');
            }
            character => out.push(character),
        }
    }
    out
}
