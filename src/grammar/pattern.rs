//! Patterns whose texts llguidance cannot write.
//!
//! Without \u escapes a text has no control characters but those with an escape of their own. llguidance leaves the others out of a literal, as
//! if the pattern did not have them, and finds no way on where a class has nothing else. A class with all control characters but without the
//! quotation mark or the backslash lets both through.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};
use std::ops::RangeInclusive;

/// Whether a control character cannot be written.
pub fn is_unwritable(letter: char) -> bool {
    letter.is_ascii_control() && !"\u{8}\t\n\u{c}\r".contains(letter)
}

/// Whether llguidance writes only texts that match the pattern, as far as control characters are concerned. A pattern that cannot be parsed is
/// left to llguidance, which says why.
pub fn is_writable(pattern: &str) -> bool {
    match ParserBuilder::new().utf8(false).build().parse(pattern) {
        Ok(parsed) => is_writable_part(&parsed),
        Err(_) => true,
    }
}

fn is_writable_part(part: &Hir) -> bool {
    match part.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => !literal.0.iter().any(|byte| is_unwritable(char::from(*byte))),
        HirKind::Class(class) => is_writable_class(class),
        HirKind::Repetition(repetition) => is_writable_part(&repetition.sub),
        HirKind::Capture(capture) => is_writable_part(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().all(is_writable_part),
    }
}

fn is_writable_class(class: &Class) -> bool {
    let ranges: Vec<RangeInclusive<char>> = match class {
        Class::Unicode(class) => class.iter().map(|range| range.start()..=range.end()).collect(),
        Class::Bytes(class) => class.iter().map(|range| range.start().into()..=range.end().into()).collect(),
    };
    let has = |letter: char| ranges.iter().any(|range| range.contains(&letter));
    let has_writable =
        ranges.iter().any(|range| !range.end().is_ascii()) || ('\0'..='\x7f').any(|letter| has(letter) && !is_unwritable(letter));
    let has_all_control = ('\0'..' ').all(has);
    has_writable && (!has_all_control || has('"') && has('\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_need_a_control_character_are_not_writable() {
        for pattern in
            [r"^a\x01b$", r"\x7f", r"^(a|\u0001x)$", r"[\x01-\x05]b", r"^[\x00-\x1f]+$", r"[\x00-\x1fa]{4}", r"(?:x\x00)?", r"^\x0b$"]
        {
            assert!(!is_writable(pattern), "{pattern}");
        }
        for pattern in [
            r"^a$",
            r"\s+",
            ".",
            r"[^a]",
            r"^[\x01b]$",
            r"^(\x01|b)$",
            r"[\x00-\x7F]*",
            r"[^\x00-\x1f\x7f]+",
            r"[\n\r]",
            r"é\n",
            r"\d{3}",
            r"(",
            r"(?=a)",
        ] {
            assert!(is_writable(pattern), "{pattern}");
        }
    }
}
