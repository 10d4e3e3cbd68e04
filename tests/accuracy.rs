//! The shipped model answers its held-out questions as well as its card says. The longest test, in a file of its own.

mod common;

use common::{gpu, no_gpu, shipped};
use peregrine::eval::{Question, ask};
use peregrine::model::{Forward, ForwardOptions};
use peregrine::runtime::Checkpoint;

#[test]
fn held_out_accuracy_is_that_of_the_card() {
    if no_gpu("held_out_accuracy_is_that_of_the_card") {
        return;
    }
    let gpu = gpu();
    let checkpoint = Checkpoint::open(shipped("tiny-chat")).unwrap();
    let options = ForwardOptions { slots: 64, ..Default::default() };
    let mut forward =
        Forward::load(&gpu, checkpoint.config(), &checkpoint.tensors().unwrap(), options, &mut |_| {}).unwrap();
    let text = std::fs::read_to_string(shipped("tiny-chat").join("eval.jsonl")).unwrap();
    let questions = Question::read_all("eval.jsonl", &text).unwrap();
    let accuracy = ask(&mut forward, &checkpoint, &questions, &mut |_| {}).unwrap();
    let percent = 100.0 * accuracy.share();
    eprintln!("reached | tiny-chat held-out accuracy {percent:.2} % of {} (card: 80.8 %)", accuracy.asked);
    assert!(accuracy.asked == 773 && (percent - 80.8).abs() <= 1.0, "{percent} % of {}", accuracy.asked);
}
