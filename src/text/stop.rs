//! Stop strings in streamed text: text is held back while it may be the beginning of one.

/// Finds stop strings in streamed text and holds text back while it may become one.
#[derive(Debug, Clone, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
}

impl StopStrings {
    /// A stream with these stop strings; empty ones are ignored.
    pub fn new(stops: &[String]) -> Self {
        StopStrings { stops: stops.iter().filter(|stop| !stop.is_empty()).cloned().collect(), held: String::new() }
    }

    /// Whether there are no stop strings.
    pub fn is_empty(&self) -> bool {
        self.stops.is_empty()
    }

    /// Bytes currently held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Adds text; gives the text that is safe to show, and whether a stop string was found, which ends the stream. The stop
    /// string that begins first counts.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        self.held += text;
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        // The longest suffix that is a prefix of a stop string.
        let begins = |at: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[*at..]));
        let at = self.held.char_indices().map(|(at, _)| at).find(begins).unwrap_or(self.held.len());
        let rest = self.held.split_off(at);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// Ends the stream; gives the text still held back.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shown text of `text`, pushed `n` characters at a time.
    fn shown(stops: &[&str], text: &str, n: usize) -> (String, bool) {
        let mut stream = StopStrings::new(&stops.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        let chars: Vec<char> = text.chars().collect();
        let mut all = String::new();
        for piece in chars.chunks(n) {
            let (out, found) = stream.push(&piece.iter().collect::<String>());
            all += &out;
            if found {
                return (all, true);
            }
        }
        (all + &stream.finish(), false)
    }

    #[test]
    fn the_shown_text_does_not_depend_on_the_size_of_pushes() {
        let cases: [(&[&str], &str, &str, bool); 7] = [
            (&["STOP"], "go STOP on", "go ", true),
            (&["STOP"], "go STO", "go STO", false),
            (&["aab"], "aaaab!", "aa", true),
            (&["\n\n", "\nUser:"], "hi\nUser: x", "hi", true),
            (&["é🚀"], "caféé🚀!", "café", true),
            (&["x", "yx"], "ayx", "a", true),
            (&[""], "text", "text", false),
        ];
        for (stops, text, expected, found) in cases {
            for n in 1..=text.chars().count() {
                assert_eq!(shown(stops, text, n), (expected.to_owned(), found), "{stops:?} {text:?} by {n}");
            }
        }
    }
}
