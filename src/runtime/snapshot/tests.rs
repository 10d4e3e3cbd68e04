//! State files of a made-up snapshot: they read back unchanged, and damaged ones are refused.

use super::fingerprint::{Identity, Loaded};
use super::{Origin, Precision, Snapshot, Warning};
use crate::error::Error;
use crate::kernels::case::Random;
use crate::kernels::linear::Math;
use crate::model::{Architecture, Config, Family, Mamba, SlotState};
use crate::runtime::conversation::Conversation;
use crate::runtime::sampler::Sampling;
use crate::text::Message;
use half::bf16;

fn config() -> Config {
    Config {
        architecture: Architecture::Mamba(Mamba {
            family: Family::FalconMamba { mixer_rms_eps: 1e-6 },
            inner: 5,
            state: 3,
            dt_rank: 2,
            conv_kernel: 4,
            conv_bias: true,
        }),
        vocab: 11,
        hidden: 6,
        layers: 2,
        norm_eps: 1e-5,
        tied: false,
        eos: vec![],
    }
}

pub(super) fn made_up() -> Snapshot {
    let config = config();
    let mut random = Random::new(5);
    let mut values = |len: usize| random.uniforms(len, -300.0, 300.0);
    let state = SlotState::new(&config.state_layout(), (0..4).map(|_| values(3 * 5)).collect(), values(11));
    let identity = Identity {
        config,
        vocabulary: Some("00ff".to_owned()),
        vectors: values(40).into_iter().map(bf16::from_f32).collect(),
        matrices: values(40).into_iter().map(bf16::from_f32).collect(),
        stored: "bf16".to_owned(),
    };
    Snapshot {
        state,
        precision: Precision::Whole,
        conversation: Conversation {
            messages: vec![
                Message::new("user", "\"checksum\":\"sha256:\u{1f980}\n"),
                Message::new("assistant", "").with_field("name", serde_json::json!(["a", {"b": 1}])),
            ],
            text: "<|im_start|>é\0".to_owned(),
            ids: Some(vec![1, 2, 3, 10, 0, 4]),
            recent: vec![3, 10, 0, 4],
            position: 6,
            unfinished: vec![0xf0, 0x9f],
            matching: None,
            ended: false,
        },
        sampling: Sampling {
            temperature: 0.8,
            min_p: 0.05,
            seed: u64::MAX - 1,
            repeat_penalty: 1.1,
            logit_bias: vec![(3, f32::NEG_INFINITY), (4, -1.25)],
            ..Sampling::GREEDY
        },
        origin: Origin {
            identity,
            loaded: Loaded { formats: "bf16".to_owned(), digest: "12ab".to_owned() },
            math: Math::Exact,
            adapter: "llvmpipe".to_owned(),
            kernels: "plain".to_owned(),
            version: "0.1.0".to_owned(),
        },
    }
}

fn mamba(identity: &mut Identity) -> &mut Mamba {
    let Architecture::Mamba(mamba) = &mut identity.config.architecture;
    mamba
}

fn bytes() -> Vec<u8> {
    made_up().to_bytes().unwrap()
}

fn read(bytes: &[u8]) -> Result<Snapshot, Error> {
    Snapshot::from_bytes("x", bytes)
}

/// A file with a changed header and the right checksum.
fn rewritten(change: impl FnOnce(String) -> String) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let old = bytes();
    let length = u64::from_le_bytes(old[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(old[8..8 + length].to_vec()).unwrap();
    let head = change(text.clone());
    assert_ne!(head, text, "nothing was changed");
    let mut head = head.trim_end().as_bytes().to_vec();
    head.resize(head.len().next_multiple_of(8), b' ');
    let mut new = (head.len() as u64).to_le_bytes().to_vec();
    new.extend(head);
    new.extend(&old[8 + length..]);
    let at = new.windows(7).position(|w| w == b"sha256:").unwrap() + 7;
    let mut digest = Sha256::new();
    digest.update(&new[..at]);
    digest.update(&new[at + 64..]);
    let digits = super::fingerprint::hex(&digest.finalize());
    new[at..at + 64].copy_from_slice(digits.as_bytes());
    new
}

#[test]
fn what_is_written_is_read() {
    let mut bare = made_up();
    bare.conversation = Conversation { ids: None, recent: vec![], messages: vec![], ..bare.conversation };
    for snapshot in [made_up(), bare] {
        assert_eq!(read(&snapshot.to_bytes().unwrap()).unwrap(), snapshot);
    }
    let half = made_up().halved();
    assert_ne!(half.state, made_up().state);
    assert_eq!(half.state.logits, made_up().state.logits);
    assert_eq!(read(&half.to_bytes().unwrap()).unwrap(), half);
    assert_eq!(half.clone().halved(), half);
}

#[test]
fn safetensors_opens_it() {
    for (snapshot, dtype) in [(made_up(), safetensors::Dtype::F32), (made_up().halved(), safetensors::Dtype::F16)] {
        let bytes = snapshot.to_bytes().unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let ssm = file.tensor("layer.1.ssm").unwrap();
        assert_eq!((ssm.dtype(), ssm.shape()), (dtype, &[3, 5][..]));
        assert_eq!(file.tensor("ids").unwrap().shape(), [6]);
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let bytes = bytes();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let refused = read(&changed);
            assert!(
                matches!(refused, Err(Error::DamagedState { .. } | Error::NotAState { .. })),
                "byte {at}, bit {bit}: {refused:?}"
            );
        }
    }
}

