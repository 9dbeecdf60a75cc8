//! The sources of shaders without comments and white space, which would only be downloaded.

/// The text of a WGSL file in `shaders/`, without comments, indentation and empty lines, and with few spaces.
macro_rules! wgsl {
    ($file:literal) => {{
        const SOURCE: &str = include_str!(concat!("shaders/", $file));
        const LENGTH: usize = $crate::backend::webgpu::wgsl::compact::<0>(SOURCE).1;
        const BYTES: [u8; LENGTH] = $crate::backend::webgpu::wgsl::compact(SOURCE).0;
        // Only whole lines and ASCII characters were left out.
        const TEXT: &str = match std::str::from_utf8(&BYTES) {
            Ok(text) => text,
            Err(_) => "",
        };
        TEXT
    }};
}
pub(super) use wgsl;

/// The first `N` bytes of the compact source, and how many it has. Comments are from `//` to the end of the line: the sources have no others,
/// and no strings.
pub const fn compact<const N: usize>(source: &str) -> ([u8; N], usize) {
    let source = source.as_bytes();
    let (mut bytes, mut length, mut at) = ([0; N], 0, 0);
    let mut last = b'\n';
    while at < source.len() {
        let byte = source[at];
        if byte == b'/' && at + 1 < source.len() && source[at + 1] == b'/' {
            while at < source.len() && source[at] != b'\n' {
                at += 1;
            }
            continue;
        }
        at += 1;
        let is_space = byte == b' ' && (is_tight(last) || (at < source.len() && is_tight(source[at])));
        if is_space || (last == b'\n' && byte == b'\n') {
            continue;
        }
        last = byte;
        if length < N {
            bytes[length] = byte;
        }
        length += 1;
    }
    (bytes, length)
}

/// Whether a space before or behind a character means nothing. `-`, `/` and `&` are not among them: two of them would be another token.
const fn is_tight(byte: u8) -> bool {
    matches!(byte, b'\n' | b',' | b';' | b':' | b'{' | b'}' | b'(' | b')' | b'=' | b'*' | b'+')
}

#[cfg(test)]
mod tests {
    use super::compact;

    #[test]
    fn comments_indentation_and_empty_lines_are_left_out() {
        let source = "// About.\n\nfn a() {\n    let b = 1 / 2; // half\n\n    // Done.\n}\n";
        let (bytes, length) = compact::<64>(source);
        assert_eq!(std::str::from_utf8(&bytes[..length]), Ok("fn a(){\nlet b=1 / 2;\n}\n"));
        assert_eq!(compact::<0>(source).1, length);
    }
}
