//! The parts of Python and of Hugging Face's Jinja environment that chat templates use and minijinja lacks.

use super::metered::{ITEM, charge, charge_bytes};
use super::{json, python};
use crate::host::unix_seconds;
use minijinja::value::{Kwargs, Tuple, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, escape_formatter, filters};
use minijinja_contrib::pycompat;

type Outcome<T = Value> = Result<T, Error>;

/// Maximum length of a text that a function here makes, in bytes.
const MAX_TEXT: usize = 1 << 20;

/// Adds the functions, filters and methods to an environment.
pub fn extend(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(method);
    environment.add_function("raise_exception", |text: String| -> Outcome { Err(Error::new(ErrorKind::InvalidOperation, text)) });
    environment.add_function("strftime_now", |format: String| strftime(&format, unix_seconds()));
    environment.set_formatter(print);
    add_filters(environment);
    add_tests(environment);
}

/// Prints a value as Python does.
fn print(out: &mut Output, state: &mut State, value: &Value) -> Outcome<()> {
    charge([value], 1)?;
    match value.kind() {
        ValueKind::Number | ValueKind::Seq | ValueKind::Map => Ok(out.write_str(&python::text_of(value)?)?),
        _ => escape_formatter(out, state, value),
    }
}

fn add_filters(environment: &mut Environment<'static>) {
    environment.add_filter("tojson", json::to_json);
    environment.add_filter("center", |text: String, width: Option<usize>| center(&text, width.unwrap_or(80), ' '));
    environment.add_filter("string", |value: &Value| -> Outcome {
        charge([value], 1)?;
        Ok(if value.as_str().is_some() { value.clone() } else { python::text_of(value)?.into() })
    });
    environment.add_filter("trim", |value: &Value, letters: Option<String>| -> Outcome {
        charge([value], 1)?;
        Ok(stripped(&python::text_of(value)?, letters.as_deref(), true, true).into())
    });
    environment.add_filter("replace", |value: &Value, old: String, new: String, count: Option<i64>| -> Outcome {
        charge([value], 1)?;
        replaced(&python::text_of(value)?, &old, &new, count)
    });
    environment.add_filter("wordcount", |value: &Value| -> Outcome {
        charge([value], ITEM)?;
        Ok(python::words(&python::text_of(value)?, usize::MAX).len().into())
    });
    for name in ["default", "d"] {
        environment.add_filter(name, |value: &Value, other: Option<Value>, also_false: Option<Value>, options: Kwargs| -> Outcome {
            let other = other.or(options.get("default_value")?).unwrap_or_else(|| "".into());
            let also_false = also_false.or(options.get("boolean")?).is_some_and(|value| value.is_true());
            Ok(if value.is_undefined() || (also_false && !value.is_true()) { other } else { value.clone() })
        });
    }
    // As in Python, what is no number becomes 0.
    environment.add_filter("int", |state: &State, value: &Value, otherwise: Option<Value>, base: Option<u32>, options: Kwargs| {
        let otherwise = otherwise.or(options.get("default")?).unwrap_or_else(|| 0.into());
        filters::int(state, value, Some(otherwise), base, options)
    });
    environment.add_filter("float", |state: &State, value: &Value, otherwise: Option<Value>, options: Kwargs| {
        let otherwise = otherwise.or(options.get("default")?).unwrap_or_else(|| 0.0.into());
        filters::float(state, value, Some(otherwise), options)
    });
}

/// Tests that answer differently for Python's values.
fn add_tests(environment: &mut Environment<'static>) {
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Undefined)
    });
    environment.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
}

/// The most words and signs of a tag outside its strings, and the most `elif` of a template. minijinja's parser and compiler call themselves
/// for each operator and each `elif`, and their stack is WebAssembly's.
const MAX_TAG_WORDS: usize = 1000;
const MAX_ELIFS: usize = 500;

