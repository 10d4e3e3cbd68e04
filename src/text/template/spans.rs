//! Splits a rendered conversation into spans: special tokens that the template wrote, and literal ones from messages.

use super::Span;
use super::stand_ins::StandIns;
use std::collections::HashMap;
use std::ops::Range;

/// The spans of a rendering. `masked` is the same rendering with stand-ins for the characters of messages, if it succeeded.
///
/// A special token's spelling is literal if it contains any character of a message. If the two renderings do not correspond, all
/// of them are literal.
pub fn spans(rendered: &str, masked: Option<&str>, stand_ins: &StandIns, specials: &[String]) -> Vec<Span> {
    let typed = masked.filter(|other| rendered.chars().eq(other.chars().map(|c| stand_ins.plain(c)))).map(|other| {
        let typed = other.chars().map(|c| stand_ins.original(c).is_some());
        let places = rendered.char_indices().zip(typed).filter(|(_, typed)| *typed);
        places.map(|((at, _), _)| at).collect::<Vec<usize>>()
    });
    // The first message character at or after the start of the mark.
    let is_typed = |mark: &Range<usize>| match &typed {
        Some(typed) => typed.get(typed.partition_point(|at| *at < mark.start)).is_some_and(|at| *at < mark.end),
        None => true,
    };
    cut(rendered, marks(rendered, specials).into_iter().filter(is_typed))
}

/// Whether the text spells any special token.
pub fn has_marks(rendered: &str, specials: &[String]) -> bool {
    specials.iter().any(|special| !special.is_empty() && rendered.contains(special.as_str()))
}

/// The spans of a rendering without special tokens.
pub fn unmarked(rendered: String) -> Vec<Span> {
    if rendered.is_empty() { vec![] } else { vec![Span { text: rendered, literal: false }] }
}

/// The ranges that spell a special token, by their start.
fn marks(text: &str, specials: &[String]) -> Vec<Range<usize>> {
    let mut by_first: HashMap<char, Vec<&str>> = HashMap::new();
    for special in specials {
        if let Some(first) = special.chars().next() {
            by_first.entry(first).or_default().push(special);
        }
    }
    let mut found = Vec::new();
    for (at, c) in text.char_indices() {
        let here = by_first.get(&c).into_iter().flatten().filter(|special| text[at..].starts_with(**special));
        found.extend(here.map(|special| at..at + special.len()));
    }
    found
}

/// Splits a text at these literal ranges, which are sorted by their start and may overlap.
fn cut(text: &str, literal: impl Iterator<Item = Range<usize>>) -> Vec<Span> {
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in literal {
        match joined.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    let mut spans = Vec::new();
    let mut done = 0;
    for range in joined {
        spans.push(Span { text: text[done..range.start].to_owned(), literal: false });
        spans.push(Span { text: text[range.clone()].to_owned(), literal: true });
        done = range.end;
    }
    spans.push(Span { text: text[done..].to_owned(), literal: false });
    spans.retain(|span| !span.text.is_empty());
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(rendered: &str, typed: &[&str], specials: &[&str]) -> Vec<String> {
        let specials: Vec<String> = specials.iter().map(|special| (*special).to_owned()).collect();
        let stand_ins = StandIns::of(&specials, [rendered].into_iter()).unwrap();
        let mut other = rendered.to_owned();
        for part in typed {
            other = other.replacen(part, &stand_ins.mask_text(part), 1);
        }
        let spans = spans(rendered, Some(&other), &stand_ins, &specials);
        assert_eq!(spans.iter().map(|span| span.text.as_str()).collect::<String>(), rendered);
        spans.into_iter().filter(|span| span.literal).map(|span| span.text).collect()
    }

    #[test]
    fn a_mark_with_any_message_character_is_literal() {
        assert_eq!(literal("<s>a<s>b", &["a<s>b"], &["<s>"]), ["<s>"]);
        assert_eq!(literal("<s>x", &["x"], &["<s>"]), Vec::<String>::new());
        assert_eq!(literal("<|role|>", &["role"], &["<|role|>"]), ["<|role|>"]);
        assert_eq!(literal("ab<s", &["b<"], &["<s", "b<s"]), ["b<s"]);
        assert_eq!(literal("<s><s>", &["<s>"], &["<s>"]), ["<s>"]);
    }

    #[test]
    fn without_a_matching_masked_rendering_every_mark_is_literal() {
        let stand_ins = StandIns::default();
        let of = |other| spans("a<s>b", other, &stand_ins, &["<s>".to_owned()]);
        for other in [None, Some("a<s>c")] {
            assert!(of(other).iter().any(|span| span.literal && span.text == "<s>"));
        }
        assert!(!of(Some("a<s>b")).iter().any(|span| span.literal));
    }
}
