//! Finds where a JSON value ends, and says in Go's words why there is none.
//!
//! Bytes may come in pieces of any size: a stream of requests is a stream of values with nothing but space between them.

use super::Malformed;

/// Objects and arrays that may stand in each other: Go's limit.
const DEPTH: usize = 10_000;

/// See the module.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    /// What is open around the present place.
    open: Vec<Open>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Open {
    /// An object, of which a key comes.
    Key,
    /// An object, of which a value comes.
    Value,
    Array,
}

/// What may come next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Begin,
    BeginOrEndOfArray,
    KeyOrEndOfObject,
    Key,
    AfterValue,
    Text,
    Escape,
    /// So many hexadecimal digits.
    Hex(u8),
    Minus,
    Zero,
    Digits,
    Dot,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    /// The rest of `true`, `false` or `null`, from this place on.
    Literal(&'static str, usize),
    /// After the outermost value.
    End,
}

/// What a byte does.
enum Step {
    More,
    /// It ends the value and belongs to it.
    Last,
    /// The value has ended before it.
    Beyond,
}

impl Default for Scanner {
    fn default() -> Scanner {
        Scanner { state: State::Begin, open: Vec::new() }
    }
}

impl Scanner {
    /// Checks that a text is one value.
    ///
    /// # Errors
    /// It is not.
    pub fn check(text: &[u8]) -> Result<(), Malformed> {
        let mut scanner = Scanner::default();
        let end = match scanner.find_end(text)? {
            Some(end) => end,
            None if scanner.ends_here() => text.len(),
            None => return Err(Malformed::new("unexpected end of JSON input")),
        };
        match text[end..].iter().find(|byte| !is_space(**byte)) {
            None => Ok(()),
            Some(byte) => Err(unexpected(*byte, "after top-level value")),
        }
    }