/// Why a template is too long for the stack, if it is.
pub fn too_deep(source: &str) -> Option<String> {
    let mut elifs = 0;
    for (_, tag) in pieces(source) {
        if words_of(tag) > MAX_TAG_WORDS {
            return Some(format!("a tag has more than {MAX_TAG_WORDS} words and operators"));
        }
        elifs += usize::from(tag.trim_start_matches(['{', '%', '-', '+']).trim_start().starts_with("elif"));
    }
    (elifs > MAX_ELIFS).then(|| format!("it has more than {MAX_ELIFS} branches (elif)"))
}

/// The tags of a template, each with the text in front of it. After the last tag, the rest of the text with an empty tag.
fn pieces(source: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = Some(source);
    std::iter::from_fn(move || {
        let source = rest?;
        let Some(start) = source.find("{{").into_iter().chain(source.find("{%")).min() else {
            rest = None;
            return Some((source, ""));
        };
        let (text, tag) = source.split_at_checked(start).unwrap_or((source, ""));
        let (tag, after) = tag.split_at_checked(end_of_tag(tag)).unwrap_or((tag, ""));
        rest = Some(after);
        Some((text, tag))
    })
}

/// Words, numbers, strings and signs of a tag.
fn words_of(tag: &str) -> usize {
    let mut words = 0;
    let mut in_word = false;
    let mut rest = tag;
    while let Some(letter) = rest.chars().next() {
        let continues = letter.is_alphanumeric() || letter == '_';
        let begins = !(continues && in_word);
        words += usize::from(begins && !letter.is_whitespace());
        in_word = continues;
        let length = if letter == '"' || letter == '\'' { string_length(rest) } else { letter.len_utf8() };
        rest = rest.get(length..).unwrap_or_default();
    }
    words
}

/// Rewrites what minijinja cannot parse or gets wrong. Line ends become `\n`, as Jinja2 makes them. The rest only inside tags:
/// - `{% generation %}` and `{% endgeneration %}`, which only mark the assistant's text for training, become a scope;
/// - escapes in strings that minijinja does not know;
/// - slices with a step, such as `value[::-1]`, become a method, because minijinja 3.0 panics for a negative one of an empty list or text;
/// - `'text' % value` becomes a method, because minijinja has no operator for it.
pub fn rewritten(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    for (text, tag) in pieces(&source) {
        out.push_str(text);
        out.push_str(&rewritten_tag(tag));
    }
    out
}

/// The length of a tag, up to its `}}` or `%}` outside strings.
fn end_of_tag(tag: &str) -> usize {
    let close = if tag.starts_with("{{") { "}}" } else { "%}" };
    let mut quote = None;
    let mut escaped = false;
    for (at, letter) in tag.char_indices().skip(2) {
        match (quote, letter) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), letter) if letter == open => quote = None,
            (None, '"' | '\'') => quote = Some(letter),
            (None, _) if tag.get(at..).is_some_and(|rest| rest.starts_with(close)) => return at + close.len(),
            _ => {}
        }
    }
    tag.len()
}

fn rewritten_tag(tag: &str) -> String {
    let inner = tag.trim_start_matches(['{', '%', '-', '+']).trim_end_matches(['}', '%', '-', '+']).trim();
    if tag.starts_with("{%") && matches!(inner, "generation" | "endgeneration") {
        return tag.replace("endgeneration", "endwith").replace("generation", "with");
    }
    rewritten_expression(tag)
}

fn rewritten_expression(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        if let Some(([start, stop, step], after)) = stepped_slice(rest) {
            let [start, stop, step] =
                [start, stop, step].map(|part| if part.trim().is_empty() { "none".into() } else { rewritten_expression(part) });
            out.push_str(&format!(".__slice__({start}, {stop}, {step})"));
            rest = after;
        } else if letter == '"' || letter == '\'' {
            let literal = rest.get(..string_length(rest)).unwrap_or(rest);
            out.push_str(&rewritten_literal(literal));
            rest = rest.get(literal.len()..).unwrap_or_default();
            let operand = rest.trim_start().strip_prefix('%').filter(|after| !after.starts_with('}')).map(str::trim_start);
            if let Some(operand) = operand {
                let length = operand_length(operand);
                let (operand, after) = operand.split_at_checked(length).unwrap_or((operand, ""));
                let arguments = operand.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')).unwrap_or(operand);
                out.push_str(&format!(".__mod__({})", rewritten_expression(arguments)));
                rest = after;
            }
        } else {
            out.push(letter);
            rest = rest.strip_prefix(letter).unwrap_or_default();
        }
    }
    out
}

