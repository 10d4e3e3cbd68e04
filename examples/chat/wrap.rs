//! Streaming word wrap at the width of the terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Wraps streamed text: holds a word back until it is known to fit. Code, tables and words longer than a line pass through
/// unchanged.
pub struct Wrap {
    /// Columns of the terminal; `None` turns wrapping off.
    columns: Option<usize>,
    /// Columns used in this line.
    column: usize,
    /// Pending spaces, which are dropped at a line break.
    gap: String,
    /// The word that may still grow.
    word: String,
    /// Whether the line's type is still unknown, since nothing of it is printed yet.
    at_start: bool,
    /// Whether the line passes through unchanged.
    verbatim: bool,
    /// Whether the line is inside a ``` fence.
    fenced: bool,
    /// Whether the word is longer than a line and is no longer held back.
    long: bool,
}

impl Wrap {
    pub fn new(columns: Option<usize>) -> Self {
        let columns = columns.filter(|columns| *columns > 1);
        let (gap, word) = (String::new(), String::new());
        Wrap { columns, column: 0, gap, word, at_start: true, verbatim: false, fenced: false, long: false }
    }

    /// Adds text; gives what can be printed now.
    pub fn push(&mut self, text: &str) -> String {
        let Some(columns) = self.columns else { return text.to_owned() };
        let mut out = String::new();
        text.chars().for_each(|c| self.take(c, columns, &mut out));
        out
    }

    /// Ends the text; gives what was held back.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        self.place(self.columns.unwrap_or(usize::MAX), &mut out);
        out
    }

    fn take(&mut self, c: char, columns: usize, out: &mut String) {
        if c == '\n' {
            self.place(columns, out);
            out.push('\n');
            self.gap.clear();
            (self.column, self.at_start, self.verbatim) = (0, true, false);
        } else if self.at_start {
            self.begin_line(c, columns, out);
        } else if self.verbatim {
            out.push(c);
        } else if c == ' ' || c == '\t' {
            self.place(columns, out);
            self.gap.push(c);
        } else {
            self.grow(c, columns, out);
        }
    }

    /// Classifies a line: fenced code, code indented by four, a table row, or prose.
    fn begin_line(&mut self, c: char, columns: usize, out: &mut String) {
        if self.word.is_empty() && (c == ' ' || c == '\t') {
            self.gap.push(c);
            return;
        }
        self.word.push(c);
        if self.word == "`" || self.word == "``" {
            return;
        }
        self.at_start = false;
        let fence = self.word == "```";
        self.verbatim = fence || self.fenced || c == '|' || self.gap.len() >= 4 || self.gap.contains('\t');
        self.fenced ^= fence;
        if self.verbatim {
            out.push_str(&std::mem::take(&mut self.gap));
            out.push_str(&std::mem::take(&mut self.word));
        } else {
            std::mem::take(&mut self.word).chars().for_each(|c| self.take(c, columns, out));
        }
    }

    /// Adds a character to the word.
    fn grow(&mut self, c: char, columns: usize, out: &mut String) {
        if self.may_break_before(c) {
            self.place(columns, out);
        }
        if self.long {
            out.push(c);
            self.column = (self.column + c.width().unwrap_or(0)) % columns;
            return;
        }
        self.word.push(c);
        if self.word.width() >= columns {
            self.place(columns, out);
            self.long = true;
        }
    }

    /// Prints the word, on a new line if it does not fit on this one. The last column stays free: terminals differ in how they
    /// wrap after it.
    fn place(&mut self, columns: usize, out: &mut String) {
        self.long = false;
        if self.word.is_empty() {
            return;
        }
        let (gap, word) = (width(&self.gap, self.column), self.word.width());
        if self.column + gap + word >= columns {
            out.push_str(if self.column > 0 { "\n" } else { "" });
            self.column = 0;
        } else {
            out.push_str(&self.gap);
            self.column += gap;
        }
        out.push_str(&self.word);
        self.column = (self.column + word) % columns;
        self.gap.clear();
        self.word.clear();
    }

    /// Whether a line may break between the word and this character: scripts with wide characters have no spaces.
    fn may_break_before(&self, c: char) -> bool {
        let wide = |c: char| c.width() == Some(2);
        let base = self.word.chars().rev().find(|c| c.width().is_some_and(|width| width > 0));
        let joined =
            self.word.ends_with('\u{200d}') || c.width() == Some(0) || ('\u{1f3fb}'..='\u{1f3ff}').contains(&c);
        base.is_some_and(|base| (wide(base) || wide(c)) && !NO_END.contains(base)) && !joined && !NO_START.contains(c)
    }
}

