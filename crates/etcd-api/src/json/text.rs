//! Strings: from JSON and to JSON.

use std::fmt::Write as _;

use super::Malformed;

/// Reads a string of a text that the scanner has taken: with its quotes.
///
/// As in Go, what is no character becomes U+FFFD.
pub(super) fn unquote(quoted: &[u8]) -> Result<String, Malformed> {
    let inner = quoted.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).ok_or_else(cut_short)?;
    if !inner.contains(&b'\\') {
        return Ok(String::from_utf8_lossy(inner).into_owned());
    }
    let mut read = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(escape) = rest.iter().position(|byte| *byte == b'\\') {
        read.push_str(&String::from_utf8_lossy(&rest[..escape]));
        rest = &rest[escape + 1..];
        let (code, after) = rest.split_first().ok_or_else(cut_short)?;
        rest = after;
        match code {
            b'b' => read.push('\u{8}'),
            b'f' => read.push('\u{c}'),
            b'n' => read.push('\n'),
            b'r' => read.push('\r'),
            b't' => read.push('\t'),
            b'u' => {
                let first = hex(rest).ok_or_else(cut_short)?;
                rest = &rest[4..];
                let second = rest.strip_prefix(b"\\u").and_then(hex);
                let pair = second.and_then(|second| char::decode_utf16([first, second]).next()?.ok());
                match pair {
                    Some(character) if u32::from(character) > 0xffff => {
                        rest = &rest[6..];
                        read.push(character);
                    }
                    _ => read.push(char::from_u32(u32::from(first)).unwrap_or(char::REPLACEMENT_CHARACTER)),
                }
            }
            other => read.push(char::from(*other)),
        }
    }
    read.push_str(&String::from_utf8_lossy(rest));
    Ok(read)
}

/// Four hexadecimal digits.
fn hex(text: &[u8]) -> Option<u16> {
    u16::from_str_radix(std::str::from_utf8(text.get(..4)?).ok()?, 16).ok()
}

pub(super) fn cut_short() -> Malformed {
    Malformed::new("unexpected end of JSON input")
}

/// Writes a string as Go does: with what a browser might take for a tag escaped.
pub fn quote(text: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (index, character) in text.char_indices() {
        let escaped = match character {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '<' => "\\u003c",
            '>' => "\\u003e",
            '&' => "\\u0026",
            '\u{2028}' => "\\u2028",
            '\u{2029}' => "\\u2029",
            '\0'..='\u{1f}' => "",
            _ => continue,
        };
        out.push_str(&text[plain..index]);
        plain = index + character.len_utf8();
        if escaped.is_empty() {
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push_str(escaped);
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read() {
        let read = |text: &str| unquote(text.as_bytes()).unwrap();
        assert_eq!(read(r#""plain""#), "plain");
        assert_eq!(read(r#""a\"\\\/\b\f\n\r\tz""#), "a\"\\/\u{8}\u{c}\n\r\tz");
        assert_eq!(read(r#""\u00e9\ud83d\ude00!""#), "\u{e9}\u{1f600}!");
        assert_eq!(read(r#""\ud83dx\ude00\ud83d\u0041""#), "\u{fffd}x\u{fffd}\u{fffd}A");
        assert_eq!(unquote(b"\"\xff\\n\xff\"").unwrap(), "\u{fffd}\n\u{fffd}");
        assert!(unquote(b"\"").is_err());
    }

    #[test]
    fn strings_are_written() {
        let mut out = String::new();
        quote("a\"\\<&>\n\u{1}\u{2028}\u{e9}", &mut out);
        assert_eq!(out, r#""a\"\\\u003c\u0026\u003e\n\u0001\u2028é""#);
        assert_eq!(unquote(out.as_bytes()).unwrap(), "a\"\\<&>\n\u{1}\u{2028}\u{e9}");
    }
}
