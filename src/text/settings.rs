//! The parts of tokenizer_config.json and special_tokens_map.json that complete tokenizer.json: added tokens, names of special
//! tokens, and whether BOS and EOS are added to a text.

use serde_json::{Map, Value, json};

/// The two files; either is null if it does not exist.
#[derive(Debug, Clone, Default)]
pub struct TokenizerSettings {
    config: Value,
    map: Value,
}

/// transformers classes that follow `add_bos_token` and `add_eos_token` and ignore tokenizer.json's post-processor. All others
/// follow the post-processor alone.
const BY_FLAGS: [&str; 2] = ["GPTNeoXTokenizer", "GPTNeoXTokenizerFast"];
/// The default special token of these classes.
const GPT_NEOX_TOKEN: &str = "<|endoftext|>";

impl TokenizerSettings {
    /// Settings from tokenizer_config.json and special_tokens_map.json.
    pub fn new(config: Value, map: Value) -> Self {
        TokenizerSettings { config, map }
    }

    /// The special tokens by name, such as `eos_token`, for templates. Contains only those that the files name.
    pub fn names(&self) -> Map<String, Value> {
        let mut names = Map::new();
        for file in [&self.config, &self.map] {
            for (name, token) in file.as_object().into_iter().flatten() {
                let Some(text) = spelled(token).filter(|text| name.ends_with("_token") && !text.is_empty()) else {
                    continue;
                };
                names.entry(name.as_str()).or_insert_with(|| text.into());
            }
        }
        if self.goes_by_flags() {
            for name in ["bos_token", "eos_token", "unk_token"] {
                names.entry(name).or_insert_with(|| GPT_NEOX_TOKEN.into());
            }
        }
        names
    }

    /// Applies the settings to a tokenizer.json; gives whether that changed it.
    pub fn complete(&self, tokenizer: &mut Value) -> bool {
        let added = self.add_tokens(tokenizer);
        let flag = |name: &str| self.config[name] == true;
        let template = post_processor([
            self.id_of("bos_token", tokenizer).filter(|_| flag("add_bos_token")),
            self.id_of("eos_token", tokenizer).filter(|_| flag("add_eos_token")),
        ]);
        // A ByteLevel post-processor adjusts offsets only and adds no tokens.
        let now = &tokenizer["post_processor"];
        let is_same = *now == template || (template.is_null() && now["type"] == "ByteLevel");
        let replaced = self.goes_by_flags() && tokenizer.is_object() && !is_same;
        if replaced {
            tokenizer["post_processor"] = template;
        }
        added || replaced
    }

    fn goes_by_flags(&self) -> bool {
        let class = self.config["tokenizer_class"].as_str();
        class.is_some_and(|class| BY_FLAGS.contains(&class))
    }

    /// A special token's spelling and id.
    fn id_of(&self, name: &str, tokenizer: &Value) -> Option<(String, u64)> {
        let text = self.names().get(name)?.as_str()?.to_owned();
        let added = tokenizer["added_tokens"].as_array().into_iter().flatten();
        let by_spelling =
            added.filter(|token| token["content"] == text.as_str()).find_map(|token| token["id"].as_u64());
        let id = by_spelling.or_else(|| tokenizer["model"]["vocab"].get(&text)?.as_u64())?;
        Some((text, id))
    }

    /// Adds the tokens of `added_tokens_decoder` in the order of their ids, then the named ones. Existing tokens get the
    /// attributes in the settings.
    fn add_tokens(&self, tokenizer: &mut Value) -> bool {
        let mut wanted: Vec<(u64, Value)> = Vec::new();
        for (id, token) in self.config["added_tokens_decoder"].as_object().into_iter().flatten() {
            let (Ok(id), Some(text)) = (id.parse(), token["content"].as_str()) else { continue };
            let is = |name: &str| token[name] == true;
            let special = is("special");
            // transformers' default.
            let normalized = token["normalized"].as_bool().unwrap_or(!special);
            wanted.push((
                id,
                json!({
                    "content": text, "single_word": is("single_word"), "lstrip": is("lstrip"), "rstrip": is("rstrip"),
                    "normalized": normalized, "special": special,
                }),
            ));
        }
        wanted.sort_by_key(|(id, _)| *id);
        let mut wanted: Vec<Value> = wanted.into_iter().map(|(_, token)| token).collect();
        let lists = ["additional_special_tokens", "extra_special_tokens"].map(|name| self.config[name].as_array());
        let listed = lists.into_iter().flatten().flatten().filter_map(spelled).map(str::to_owned);
        let named: Vec<Value> = self.names().into_iter().map(|(_, text)| text).collect();
        for text in named.iter().filter_map(Value::as_str).map(str::to_owned).chain(listed) {
            match wanted.iter_mut().find(|token| token["content"] == text.as_str()) {
                Some(token) => token["special"] = true.into(),
                None if is_there(tokenizer, &text) => {}
                None => wanted.push(json!({
                    "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                    "special": true,
                })),
            }
        }
        let mut changed = false;
        for token in wanted {
            changed |= put(tokenizer, token);
        }
        changed
    }
}

