//! Values and texts as Python has them, where Rust and minijinja differ: what templates print, and what is white space.

use super::metered::charge;
use minijinja::Error;
use minijinja::value::{Tuple, Value, ValueKind};

/// The most lists and tables within one another that are written. Each is a call on the stack.
pub const MAX_DEPTH: usize = 150;

/// Python's `str(value)`.
///
/// # Errors
///
/// If the rendering has done too much.
pub fn text_of(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::Number if !value.is_integer() => Ok(f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)),
        ValueKind::Seq | ValueKind::Map => repr(value),
        _ => Ok(value.to_string()),
    }
}

/// Python's `repr(value)`.
///
/// # Errors
///
/// If the rendering has done too much.
pub fn repr(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_repr(value, 0, &mut out)?;
    Ok(out)
}

fn write_repr(value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    charge([value], 1)?;
    match (value.kind(), value.as_str()) {
        (_, Some(text)) => write_quoted(text, out),
        (ValueKind::Undefined, _) => out.push_str("Undefined"),
        (ValueKind::Seq | ValueKind::Map, _) if depth > MAX_DEPTH => out.push_str("..."),
        (ValueKind::Seq, _) => {
            let is_tuple = value.downcast_object_ref::<Tuple>().is_some();
            out.push(if is_tuple { '(' } else { '[' });
            for (index, item) in value.try_iter()?.enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_repr(&item, depth + 1, out)?;
            }
            out.push_str(match (is_tuple, value.len()) {
                (true, Some(1)) => ",)",
                (true, _) => ")",
                (false, _) => "]",
            });
        }
        (ValueKind::Map, _) => {
            out.push('{');
            for (index, key) in value.try_iter()?.enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_repr(&key, depth + 1, out)?;
                out.push_str(": ");
                write_repr(&value.get_item(&key)?, depth + 1, out)?;
            }
            out.push('}');
        }
        _ => out.push_str(&text_of(value)?),
    }
    Ok(())
}

fn write_quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if letter == quote => out.extend(['\\', letter]),
            _ if is_printable(letter) => out.push(letter),
            '\0'..='\u{ff}' => out.push_str(&format!("\\x{:02x}", letter as u32)),
            '\u{100}'..='\u{ffff}' => out.push_str(&format!("\\u{:04x}", letter as u32)),
            _ => out.push_str(&format!("\\U{:08x}", letter as u32)),
        }
    }
    out.push(quote);
}

/// Python's `str.isprintable`, as far as the standard library knows: all but separators, and control, format and private characters.
fn is_printable(letter: char) -> bool {
    let hidden = letter.is_control()
        || matches!(letter, '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}'
            | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e00ff}' | '\u{f0000}'..);
    letter == ' ' || !(hidden || letter.is_whitespace())
}

/// Python's `repr` of a float: the fewest digits that read back as the same number, with an exponent below 10⁻⁴ and from 10¹⁶ on.
pub fn float(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string().to_lowercase();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..16).contains(&exponent) => {
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs())
        }
        _ => format!("{value:?}"),
    }
}

/// Python's `str.isspace` for a character: Unicode's white space and four separators of ASCII.
pub fn is_space(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '\x1c'..='\x1f')
}

/// The words of a text between white space, as `str.split()` finds them: at most `splits` are made, from the left.
pub fn words(text: &str, splits: usize) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let (word, after) = rest.split_once(is_space).filter(|_| found.len() < splits).unwrap_or((rest, ""));
        found.push(word);
        rest = after.trim_start_matches(is_space);
    }
    found
}

/// The same from the right: `str.rsplit()`.
pub fn words_from_right(text: &str, splits: usize) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text.trim_end_matches(is_space);
    while !rest.is_empty() {
        let (before, word) = rest.rsplit_once(is_space).filter(|_| found.len() < splits).unwrap_or(("", rest));
        found.push(word);
        rest = before.trim_end_matches(is_space);
    }
    found.reverse();
    found
}

/// Python's `str.splitlines`: with their ends if `with_ends`.
pub fn lines(text: &str, with_ends: bool) -> Vec<&str> {
    const ENDS: [char; 10] = ['\n', '\r', '\x0b', '\x0c', '\x1c', '\x1d', '\x1e', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let length = rest.find(ENDS).unwrap_or(rest.len());
        let (line, tail) = rest.split_at_checked(length).unwrap_or((rest, ""));
        let end = if tail.starts_with("\r\n") { 2 } else { tail.chars().next().map_or(0, char::len_utf8) };
        let whole = rest.get(..length + end).unwrap_or(rest);
        found.push(if with_ends { whole } else { line });
        rest = rest.get(whole.len()..).unwrap_or_default();
    }
    found
}

/// Python's `str.title`: a letter after anything but a letter is a capital.
pub fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for letter in text.chars() {
        if in_word {
            out.extend(letter.to_lowercase());
        } else {
            out.extend(letter.to_uppercase());
        }
        in_word = letter.is_alphabetic();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::metered::begin;

    /// The expected texts are Python's.
    #[test]
    fn floats() {
        for (value, text) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            assert_eq!(float(value), text);
        }
    }

    #[test]
    fn lists_and_tables() {
        begin(1);
        let table = serde_json::json!({"a": [1, 2.0, null, true, "it's"], "b": {"c\n": "\u{a0}\u{200b}ü"}});
        let text = repr(&Value::from(minijinja::value::Serde(&table)));
        assert_eq!(text.expect("text"), "{'a': [1, 2.0, None, True, \"it's\"], 'b': {'c\\n': '\\xa0\\u200bü'}}");
    }

    #[test]
    fn white_space() {
        assert_eq!(words(" a\x1c b \u{2003}c ", usize::MAX), ["a", "b", "c"]);
        assert_eq!(words(" a b  c ", 1), ["a", "b  c "]);
        assert_eq!(words_from_right(" a b  c ", 1), [" a b", "c"]);
        assert_eq!(lines("a\r\nb\rc\u{2028}\n\nd", false), ["a", "b", "c", "", "", "d"]);
        assert_eq!(lines("a\r\nb\n", true), ["a\r\n", "b\n"]);
    }
}
