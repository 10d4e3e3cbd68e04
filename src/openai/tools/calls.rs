//! Calls in the text of an answer.

use crate::runtime::Checkpoint;
use serde_json::{Map, Value, json};

/// How a model writes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::openai) enum CallForm {
    /// `<tool_call>{"name": .., "arguments": ..}</tool_call>`: Hermes, Qwen, Falcon 3.
    Tagged,
    /// `[TOOL_CALLS] [{"name": .., "arguments": ..}]`: Mistral.
    Listed,
    /// The answer is the JSON of a call: Llama 3.
    Bare,
}

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";
const LIST: &str = "[TOOL_CALLS]";

impl CallForm {
    /// The form that a model's template teaches it.
    pub(in crate::openai) fn of(checkpoint: &Checkpoint) -> Self {
        let contains = |mark: &str| checkpoint.template().is_ok_and(|template| template.source().contains(mark));
        match () {
            () if contains(OPEN) => CallForm::Tagged,
            () if contains(LIST) => CallForm::Listed,
            () => CallForm::Bare,
        }
    }

    /// The text before a call.
    fn open(self) -> Option<&'static str> {
        match self {
            CallForm::Tagged => Some(OPEN),
            CallForm::Listed => Some(LIST),
            CallForm::Bare => None,
        }
    }

    /// The text after a call; without one it ends with the answer.
    fn close(self) -> Option<&'static str> {
        (self == CallForm::Tagged).then_some(CLOSE)
    }

    /// A grammar, in llguidance's form of Lark, of one call whose JSON `schema` allows.
    #[cfg(feature = "grammar")]
    pub(in crate::openai) fn grammar(self, schema: &Value) -> String {
        let mut schema = schema.clone();
        crate::text::bound_spaces(&mut schema);
        match self {
            CallForm::Tagged => format!("start: \"{OPEN}\\n\" call \"\\n{CLOSE}\"\ncall: %json {schema}"),
            CallForm::Listed => format!("start: \"{LIST} [\" call \"]\"\ncall: %json {schema}"),
            CallForm::Bare => format!("start: %json {schema}"),
        }
    }
}

/// A call of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// The function.
    pub name: String,
    /// Its arguments: the JSON of an object.
    pub arguments: String,
}

impl ToolCall {
    /// The call as responses have it; `id` is its own.
    pub(in crate::openai) fn body(&self, id: &str) -> Value {
        json!({ "id": id, "type": "function", "function": { "name": self.name, "arguments": self.arguments } })
    }

    /// The calls in a JSON text: an object or a list of objects. `None` if it is anything else.
    fn parse(text: &str) -> Option<Vec<ToolCall>> {
        match serde_json::from_str(text.trim()).ok()? {
            Value::Object(call) => Some(vec![Self::of(&call)?]),
            Value::Array(calls) if !calls.is_empty() => calls.iter().map(|call| Self::of(call.as_object()?)).collect(),
            _ => None,
        }
    }

    fn of(call: &Map<String, Value>) -> Option<Self> {
        // Some models repeat the form of the request.
        if let Some(inner) = call.get("function").and_then(Value::as_object) {
            return Self::of(inner);
        }
        let arguments = match call.get("arguments").or_else(|| call.get("parameters")) {
            None => "{}".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(arguments @ Value::Object(_)) => arguments.to_string(),
            Some(_) => return None,
        };
        Some(ToolCall { name: call.get("name")?.as_str()?.to_owned(), arguments })
    }
}

/// Separates calls from the text of an answer, piece by piece.
#[derive(Debug)]
pub(in crate::openai) struct CallReader {
    form: CallForm,
    place: Place,
    /// Text that is not given out yet, as it may be or is a part of a call.
    held: String,
}

/// Where in the answer the held text begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At its beginning or after a call, perhaps with white space.
    Start,
    /// In text.
    Text,
    /// In a call, after its mark.
    Call,
    /// At JSON that began the answer: a call without its mark, which can be a special token.
    Json,
}

/// What a piece of an answer adds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::openai) struct Parsed {
    pub(in crate::openai) text: String,
    pub(in crate::openai) calls: Vec<ToolCall>,
}

impl CallReader {
    pub(in crate::openai) fn new(form: CallForm) -> Self {
        CallReader { form, place: Place::Start, held: String::new() }
    }

    /// Adds a piece of the answer.
    pub(in crate::openai) fn add(&mut self, piece: &str) -> Parsed {
        self.held += piece;
        let mut parsed = Parsed::default();
        while self.advance(&mut parsed) {}
        parsed
    }

    /// The rest, at the end of the answer.
    pub(in crate::openai) fn finish(&mut self) -> Parsed {
        let rest = std::mem::take(&mut self.held);
        let calls = match self.place {
            Place::Call | Place::Json => ToolCall::parse(&rest),
            Place::Start | Place::Text => None,
        };
        match (calls, self.place) {
            (Some(calls), _) => Parsed { text: String::new(), calls },
            // A call that is not complete stays text, with its mark.
            (None, Place::Call) => Parsed { text: self.mark().to_owned() + &rest, calls: vec![] },
            (None, _) => Parsed { text: rest, calls: vec![] },
        }
    }

