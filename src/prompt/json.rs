//! The filter `tojson` as transformers defines it: Python's `json.dumps`, which templates are written for.

use super::metered::charge;
use super::python;
use minijinja::value::{Kwargs, Rest, Value, ValueKind};
use minijinja::{Error, ErrorKind};

type Outcome<T = Value> = Result<T, Error>;

/// The most characters of an indentation.
const MAX_INDENT: usize = 16;

/// `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`. It does not escape HTML, unlike Jinja's own filter.
pub fn to_json(value: &Value, positional: Rest<Value>, options: Kwargs) -> Outcome {
    let option = |index: usize, name: &str| -> Outcome {
        let named: Option<Value> = options.get(name)?;
        Ok(named.or_else(|| positional.get(index).cloned()).unwrap_or_default())
    };
    let indent = option(1, "indent")?;
    let indent = match indent.as_str() {
        Some(text) => Some(text.chars().take(MAX_INDENT).collect()),
        None if indent.is_none() || indent.is_undefined() => None,
        None => Some(" ".repeat(usize::try_from(indent).unwrap_or_default().min(MAX_INDENT))),
    };
    let separators = option(2, "separators")?;
    let separator = |index: usize| separators.get_item_by_index(index).ok().and_then(|text| text.as_str().map(str::to_owned));
    let mut writer = Writer {
        item: separator(0).unwrap_or_else(|| if indent.is_some() { "," } else { ", " }.to_owned()),
        key: separator(1).unwrap_or_else(|| ": ".to_owned()),
        ascii: option(0, "ensure_ascii")?.is_true(),
        sorted: option(3, "sort_keys")?.is_true(),
        indent,
        out: String::new(),
    };
    writer.write(value, 0)?;
    Ok(Value::from_safe_string(writer.out))
}

struct Writer {
    out: String,
    /// Text of one level; `None` writes everything on one line.
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    sorted: bool,
}

impl Writer {
    fn write(&mut self, value: &Value, depth: usize) -> Outcome<()> {
        let refused = |what: &str| Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: {what}")));
        if depth > python::MAX_DEPTH {
            return refused("too deeply nested");
        }
        charge([value], 1)?;
        match value.kind() {
            ValueKind::Undefined | ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)?),
            ValueKind::String => self.write_text(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.write_all('[', ']', items, depth, |writer, item| writer.write(item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut entries = Vec::new();
                for key in value.try_iter()? {
                    let name = match key.kind() {
                        ValueKind::String => key.to_string(),
                        ValueKind::Number => number(&key)?,
                        ValueKind::Bool | ValueKind::None => key.to_string().replace("None", "null").to_lowercase(),
                        _ => return refused("a key is no text"),
                    };
                    entries.push((name, value.get_item(&key)?));
                }
                if self.sorted {
                    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
                }
                self.write_all('{', '}', entries, depth, |writer, (name, item)| {
                    writer.write_text(name);
                    writer.out.push_str(&writer.key.clone());
                    writer.write(item, depth + 1)
                })?;
            }
            _ => return refused("this value is not serializable"),
        }
        Ok(())
    }

    /// Writes the items of a list or table between its brackets.
    fn write_all<T>(
        &mut self,
        open: char,
        close: char,
        items: Vec<T>,
        depth: usize,
        write: impl Fn(&mut Self, &T) -> Outcome<()>,
    ) -> Outcome<()> {
        self.out.push(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push_str(&self.item.clone());
            }
            self.begin_line(depth + 1);
            write(self, item)?;
        }
        if !items.is_empty() {
            self.begin_line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn begin_line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            (0..depth).for_each(|_| self.out.push_str(indent));
        }
    }

    fn write_text(&mut self, text: &str) {
        self.out.push('"');
        for letter in text.chars() {
            match letter {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\x08' => self.out.push_str("\\b"),
                '\x0c' => self.out.push_str("\\f"),
                ' '..='~' => self.out.push(letter),
                _ if letter < ' ' || self.ascii => {
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                _ => self.out.push(letter),
            }
        }
        self.out.push('"');
    }
}

fn number(value: &Value) -> Outcome<String> {
    match f64::try_from(value.clone()) {
        Ok(float) if float.is_nan() => Ok("NaN".to_owned()),
        Ok(float) if float.is_infinite() => Ok(if float > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()),
        _ => python::text_of(value),
    }
}
