//! Searching and splitting as Python's string methods do, as byte ranges of a text.

use std::ops::Range;

/// The byte range between two character positions; negative ones count from the end. `None` if the start is after the end.
pub fn char_range(text: &str, start: Option<i64>, end: Option<i64>) -> Option<Range<usize>> {
    if start.is_none() && end.is_none() {
        return Some(0..text.len());
    }
    let count = text.chars().count() as i64;
    let place = |at: i64| if at < 0 { (at + count).max(0) } else { at };
    let (start, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(count)).min(count));
    if start > end {
        return None;
    }
    let byte = |at: i64| text.char_indices().nth(at as usize).map_or(text.len(), |(at, _)| at);
    Some(byte(start)..byte(end))
}

/// The first or last occurrence of `needle` in a range of the text.
pub fn find(text: &str, needle: &str, range: Range<usize>, last: bool) -> Option<usize> {
    let here = &text[range.clone()];
    Some(range.start + if last { here.rfind(needle) } else { here.find(needle) }?)
}

/// The range left after stripping these characters, or white space, from the start and the end.
pub fn strip(text: &str, chars: Option<&str>, [start, end]: [bool; 2]) -> Range<usize> {
    let goes = |c: char| chars.map_or(c.is_whitespace(), |chars| chars.contains(c));
    let first = if start { text.len() - text.trim_start_matches(goes).len() } else { 0 };
    let rest = &text[first..];
    let last = first + if end { rest.trim_end_matches(goes).len() } else { rest.len() };
    first..last
}

/// Splits at a separator at most `most` times, from the end with `last`.
pub fn split_at(text: &str, by: &str, most: usize, last: bool) -> Vec<Range<usize>> {
    let mut places: Vec<usize> = if last {
        text.rmatch_indices(by).map(|(at, _)| at).take(most).collect()
    } else {
        text.match_indices(by).map(|(at, _)| at).take(most).collect()
    };
    places.sort_unstable();
    let mut parts = Vec::with_capacity(places.len() + 1);
    let mut done = 0;
    for at in places {
        parts.push(done..at);
        done = at + by.len();
    }
    parts.push(done..text.len());
    parts
}

/// Splits at white space at most `most` times, from the end with `last`.
pub fn split_whitespace(text: &str, most: usize, last: bool) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (c.is_whitespace(), start) {
            (false, None) => start = Some(at),
            (true, Some(first)) => {
                words.push(first..at);
                start = None;
            }
            _ => {}
        }
    }
    if words.len() > most.saturating_add(1) {
        if last {
            let kept = words.split_off(words.len() - most);
            // The unsplit rest keeps its leading white space.
            let rest = 0..words.last().map_or(0, |word| word.end);
            words = [vec![rest], kept].concat();
        } else {
            let rest = words[most].start..text.len();
            words.truncate(most);
            words.push(rest);
        }
    } else if words.len() == most.saturating_add(1) {
        // The last part keeps its outer white space.
        if last {
            words[0].start = 0;
        } else if let Some(word) = words.last_mut() {
            word.end = text.len();
        }
    }
    words
}

/// The lines of a text, with their line ends if `keep`.
pub fn lines(text: &str, keep: bool) -> Vec<Range<usize>> {
    let ends = |c: char| {
        matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    let mut lines = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if !ends(c) {
            continue;
        }
        let mut end = at + c.len_utf8();
        if c == '\r' && chars.next_if(|(_, next)| *next == '\n').is_some() {
            end += 1;
        }
        lines.push(start..if keep { end } else { at });
        start = end;
    }
    if start < text.len() {
        lines.push(start..text.len());
    }
    lines
}
