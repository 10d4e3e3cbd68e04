//! The same weights under other names and in other layouts, and additional tensors: each is used, known to be
//! unused, or rejected by name.

mod common;
#[path = "common/craft.rs"]
mod craft;

use common::{Shape, TINY, fixture, mamba};
use craft::{Craft, F32, STRING, U32, array, string};
use peregrine::Error;
use peregrine::model::Family;
use peregrine::runtime::Checkpoint;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

fn folder(config: &Value, shape: Shape, tensors: Tensors) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    fs::write(dir.path().join("model.safetensors"), shape.safetensors_of(tensors)).unwrap();
    dir
}

/// A model of this shape with renamed tensors.
fn renamed(shape: Shape, name: impl Fn(&str) -> String) -> TempDir {
    let tensors = shape.tensors().into_iter().map(|(old, dims, values)| (name(&old), dims, values)).collect();
    folder(&shape.config(), shape, tensors)
}

/// A model with a changed config and additional tensors.
fn with(change: impl FnOnce(&mut Value), more: &[(&str, &[usize])]) -> TempDir {
    let (mut config, mut tensors) = (TINY.config(), TINY.tensors());
    change(&mut config);
    for (name, dims) in more {
        tensors.push(((*name).to_owned(), dims.to_vec(), vec![1.0; dims.iter().product()]));
    }
    folder(&config, TINY, tensors)
}

/// The bytes of every tensor of the model, in order.
fn parts(dir: &Path) -> Result<Vec<Vec<u8>>, Error> {
    let checkpoint = Checkpoint::open(dir)?;
    let tensors = checkpoint.tensors()?;
    Ok(tensors.all().map(|(_, tensor)| tensor.bytes.to_vec()).collect())
}

