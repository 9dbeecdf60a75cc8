//! Calls in Python's notation, `[name(argument=value, …), …]`, as Llama 3.2 and 4 write them.

use serde_json::{Map, Number, Value};

/// Maximum nesting of lists and dictionaries in an argument.
const MAX_DEPTH: usize = 32;

/// The calls at the start of a text.
#[derive(Debug, PartialEq)]
pub enum Calls {
    /// Names, arguments, and the length of the list in bytes.
    Complete(Vec<(String, Value)>, usize),
    /// The text may still become a list of calls.
    Unfinished,
    /// The text is something else.
    None,
}

/// Reads the list of calls that `text` starts with. Only functions in `names` can be called.
pub fn calls(text: &str, names: &[String]) -> Calls {
    let mut reader = Reader { rest: text };
    match reader.list(names) {
        Ok(calls) => Calls::Complete(calls, text.len() - reader.rest.len()),
        Err(Stop::End) => Calls::Unfinished,
        Err(Stop::Other) => Calls::None,
    }
}

/// Why reading stopped.
#[derive(Debug, PartialEq)]
enum Stop {
    /// The text ended: more of it may follow.
    End,
    /// The text does not continue like a call.
    Other,
}

type Read<T> = Result<T, Stop>;

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn list(&mut self, names: &[String]) -> Read<Vec<(String, Value)>> {
        self.expect('[')?;
        let mut calls = Vec::new();
        loop {
            calls.push(self.call(names)?);
            match self.next()? {
                ',' => {}
                ']' => return Ok(calls),
                _ => return Err(Stop::Other),
            }
        }
    }

    fn call(&mut self, names: &[String]) -> Read<(String, Value)> {
        self.skip_space();
        let called = |name: &&String| self.rest.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('('));
        let Some(name) = names.iter().find(called) else {
            let may_become = names.iter().any(|name| format!("{name}(").starts_with(self.rest));
            return Err(if may_become { Stop::End } else { Stop::Other });
        };
        self.rest = self.rest.get(name.len() + 1..).unwrap_or_default();
        let mut arguments = Map::new();
        if self.peek()? == ')' {
            self.next()?;
            return Ok((name.clone(), Value::Object(arguments)));
        }
        loop {
            let key = self.word()?;
            self.expect('=')?;
            arguments.insert(key, self.value(0)?);
            match self.next()? {
                ',' => {}
                ')' => return Ok((name.clone(), Value::Object(arguments))),
                _ => return Err(Stop::Other),
            }
        }
    }

    fn value(&mut self, depth: usize) -> Read<Value> {
        if depth > MAX_DEPTH {
            return Err(Stop::Other);
        }
        match self.peek()? {
            '"' | '\'' => self.string().map(Value::String),
            '[' => {
                self.next()?;
                let mut items = Vec::new();
                while self.peek()? != ']' {
                    items.push(self.value(depth + 1)?);
                    if self.peek()? == ',' {
                        self.next()?;
                    } else if self.peek()? != ']' {
                        return Err(Stop::Other);
                    }
                }
                self.next()?;
                Ok(Value::Array(items))
            }
            '{' => {
                self.next()?;
                let mut fields = Map::new();
                while self.peek()? != '}' {
                    let key = self.string()?;
                    self.expect(':')?;
                    fields.insert(key, self.value(depth + 1)?);
                    if self.peek()? == ',' {
                        self.next()?;
                    } else if self.peek()? != '}' {
                        return Err(Stop::Other);
                    }
                }
                self.next()?;
                Ok(Value::Object(fields))
            }
            '-' | '0'..='9' => self.number(),
            _ => match self.word()?.as_str() {
                "True" | "true" => Ok(Value::Bool(true)),
                "False" | "false" => Ok(Value::Bool(false)),
                "None" | "null" => Ok(Value::Null),
                _ => Err(Stop::Other),
            },
        }
    }

    fn number(&mut self) -> Read<Value> {
        let text = self.take_while(|letter| letter.is_ascii_digit() || matches!(letter, '-' | '+' | '.' | 'e' | 'E'))?;
        if let Ok(integer) = text.parse::<i64>() {
            return Ok(integer.into());
        }
        text.parse::<f64>().ok().and_then(Number::from_f64).map(Value::Number).ok_or(Stop::Other)
    }

    fn string(&mut self) -> Read<String> {
        let quote = self.next()?;
        if !matches!(quote, '"' | '\'') {
            return Err(Stop::Other);
        }
        let mut text = String::new();
        let mut letters = self.rest.chars();
        loop {
            match letters.next().ok_or(Stop::End)? {
                letter if letter == quote => break,
                '\\' => text.push(match letters.next().ok_or(Stop::End)? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    other => other,
                }),
                letter => text.push(letter),
            }
        }
        self.rest = letters.as_str();
        Ok(text)
    }

    fn word(&mut self) -> Read<String> {
        self.skip_space();
        let word = self.take_while(|letter| letter.is_alphanumeric() || letter == '_')?;
        if word.is_empty() { Err(Stop::Other) } else { Ok(word.to_owned()) }
    }

    /// The characters up to the first one that does not belong to it, which must have come.
    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> Read<&'a str> {
        let end = self.rest.find(|letter| !belongs(letter)).ok_or(Stop::End)?;
        let (word, rest) = self.rest.split_at_checked(end).ok_or(Stop::Other)?;
        self.rest = rest;
        Ok(word)
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// The next character that is no white space.
    fn peek(&mut self) -> Read<char> {
        self.skip_space();
        self.rest.chars().next().ok_or(Stop::End)
    }

    fn next(&mut self) -> Read<char> {
        let letter = self.peek()?;
        self.rest = self.rest.strip_prefix(letter).unwrap_or_default();
        Ok(letter)
    }

    fn expect(&mut self, wanted: char) -> Read<()> {
        if self.next()? == wanted { Ok(()) } else { Err(Stop::Other) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_of_calls_are_read_and_other_lists_are_not() {
        let names = ["f".to_owned(), "get_weather".to_owned()];
        let text = r#"[get_weather(city='Gh"ent', days=3, units=["a", 'b'], wide={"x": -1.5, "y": None}, ok=True), f()] more"#;
        let arguments = json!({"city": "Gh\"ent", "days": 3, "units": ["a", "b"], "wide": {"x": -1.5, "y": null}, "ok": true});
        let length = text.len() - " more".len();
        let expected = Calls::Complete(vec![("get_weather".into(), arguments), ("f".into(), json!({}))], length);
        assert_eq!(calls(text, &names), expected);
        for (end, _) in text.char_indices().take_while(|(end, _)| *end < length) {
            let start = text.get(..end).expect("a boundary");
            let expected = if start.is_empty() { Calls::Unfinished } else { calls(start, &names) };
            assert_eq!(expected, Calls::Unfinished, "{start}");
        }
        for other in ["[1, 2]", "[g(a=1)]", "f(a=1)", "[f(1)]", "[f(a=b)]", "[f a"] {
            assert_eq!(calls(other, &names), Calls::None, "{other}");
        }
    }
}