/// A string with escapes that minijinja knows.
fn rewritten_literal(literal: &str) -> String {
    let mut out = String::with_capacity(literal.len());
    let mut rest = literal;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let escape = after.chars().next();
        rest = escape.and_then(|letter| after.strip_prefix(letter)).unwrap_or_default();
        match escape {
            // The string goes on in the next line.
            Some('\n') => {}
            Some('a') => out.push('\x07'),
            Some('v') => out.push('\x0b'),
            Some('/') => out.push_str("\\\\/"),
            Some('U') => {
                let digits = rest.get(..8).filter(|digits| digits.chars().all(|digit| digit.is_ascii_hexdigit()));
                match digits.and_then(|digits| char::from_u32(u32::from_str_radix(digits, 16).ok()?)) {
                    Some(letter) => {
                        out.push(letter);
                        rest = rest.get(8..).unwrap_or_default();
                    }
                    None => out.push_str("\\U"),
                }
            }
            Some(letter) => out.extend(['\\', letter]),
            None => out.push('\\'),
        }
    }
    out.push_str(rest);
    out
}

/// The three parts of the slice with a step that a text starts with, and the text behind it.
fn stepped_slice(text: &str) -> Option<([&str; 3], &str)> {
    let inner = text.strip_prefix('[')?;
    let mut depth = 0;
    let mut colons = Vec::new();
    let mut at = 0;
    while let Some(letter) = inner.get(at..).and_then(|rest| rest.chars().next()) {
        match letter {
            '"' | '\'' => {
                at += string_length(inner.get(at..)?);
                continue;
            }
            '[' | '(' | '{' => depth += 1,
            ']' if depth == 0 => {
                let [first, second] = colons[..] else { return None };
                return Some(([inner.get(..first)?, inner.get(first + 1..second)?, inner.get(second + 1..at)?], inner.get(at + 1..)?));
            }
            ']' | ')' | '}' => depth -= 1,
            ':' if depth == 0 => colons.push(at),
            _ => {}
        }
        at += letter.len_utf8();
    }
    None
}

