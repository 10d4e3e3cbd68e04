//! Shared test code: the device, test checkpoints, expected values.
#![allow(dead_code, reason = "each test file uses its own part")]

mod no_gpu;

#[allow(unused_imports, reason = "each test file uses its own part")]
pub use no_gpu::no_gpu;
use peregrine::format::WeightFormat;
use peregrine::gpu::{AdapterChoice, Gpu, Switches};
use peregrine::model::{Architecture, Family, Forward, Logits, Mamba};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Whether `PEREGRINE_LONG=1` asks for the long form of a test.
pub fn long() -> bool {
    std::env::var_os("PEREGRINE_LONG").is_some_and(|v| v == "1")
}

/// The device selected by the environment.
pub fn gpu() -> Gpu {
    gpu_with(Switches::from_env().expect("the environment variables are valid"))
}

pub fn gpu_with(switches: Switches) -> Gpu {
    Gpu::open_with(&AdapterChoice::Best, switches).expect("these tests need an adapter: `make setup` installs one")
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

pub fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name)
}

/// Tensors of a safetensors file, by name: shape and values (all types as f64).
pub struct Expected(HashMap<String, (Vec<usize>, Vec<f64>)>);

impl Expected {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("fixtures are valid");
        let values = |view: &safetensors::tensor::TensorView| -> Vec<f64> {
            let data = view.data();
            match view.dtype() {
                safetensors::Dtype::F32 => {
                    data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect()
                }
                safetensors::Dtype::F64 => {
                    data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
                }
                safetensors::Dtype::I32 => {
                    data.chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap()).into()).collect()
                }
                safetensors::Dtype::U8 => data.iter().map(|v| f64::from(*v)).collect(),
                other => panic!("a fixture holds {other:?}"),
            }
        };
        Expected(file.iter().map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), values(&view)))).collect())
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn shape(&self, name: &str) -> &[usize] {
        &self.0[name].0
    }

    pub fn get(&self, name: &str) -> &[f64] {
        &self.0.get(name).unwrap_or_else(|| panic!("no {name} in the fixture")).1
    }

    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.get(name).iter().map(|v| *v as f32).collect()
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        self.get(name).iter().map(|v| *v as u32).collect()
    }
}

/// Fails if a value differs from the expected one by more than `limit`; gives the largest difference.
pub fn close(what: &str, got: &[f32], expected: &[f64], limit: impl Fn(f64) -> f64) -> f64 {
    assert_eq!(got.len(), expected.len(), "{what}: number of values");
    let mut worst = 0.0f64;
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(*g) - e).abs();
        assert!(error <= limit(*e), "{what}[{i}]: got {g}, expected {e}, off by {error:e}");
        worst = worst.max(error);
    }
    worst
}

/// All logits of a prompt.
pub fn logits(forward: &mut Forward, ids: &[u32]) -> Vec<f32> {
    let mut all = Vec::new();
    let each = |rows: &[f32]| {
        all.extend_from_slice(rows);
        Ok(())
    };
    pollster::block_on(forward.prefill_logits(0, ids, Logits::All, each)).unwrap();
    all
}

/// The `n` greedy tokens after a prompt, from an empty state.
pub fn greedy(forward: &mut Forward, ids: &[u32], n: usize) -> Vec<u32> {
    forward.reset(0).unwrap();
    pollster::block_on(forward.prefill(0, ids, |_| Ok(()))).unwrap();
    let first = forward.choose_after(0).unwrap();
    let mut got = pollster::block_on(forward.chosen(first)).unwrap();
    forward.set_decoding(&[0]).unwrap();
    while got.len() < n {
        let step = forward.step().unwrap();
        got.extend(pollster::block_on(forward.chosen(step)).unwrap());
    }
    got
}

