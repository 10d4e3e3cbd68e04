//! An upper bound on the length of normalized text. Normalizer rules come with the model, and a few chained replacements can
//! expand a word to gigabytes.

use serde_json::Value;

/// Bytes that any text may expand to, in addition to [`TIMES`] its length.
const BYTES: u64 = 8 << 20;
/// Allowed expansion factor. Rules of real tokenizers expand a space to three bytes and a byte to two.
const TIMES: u64 = 16;

/// Upper bound on a rule's output: `times * n + more` bytes for n bytes of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExpansionBound {
    times: u64,
    more: u64,
}

impl ExpansionBound {
    const NONE: ExpansionBound = ExpansionBound { times: 1, more: 0 };

    /// The bound of a tokenizer.json's normalizer and pre-tokenizer.
    pub(super) fn of(tokenizer: &Value) -> Self {
        Self::of_rule(&tokenizer["normalizer"]).then(Self::of_rule(&tokenizer["pre_tokenizer"]))
    }

    /// The bound of a rule, or of a sequence of rules. Old files have no `type`, so rules are recognized by their fields.
    fn of_rule(rule: &Value) -> Self {
        let length = |text: &Value| text.as_str().map_or(0, |text| text.len() as u64);
        if let Some(rules) = ["normalizers", "pretokenizers"].iter().find_map(|name| rule[*name].as_array()) {
            return rules.iter().map(Self::of_rule).fold(Self::NONE, Self::then);
        }
        if rule.get("content").is_some() && rule.get("pattern").is_some() {
            let (pattern, content) = (&rule["pattern"], length(&rule["content"]));
            let pattern = if pattern.is_string() { pattern } else { &pattern["String"] };
            return match length(pattern) {
                // A regex or an empty pattern can match before each byte and at the end.
                0 => ExpansionBound { times: content.saturating_add(1), more: content },
                pattern => ExpansionBound { times: content.div_ceil(pattern).max(1), more: 0 },
            };
        }
        if let Some(text) = rule.get("prepend") {
            return ExpansionBound { times: 1, more: length(text) };
        }
        match rule["type"].as_str() {
            // At most 33 bytes from three.
            Some("NFKC" | "NFKD") => ExpansionBound { times: 11, more: 0 },
            Some("NFC" | "NFD" | "Lowercase") => ExpansionBound { times: 3, more: 0 },
            // Spaces around three-byte characters, decomposed accents, lower case.
            Some("BertNormalizer") => ExpansionBound { times: 9, more: 0 },
            Some("ByteLevel") => ExpansionBound { times: 2, more: 2 },
            // A space becomes a three-byte character.
            Some("Metaspace") => ExpansionBound { times: 4, more: 4 },
            // Any entry of the table may be as long as the table.
            Some("Precompiled") => ExpansionBound { times: length(&rule["precompiled_charsmap"]).max(1), more: 0 },
            _ => ExpansionBound::NONE,
        }
    }

    /// The bound of these rules followed by `next`.
    fn then(self, next: ExpansionBound) -> Self {
        ExpansionBound {
            times: self.times.saturating_mul(next.times),
            more: self.more.saturating_mul(next.times).saturating_add(next.more),
        }
    }

    /// The maximum output for `texts` texts of `bytes` bytes in total, if that exceeds the limit.
    pub(super) fn beyond_limit(self, texts: usize, bytes: usize) -> Option<u64> {
        let (texts, bytes) = (texts as u64, bytes as u64);
        let most = self.times.saturating_mul(bytes).saturating_add(self.more.saturating_mul(texts));
        (most > TIMES.saturating_mul(bytes).saturating_add(BYTES)).then_some(most)
    }
}