/// The length of the string literal that a text starts with.
fn string_length(text: &str) -> usize {
    let quote = text.chars().next();
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if Some(letter) == quote => return at + letter.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// The length of the operand of `%`: a literal, a name, or a group, with the attributes, items and calls behind it.
fn operand_length(text: &str) -> usize {
    let mut open = Vec::new();
    let mut at = 0;
    while let Some(letter) = text.get(at..).and_then(|rest| rest.chars().next()) {
        match letter {
            '"' | '\'' => {
                at += string_length(text.get(at..).unwrap_or_default());
                continue;
            }
            '(' | '[' => open.push(letter),
            ')' | ']' if open.pop().is_none() => return at,
            _ if !open.is_empty() || letter.is_alphanumeric() || matches!(letter, '_' | '.' | ')' | ']') => {}
            _ => return at,
        }
        at += letter.len_utf8();
    }
    at
}

/// Python's methods that minijinja's own compatibility module lacks, and the ones that [`rewritten`] writes.
fn method(state: &mut State, value: &Value, method: &str, arguments: &[Value]) -> Outcome {
    let per_byte = if matches!(method, "split" | "rsplit" | "splitlines" | "__slice__") { ITEM } else { 1 };
    charge([value].into_iter().chain(arguments), per_byte)?;
    let argument = |index: usize| arguments.get(index).and_then(Value::as_str).unwrap_or_default();
    let letters = arguments.first().and_then(Value::as_str);
    let missing = || Error::new(ErrorKind::InvalidOperation, format!("{method}: not found"));
    match (value.as_str(), method) {
        (Some(text), "__slice__") => Ok(sliced(text.chars().collect(), arguments)?.into_iter().collect::<String>().into()),
        (None, "__slice__") => Ok(sliced(value.try_iter()?.collect(), arguments)?.into()),
        (Some(text), "__mod__") => percent(text, arguments),
        (Some(text), "find" | "rfind" | "index" | "rindex" | "count" | "startswith" | "endswith") if arguments.len() > 1 => {
            self::method(state, &part_of(text, arguments)?, method, arguments.get(..1).unwrap_or_default())
                .and_then(|found| from_start(found, text, method, arguments))
        }
        (Some(text), "strip") => Ok(stripped(text, letters, true, true).into()),
        (Some(text), "lstrip") => Ok(stripped(text, letters, true, false).into()),
        (Some(text), "rstrip") => Ok(stripped(text, letters, false, true).into()),
        (Some(text), "replace") if arguments.len() > 1 => {
            replaced(text, argument(0), argument(1), arguments.get(2).and_then(|count| i64::try_from(count.clone()).ok()))
        }
        (Some(text), "removeprefix") => Ok(text.strip_prefix(argument(0)).unwrap_or(text).into()),
        (Some(text), "removesuffix") => Ok(text.strip_suffix(argument(0)).unwrap_or(text).into()),
        (Some(text), "index") => {
            text.find(argument(0)).and_then(|at| Some(text.get(..at)?.chars().count())).map(Value::from).ok_or_else(missing)
        }
        (Some(text), "rindex") => {
            text.rfind(argument(0)).and_then(|at| Some(text.get(..at)?.chars().count())).map(Value::from).ok_or_else(missing)
        }
        (Some(text), "split") if arguments.first().is_none_or(Value::is_none) => Ok(texts(&python::words(text, most_splits(arguments)))),
        (Some(text), "rsplit") => rsplit(text, arguments),
        (Some(text), "splitlines") => Ok(texts(&python::lines(text, arguments.first().is_some_and(Value::is_true)))),
        (Some(text), "title") => Ok(python::title(text).into()),
        (Some(text), "isspace") => Ok((!text.is_empty() && text.chars().all(python::is_space)).into()),
        (Some(text), "partition") => {
            let (before, after) = text.split_once(argument(0)).map_or((text, None), |(before, after)| (before, Some(after)));
            Ok(triple([before, if after.is_some() { argument(0) } else { "" }, after.unwrap_or_default()]))
        }
        (Some(text), "rpartition") => {
            let (before, after) = text.rsplit_once(argument(0)).map_or((None, text), |(before, after)| (Some(before), after));
            Ok(triple([before.unwrap_or_default(), if before.is_some() { argument(0) } else { "" }, after]))
        }
        (Some(text), "center" | "ljust" | "rjust" | "zfill") => {
            let width = arguments.first().and_then(|width| usize::try_from(width.clone()).ok()).unwrap_or_default().min(MAX_TEXT);
            let fill = argument(1).chars().next().unwrap_or(if method == "zfill" { '0' } else { ' ' });
            if method == "center" {
                return center(text, width, fill);
            }
            let fill = fill.to_string().repeat(width.saturating_sub(text.chars().count()));
            let (sign, digits) =
                text.split_at_checked(usize::from(method == "zfill" && text.starts_with(['-', '+']))).unwrap_or(("", text));
            Ok(if method == "ljust" { format!("{text}{fill}") } else { format!("{sign}{fill}{digits}") }.into())
        }
        (None, "index") if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) => {
            let wanted = arguments.first().cloned().unwrap_or_default();
            value.try_iter()?.position(|item| item == wanted).map(Value::from).ok_or_else(missing)
        }
        _ => pycompat::unknown_method_callback(state, value, method, arguments),
    }
}

/// Python's `str.strip` for the chosen ends: without these letters, by default white space.
fn stripped<'a>(text: &'a str, letters: Option<&str>, left: bool, right: bool) -> &'a str {
    let goes = |letter: char| letters.map_or_else(|| python::is_space(letter), |letters| letters.contains(letter));
    let text = if left { text.trim_start_matches(goes) } else { text };
    if right { text.trim_end_matches(goes) } else { text }
}