fn refused(dir: &Path, said: &[&str]) -> Error {
    let error = parts(dir).expect_err("it should be refused");
    let text = error.to_string();
    for word in said {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
    error
}

/// Names of the unused tensors.
fn unused(dir: &Path) -> Vec<String> {
    let checkpoint = Checkpoint::open(dir).unwrap();
    checkpoint.tensors().unwrap().unused.iter().map(|tensor| tensor.name.clone()).collect()
}

#[test]
fn any_prefix_of_tensor_names_gives_the_same_model() {
    for shape in [TINY, Shape { tied: true, ..TINY }] {
        let plain = renamed(shape, str::to_owned);
        let expected = parts(plain.path()).unwrap();
        for prefix in ["", "model.", "_orig_mod.backbone.", "model.backbone.", "module.backbone.", "a.b.c."] {
            let body = renamed(shape, |name| name.replacen("backbone.", prefix, 1));
            assert!(parts(body.path()).unwrap() == expected, "{prefix:?}");
        }
        for before in ["_orig_mod.", "module.", "model."] {
            let all = renamed(shape, |name| format!("{before}{name}"));
            assert!(parts(all.path()).unwrap() == expected, "{before:?} before all");
        }
        let wrapped = renamed(shape, |name| name.replacen(".mixer.", "._checkpoint_wrapped_module.mixer.", 1));
        assert!(parts(wrapped.path()).unwrap() == expected);
        let of_mamba_ssm = renamed(shape, |name| name.replacen("embeddings", "embedding", 1));
        assert!(parts(of_mamba_ssm.path()).unwrap() == expected);
    }
}

#[test]
fn two_models_in_one_checkpoint_are_rejected() {
    let second_layer = renamed(TINY, |name| name.replacen("backbone.layers.1", "model.layers.1", 1));
    refused(second_layer.path(), &["two prefixes", "backbone.layers.0.", "model.layers.1."]);
    let embedding = renamed(TINY, |name| name.replacen("backbone.embeddings", "model.embeddings", 1));
    refused(embedding.path(), &["model.embeddings.weight", "\"backbone.\""]);
    let mut twice = TINY.tensors();
    twice.extend(TINY.tensors().into_iter().map(|(name, dims, values)| (format!("_orig_mod.{name}"), dims, values)));
    refused(folder(&TINY.config(), TINY, twice).path(), &["the same tensor twice", "_orig_mod."]);
    let two_heads = with(|_| (), &[("model.lm_head.weight", &[11, 6])]);
    refused(two_heads.path(), &["lm_head.weight and ", "the same tensor twice"]);
}

#[test]
fn taps_of_the_convolution_have_three_layouts() {
    let expected = parts(renamed(TINY, str::to_owned).path()).unwrap();
    let laid_out = |dims: &[usize]| {
        let tensors = TINY.tensors().into_iter().map(|(name, old, values)| match name.contains("conv1d.weight") {
            true => (name, dims.to_vec(), values),
            false => (name, old, values),
        });
        folder(&TINY.config(), TINY, tensors.collect())
    };
    for dims in [&[10, 1, 4][..], &[10, 4], &[10, 4, 1]] {
        assert!(parts(laid_out(dims).path()).unwrap() == expected, "{dims:?}");
    }
    for dims in [&[4, 10][..], &[4, 1, 10], &[1, 10, 4], &[40]] {
        assert!(matches!(refused(laid_out(dims).path(), &["conv1d.weight"]), Error::WrongShape { .. }), "{dims:?}");
    }
}

#[test]
fn tensors_of_other_models_are_rejected_by_name() {
    let layer = "backbone.layers.0";
    let bias = format!("{layer}.mixer.in_proj.bias");
    for (name, dims, said) in [
        (bias.as_str(), &[20][..], "biases"),
        ("backbone.layers.0.mixer.x_proj.bias", &[8], "biases"),
        ("lm_head.bias", &[11], "biases"),
        ("backbone.norm_f.bias", &[6], "biases"),
        ("backbone.layers.1.mlp.fc1.weight", &[6, 6], "MLP"),
        ("backbone.layers.0.norm2.weight", &[6], "MLP"),
        ("backbone.layers.0.mixer.dt_layernorm.weight", &[2], "norms on dt, B and C"),
        ("backbone.layers.0.mixer.in_proj.lora_A.weight", &[2, 6], "merge_and_unload"),
        ("backbone.layers.0.mixer.in_proj.qweight", &[2, 6], "GPTQ"),
        ("backbone.layers.0.mixer.in_proj.weight_scale", &[1], "FP8"),
        ("backbone.layers.0.self_attn.q_proj.weight", &[6, 6], "attention"),
        ("backbone.layers.2.norm.weight", &[6], "has 2 layers"),
        ("vision.patch.weight", &[6], "of another kind"),
        ("backbone.layers.0.mixer.A_b_log", &[10, 3], "of another kind"),
    ] {
        let error = refused(with(|_| (), &[(name, dims)]).path(), &[name, said, "model.safetensors"]);
        assert!(matches!(&error, Error::UnusedTensor { tensor, more: 0, .. } if tensor == name), "{error}");
    }
    let other = folder(&TINY.config(), TINY, vec![("model.embeddings.weight".to_owned(), vec![11, 6], vec![1.0; 66])]);
    refused(other.path(), &["none of its 1 tensors is of a layer of a Mamba", "model.embeddings.weight"]);
    let several = with(|_| (), &[("a", &[1]), ("b", &[1]), ("c", &[1])]);
    refused(several.path(), &["tensor a (and 2 more)"]);
    refused(with(|c| c["use_conv_bias"] = json!(false), &[]).path(), &["conv1d.bias", "use_conv_bias"]);
}

#[test]
fn unused_tensors_are_listed() {
    let of_no_use: [(&str, &[usize]); 4] = [
        ("backbone.layers.0.rotary_emb.inv_freq", &[3]),
        ("optimizer.state.0.exp_avg", &[2]),
        ("v_head.summary.weight", &[1, 6]),
        ("backbone.layers.0.mixer.nothing.weight", &[0]),
    ];
    let dir = with(|_| (), &of_no_use);
    let mut names = of_no_use.map(|(name, _)| name).to_vec();
    names.sort_unstable();
    assert_eq!(unused(dir.path()), names);
    assert_eq!(parts(dir.path()).unwrap(), parts(renamed(TINY, str::to_owned).path()).unwrap());
    // bitsandbytes' metadata tensors belong to its weights.
    for name in ["falcon-tiny", "falcon-tiny-nf4", "falcon-tiny-int8", "mamba-tiny"] {
        assert_eq!(unused(&fixture(name)), Vec::<String>::new(), "{name}");
    }
    refused(with(|_| (), &[("x.weight.absmax", &[1])]).path(), &["x.weight.absmax"]);
}

#[test]
fn the_head_is_tied_if_the_config_says_so_or_says_nothing() {
    let tied = Shape { tied: true, ..TINY };
    let says = |key: &str, value: Value, shape: Shape| {
        let mut config = shape.config();
        config[key] = value;
        folder(&config, shape, shape.tensors())
    };
    let has_head = |dir: &TempDir| Checkpoint::open(dir.path()).unwrap().tensors().unwrap().head.is_some();
    for key in ["tie_word_embeddings", "tie_embeddings"] {
        for value in [Value::Null, json!(true)] {
            assert!(!has_head(&says(key, value.clone(), tied)), "{key} {value}");
        }
        let error = refused(says(key, json!(false), tied).path(), &["lm_head.weight is missing", key]);
        assert!(matches!(error, Error::MissingTensor { .. }), "{error}");
        assert!(matches!(refused(says(key, json!("no"), tied).path(), &[key]), Error::BadConfig { .. }));
    }
    for value in [Value::Null, json!(false), json!(true)] {
        assert!(has_head(&says("tie_word_embeddings", value.clone(), TINY)), "{value}");
    }
}

#[test]
fn keys_of_mamba_ssm_are_used_or_rejected() {
    let shape = Shape { falcon: false, dt_rank: 1, inner: 12, state: 16, vocab: 16, tied: true, ..TINY };
    let config = |change: &dyn Fn(&mut Value)| {
        let mut config = json!({
            "d_model": 6, "d_intermediate": 0, "n_layer": 2, "vocab_size": 11, "ssm_cfg": {"layer": "Mamba1"},
            "attn_layer_idx": [], "attn_cfg": {}, "rms_norm": true, "residual_in_fp32": true, "fused_add_norm": true,
            "pad_vocab_size_multiple": 8, "tie_embeddings": true,
        });
        change(&mut config);
        config
    };
    let open = |config: &Value| parts(folder(config, shape, shape.tensors()).path());
    let expected = open(&config(&|_| ())).unwrap();
    let ssm = |key: &str, value: Value| config(&|c| c["ssm_cfg"][key] = value.clone());
    for same in [
        config(&|c| c["model_type"] = json!("mamba")),
        config(&|c| {
            c["model_type"] = json!("mamba");
            c["vocab_size"] = json!(16);
        }),
        config(&|c| {
            let layers = c.as_object_mut().unwrap().remove("n_layer").unwrap();
            c["model_type"] = json!("mamba");
            c["num_hidden_layers"] = layers;
        }),
        ssm("d_state", json!(16)),
        ssm("dt_rank", json!("auto")),
        ssm("bias", json!(false)),
        ssm("use_fast_path", json!(true)),
        ssm("dt_init_floor", json!(1e-4)),
        ssm("headdim", Value::Null),
    ] {
        assert!(open(&same).unwrap() == expected, "{same}");
    }
    // A Falcon Mamba with these keys stays one.
    let falcon = config(&|c| c["model_type"] = json!("falcon_mamba"));
    let falcon = Checkpoint::open(folder(&falcon, shape, shape.tensors()).path()).unwrap();
    assert!(matches!(mamba(falcon.config()).family, Family::FalconMamba { .. }));
    for (bad, said) in [
        (config(&|c| c["d_intermediate"] = json!(128)), "d_intermediate 128"),
        (config(&|c| c["attn_layer_idx"] = json!([1])), "attn_layer_idx"),
        (config(&|c| c["rms_norm"] = json!(false)), "rms_norm: false"),
        (ssm("bias", json!(true)), "ssm_cfg.bias: true"),
        (ssm("layer", json!("Mamba2")), "ssm_cfg.layer \"Mamba2\""),
        (ssm("layer", json!(1)), "ssm_cfg.layer 1"),
        (ssm("headdim", json!(64)), "ssm_cfg.headdim"),
        (config(&|c| c["ssm_cfg"] = json!("x")), "ssm_cfg is \"x\", it must be an object"),
        (ssm("d_state", json!("x")), "ssm_cfg.d_state is \"x\""),
        (config(&|c| c["tie_embeddings"] = json!(false)), "lm_head.weight is missing"),
    ] {
        let error = open(&bad).unwrap_err().to_string();
        assert!(error.contains(said), "{said:?} is missing in: {error}");
    }
}

#[test]
fn keys_that_change_the_computation_are_rejected_and_others_listed() {
    for (key, value, said) in [
        ("use_bias", json!(true), "use_bias: true"),
        ("hidden_act", json!("gelu"), "hidden_act \"gelu\""),
        ("hidden_act", json!(["silu"]), "hidden_act [\"silu\"]"),
        ("d_intermediate", json!(64), "d_intermediate 64"),
        ("logit_scale", json!(0.5), "logit_scale 0.5"),
        ("embedding_multiplier", json!(12), "embedding_multiplier 12"),
        ("quantization_config", json!({"quant_method": "gptq", "bits": 4}), "gptq"),
        ("quantization_config", json!({"quant_method": "awq"}), "awq"),
        ("quantization_config", json!({"quant_method": "compressed-tensors"}), "compressed-tensors"),
        ("quantization", json!({"group_size": 64, "bits": 4}), "MLX"),
    ] {
        let error = refused(with(|c| c[key] = value, &[]).path(), &[said, "config.json"]);
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    }
    for (key, value) in [
        ("logit_scale", json!(1.0)),
        ("quantization_config", json!({})),
        ("quantization_config", json!({"load_in_4bit": true})),
        ("hidden_act", json!("swish")),
    ] {
        let dir = with(|c| c[key] = value, &[]);
        parts(dir.path()).unwrap();
        assert_eq!(*Checkpoint::open(dir.path()).unwrap().unused_keys(), Default::default(), "{key}");
    }
    let dir = with(
        |c| {
            c["initializer_range"] = json!(0.1);
            c["my_switch"] = json!(true);
            c["my_other_switch"] = json!(false);
            c["_note"] = json!("x");
        },
        &[],
    );
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.unused_keys().known, ["initializer_range", "my_other_switch", "_note"]);
    assert_eq!(checkpoint.unused_keys().unknown, ["my_switch"]);
    // Published configs have no key that is unknown.
    for name in ["falcon-tiny", "falcon-tiny-nf4", "mamba-tiny"] {
        assert!(Checkpoint::open(fixture(name)).unwrap().unused_keys().unknown.is_empty(), "{name}");
    }
}