/// Runs a case of the scan fixture on the device, in segments of `segment` tokens.
pub fn scan_case(gpu: &Gpu, cases: &Expected, name: &str, segment: usize) {
    use peregrine::gpu::{Plan, Usage};
    use peregrine::kernels::scan::{Operands, Over, Scan, ScanVariant, Segments};
    use peregrine::kernels::{Activation, Batch, dbc_norm::DbcLayout};

    let f32 = |key: &str| cases.f32(&format!("{name}.{key}"));
    let (l, d) = (cases.shape(&format!("{name}.u"))[0], cases.shape(&format!("{name}.u"))[1]);
    let n = cases.shape(&format!("{name}.A"))[1];
    let layout = DbcLayout { dt_rank: 1, state: n };
    let rows = |label: &str, values: &[f32], width: usize| {
        let activation = Activation::new(gpu, label, l, width).unwrap();
        for (r, row) in values.chunks_exact(width).enumerate() {
            gpu.write(&activation.buf, r * activation.stride, row).unwrap();
        }
        activation
    };
    let (b, c, z) = (f32("B"), f32("C"), f32("z"));
    let mut dbc = vec![0.0; l * layout.width()];
    let mut xz = vec![0.0; l * 2 * d];
    for t in 0..l {
        let row = &mut dbc[t * layout.width()..][..layout.width()];
        row[layout.b_first()..][..n].copy_from_slice(&b[t * n..][..n]);
        row[layout.b_first() + n..].copy_from_slice(&c[t * n..][..n]);
        xz[t * 2 * d + d..][..d].copy_from_slice(&z[t * d..][..d]);
    }
    let transposed = |values: &[f32], columns: usize| -> Vec<f32> {
        (0..columns).flat_map(|c| values.iter().skip(c).step_by(columns).copied()).collect()
    };
    let log2_a = |a: f32| (f64::from(a) * std::f64::consts::LOG2_E) as f32;
    let mut a_skip: Vec<f32> = transposed(&f32("A"), n).into_iter().map(log2_a).collect();
    a_skip.extend(f32("D"));
    let key = format!("{name}.h0");
    let h0 = if cases.has(&key) { transposed(&cases.f32(&key), n) } else { vec![0.0; d * n] };
    let state: Vec<f32> = h0.iter().copied().chain(std::iter::repeat_n(f32::NAN, d * n)).collect();

    let state = gpu.upload("state", &state, Usage::Storage).unwrap();
    let a_skip = gpu.upload("a_skip", &a_skip, Usage::Storage).unwrap();
    let batch = Batch { rows: l as u32, write_version: 1, ..Default::default() };
    let batch = gpu.upload("batch", &[batch], Usage::Uniform).unwrap();
    let (dt, x, xz, dbc) = (
        rows("dt", &f32("delta"), d),
        rows("x", &f32("u"), d),
        rows("xz", &xz, 2 * d),
        rows("dbc", &dbc, layout.width()),
    );
    let y = Activation::new(gpu, "y", l, d).unwrap();
    let segments = Segments::new(gpu, l, l.div_ceil(segment), d, n).unwrap();
    let scan = Scan {
        a_skip: &a_skip,
        inner: d,
        layout,
        variant: ScanVariant::of(gpu.caps(), d, n),
        over: Over::Slot { state: &state, versions: 2 },
    };
    let mut plan = Plan::new(gpu, "scan case");
    let on = Operands { dt: &dt, x: &x, xz: &xz, dbc: &dbc, y: &y };
    scan.record(&mut plan, "scan", on, &segments, &batch).unwrap();
    plan.run(l).unwrap();

    let out = pollster::block_on(y.read(gpu, l, 0..d)).unwrap();
    let h = transposed(&pollster::block_on(gpu.read(&state, d * n..2 * d * n)).unwrap(), d);
    for (what, got) in [("out", out), ("h", h)] {
        let expected = cases.get(&format!("{name}.{what}"));
        let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        close(&format!("{name}.{what} in segments of {segment}"), &got, expected, |_| 2e-6 * largest + 1e-4);
    }
}

/// The shape of a random test checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub falcon: bool,
    pub tied: bool,
    pub format: WeightFormat,
    pub vocab: usize,
    pub hidden: usize,
    pub inner: usize,
    pub state: usize,
    pub dt_rank: usize,
    pub kernel: usize,
    pub layers: usize,
}

/// The smallest shape with every tensor.
pub const TINY: Shape = Shape {
    falcon: true,
    tied: false,
    format: WeightFormat::F32,
    vocab: 11,
    hidden: 6,
    inner: 10,
    state: 3,
    dt_rank: 2,
    kernel: 4,
    layers: 2,
};

impl Shape {
    pub fn config(&self) -> serde_json::Value {
        serde_json::json!({
            "model_type": if self.falcon { "falcon_mamba" } else { "mamba" },
            "vocab_size": self.vocab, "hidden_size": self.hidden, "intermediate_size": self.inner,
            "state_size": self.state, "time_step_rank": self.dt_rank, "conv_kernel": self.kernel,
            "num_hidden_layers": self.layers, "layer_norm_epsilon": 1e-5, "hidden_act": "silu",
        })
    }