/// Python's `str.replace`; a negative `count` means all.
fn replaced(text: &str, old: &str, new: &str, count: Option<i64>) -> Outcome {
    let most = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    let found = text.matches(old).take(most).count();
    charge_bytes((found as u64).saturating_mul(new.len() as u64))?;
    Ok(text.replacen(old, new, most).into())
}

/// The part of a text that a method with `start` and `end` looks at: its arguments after the first.
fn part_of(text: &str, arguments: &[Value]) -> Outcome {
    Ok(sliced(text.chars().collect(), arguments.get(1..3).or_else(|| arguments.get(1..)).unwrap_or_default())?
        .into_iter()
        .collect::<String>()
        .into())
}

/// The result of a method on a part of a text: places count from the text's own start.
fn from_start(found: Value, text: &str, method: &str, arguments: &[Value]) -> Outcome {
    let place = i64::try_from(found.clone()).ok().filter(|place| *place >= 0 && !matches!(method, "count" | "startswith" | "endswith"));
    let (Some(place), Some(start)) = (place, arguments.get(1).and_then(|start| i64::try_from(start.clone()).ok())) else {
        return Ok(found);
    };
    let length = text.chars().count() as i64;
    Ok((place + if start < 0 { start.saturating_add(length).max(0) } else { start }).into())
}

/// The second argument of `split`: the most splits.
fn most_splits(arguments: &[Value]) -> usize {
    arguments.get(1).and_then(|most| usize::try_from(most.clone()).ok()).unwrap_or(usize::MAX)
}

/// Python's `items[start:stop:step]`.
fn sliced<T: Clone>(items: Vec<T>, arguments: &[Value]) -> Outcome<Vec<T>> {
    let number = |index: usize| match arguments.get(index).filter(|value| !value.is_none()) {
        Some(value) => i64::try_from(value.clone()).map(|number| Some(i128::from(number))),
        None => Ok(None),
    };
    let (length, step) = (items.len() as i128, number(2)?.unwrap_or(1));
    if step == 0 {
        return Err(Error::new(ErrorKind::InvalidOperation, "cannot slice by step size of 0"));
    }
    // Where a slice may begin and end; both are before the first item for a negative step from there.
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let place =
        |index: Option<i128>, otherwise| index.map_or(otherwise, |index| (if index < 0 { index + length } else { index }).clamp(low, high));
    let (first, end) = if step > 0 { (low, high) } else { (high, low) };
    let (mut at, stop) = (place(number(0)?, first), place(number(1)?, end));
    let mut out = Vec::new();
    while if step > 0 { at < stop } else { at > stop } {
        out.extend(usize::try_from(at).ok().and_then(|at| items.get(at)).cloned());
        at += step;
    }
    Ok(out)
}

fn texts(texts: &[&str]) -> Value {
    texts.iter().map(|text| Value::from(*text)).collect::<Vec<Value>>().into()
}

fn triple(texts: [&str; 3]) -> Value {
    Value::from(Tuple::from(texts.map(Value::from)))
}