#[test]
fn gguf_tensors_and_keys_are_accounted_for_too() {
    let opened = |change: &dyn Fn(&mut Craft)| {
        let (mut craft, dir) = (Craft::of(TINY), tempfile::tempdir().unwrap());
        change(&mut craft);
        fs::write(dir.path().join("made.gguf"), craft.bytes()).unwrap();
        let checkpoint = Checkpoint::open(dir.path())?;
        let unused = checkpoint.tensors()?.unused.iter().map(|tensor| tensor.name.clone()).collect::<Vec<_>>();
        Ok::<_, Error>((unused, checkpoint.unused_keys().clone()))
    };
    let one = 1f32.to_le_bytes();
    for (name, said) in [
        ("blk.0.ssm_in.bias", "biases"),
        ("blk.1.ffn_up.weight", "MLP"),
        ("blk.0.ssm_dt_norm.weight", "norms on dt, B and C"),
        ("blk.2.ssm_d", "its metadata says that the model has 2 layers"),
        ("output.bias", "biases"),
        ("cls.weight", "of another kind"),
    ] {
        let error = opened(&|c| c.add(name, &[1], 0, &one)).unwrap_err();
        assert!(matches!(&error, Error::UnusedTensor { tensor, .. } if tensor == name), "{error}");
        assert!(error.to_string().contains(said) && !error.to_string().contains("config.json"), "{error}");
    }
    let (unused, keys) = opened(&|c| {
        c.add("rope_freqs.weight", &[1], 0, &one);
        c.set("general.name", STRING, string("x"));
        c.set("mamba.context_length", U32, 7u32.to_le_bytes().to_vec());
        c.set("mamba.feed_forward_length", U32, vec![0; 4]);
        c.set("mamba.logit_scale", F32, one.to_vec());
        c.set("mamba.novelty", U32, vec![1, 0, 0, 0]);
    })
    .unwrap();
    assert_eq!(unused, ["rope_freqs.weight"]);
    assert_eq!(
        (keys.known, keys.unknown),
        (vec!["general.name".to_owned(), "mamba.context_length".to_owned()], vec!["mamba.novelty".to_owned()])
    );
    let two = 2u32.to_le_bytes().to_vec();
    let numbers = array(U32, &[two.clone(), two.clone()]);
    for (key, kind, value) in [
        ("mamba.feed_forward_length", U32, two.clone()),
        ("mamba.feed_forward_length", craft::ARRAY, numbers),
        ("mamba.attention.head_count", U32, two),
        ("mamba.logit_scale", F32, 0.5f32.to_le_bytes().to_vec()),
        ("general.type", STRING, string("adapter")),
    ] {
        let error = opened(&|c| c.set(key, kind, value.clone())).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{key}: {error}");
    }
    // No message mentions a config.json that does not exist.
    let error = opened(&|c| c.set("mamba.embedding_length", U32, vec![60, 0, 0, 0])).unwrap_err().to_string();
    assert!(error.contains("its metadata needs") && !error.contains("config.json"), "{error}");
}