/// Characters that must not start a line.
const NO_START: &str = "、。，．・：；？！）〕］｝〉》」』】’”…ー々っゃゅょッャュョ)]}!?,.:;'\"";
/// Characters that must not end a line.
const NO_END: &str = "（〔［｛〈《「『【‘“([{";

/// Width of white space that starts at `column`.
fn width(gap: &str, column: usize) -> usize {
    gap.chars().fold(column, |at, c| if c == '\t' { (at / 8 + 1) * 8 } else { at + 1 }) - column
}

#[cfg(test)]
mod tests {
    use super::Wrap;
    use unicode_width::UnicodeWidthStr;

    /// The text wrapped at `columns`, pushed `piece` characters at a time.
    fn wrapped(text: &str, columns: usize, piece: usize) -> String {
        let mut wrap = Wrap::new(Some(columns));
        let chars: Vec<char> = text.chars().collect();
        let pieces = chars.chunks(piece).map(|chars| chars.iter().collect::<String>());
        let mut out: String = pieces.map(|piece| wrap.push(&piece)).collect();
        out += &wrap.finish();
        out
    }

    #[test]
    fn whole_words_go_to_the_next_line() {
        assert_eq!(wrapped("one two three four", 10, 1), "one two\nthree\nfour");
        assert_eq!(wrapped("one two\n\nthree  four", 10, 2), "one two\n\nthree\nfour");
        assert_eq!(wrapped("  - a list of things", 12, 3), "  - a list\nof things");
        assert_eq!(wrapped("a `b` ``c d`` e", 9, 1), "a `b`\n``c d``\ne");
        // Exactly the available width, and one more.
        assert_eq!(wrapped("1234 678", 9, 1), "1234 678");
        assert_eq!(wrapped("1234 6789", 9, 1), "1234\n6789");
        // Without a width, and at the end, nothing is lost.
        assert_eq!(Wrap::new(None).push("one two three four"), "one two three four");
        assert_eq!(wrapped("``", 9, 1), "``");
    }

    #[test]
    fn code_tables_and_long_words_are_left_to_the_terminal() {
        let code = "```rust\nlet a = some_function(with, many, arguments);\n```\n";
        assert_eq!(wrapped(code, 12, 1), code);
        assert_eq!(wrapped(&format!("{code}one two three"), 12, 5), format!("{code}one two\nthree"));
        for line in
            ["    indented by four is code as well", "| a | table | with | columns |", "\tand with a tab it is too"]
        {
            assert_eq!(wrapped(line, 12, 1), line);
        }
        let long = "x".repeat(30);
        assert_eq!(wrapped(&format!("see {long} too, or not"), 12, 1), format!("see\n{long} too,\nor not"));
    }

    #[test]
    fn wide_characters_take_two_columns_and_marks_none() {
        assert_eq!(wrapped("今日は良い天気です", 9, 1), "今日は良\nい天気で\nす");
        assert_eq!(wrapped("今日は良。天気です", 9, 1), "今日は\n良。天気\nです", "no line begins with a full stop");
        // An e with a combining accent; eight columns wide in all.
        assert_eq!(
            wrapped("e\u{301}e\u{301}e\u{301} e\u{301}e\u{301}e\u{301}e\u{301}", 9, 1),
            "e\u{301}e\u{301}e\u{301} e\u{301}e\u{301}e\u{301}e\u{301}"
        );
        // A family of three stays together.
        let family = "👨\u{200d}👩\u{200d}👧";
        let out = wrapped(&family.repeat(4), 6, 1);
        assert!(out.split('\n').all(|line| line.replace(family, "").is_empty()), "{out:?}");
        assert!(out.contains('\n'));
    }

    #[test]
    fn the_size_of_pushes_makes_no_difference_and_no_line_is_too_wide() {
        let mut seed = 7u64;
        let mut next = |n: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % n
        };
        let alphabet: Vec<char> = "abcdé漢字\u{301}  \n.`-".chars().collect();
        for _ in 0..300 {
            let text: String = (0..200).map(|_| alphabet[next(alphabet.len())]).collect();
            let columns = 12 + next(30);
            let whole = wrapped(&text, columns, 1);
            assert_eq!(wrapped(&text, columns, 1 + next(40)), whole);
            let spaceless = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            assert_eq!(spaceless(&whole), spaceless(&text));
            if text.contains("```") || text.contains("    ") {
                continue;
            }
            for line in whole.lines().filter(|line| line.split(' ').all(|word| word.width() < columns)) {
                assert!(line.width() < columns, "{line:?} in {columns} columns");
            }
        }
    }
}