/// Python's `text % arguments` with the conversions that templates use.
fn percent(text: &str, arguments: &[Value]) -> Outcome {
    let mut out = String::new();
    let mut next = arguments.iter();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let flags =
            after.len() - after.trim_start_matches(|letter: char| letter.is_ascii_digit() || matches!(letter, '.' | '-' | '+' | ' ')).len();
        let (flags, after) = after.split_at_checked(flags).unwrap_or((after, ""));
        let conversion = after.chars().next().ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "incomplete format"))?;
        rest = after.strip_prefix(conversion).unwrap_or_default();
        if conversion == '%' {
            out.push('%');
            continue;
        }
        let value = next.next().ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "not enough arguments for format string"))?;
        let number = || f64::try_from(value.clone()).map_err(|_| Error::new(ErrorKind::InvalidOperation, "a number is required"));
        let digits = flags.split_once('.').and_then(|(_, digits)| digits.parse::<usize>().ok());
        let written = match conversion {
            's' => python::text_of(value)?,
            'r' => python::repr(value)?,
            'd' | 'i' | 'u' if value.is_integer() => value.to_string(),
            'd' | 'i' | 'u' => format!("{}", number()?.trunc()),
            'x' | 'X' | 'o' => {
                let whole = i64::try_from(value.clone())?;
                let (sign, whole) = (if whole < 0 { "-" } else { "" }, whole.unsigned_abs());
                let digits = match conversion {
                    'x' => format!("{whole:x}"),
                    'X' => format!("{whole:X}"),
                    _ => format!("{whole:o}"),
                };
                format!("{sign}{digits}")
            }
            'f' => format!("{:.*}", digits.unwrap_or(6).min(30), number()?),
            other => return Err(Error::new(ErrorKind::InvalidOperation, format!("unsupported format character '{other}'"))),
        };
        let width =
            flags.split('.').next().unwrap_or_default().trim_start_matches(['-', '+', ' ']).parse::<usize>().unwrap_or(0).min(MAX_TEXT);
        let fill = if flags.starts_with('0') { "0" } else { " " }.repeat(width.saturating_sub(written.chars().count()));
        out.push_str(&if flags.starts_with('-') { format!("{written}{fill}") } else { format!("{fill}{written}") });
    }
    out.push_str(rest);
    Ok(out.into())
}

fn rsplit(text: &str, arguments: &[Value]) -> Outcome {
    let splits = most_splits(arguments);
    match arguments.first().filter(|separator| !separator.is_none()).map(Value::as_str) {
        None => Ok(texts(&python::words_from_right(text, splits))),
        Some(None | Some("")) => Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(Some(separator)) => {
            let mut found: Vec<&str> = text.rsplitn(splits.saturating_add(1), separator).collect();
            found.reverse();
            Ok(texts(&found))
        }
    }
}

/// Python's `str.center`, whose odd space goes to the left for odd widths.
fn center(text: &str, width: usize, fill: char) -> Outcome {
    let space = width.min(MAX_TEXT).saturating_sub(text.chars().count());
    let left = space / 2 + (space & width & 1);
    let fill = |count| fill.to_string().repeat(count);
    Ok(format!("{}{text}{}", fill(left), fill(space - left)).into())
}

/// Python's `strftime` for a time in UTC.
fn strftime(format: &str, seconds: u64) -> Outcome {
    const MONTHS: [&str; 12] =
        ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
    const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    let (year, month, day) = civil(days);
    let weekday = DAYS.get((days % 7) as usize).copied().unwrap_or_default();
    let name = MONTHS.get((month - 1) as usize).copied().unwrap_or_default();
    let short = |name: &str| name.chars().take(3).collect::<String>();
    let first_day = (1..month).map(|month| days_of_month(year, month)).sum::<u64>();
    let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
    let mut out = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let mut directive = letters.next().unwrap_or('%');
        // `%-d`: without a leading zero.
        let plain = directive == '-';
        if plain {
            directive = letters.next().unwrap_or('%');
        }
        let padded = |number: u64, width: usize| if plain { number.to_string() } else { format!("{number:0width$}") };
        out.push_str(&match directive {
            'Y' => year.to_string(),
            'y' => padded(year % 100, 2),
            'm' => padded(month, 2),
            'd' => padded(day, 2),
            'e' => format!("{day:2}"),
            'B' => name.to_owned(),
            'b' | 'h' => short(name),
            'A' => weekday.to_owned(),
            'a' => short(weekday),
            'j' => padded(first_day + day, 3),
            'H' => padded(hour, 2),
            'I' => padded(twelve, 2),
            'M' => padded(minute, 2),
            'S' => padded(second, 2),
            'p' => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            'F' => format!("{year}-{month:02}-{day:02}"),
            'T' => format!("{hour:02}:{minute:02}:{second:02}"),
            'Z' => "UTC".to_owned(),
            'z' => "+0000".to_owned(),
            '%' => "%".to_owned(),
            other => format!("%{other}"),
        });
    }
    Ok(out.into())
}

