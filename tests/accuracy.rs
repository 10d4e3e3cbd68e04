//! The shipped model answers its held-out questions as well as its card says. The longest test, in a file of its own.

mod common;

use common::{gpu, no_gpu, shipped};
use peregrine::model::{Forward, ForwardOptions, Recipe, Weights};
use peregrine::runtime::Checkpoint;
use peregrine::text::Specials;
use pollster::block_on;
use serde_json::Value;
use std::sync::Arc;

#[test]
fn held_out_accuracy_is_that_of_the_card() {
    if no_gpu("held_out_accuracy_is_that_of_the_card") {
        return;
    }
    const SLOTS: usize = 64;
    let gpu = gpu();
    let checkpoint = Checkpoint::open(shipped("tiny-chat")).unwrap();
    let tokenizer = checkpoint.tokenizer().unwrap();
    let weights = Weights::load(&gpu, &checkpoint.tensors().unwrap(), Recipe::AsStored, &mut |_| {}).unwrap();
    let options = ForwardOptions { slots: SLOTS, ..Default::default() };
    let mut forward = Forward::new(&gpu, checkpoint.config(), Arc::new(weights), options).unwrap();
    let text = std::fs::read_to_string(shipped("tiny-chat").join("eval.jsonl")).unwrap();
    let cases: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut right = 0;
    for cases in cases.chunks(SLOTS) {
        let mut answers: Vec<Vec<u32>> = Vec::new();
        let slots: Vec<usize> = (0..cases.len()).collect();
        for (slot, case) in cases.iter().enumerate() {
            let prompt = tokenizer.encode(case["prompt"].as_str().unwrap(), Specials::Parse).unwrap();
            forward.reset(slot).unwrap();
            forward.prefill(slot, &prompt, |_| Ok(())).unwrap();
            let choice = forward.choose_after(slot).unwrap();
            answers.push(block_on(forward.chosen(choice)).unwrap());
        }
        forward.set_decoding(&slots).unwrap();
        let ended = |answer: &Vec<u32>| answer.iter().any(|id| checkpoint.eos().contains(id)) || answer.len() >= 120;
        while !answers.iter().all(ended) {
            let step = forward.step().unwrap();
            for (answer, id) in answers.iter_mut().zip(block_on(forward.chosen(step)).unwrap()) {
                answer.push(id);
            }
        }
        for (case, answer) in cases.iter().zip(&answers) {
            let answer: Vec<u32> = answer.iter().copied().take_while(|id| !checkpoint.eos().contains(id)).collect();
            right += usize::from(tokenizer.decode(&answer) == case["answer"].as_str().unwrap());
        }
    }
    let accuracy = 100.0 * right as f64 / cases.len() as f64;
    eprintln!("reached | tiny-chat held-out accuracy {accuracy:.2} % of {} (card: 80.8 %)", cases.len());
    assert!(cases.len() == 773 && (accuracy - 80.8).abs() <= 1.0, "{accuracy} % of {}", cases.len());
}
