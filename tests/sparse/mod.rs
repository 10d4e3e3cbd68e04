//! Sparse checkpoints of any size.

use std::path::Path;

const HIDDEN: u64 = 1024;
const INNER: u64 = 2048;
const RANK: u64 = 64;
const STATE: u64 = 16;
const TAPS: u64 = 4;
const VOCAB: u64 = 8000;

/// Writes a sparse checkpoint of f32 zeros; gives its size in bytes.
pub fn made_up(dir: &Path, layers: u64) -> u64 {
    let mut tensors: Vec<(String, Vec<u64>)> = vec![
        ("backbone.embeddings.weight".to_owned(), vec![VOCAB, HIDDEN]),
        ("backbone.norm_f.weight".to_owned(), vec![HIDDEN]),
    ];
    for i in 0..layers {
        let of_layer: [(&str, Vec<u64>); 10] = [
            ("norm.weight", vec![HIDDEN]),
            ("mixer.in_proj.weight", vec![2 * INNER, HIDDEN]),
            ("mixer.conv1d.weight", vec![INNER, 1, TAPS]),
            ("mixer.conv1d.bias", vec![INNER]),
            ("mixer.x_proj.weight", vec![RANK + 2 * STATE, INNER]),
            ("mixer.dt_proj.weight", vec![INNER, RANK]),
            ("mixer.dt_proj.bias", vec![INNER]),
            ("mixer.A_log", vec![INNER, STATE]),
            ("mixer.D", vec![INNER]),
            ("mixer.out_proj.weight", vec![HIDDEN, INNER]),
        ];
        tensors.extend(of_layer.map(|(name, shape)| (format!("backbone.layers.{i}.{name}"), shape)));
    }
    let mut end = 0;
    let header: serde_json::Map<String, serde_json::Value> = tensors
        .into_iter()
        .map(|(name, shape)| {
            let start = end;
            end += 4 * shape.iter().product::<u64>();
            (name, serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, end] }))
        })
        .collect();
    let mut header = serde_json::to_string(&header).unwrap().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut header);
    std::fs::write(dir.join("model.safetensors"), &bytes).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(dir.join("model.safetensors")).unwrap();
    file.set_len(bytes.len() as u64 + end).unwrap();
    let config = serde_json::json!({
        "model_type": "falcon_mamba", "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": layers,
        "state_size": STATE, "time_step_rank": RANK, "conv_kernel": TAPS, "vocab_size": VOCAB, "hidden_act": "silu",
        "use_bias": false, "use_conv_bias": true, "layer_norm_epsilon": 1e-5, "mixer_rms_eps": 1e-5,
        "tie_word_embeddings": true, "eos_token_id": 11,
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    end
}
