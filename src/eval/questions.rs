//! Accuracy on questions with one right answer each.

use crate::error::{Error, Result};
use crate::model::Forward;
use crate::runtime::Checkpoint;
use crate::text::Specials;
use serde_json::Value;

/// Maximum tokens of an answer; a longer one counts as wrong.
pub const LONGEST_ANSWER: usize = 120;

/// A prompt and the expected answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The complete prompt, with special tokens spelled out.
    pub prompt: String,
    /// The expected text up to EOS.
    pub answer: String,
}

impl Question {
    /// Parses a file of questions: a JSON object with the strings `prompt` and `answer` per line. `file` is its name for messages.
    pub fn read_all(file: &str, text: &str) -> Result<Vec<Question>> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let questions: Vec<Question> = lines
            .map(|(i, line)| {
                let bad = |problem: String| Error::BadJson { file: format!("{file}, line {}", i + 1), problem };
                let json: Value = serde_json::from_str(line).map_err(|e| bad(e.to_string()))?;
                let text = |key: &str| {
                    let text = json[key].as_str().map(str::to_owned);
                    text.ok_or_else(|| bad(format!("a question is an object with a string {key:?}")))
                };
                Ok(Question { prompt: text("prompt")?, answer: text("answer")? })
            })
            .collect::<Result<_>>()?;
        if questions.is_empty() {
            return Err(Error::BadJson { file: file.to_owned(), problem: "it has no questions".to_owned() });
        }
        Ok(questions)
    }
}

/// The number of correct answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accuracy {
    /// Questions answered with exactly the expected text.
    pub right: usize,
    /// Questions asked.
    pub asked: usize,
}

impl Accuracy {
    /// The share of correct answers, 0 to 1.
    pub fn share(self) -> f64 {
        self.right as f64 / self.asked as f64
    }
}

/// Answers the questions greedily, one per slot at a time. `on_batch` is called after each batch of them.
pub fn ask(
    model: &mut Forward,
    checkpoint: &Checkpoint,
    questions: &[Question],
    on_batch: &mut dyn FnMut(Accuracy),
) -> Result<Accuracy> {
    let tokenizer = checkpoint.tokenizer()?;
    let ends = |id: &u32| checkpoint.eos().contains(id);
    let mut accuracy = Accuracy::default();
    for batch in questions.chunks(model.state().slots()) {
        let mut answers: Vec<Vec<u32>> = Vec::with_capacity(batch.len());
        for (slot, question) in batch.iter().enumerate() {
            model.reset(slot)?;
            let ids = tokenizer.encode_text(&question.prompt, Specials::Parse)?;
            pollster::block_on(model.prefill(slot, &ids, |_| Ok(())))?;
            let choice = model.choose_after(slot)?;
            answers.push(pollster::block_on(model.chosen(choice))?);
        }
        let ended = |answer: &Vec<u32>| answer.iter().any(ends) || answer.len() >= LONGEST_ANSWER;
        loop {
            // Without the answers that have ended: one that never ends would keep the rows of all others busy.
            let open: Vec<usize> = (0..batch.len()).filter(|slot| !ended(&answers[*slot])).collect();
            if open.is_empty() {
                break;
            }
            model.set_decoding(&open)?;
            let step = model.step()?;
            let ids = pollster::block_on(model.chosen(step))?;
            open.iter().zip(ids).for_each(|(slot, id)| answers[*slot].push(id));
        }
        for (question, answer) in batch.iter().zip(&answers) {
            let answer: Vec<u32> = answer.iter().copied().take_while(|id| !ends(id)).collect();
            accuracy.right += usize::from(tokenizer.decode(&answer) == question.answer);
        }
        accuracy.asked += batch.len();
        on_batch(accuracy);
    }
    Ok(accuracy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_parsed_and_errors_name_the_line() {
        let text =
            "{\"prompt\": \"a\", \"answer\": \"b\", \"kind\": \"x\"}\n\n{\"answer\": \"d\", \"prompt\": \"c\"}\n";
        let question = |prompt: &str, answer: &str| Question { prompt: prompt.to_owned(), answer: answer.to_owned() };
        assert_eq!(Question::read_all("f", text).unwrap(), [question("a", "b"), question("c", "d")]);
        let good = "{\"prompt\": \"a\", \"answer\": \"b\"}\n";
        for (bad, said) in [
            ("", "no questions"),
            (" \n", "no questions"),
            (&format!("{good}{{"), "f, line 2"),
            (&format!("{good}[1]"), "\"prompt\""),
            ("{\"prompt\": \"a\"}", "\"answer\""),
            ("{\"prompt\": 1, \"answer\": \"b\"}", "\"prompt\""),
        ] {
            let error = Question::read_all("f", bad).unwrap_err().to_string();
            assert!(error.contains(said), "{said:?} is missing in: {error:?}");
        }
    }
}