/// The text of a token given as a string or as an object with `content`.
pub(crate) fn spelled(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

fn is_there(tokenizer: &Value, text: &str) -> bool {
    tokenizer["added_tokens"].as_array().is_some_and(|added| added.iter().any(|token| token["content"] == text))
}

/// Adds a token, or changes the one with the same spelling. A new token gets its id from the vocabulary, or the next free id.
fn put(tokenizer: &mut Value, mut token: Value) -> bool {
    let vocab = tokenizer["model"]["vocab"].as_object();
    let (size, known) =
        (vocab.map_or(0, Map::len) as u64, vocab.and_then(|vocab| vocab.get(token["content"].as_str()?)));
    let known = known.and_then(Value::as_u64);
    let Some(added) = tokenizer.get_mut("added_tokens").and_then(Value::as_array_mut) else { return false };
    let most = added.iter().filter_map(|token| token["id"].as_u64()).max();
    let place = added.iter().position(|other| other["content"] == token["content"]);
    let id = place.and_then(|at| added[at]["id"].as_u64()).or(known);
    token["id"] = id.unwrap_or_else(|| most.map_or(size, |most| (most + 1).max(size))).into();
    match place {
        Some(at) if added[at] == token => return false,
        Some(at) => added[at] = token,
        None => {
            added.push(token);
            added.sort_by_key(|token| token["id"].as_u64());
        }
    }
    true
}

/// A post-processor that adds these tokens, given with their ids, before and after a text; null if there are none.
pub(crate) fn post_processor([first, last]: [Option<(String, u64)>; 2]) -> Value {
    if first.is_none() && last.is_none() {
        return Value::Null;
    }
    let special = |text: &str, of: u8| json!({"SpecialToken": {"id": text, "type_id": of}});
    let around = |name: &str, of: u8| {
        let text = json!({"Sequence": {"id": name, "type_id": of}});
        let [first, last] = [&first, &last].map(|token| token.as_ref().map(|(token, _)| special(token, of)));
        first.into_iter().chain([text]).chain(last).collect::<Vec<_>>()
    };
    let mut tokens = Map::new();
    for (text, id) in [&first, &last].into_iter().flatten() {
        tokens.insert(text.clone(), json!({"id": text, "ids": [id], "tokens": [text]}));
    }
    let single = around("A", 0);
    let pair = [single.clone(), around("B", 1)].concat();
    json!({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer() -> Value {
        json!({
            "added_tokens": [{"id": 0, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false,
                              "normalized": false, "special": true}],
            "post_processor": null,
            "model": {"vocab": {"<|endoftext|>": 0, "a": 1, "b": 2}},
        })
    }

    fn completed(config: Value) -> (bool, Value) {
        let mut json = tokenizer();
        let changed = TokenizerSettings::new(config, Value::Null).complete(&mut json);
        (changed, json)
    }

    #[test]
    fn settings_that_match_the_tokenizer_change_nothing() {
        for config in
            [Value::Null, json!({}), json!({"eos_token": "<|endoftext|>", "tokenizer_class": "GPTNeoXTokenizer"})]
        {
            assert_eq!(completed(config), (false, tokenizer()));
        }
    }

    #[test]
    fn tokens_are_added_in_the_order_of_their_ids() {
        let config = json!({
            "added_tokens_decoder": {"9": {"content": "<y>"}, "8": {"content": "<x>", "special": true}, "1": {"content": "a"}},
            "pad_token": {"content": "<pad>"}, "eos_token": "<y>", "add_bos_token": true,
        });
        let (changed, json) = completed(config);
        assert!(changed);
        let of = |token: &Value| {
            (token["content"].as_str().unwrap().to_owned(), token["id"].as_u64(), token["special"].clone())
        };
        let added: Vec<_> = json["added_tokens"].as_array().unwrap().iter().map(of).collect();
        let expected =
            [("<|endoftext|>", 0, true), ("a", 1, false), ("<x>", 3, true), ("<y>", 4, true), ("<pad>", 5, true)];
        assert_eq!(added, expected.map(|(text, id, special)| (text.to_owned(), Some(id), Value::from(special))));
    }

    #[test]
    fn flags_replace_the_post_processor_of_classes_that_follow_them() {
        let of = |class: &str| json!({"tokenizer_class": class, "add_bos_token": true, "bos_token": "b"});
        assert_eq!(completed(of("PreTrainedTokenizerFast")).1["post_processor"], Value::Null);
        let single = &completed(of("GPTNeoXTokenizerFast")).1["post_processor"]["single"];
        assert_eq!(single[0]["SpecialToken"]["id"], "b");
        assert_eq!(single.as_array().unwrap().len(), 2);
    }

    #[test]
    fn names_come_from_both_files() {
        let config = json!({"eos_token": "</s>", "pad_token": null, "add_bos_token": true, "image_token": "<image>"});
        let map = json!({"eos_token": "<other>", "unk_token": {"content": "<unk>"}});
        let names = TokenizerSettings::new(config, map).names();
        let expected = json!({"eos_token": "</s>", "image_token": "<image>", "unk_token": "<unk>"});
        assert_eq!(Value::Object(names), expected);
    }
}