fn is_leap(year: u64) -> bool {
    (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
}

fn days_of_month(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    let mut rest = days;
    let mut year = 1970;
    while rest >= 365 + u64::from(is_leap(year)) {
        rest -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    while rest >= days_of_month(year, month) {
        rest -= days_of_month(year, month);
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> Result<String, Error> {
        let mut environment = Environment::new();
        extend(&mut environment);
        environment.add_template_owned("t", rewritten(source))?;
        environment.get_template("t")?.render(minijinja::context! { empty => Vec::<i32>::new(), x => "ä", list => ["a", "b"], map => minijinja::context! { b => 1, a => "ü" } })
    }

    /// The expected texts are what Python 3.11 with Jinja2 3.1 prints.
    #[test]
    fn templates_render_as_with_jinja2() {
        for (source, expected) in [
            ("{{ '%s and %d%%' % ('a', 3) }}", "a and 3%"),
            ("{{ '%s!' % x }}{{ '%05.1f' % 2.25 }}", "ä!002.2"),
            ("{{ 7 % 4 }}{% if 4 % 2 == 0 %}even{% endif %}", "3even"),
            ("{{ 'a,b,c'.rsplit(',', 1) | join('|') }}", "a,b|c"),
            ("{{ ' a  b '.rsplit() | join('|') }}", "a|b"),
            ("{{ 'abc'.removeprefix('a') }}{{ 'abc'.removesuffix('c') }}{{ 'abc'.removeprefix('x') }}", "bcababc"),
            ("{{ 'äbc'.index('b') }}{{ list.index('b') }}", "11"),
            ("[{{ 'a' | center(4) }}][{{ 'ab'.center(5) }}]", "[ a  ][  ab ]"),
            ("{{ map | tojson(sort_keys=true) }}{{ map | tojson(ensure_ascii=true) }}", r#"{"a": "ü", "b": 1}{"b": 1, "a": "\u00fc"}"#),
            ("{{ list | tojson(separators=(',', ':')) }}", r#"["a","b"]"#),
            ("{% for a in empty[::-1] %}x{% endfor %}{% for a in list[::-1] %}{{ a }}{% endfor %}{{ 'abc'[::-1] }}", "bacba"),
            (
                "{% for a in empty[::-2] %}x{% endfor %}{{ ''[5:1:-1] }}{{ list[1:5:2] | join }}{{ 'abcdef'[4:0:-2] }}{{ 'abc'[-2::9] }}",
                "becb",
            ),
            (
                "{{ 'abcdef'[-3:-100:-1] }}{{ 'abc'[9:-9:-9223372036854775808] }}{{ [1, 2, 3]['a]'|length - 2:[3][::1][0]:2] | join }}",
                "dcbac13",
            ),
            ("{{ '%s' % 'ab'[::-1] }}{{ list[0:1] | join }}{{ {'a': [1]}['a'][0] }}", "baa1"),
            ("{% generation %}a{% endgeneration %}{%- generation -%} b {%- endgeneration -%}", "ab"),
            ("{{ '{% generation %} [::-1]' }}", "{% generation %} [::-1]"),
        ] {
            assert_eq!(render(source).expect(source), expected, "{source}");
        }
        for source in [
            "{{ '%s' % () }}",
            "{{ 'a'.index('b') }}",
            "{{ 'a'.rsplit('') }}",
            "{{ '%d' % 'a' }}",
            "{{ '%",
            "{{ 'a' %",
            "{{ [::-1]",
            "{{ list[::0] }}",
        ] {
            assert!(render(source).is_err(), "{source}");
        }
    }

    #[test]
    fn dates() {
        let at = |format: &str, seconds| strftime(format, seconds).expect("text").to_string();
        assert_eq!(at("%d %b %Y", 1_732_579_200), "26 Nov 2024");
        assert_eq!(at("%A, %B %-d, %y %H:%M:%S %j %p %I", 1_709_208_000), "Thursday, February 29, 24 12:00:00 060 PM 12");
        assert_eq!(at("%F %T %% %Q", 0), "1970-01-01 00:00:00 % %Q");
    }
}