#[test]
fn every_shorter_file_is_refused_as_cut_off_and_a_longer_one_as_damaged() {
    let bytes = bytes();
    for length in 0..bytes.len() {
        let text = read(&bytes[..length]).unwrap_err().to_string();
        assert!(text.contains("cut off"), "{length}: {text}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(read(&longer), Err(Error::DamagedState { .. })));
}

#[test]
fn other_files_are_not_states() {
    let model =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/models/induction-heads/model.safetensors")).unwrap();
    for other in [&model[..], b"GGUF....................", b"{\"__metadata__\":{\"checksum\":\"sha256:"] {
        assert!(matches!(read(other), Err(Error::NotAState { .. })));
    }
    let other_format = rewritten(|head| head.replace("peregrine.state", "peregrine.stata"));
    assert!(matches!(read(&other_format), Err(Error::NotAState { .. })));
}

#[test]
fn a_newer_version_is_named() {
    let newer = rewritten(|head| head.replace("\"version\":\"1\"", "\"version\":\"2\""));
    assert!(matches!(read(&newer), Err(Error::NewerState { version: 2, known: 1, .. })));
}

#[test]
fn contents_are_checked_beyond_the_checksum() {
    // Each has the right checksum, as a malicious file would.
    let cases: [(&str, &str, &str); 21] = [
        ("\"layer.1.ssm\"", "\"layer.9.ssm\"", "no tensor layer.1.ssm"),
        ("\"ids\":{\"dtype\":\"U32\"", "\"ids\":{\"dtype\":\"F32\"", "ids is F32"),
        ("\"ids\":{", "\"extra\":{", "no state has"),
        ("\"shape\":[11]", "\"shape\":[11,1]", "logits is [11, 1]"),
        ("\\\"vocab\\\":11", "\\\"vocab\\\":12", "logits is [11]"),
        ("\\\"vocab\\\":11", "\\\"vocab\\\":99999999999", "no size"),
        ("\\\"layers\\\":2", "\\\"layers\\\":4096", "for 4096 layers"),
        ("\\\"layers\\\":2", "\\\"layers\\\":1", "no state has"),
        ("\\\"inner\\\":5", "\\\"inner\\\":1048576", "1048576"),
        ("\\\"state\\\":3", "\\\"state\\\":0", "no size"),
        ("\"position\":\"6\"", "\"position\":\"5\"", "6 tokens of 5"),
        ("\"position\":\"6\"", "\"position\":\"-6\"", "position is"),
        ("\"position\":\"6\"", "\"place\":\"6\"", "no position"),
        ("\"precision\":\"f32\"", "\"precision\":\"f16\"", "no tensor layer.0.conv.scale"),
        ("\\\"temperature\\\":0.8", "\\\"temperature\\\":-1.8", "temperature"),
        ("\\\"seed\\\":18446744073709551614", "\\\"seed\\\":-1", "seed"),
        ("[[3,null]", "[[33,null]", "logit_bias"),
        ("\\\"role\\\":\\\"user\\\"", "\\\"rule\\\":\\\"user\\\"", "no role"),
        ("\"unfinished\":\"f09f\"", "\"unfinished\":\"f09f8090\"", "unfinished"),
        ("\"ended\":\"false\"", "\"ended\":\"perhaps\"", "ended"),
        ("\"arithmetic\":\"exact\"", "\"arithmetic\":\"quick\"", "arithmetic"),
    ];
    for (from, to, said) in cases {
        let refused = read(&rewritten(|head| head.replacen(from, to, 1)));
        match refused {
            Err(Error::DamagedState { problem, .. }) => assert!(problem.contains(said), "{to}: {problem}"),
            other => panic!("{to}: {other:?}"),
        }
    }
}

#[test]
fn seeded_mutations_are_refused_or_read_and_nothing_panics() {
    // The header is changed and the checksum corrected, to reach the code after the checksum.
    let mut random = Random::new(11);
    let mut below = |n: usize| random.uniform(0.0, n as f32) as usize % n;
    let mut refused = 0;
    for _ in 0..3000 {
        let mutated = rewritten(|head| {
            let mut head = head.into_bytes();
            // Not the checksum's own place, which `rewritten` looks for.
            let first = 120;
            for _ in 0..1 + below(3) {
                let at = first + below(head.len() - first);
                match below(4) {
                    0 => head[at] = b"0123456789{}[],:\"\\ef-"[below(21)],
                    1 => drop(head.remove(at)),
                    2 => {
                        let end = (at + below(40)).min(head.len());
                        let piece = head[at..end].to_vec();
                        head.splice(at..at, piece);
                    }
                    _ => head[at] ^= 1,
                }
            }
            head.push(b'\n');
            String::from_utf8_lossy(&head).into_owned()
        });
        refused += usize::from(read(&mutated).is_err());
    }
    assert!((1000..3000).contains(&refused), "{refused} of 3000 were refused");
}

#[test]
fn another_model_is_refused_and_says_what_differs() {
    let snapshot = made_up();
    let with = |change: &dyn Fn(&mut Identity)| {
        let mut now = snapshot.origin.clone();
        change(&mut now.identity);
        snapshot.admitted(&now)
    };
    assert_eq!(with(&|_| {}).unwrap(), []);
    let differs = |change: &dyn Fn(&mut Identity), said: &str| match with(change) {
        Err(Error::StateOfAnotherModel { differences }) => assert!(differences.contains(said), "{differences}"),
        other => panic!("{said}: {other:?}"),
    };
    differs(&|i| i.config.layers = 3, "number of layers is 2 there and 3 here");
    differs(&|i| mamba(i).family = Family::Mamba, "family");
    differs(&|i| i.vocabulary = Some("00fe".to_owned()), "vocabularies");
    differs(&|i| i.vectors[3] = bf16::from_f32(i.vectors[3].to_f32() * 1.02), "weights");
    differs(&|i| i.matrices[3] = bf16::from_bits(i.matrices[3].to_bits() + 1), "weights");
    differs(&|i| i.vectors.iter_mut().for_each(|v| *v = bf16::from_bits(v.to_bits() + 1)), "weights");
    // A missing tokenizer is no difference, and a copy rounded twice is the same model.
    assert_eq!(with(&|i| i.vocabulary = None).unwrap(), []);
    assert_eq!(with(&|i| i.vectors[3] = bf16::from_bits(i.vectors[3].to_bits() + 1)).unwrap(), []);
    // Blocks of few bits: near values are the same model, far ones another.
    let blocks = |random: f32| {
        move |i: &mut Identity| {
            i.stored = "q4_0".to_owned();
            let mut noise = Random::new(1);
            i.matrices.iter_mut().for_each(|v| *v = bf16::from_f32(v.to_f32() + noise.uniform(-random, random)));
        }
    };
    assert_eq!(with(&blocks(30.0)).unwrap(), []);
    differs(&blocks(900.0), "weights");
    // Rounding to f16 and then to bf16 may be off by one unit in the last place.
    assert_eq!(
        with(&|i| {
            i.stored = "f16".to_owned();
            i.matrices[0] = bf16::from_bits(i.matrices[0].to_bits() + 1);
        })
        .unwrap(),
        []
    );
}

#[test]
fn differences_that_may_change_bits_are_warned_of() {
    let snapshot = made_up();
    let with = |change: &dyn Fn(&mut Origin)| {
        let mut now = snapshot.origin.clone();
        change(&mut now);
        snapshot.admitted(&now).unwrap()
    };
    assert!(matches!(with(&|o| o.loaded.formats = "q4_0".to_owned())[..], [Warning::Weights { .. }]));
    assert!(matches!(with(&|o| o.loaded.digest = "x".to_owned())[..], [Warning::Weights { .. }]));
    assert!(matches!(with(&|o| o.math = Math::Fast)[..], [Warning::Arithmetic { .. }]));
    assert!(matches!(with(&|o| o.adapter = "other".to_owned())[..], [Warning::Adapter { .. }]));
    assert!(matches!(with(&|o| o.kernels = "other".to_owned())[..], [Warning::Kernels { .. }]));
    assert!(matches!(with(&|o| o.version = "0.2.0".to_owned())[..], [Warning::Version { .. }]));
    let family = Family::FalconMamba { mixer_rms_eps: 1e-5 };
    assert!(matches!(with(&|o| mamba(&mut o.identity).family = family)[..], [Warning::Epsilon { .. }]));
    assert_eq!(made_up().halved().admitted(&snapshot.origin).unwrap(), [Warning::Half]);
}
