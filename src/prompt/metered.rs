//! Filters and methods of templates, with a bound on what they do in one rendering.
//!
//! minijinja counts instructions, and a filter is one instruction however long its text is. So a small template could compute for minutes.

use minijinja::value::{Rest, Value, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, filters};
use std::cell::Cell;

/// The most work of one rendering; a unit is about a byte that is copied. Some seconds.
const MOST: u64 = 100_000_000;

/// Units of an item of a list, or of a character that becomes a value of its own.
pub const ITEM: u64 = 50;

thread_local! {
    static LEFT: Cell<u64> = const { Cell::new(MOST) };
}

/// Begins a rendering, which may do the most divided by `share`.
pub fn begin(share: u64) {
    LEFT.set(MOST / share);
}

/// Counts the work of a function with these values. `per_byte`: units for a byte of a text.
///
/// # Errors
///
/// If the rendering has done too much.
pub fn charge<'a>(values: impl IntoIterator<Item = &'a Value>, per_byte: u64) -> Result<(), Error> {
    let units = |value: &Value| match value.as_str() {
        Some(text) => per_byte * text.len() as u64,
        None => ITEM * value.len().unwrap_or(1) as u64,
    };
    charge_bytes(values.into_iter().map(units).fold(0, u64::saturating_add))
}

/// Counts the work of copying so many bytes.
///
/// # Errors
///
/// If the rendering has done too much.
pub fn charge_bytes(bytes: u64) -> Result<(), Error> {
    let left = LEFT.get().checked_sub(bytes);
    LEFT.set(left.unwrap_or(0));
    left.map(drop).ok_or_else(|| Error::new(ErrorKind::OutOfFuel, "its filters and methods have too much to do"))
}

/// Replaces the filters whose work depends on the length of a text or list.
pub fn extend(environment: &mut Environment<'static>) {
    let by_byte = [
        ("escape", Value::from_function(filters::escape)),
        ("e", Value::from_function(filters::escape)),
        ("lower", Value::from_function(filters::lower)),
        ("upper", Value::from_function(filters::upper)),
        ("title", Value::from_function(filters::title)),
        ("capitalize", Value::from_function(filters::capitalize)),
        ("indent", Value::from_function(filters::indent)),
        ("format", Value::from_function(filters::format)),
        ("pprint", Value::from_function(filters::pprint)),
    ];
    let by_item = [
        ("split", Value::from_function(filters::split)),
        ("lines", Value::from_function(filters::lines)),
        ("dictsort", Value::from_function(filters::dictsort)),
        ("items", Value::from_function(filters::items)),
        ("reverse", Value::from_function(filters::reverse)),
        ("join", Value::from_function(filters::join)),
        ("min", Value::from_function(filters::min)),
        ("max", Value::from_function(filters::max)),
        ("sort", Value::from_function(filters::sort)),
        ("list", Value::from_function(filters::list)),
        ("batch", Value::from_function(filters::batch)),
        ("slice", Value::from_function(filters::slice)),
        ("sum", Value::from_function(filters::sum)),
        ("select", Value::from_function(filters::select)),
        ("reject", Value::from_function(filters::reject)),
        ("selectattr", Value::from_function(filters::selectattr)),
        ("rejectattr", Value::from_function(filters::rejectattr)),
        ("map", Value::from_function(filters::map)),
        ("groupby", Value::from_function(filters::groupby)),
        ("unique", Value::from_function(filters::unique)),
        ("chain", Value::from_function(filters::chain)),
        ("zip", Value::from_function(filters::zip)),
    ];
    let by_byte = by_byte.map(|(name, filter)| (name, filter, 1));
    for (name, filter, per_byte) in by_byte.into_iter().chain(by_item.map(|(name, filter)| (name, filter, ITEM))) {
        environment.add_filter(name, move |state: &mut State, arguments: Rest<ValueOrKwargs>| {
            let arguments = arguments.into_values();
            charge(arguments.iter(), per_byte)?;
            filter.call(state, &arguments)
        });
    }
}