    fn mark(&self) -> &'static str {
        self.form.open().unwrap_or_default()
    }

    /// Goes on to the next place; false if that depends on text that has not come yet.
    fn advance(&mut self, parsed: &mut Parsed) -> bool {
        match self.place {
            Place::Start => self.start(),
            Place::Text => self.find_call(parsed),
            Place::Call => self.end_call(parsed),
            Place::Json => false,
        }
    }

    fn start(&mut self) -> bool {
        let begins = self.held.trim_start();
        let mark = self.mark();
        if begins.is_empty() || (begins.len() < mark.len() && mark.starts_with(begins)) {
            return false;
        }
        self.place = match () {
            () if !mark.is_empty() && begins.starts_with(mark) => {
                self.held = begins[mark.len()..].to_owned();
                Place::Call
            }
            () if begins.starts_with(['{', '[']) => Place::Json,
            () => Place::Text,
        };
        true
    }

    /// Gives out text up to the next call.
    fn find_call(&mut self, parsed: &mut Parsed) -> bool {
        let mark = self.mark();
        let found = if mark.is_empty() { None } else { self.held.find(mark) };
        let end = found.unwrap_or(self.held.len() - longest_end(&self.held, mark));
        parsed.text.extend(self.held.drain(..end));
        if found.is_some() {
            self.held.drain(..mark.len());
            self.place = Place::Call;
        }
        found.is_some()
    }

    /// Parses a call that is complete.
    fn end_call(&mut self, parsed: &mut Parsed) -> bool {
        let Some((close, at)) = self.form.close().and_then(|close| Some((close, self.held.find(close)?))) else {
            return false;
        };
        match ToolCall::parse(&self.held[..at]) {
            Some(calls) => {
                parsed.calls.extend(calls);
                self.place = Place::Start;
            }
            None => {
                parsed.text += self.mark();
                parsed.text += &self.held[..at + close.len()];
                self.place = Place::Text;
            }
        }
        self.held.drain(..at + close.len());
        true
    }
}

/// Bytes at the end of `text` that `mark` may begin with.
fn longest_end(text: &str, mark: &str) -> usize {
    (1..mark.len()).rev().find(|&n| mark.is_char_boundary(n) && text.ends_with(&mark[..n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text and the calls of an answer in pieces of `size` characters.
    fn read(form: CallForm, answer: &str, size: usize) -> (String, Vec<(String, String)>) {
        let mut reader = CallReader::new(form);
        let letters: Vec<char> = answer.chars().collect();
        let pieces = letters.chunks(size).map(String::from_iter).collect::<Vec<_>>();
        let mut parts: Vec<Parsed> = pieces.iter().map(|piece| reader.add(piece)).collect();
        parts.push(reader.finish());
        let calls = parts.iter().flat_map(|part| &part.calls).map(|call| (call.name.clone(), call.arguments.clone()));
        (parts.iter().map(|part| part.text.as_str()).collect(), calls.collect())
    }

    #[test]
    fn calls_are_found_in_pieces_of_any_size() {
        use CallForm::{Bare, Listed, Tagged};
        let add = || ("add".to_owned(), "{\"a\":1}".to_owned());
        let now = || ("now".to_owned(), "{}".to_owned());
        let one = "{\"name\": \"add\", \"arguments\": {\"a\": 1}}";
        let tagged = format!("<tool_call>\n{one}\n</tool_call>");
        for (form, answer, text, calls) in [
            (Tagged, "Just text, a < b.".to_owned(), "Just text, a < b.", vec![]),
            (Tagged, tagged.clone(), "", vec![add()]),
            (Tagged, format!("\n {tagged}\n<tool_call>{{\"name\": \"now\"}}</tool_call>"), "", vec![add(), now()]),
            (Tagged, format!("Let me see. {tagged}"), "Let me see. ", vec![add()]),
            (Tagged, format!("<tool_call>[{one}, {one}]</tool_call>"), "", vec![add(), add()]),
            (Tagged, one.to_owned(), "", vec![add()]),
            (Tagged, format!("It is {one}"), &format!("It is {one}"), vec![]),
            (Tagged, "<tool_call>no</tool_call> end".to_owned(), "<tool_call>no</tool_call> end", vec![]),
            (Tagged, "<tool_call>{\"name\": \"ad".to_owned(), "<tool_call>{\"name\": \"ad", vec![]),
            (Tagged, "<tool_call".to_owned(), "<tool_call", vec![]),
            (Tagged, "{\"colour\": 1}".to_owned(), "{\"colour\": 1}", vec![]),
            (Listed, format!("[TOOL_CALLS] [{one}]"), "", vec![add()]),
            (Listed, "[1] is a note".to_owned(), "[1] is a note", vec![]),
            (Bare, "{\"name\": \"add\", \"parameters\": {\"a\": 1}}".to_owned(), "", vec![add()]),
            (Bare, format!("{{\"function\": {one}, \"type\": \"function\"}}"), "", vec![add()]),
            (Bare, "  A text.".to_owned(), "  A text.", vec![]),
            (Bare, "{\"name\": \"add\", \"arguments\": \"{\\\"a\\\":1}\"}".to_owned(), "", vec![add()]),
        ] {
            for size in [1, 2, 3, 7, 1000] {
                let (said, found) = read(form, &answer, size);
                assert_eq!((said.trim_end_matches('\n'), &found), (text, &calls), "{form:?}, {size}: {answer}");
            }
        }
    }
}
