//! Memory over long contexts: the induction-heads model answers correctly after up to 2^20 tokens, generated on the fly
//! and never held in memory. The lengths that take minutes on a software driver run on demand:
//! `cargo test --release --test length -- --ignored --nocapture`.

mod common;

use common::{gpu, no_gpu, shipped};
use peregrine::runtime::{AnswerOptions, Checkpoint, Engine, EngineOptions, Sampling, Session};

/// A row of `long.json`: random tokens 1 to 15 with a trigger, 0, somewhere and at the end.
struct Row {
    seed: u64,
    length: u64,
    answer: u32,
    crc: u32,
}

/// The `n`th value of splitmix64 (Steele, Lea and Flood, 2014) from a seed.
fn splitmix(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// CRC-32 of IEEE 802.3, updated by a byte.
fn crc(crc: u32, byte: u8) -> u32 {
    (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
}

impl Row {
    fn all() -> Vec<Row> {
        let text = std::fs::read_to_string(shipped("induction-heads").join("long.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let rows = json["rows"].as_array().unwrap().iter();
        let row = |row: &serde_json::Value| {
            let number = |name: &str| row[name].as_u64().unwrap();
            let (answer, crc) = (number("answer") as u32, number("crc32_of_bytes") as u32);
            Row { seed: number("seed"), length: number("length"), answer, crc }
        };
        rows.map(row).collect()
    }

    fn trigger(&self) -> u64 {
        splitmix(self.seed, 0) % (self.length - 2)
    }

    fn token(&self, at: u64) -> u32 {
        if at == self.trigger() || at + 1 == self.length {
            return 0;
        }
        1 + (splitmix(self.seed, at + 1) % 15) as u32
    }

    /// Feeds the row from position `from` on; gives the greedy next token.
    fn read(&self, session: &mut Session, from: u64) -> u32 {
        session.clear().unwrap();
        let mut sum = u32::MAX;
        for first in (from..self.length).step_by(4096) {
            let ids: Vec<u32> = (first..self.length.min(first + 4096)).map(|at| self.token(at)).collect();
            sum = ids.iter().fold(sum, |sum, id| crc(sum, *id as u8));
            session.feed(&ids).unwrap();
        }
        assert!(from > 0 || !sum == self.crc, "the row of seed {} is not the one that was made", self.seed);
        assert_eq!(session.position(), self.length - from);
        session.generate(&[], &AnswerOptions::tokens(1)).unwrap().next_id().unwrap().unwrap()
    }
}

fn session() -> Session {
    let options = EngineOptions::default().chunk(2048);
    let checkpoint = Checkpoint::open(shipped("induction-heads")).unwrap();
    Engine::load(&gpu(), checkpoint, options, &mut |_| {}).unwrap().session(Sampling::GREEDY).unwrap()
}

fn answers_rightly(lengths: std::ops::RangeInclusive<u64>) {
    let mut session = session();
    let mut longest = 0;
    for row in Row::all().iter().filter(|row| lengths.contains(&row.length)) {
        let started = std::time::Instant::now();
        assert_eq!(row.read(&mut session, 0), row.answer, "after {} tokens, seed {}", row.length, row.seed);
        let speed = row.length as f64 / started.elapsed().as_secs_f64();
        eprintln!("{} tokens, the trigger at {}: right, {speed:.0} tokens/s", row.length, row.trigger());
        longest = longest.max(row.length);
    }
    assert_eq!(longest, *lengths.end());
}

#[test]
fn induction_heads_answers_rightly_after_65536_tokens() {
    if no_gpu("induction_heads_answers_rightly_after_65536_tokens") {
        return;
    }
    answers_rightly(1 << 13..=1 << 16);
}

#[test]
#[ignore = "takes minutes on a software driver"]
fn induction_heads_answers_rightly_after_a_million_tokens() {
    if no_gpu("induction_heads_answers_rightly_after_a_million_tokens") {
        return;
    }
    answers_rightly(1 << 17..=1 << 20);
}

#[test]
fn without_the_trigger_the_answer_is_unknown() {
    if no_gpu("without_the_trigger_the_answer_is_unknown") {
        return;
    }
    let mut session = session();
    let rows = Row::all();
    let short = rows.iter().filter(|row| row.length <= 1 << 14);
    let wrong = short.filter(|row| row.read(&mut session, row.trigger() + 2) != row.answer).count();
    assert!(wrong >= 3, "{wrong} of 4 are wrong without it: the others were not guessed by chance");
}