    /// Names, shapes and seeded values.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let mut random = peregrine::kernels::case::Random::new(7);
        let mut make = |name: String, shape: &[usize], low: f32, high: f32| {
            let values = random.uniforms(shape.iter().product(), low, high);
            (name, shape.to_vec(), values)
        };
        let Shape { vocab: v, hidden: h, inner: d, state: n, dt_rank: r, kernel: k, .. } = *self;
        let mut tensors = vec![make("backbone.embeddings.weight".to_owned(), &[v, h], -1.0, 1.0)];
        for i in 0..self.layers {
            let spread = |fan: usize| 1.5 / (fan as f32).sqrt();
            let mut layer = |name: &str, shape: &[usize], low: f32, high: f32| {
                tensors.push(make(format!("backbone.layers.{i}.{name}"), shape, low, high));
            };
            layer("norm.weight", &[h], 0.5, 1.5);
            layer("mixer.in_proj.weight", &[2 * d, h], -spread(h), spread(h));
            layer("mixer.conv1d.weight", &[d, 1, k], -0.5, 0.5);
            layer("mixer.conv1d.bias", &[d], -0.2, 0.2);
            layer("mixer.x_proj.weight", &[r + 2 * n, d], -spread(d), spread(d));
            layer("mixer.dt_proj.weight", &[d, r], -spread(r), spread(r));
            layer("mixer.dt_proj.bias", &[d], -5.0, 0.0);
            layer("mixer.A_log", &[d, n], -2.0, 3.0);
            layer("mixer.D", &[d], -1.0, 1.0);
            layer("mixer.out_proj.weight", &[h, d], -spread(d), spread(d));
        }
        tensors.push(make("backbone.norm_f.weight".to_owned(), &[h], 0.5, 1.5));
        if !self.tied {
            tensors.push(make("lm_head.weight".to_owned(), &[v, h], -1.0, 1.0));
        }
        tensors
    }

    /// As a safetensors file.
    pub fn safetensors(&self) -> Vec<u8> {
        self.safetensors_of(self.tensors())
    }

    /// These tensors as a safetensors file.
    pub fn safetensors_of(&self, tensors: Vec<(String, Vec<usize>, Vec<f32>)>) -> Vec<u8> {
        use safetensors::{Dtype, tensor::TensorView};
        let encoded: Vec<(String, Vec<usize>, Vec<u8>)> =
            tensors.into_iter().map(|(name, shape, values)| (name, shape, self.format.encode(&values, 1))).collect();
        let dtype = match self.format {
            WeightFormat::F32 => Dtype::F32,
            WeightFormat::F16 => Dtype::F16,
            WeightFormat::Bf16 => Dtype::BF16,
            other => panic!("safetensors files have no {other}"),
        };
        let views =
            encoded.iter().map(|(name, shape, data)| (name, TensorView::new(dtype, shape.clone(), data).unwrap()));
        safetensors::serialize(views, None).unwrap()
    }

    /// Writes the checkpoint into a folder.
    pub fn write(&self, dir: &Path) {
        std::fs::write(dir.join("config.json"), self.config().to_string()).unwrap();
        std::fs::write(dir.join("model.safetensors"), self.safetensors()).unwrap();
    }
}

/// The sizes of a Mamba's config.
pub fn mamba(config: &peregrine::model::Config) -> Mamba {
    let Architecture::Mamba(mamba) = config.architecture;
    mamba
}

/// An unusual shape that no published model has.
pub fn made_up_shape(hidden: usize, layers: usize, vocab: usize) -> peregrine::model::Shape {
    let config = peregrine::model::Config {
        architecture: Architecture::Mamba(Mamba {
            family: Family::FalconMamba { mixer_rms_eps: 1e-6 },
            inner: 2 * hidden,
            state: 16,
            dt_rank: hidden.div_ceil(16),
            conv_kernel: 4,
            conv_bias: true,
        }),
        vocab,
        hidden,
        layers,
        norm_eps: 1e-5,
        tied: false,
        eos: vec![],
    };
    peregrine::model::Shape { name: "made up".to_owned(), config, tied: false }
}

/// A model with random weights and one slot.
pub fn made_up(gpu: &Gpu, shape: &peregrine::model::Shape, format: WeightFormat) -> peregrine::model::Forward {
    use peregrine::model::{Forward, ForwardOptions, Weights};
    let weights = Weights::made_up(gpu, shape, format, &mut |_| {}).unwrap();
    let options = ForwardOptions::default().chunk(32);
    Forward::new(gpu, &shape.config, std::sync::Arc::new(weights), options).unwrap()
}

/// Runs a decode step; gives the sampled token.
pub fn step(forward: &mut peregrine::model::Forward) -> u32 {
    let step = forward.step().unwrap();
    pollster::block_on(forward.chosen(step)).unwrap()[0]
}