    /// Goes on with the next bytes; how many of them belong to the value, once it has ended.
    ///
    /// # Errors
    /// It is no JSON.
    pub fn find_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        for (index, byte) in bytes.iter().enumerate() {
            match self.step(*byte)? {
                Step::More => {}
                Step::Last => return Ok(Some(index + 1)),
                Step::Beyond => return Ok(Some(index)),
            }
        }
        Ok(None)
    }

    /// Whether the value is whole if nothing more comes: only of a number is that not known before.
    pub fn ends_here(&self) -> bool {
        let number = matches!(
            self.state,
            State::Zero | State::Digits | State::Fraction | State::ExponentDigits | State::End
        );
        number && self.open.is_empty()
    }

    /// Whether nothing but space has come.
    pub fn is_blank(&self) -> bool {
        self.state == State::Begin && self.open.is_empty()
    }

    fn step(&mut self, byte: u8) -> Result<Step, Malformed> {
        let state = self.state;
        match state {
            State::Text => {
                match byte {
                    b'"' => return Ok(self.value_ended()),
                    b'\\' => self.state = State::Escape,
                    0..0x20 => return Err(unexpected(byte, "in string literal")),
                    _ => {}
                }
                Ok(Step::More)
            }
            State::Escape => self.go(match byte {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => State::Text,
                b'u' => State::Hex(4),
                _ => return Err(unexpected(byte, "in string escape code")),
            }),
            State::Hex(left) if byte.is_ascii_hexdigit() => {
                self.go(if left == 1 { State::Text } else { State::Hex(left - 1) })
            }
            State::Hex(_) => Err(unexpected(byte, "in \\u hexadecimal character escape")),
            State::Literal(word, place) => self.literal(word, place, byte),
            State::Begin
            | State::BeginOrEndOfArray
            | State::KeyOrEndOfObject
            | State::Key
            | State::AfterValue
                if is_space(byte) =>
            {
                Ok(Step::More)
            }
            State::BeginOrEndOfArray if byte == b']' => Ok(self.close()),
            State::Begin | State::BeginOrEndOfArray => self.begin(byte),
            State::KeyOrEndOfObject if byte == b'}' => Ok(self.close()),
            State::KeyOrEndOfObject | State::Key => match byte {
                b'"' => self.go(State::Text),
                _ => Err(unexpected(byte, "looking for beginning of object key string")),
            },
            State::AfterValue => self.after_value(byte),
            State::End => Ok(Step::Beyond),
            _ => self.number(state, byte),
        }
    }

    #[allow(clippy::unnecessary_wraps)] // reads better where it is used
    fn go(&mut self, state: State) -> Result<Step, Malformed> {
        self.state = state;
        Ok(Step::More)
    }

    fn begin(&mut self, byte: u8) -> Result<Step, Malformed> {
        match byte {
            b'{' => self.enter(byte, Open::Key, State::KeyOrEndOfObject),
            b'[' => self.enter(byte, Open::Array, State::BeginOrEndOfArray),
            b'"' => self.go(State::Text),
            b'-' => self.go(State::Minus),
            b'0' => self.go(State::Zero),
            b'1'..=b'9' => self.go(State::Digits),
            b't' => self.go(State::Literal("true", 1)),
            b'f' => self.go(State::Literal("false", 1)),
            b'n' => self.go(State::Literal("null", 1)),
            _ => Err(unexpected(byte, "looking for beginning of value")),
        }
    }

    fn enter(&mut self, byte: u8, open: Open, state: State) -> Result<Step, Malformed> {
        if self.open.len() == DEPTH {
            return Err(unexpected(byte, "exceeded max depth"));
        }
        self.open.push(open);
        self.go(state)
    }

    /// The innermost object or array has ended.
    fn close(&mut self) -> Step {
        self.open.pop();
        self.value_ended()
    }

    fn value_ended(&mut self) -> Step {
        if self.open.is_empty() {
            self.state = State::End;
            return Step::Last;
        }
        self.state = State::AfterValue;
        Step::More
    }

    fn literal(&mut self, word: &'static str, place: usize, byte: u8) -> Result<Step, Malformed> {
        let expected = word.as_bytes()[place];
        if byte != expected {
            let context = format!("in literal {word} (expecting '{}')", char::from(expected));
            return Err(unexpected(byte, &context));
        }
        if place + 1 == word.len() {
            return Ok(self.value_ended());
        }
        self.go(State::Literal(word, place + 1))
    }

    fn after_value(&mut self, byte: u8) -> Result<Step, Malformed> {
        match (self.open.last_mut(), byte) {
            (Some(open @ Open::Key), b':') => {
                *open = Open::Value;
                self.go(State::Begin)
            }
            (Some(Open::Key), _) => Err(unexpected(byte, "after object key")),
            (Some(open @ Open::Value), b',') => {
                *open = Open::Key;
                self.go(State::Key)
            }
            (Some(Open::Value), b'}') | (Some(Open::Array), b']') => Ok(self.close()),
            (Some(Open::Value), _) => Err(unexpected(byte, "after object key:value pair")),
            (Some(Open::Array), b',') => self.go(State::Begin),
            (Some(Open::Array), _) => Err(unexpected(byte, "after array element")),
            (None, _) => Ok(Step::Beyond),
        }
    }

    fn number(&mut self, state: State, byte: u8) -> Result<Step, Malformed> {
        match (state, byte) {
            (State::Minus, b'0') => self.go(State::Zero),
            (State::Minus, b'1'..=b'9') | (State::Digits, b'0'..=b'9') => self.go(State::Digits),
            (State::Minus, _) => Err(unexpected(byte, "in numeric literal")),
            (State::Zero | State::Digits, b'.') => self.go(State::Dot),
            (State::Zero | State::Digits | State::Fraction, b'e' | b'E') => self.go(State::Exponent),
            (State::Dot | State::Fraction, b'0'..=b'9') => self.go(State::Fraction),
            (State::Dot, _) => Err(unexpected(byte, "after decimal point in numeric literal")),
            (State::Exponent, b'+' | b'-') => self.go(State::ExponentSign),
            (State::Exponent | State::ExponentSign | State::ExponentDigits, b'0'..=b'9') => {
                self.go(State::ExponentDigits)
            }
            (State::Exponent | State::ExponentSign, _) => {
                Err(unexpected(byte, "in exponent of numeric literal"))
            }
            // The number has ended before this byte.
            _ if self.open.is_empty() => {
                self.state = State::End;
                Ok(Step::Beyond)
            }
            _ => {
                self.state = State::AfterValue;
                self.step(byte)
            }
        }
    }
}

pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Go takes the byte for a character, whatever it belongs to.
fn unexpected(byte: u8, context: &str) -> Malformed {
    let shown = match byte {
        b'\'' => "\\'".to_owned(),
        b'\\' => "\\\\".to_owned(),
        b'\n' => "\\n".to_owned(),
        b'\r' => "\\r".to_owned(),
        b'\t' => "\\t".to_owned(),
        0x07 => "\\a".to_owned(),
        0x08 => "\\b".to_owned(),
        0x0b => "\\v".to_owned(),
        0x0c => "\\f".to_owned(),
        0..0x20 | 0x7f => format!("\\x{byte:02x}"),
        0x80..=0xa0 | 0xad => format!("\\u00{byte:02x}"),
        _ => char::from(byte).to_string(),
    };
    Malformed::new(format!("invalid character '{shown}' {context}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Scanner::check(text.as_bytes()).err().map(|error| error.0).unwrap_or_default()
    }

    #[test]
    fn values_are_taken() {
        let values = [
            "0",
            "-0.5e+10",
            " true ",
            "null",
            "\"a\\u00e9\\n\"",
            "[]",
            "{}",
            "[1, [2], {\"a\": false}]",
            "{\"a\":1 , \"b\" : {\"c\":[]}}\n",
        ];
        for text in values {
            assert_eq!(refusal(text), "", "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused_in_gos_words() {
        let cases = [
            ("{", "unexpected end of JSON input"),
            ("", "unexpected end of JSON input"),
            ("nope", "invalid character 'o' in literal null (expecting 'u')"),
            ("{\"key\":}", "invalid character '}' looking for beginning of value"),
            ("{\"key\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("{\"key\" 1}", "invalid character '1' after object key"),
            ("{\"key\":1 2}", "invalid character '2' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[,]", "invalid character ',' looking for beginning of value"),
            ("01", "invalid character '1' after top-level value"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1ex", "invalid character 'x' in exponent of numeric literal"),
            ("\"\n\"", "invalid character '\\n' in string literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            ("\"\\u00g0\"", "invalid character 'g' in \\u hexadecimal character escape"),
            ("\u{feff}{}", "invalid character '\u{ef}' looking for beginning of value"),
            ("'", "invalid character '\\'' looking for beginning of value"),
            ("\u{1}", "invalid character '\\x01' looking for beginning of value"),
        ];
        for (text, expected) in cases {
            assert_eq!(refusal(text), expected, "{text}");
        }
        assert_eq!(refusal(&"[".repeat(DEPTH)), "unexpected end of JSON input");
        assert_eq!(refusal(&"[".repeat(DEPTH + 1)), "invalid character '[' exceeded max depth");
    }

    #[test]
    fn the_end_is_found_wherever_the_text_is_cut() {
        let text = b" {\"a\":[1,\"}\\\"\"]}{\"b\":2}";
        let end = text.iter().position(|byte| *byte == b'{').unwrap() + 15;
        for cut in 0..=text.len() {
            let mut scanner = Scanner::default();
            let found = match scanner.find_end(&text[..cut]).unwrap() {
                Some(found) => found,
                None => cut + scanner.find_end(&text[cut..]).unwrap().expect("it ends"),
            };
            assert_eq!(found, end, "{cut}");
        }
    }
}
