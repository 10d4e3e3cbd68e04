//! How long a tokenizer can make a text before it cuts it into tokens. Its rules come with the model, and some chained
//! replacements make gigabytes of a word.

use serde_json::Value;

/// Bytes that a text may become, beside a multiple of its own.
const BYTES: u64 = 8 << 20;
/// That multiple. Rules in use make of a space three bytes, and of a byte two.
const TIMES: u64 = 16;

/// Of n bytes some rules make `times * n + more` at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExpansionBound {
    times: u64,
    more: u64,
}

impl ExpansionBound {
    const NONE: ExpansionBound = ExpansionBound { times: 1, more: 0 };

    /// Of the normalizer and the pre-tokenizer of a tokenizer.json.
    pub(super) fn of(tokenizer: &Value) -> Self {
        Self::of_rule(&tokenizer["normalizer"]).then(Self::of_rule(&tokenizer["pre_tokenizer"]))
    }

    /// Of a rule, or of a sequence of rules. The kind is not always said, as old files leave it out.
    fn of_rule(rule: &Value) -> Self {
        let length = |text: &Value| text.as_str().map_or(0, |text| text.len() as u64);
        if let Some(rules) = ["normalizers", "pretokenizers"].iter().find_map(|name| rule[*name].as_array()) {
            return rules.iter().map(Self::of_rule).fold(Self::NONE, Self::then);
        }
        if rule.get("content").is_some() && rule.get("pattern").is_some() {
            let (pattern, content) = (&rule["pattern"], length(&rule["content"]));
            let pattern = if pattern.is_string() { pattern } else { &pattern["String"] };
            return match length(pattern) {
                // An expression, or an empty text, can match before each byte and at the end.
                0 => ExpansionBound { times: content.saturating_add(1), more: content },
                pattern => ExpansionBound { times: content.div_ceil(pattern).max(1), more: 0 },
            };
        }
        if let Some(text) = rule.get("prepend") {
            return ExpansionBound { times: 1, more: length(text) };
        }
        match rule["type"].as_str() {
            // Of three bytes become 33 at most.
            Some("NFKC" | "NFKD") => ExpansionBound { times: 11, more: 0 },
            Some("NFC" | "NFD" | "Lowercase") => ExpansionBound { times: 3, more: 0 },
            // Spaces around characters of three bytes, accents apart, lower case.
            Some("BertNormalizer") => ExpansionBound { times: 9, more: 0 },
            Some("ByteLevel") => ExpansionBound { times: 2, more: 2 },
            // A space becomes a character.
            Some("Metaspace") => ExpansionBound { times: 4, more: 4 },
            // A table of which any entry may be the longest.
            Some("Precompiled") => ExpansionBound { times: length(&rule["precompiled_charsmap"]).max(1), more: 0 },
            _ => ExpansionBound::NONE,
        }
    }

    /// Of these rules and then others.
    fn then(self, next: ExpansionBound) -> Self {
        ExpansionBound {
            times: self.times.saturating_mul(next.times),
            more: self.more.saturating_mul(next.times).saturating_add(next.more),
        }
    }

    /// What may be made of so many texts, of so many bytes together, where that is too much.
    pub(super) fn beyond_limit(self, texts: usize, bytes: usize) -> Option<u64> {
        let (texts, bytes) = (texts as u64, bytes as u64);
        let most = self.times.saturating_mul(bytes).saturating_add(self.more.saturating_mul(texts));
        (most > TIMES.saturating_mul(bytes).saturating_add(BYTES)).then_some(most)
    }
}
