//! The tokens of a Cedar text, as far as places and limits need them: words, operators, strings; no
//! comments.

/// Every token with its byte offset. Total: any text is cut somehow.
pub(crate) fn tokens(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
            let start = at;
            let length = length(rest);
            at += length;
            let token = &rest[..length];
            if !token.starts_with(char::is_whitespace) && !token.starts_with("//") {
                return Some((start, token));
            }
        }
    })
}

/// Bytes of the first token, space or comment of a text that is not empty.
fn length(rest: &str) -> usize {
    let first = rest.chars().next().unwrap_or_default();
    let run = |part: fn(char) -> bool| rest.find(|char| !part(char)).unwrap_or(rest.len());
    match first {
        '"' => string(rest),
        '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
        '&' | '|' | ':' if rest[1..].starts_with(first) => 2,
        _ if first.is_whitespace() => run(char::is_whitespace),
        _ if is_word(first) => run(is_word),
        _ => first.len_utf8(),
    }
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || char == '_'
}

/// Bytes of the string literal that `rest` starts with.
fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, char) in rest.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn comments_and_strings_hide_what_is_in_them() {
        let text = "@ttl(\"a\\\"@x\") // @y\n && b::C";
        let found: Vec<&str> = tokens(text).map(|(_, token)| token).collect();
        assert_eq!(found, ["@", "ttl", "(", "\"a\\\"@x\"", ")", "&&", "b", "::", "C"]);
    }

    proptest! {
        #[test]
        fn every_token_stands_where_it_says(text in "[a-z\"\\\\/&|:@ \nä()]{0,60}") {
            for (at, token) in tokens(&text) {
                prop_assert!(!token.is_empty());
                prop_assert_eq!(&text[at..at + token.len()], token);
            }
        }
    }
}
