//! Python's case conversions.

use super::stand_ins::StandIns;

/// A case conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    Upper,
    Lower,
    Folded,
    Swapped,
    /// The first is upper case, all others lower.
    Capital,
    /// Python's title(): capitalizes each word, where words are separated by non-letters.
    Title,
    /// Jinja's title filter: capitalizes each word, where words are separated by white space, dashes or brackets.
    Words,
}

/// Converts a text. Converted message characters stay masked, also if the original had no stand-in.
pub fn convert(shown: &str, case: Case, stand_ins: &StandIns) -> String {
    let plain = stand_ins.plain_text(shown);
    match case {
        // Convert the whole text: the result for a character may depend on its neighbours.
        Case::Upper if !stand_ins.any() => return shown.to_uppercase(),
        Case::Lower if !stand_ins.any() => return shown.to_lowercase(),
        _ => {}
    }
    let mut out = String::with_capacity(shown.len());
    let mut inside = false;
    let chars: Vec<char> = plain.chars().collect();
    for (i, (shown, c)) in shown.chars().zip(chars.iter().copied()).enumerate() {
        let upper = match case {
            Case::Upper => true,
            Case::Lower | Case::Folded => false,
            Case::Swapped => c.is_lowercase(),
            Case::Capital | Case::Title | Case::Words => !inside,
        };
        inside = match case {
            Case::Title => c.is_alphabetic(),
            Case::Words => !(c.is_whitespace() || matches!(c, '-' | '(' | '{' | '[' | '<')),
            _ => true,
        };
        let turned: Vec<char> = match c {
            'ß' | 'ẞ' if case == Case::Folded => vec!['s', 's'],
            'ς' if case == Case::Folded => vec!['σ'],
            'Σ' if !upper && ends_a_word(&chars, i) && case != Case::Folded => vec!['ς'],
            _ if upper => c.to_uppercase().collect(),
            _ => c.to_lowercase().collect(),
        };
        let turned: Vec<char> = match (upper, case, turned.as_slice()) {
            // Title case: "ß" becomes "Ss".
            (true, Case::Capital | Case::Title | Case::Words, [first, rest @ ..]) => {
                std::iter::once(*first).chain(rest.iter().flat_map(|c| c.to_lowercase())).collect()
            }
            _ => turned,
        };
        let typed = stand_ins.original(shown).is_some() || stand_ins.mask(c) == c;
        out.extend(turned.into_iter().map(|turned| if typed { stand_ins.mask(turned) } else { turned }));
    }
    out
}

/// Whether a sigma at this position is the last letter of a word.
fn ends_a_word(chars: &[char], at: usize) -> bool {
    chars[..at].last().is_some_and(|c| c.is_alphabetic()) && !chars.get(at + 1).is_some_and(|c| c.is_alphabetic())
}

/// Whether the text has a letter for which `one` holds and none for which `other` holds.
pub fn is_all(text: &str, one: fn(char) -> bool, other: fn(char) -> bool) -> bool {
    text.chars().any(one) && !text.chars().any(other)
}

/// Python's istitle(): each word begins in upper case and continues in lower case.
pub fn is_title(text: &str) -> bool {
    let (mut inside, mut any) = (false, false);
    for c in text.chars() {
        if (c.is_uppercase() && inside) || (c.is_lowercase() && !inside) {
            return false;
        }
        inside = c.is_uppercase() || c.is_lowercase();
        any |= inside;
    }
    any
}

/// Whether a character is a decimal digit in any script: Unicode has them in runs of ten.
pub fn is_decimal(c: char) -> bool {
    const ZEROS: [u32; 24] = [
        0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0,
        0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0xa620, 0xff10,
    ];
    ZEROS.iter().any(|zero| (*zero..zero + 10).contains(&u32::from(c)))
}

/// Whether a character is a superscript, subscript, circled or parenthesized digit.
pub fn is_raised_digit(c: char) -> bool {
    matches!(c, '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '₀'..='₉' | '①'..='⑨' | '⑴'..='⑼' | '⒈'..='⒐')
}
