//! Every kernel against its CPU twin, on the available adapter.

mod common;

use peregrine::Error;
use peregrine::format::{Tensor, WeightFormat};
use peregrine::gpu::{Cost, Count, Gpu, Plan, Switches, Usage};
use peregrine::kernels::case::{Plant, Random, Reached};
use peregrine::kernels::linear::{
    Epilogue, Linear, Math, MatmulVariant, MatvecVariant, NextNorm, Outcome, Product, Prologue,
};
use peregrine::kernels::variants::{Sizes, Variants};
use peregrine::kernels::{self, Activation, Batch, Order, linear};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The device that the environment selects, shared by the tests: a CPU driver takes most of their time to compile pipelines, which a
/// device keeps.
fn gpu() -> Gpu {
    static SHARED: LazyLock<Gpu> = LazyLock::new(common::gpu);
    SHARED.clone()
}

/// The same without checks in shaders, as in release builds.
fn unchecked() -> Gpu {
    static SHARED: LazyLock<Gpu> =
        LazyLock::new(|| common::gpu_with(Switches { checked: Some(false), ..Switches::from_env().unwrap() }));
    SHARED.clone()
}

fn every_case(gpu: &Gpu) {
    eprintln!("on {}", gpu.info());
    let mut failures = Vec::new();
    for (_, cases) in kernels::all(gpu.caps()) {
        let (mut share, mut nmse) = (0.0f64, 0.0f64);
        let name = cases[0].kernel;
        for case in &cases {
            match pollster::block_on(case.run(gpu, Plant::Nothing)).unwrap_or_else(|e| panic!("{case}: {e}")) {
                Ok(reached) => {
                    share = share.max(reached.share);
                    nmse = nmse.max(reached.nmse);
                }
                Err(fault) => failures.push(format!("{case}: {fault}")),
            }
        }
        eprintln!("{name}: {} cases, worst {share:.3} of the bound, nmse {nmse:.1e}", cases.len());
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn every_kernel_agrees_with_its_twin() {
    if !common::no_gpu("every_kernel_agrees_with_its_twin") {
        every_case(&gpu());
    }
}

#[test]
fn every_kernel_agrees_without_subgroups_and_in_shards() {
    if !common::no_gpu("every_kernel_agrees_without_subgroups_and_in_shards") {
        let limited =
            Switches { without_subgroups: true, without_f16: true, binding_limit: Some(2048), ..Default::default() };
        every_case(&common::gpu_with(Switches { adapter: Switches::from_env().unwrap().adapter, ..limited }));
    }
}

/// As in release builds: no bounds checks in the shaders, workgroup memory not zeroed.
#[test]
fn every_kernel_agrees_unchecked() {
    if !common::no_gpu("every_kernel_agrees_unchecked") {
        every_case(&unchecked());
    }
}

#[test]
fn every_planted_error_is_found() {
    if common::no_gpu("every_planted_error_is_found") {
        return;
    }
    let gpu = gpu();
    for (_, cases) in kernels::all(gpu.caps()) {
        for case in &cases {
            for plant in [Plant::WrongValue, Plant::Unwritten, Plant::Stray] {
                let found = pollster::block_on(case.run(&gpu, plant)).unwrap_or_else(|e| panic!("{case}: {e}"));
                assert!(found.is_err(), "{case}: {plant:?} was not found");
            }
        }
    }
}

/// Every cooperative matrix variant against its CPU twin, with planted errors, and the trial that decides whether it is used.
/// `make drivers` installs a driver that has them; with `PEREGRINE_NEED_COOP=1` an adapter without them fails the test.
#[test]
fn cooperative_matrices_agree_and_are_tried() {
    if common::no_gpu("cooperative_matrices_agree_and_are_tried") {
        return;
    }
    let gpu = gpu();
    if gpu.caps().coop.is_none() {
        assert!(std::env::var_os("PEREGRINE_NEED_COOP").is_none(), "{} has no cooperative matrices", gpu.info());
        eprintln!("SKIPPED: {} has no cooperative matrices", gpu.info());
        assert!(pollster::block_on(linear::trial(&gpu, Math::Exact)).unwrap().is_none());
        return;
    }
    eprintln!("on {}, {:?}", gpu.info(), gpu.caps().coop);
    // As in debug builds and as in release builds, where workgroup memory is not zeroed.
    every_coop_case(&gpu, |_| true);
    let unchecked = unchecked();
    every_coop_case(&unchecked, |shape| shape.contains("bf16 store") || shape.contains("q4_0 store"));

    for math in [Math::Exact, Math::Fast] {
        let trial =
            pollster::block_on(linear::trial(&unchecked, math)).unwrap().expect("there are cooperative matrices");
        eprintln!("{trial}");
        assert!(matches!(trial.outcome, Outcome::Won | Outcome::Slower), "{trial}");
        let sizes = Sizes { matrices: vec![], by_groups: true, channels: 64, states: 16 };
        assert_eq!(pollster::block_on(Variants::tried(&unchecked, math, &sizes)).unwrap().matmul, trial.winner());
        let again = pollster::block_on(linear::trial(&unchecked, math)).unwrap().unwrap();
        assert_eq!(trial.times, again.times, "a trial is run once");
    }
}

fn every_coop_case(gpu: &Gpu, wanted: impl Fn(&str) -> bool) {
    let mut failures = Vec::new();
    let mut found: BTreeMap<String, (usize, Reached)> = BTreeMap::new();
    let cases: Vec<_> = kernels::all(gpu.caps()).into_iter().flat_map(|(_, cases)| cases).collect();
    for case in cases.iter().filter(|case| case.shape.starts_with("coop ") && wanted(&case.shape)) {
        let form: Vec<&str> = case.shape.split(' ').take(4).collect();
        let (count, worst) = found.entry(form.join(" ")).or_default();
        match pollster::block_on(case.run(gpu, Plant::Nothing)).unwrap_or_else(|e| panic!("{case}: {e}")) {
            Ok(reached) => (*count, *worst) = (*count + 1, worst.worst(reached)),
            Err(fault) => failures.push(format!("{case}: {fault}")),
        }
        for plant in [Plant::WrongValue, Plant::Unwritten, Plant::Stray] {
            assert!(pollster::block_on(case.run(gpu, plant)).unwrap().is_err(), "{case}: {plant:?} was not found");
        }
    }
    for (form, (count, worst)) in &found {
        let Reached { nmse, share, .. } = worst;
        eprintln!("{form}: {count} cases, worst {share:.3} of the bound, nmse {nmse:.1e}");
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    assert!(!found.is_empty());
}

#[test]
fn any_number_of_tokens_gives_the_same_bits_in_every_form() {
    if common::no_gpu("any_number_of_tokens_gives_the_same_bits_in_every_form") {
        return;
    }
    let gpu = gpu();
    let (rows, columns, most) = (150, 100, 140);
    let mut random = Random::new(5);
    let weights = random.uniforms(rows * columns, -1.0, 1.0);
    let bytes: Vec<u8> = weights.iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensor = Tensor::of_blocks("W", "test", WeightFormat::F32, &[rows, columns], &bytes);
    let linear = Linear::load(&gpu, &tensor, &mut |_| {}).unwrap();
    let values = random.uniforms(most * columns, -1.0, 1.0);
    let product = |form, slices: u32, first: usize, tokens: usize| -> Vec<Vec<u32>> {
        let x = Activation::new(&gpu, "x", tokens, columns).unwrap();
        for (t, row) in values.chunks_exact(columns).skip(first).take(tokens).enumerate() {
            gpu.write(&x.buf, t * x.stride, row).unwrap();
        }
        let y = Activation::new(&gpu, "y", slices as usize * tokens, rows).unwrap();
        let batch = Batch { rows: tokens as u32, ..Default::default() };
        let batch = gpu.upload("batch", &[batch], Usage::Uniform).unwrap();
        let mut plan = Plan::new(&gpu, "test");
        linear
            .record(
                &mut plan,
                "y",
                (&x, &y),
                (Prologue::None, Epilogue::Slices(slices)),
                (Product::Matmul(form), &batch),
            )
            .unwrap();
        plan.run(tokens).unwrap();
        let y = pollster::block_on(y.read(&gpu, slices as usize * tokens, 0..rows)).unwrap();
        y.chunks_exact(tokens * rows).map(|plane| plane.iter().map(|v| v.to_bits()).collect()).collect()
    };
    for form in MatmulVariant::all(gpu.caps()) {
        for slices in [1, 3] {
            let whole = product(form, slices, 0, most);
            for (first, tokens) in [(0, 1), (3, 17), (63, 2), (100, 40)] {
                for (part, whole) in product(form, slices, first, tokens).iter().zip(&whole) {
                    let of_whole = &whole[first * rows..][..tokens * rows];
                    assert!(part == of_whole, "{form:?} in {slices} slices: {tokens} tokens from {first}");
                }
            }
        }
    }
}

/// Products of single rows of x, as bits.
struct Products {
    gpu: Gpu,
    matrix: Linear,
    x: Vec<f32>,
    squares: Vec<f32>,
    residual: Vec<f32>,
}

impl Products {
    const ROWS: usize = 37;
    const COLUMNS: usize = 330;
    const PARTS: usize = 5;

    fn new(gpu: &Gpu, format: WeightFormat, tokens: usize) -> Self {
        let mut random = Random::new(11);
        let bytes = format.encode(&random.uniforms(Self::ROWS * Self::COLUMNS, -1.0, 1.0), Self::COLUMNS);
        let tensor = Tensor::of_blocks("W", "test", format, &[Self::ROWS, Self::COLUMNS], &bytes);
        Products {
            gpu: gpu.clone(),
            matrix: Linear::load(gpu, &tensor, &mut |_| {}).unwrap(),
            x: random.uniforms(tokens * Self::COLUMNS, -1.0, 1.0),
            squares: random.uniforms(tokens * Self::PARTS, 0.1, 1.0),
            residual: random.uniforms(tokens * Self::ROWS, -1.0, 1.0),
        }
    }

    fn rows(&self, label: &str, values: &[f32], (width, order): (usize, Order), tokens: &[usize]) -> Activation {
        let rows = Activation::new(&self.gpu, label, tokens.len(), width).unwrap().ordered(width, order);
        for (row, token) in tokens.iter().enumerate() {
            rows.write_row(&self.gpu, row, &values[token * width..][..width]).unwrap();
        }
        rows
    }

    /// Products of these tokens in one step: one with a fused norm, and one added to the residual stream with the next norm's
    /// sums; a vector per token.
    fn of(&self, product: Product, tokens: &[usize]) -> Vec<Vec<u32>> {
        let (gpu, count) = (&self.gpu, tokens.len());
        let x = self.rows("x", &self.x, (Self::COLUMNS, product.order(&self.matrix)), tokens);
        let residual = self.rows("residual", &self.residual, (Self::ROWS, Order::Plain), tokens);
        let squares: Vec<f32> = tokens
            .iter()
            .flat_map(|token| [&self.squares[token * Self::PARTS..][..Self::PARTS], &[0.0; 3]].concat())
            .collect();
        let squares = gpu.upload("squares", &squares, Usage::Storage).unwrap();
        let weight = gpu.upload("weight", &[0.7f32; Self::ROWS], Usage::Storage).unwrap();
        let batch = gpu.upload("batch", &[Batch { rows: count as u32, ..Default::default() }], Usage::Uniform).unwrap();
        let out = |label| Activation::new(gpu, label, count, Self::ROWS).unwrap();
        let [y, stream, normed] = ["y", "stream", "normed"].map(out);
        let Product::Matvec(form) = product else { unreachable!("a decode step's product") };
        let packs = form.square_rows == 32;
        // The kernel that packs the stream packs nothing else.
        let plain = if packs { Product::Matvec(MatvecVariant { square_rows: 4, ..form }) } else { product };
        let normed = if packs { normed.ordered(Self::ROWS, Order::Int8) } else { normed };
        let parts = self.matrix.square_parts(form.square_rows as usize);
        let filled = parts.next_multiple_of(4);
        let next_squares = gpu.buffer("next squares", count * filled, Usage::Storage).unwrap();
        let mut plan = Plan::new(gpu, "test");
        let prologue = Prologue::Norm { squares: &squares, parts: Self::PARTS, eps: 1e-5 };
        self.matrix.record(&mut plan, "y", (&x, &y), (prologue, Epilogue::Store), (plain, &batch)).unwrap();
        let next = NextNorm { weight: &weight, normed: &normed, squares: &next_squares };
        let epilogue = Epilogue::ResidualNorm(&residual, next);
        self.matrix.record(&mut plan, "stream", (&x, &stream), (Prologue::None, epilogue), (product, &batch)).unwrap();
        plan.run(count).unwrap();
        let read = |rows: &Activation| pollster::block_on(rows.read(gpu, count, 0..Self::ROWS)).unwrap();
        let squares = pollster::block_on(gpu.read(&next_squares, 0..count * filled)).unwrap();
        let [y, stream, normed] = [read(&y), read(&stream), read(&normed)];
        (0..count)
            .map(|row| {
                let of = |values: &[f32], width: usize| values[row * width..][..width].to_vec();
                let all = [of(&y, Self::ROWS), of(&stream, Self::ROWS), of(&normed, Self::ROWS), of(&squares, filled)];
                all.concat().into_iter().map(f32::to_bits).collect()
            })
            .collect()
    }
}

#[test]
fn a_row_of_a_step_has_the_same_bits_alone_and_among_any_others() {
    if common::no_gpu("a_row_of_a_step_has_the_same_bits_alone_and_among_any_others") {
        return;
    }
    // Without checks, as in release builds: a CPU driver takes minutes to compile that many kernels with checks.
    let gpu = unchecked();
    let most = 17;
    for format in WeightFormat::ALL {
        let products = Products::new(&gpu, format, most);
        // The adapter's variants with every format, and all variants with one format.
        let own = vec![MatvecVariant::of(gpu.caps(), &products.matrix.matrix())];
        let mut forms = if format == WeightFormat::Bf16 { MatvecVariant::all(gpu.caps()) } else { own };
        let fast = MatvecVariant::all_fast(gpu.caps(), format).into_iter().filter(|form| form.int8);
        let (packing, plain): (Vec<_>, Vec<_>) = fast.partition(|form| form.square_rows == 32);
        forms.extend(plain.into_iter().take(1));
        forms.extend(packing.into_iter().filter(|_| format == WeightFormat::Q4_0).take(1));
        for form in forms {
            let product = Product::Matvec(form);
            let alone: Vec<_> = (0..most).flat_map(|token| products.of(product, &[token])).collect();
            let counts = match format {
                WeightFormat::F32 => (1..=most).collect(),
                WeightFormat::Bf16 | WeightFormat::Q4_0 => vec![2, 3, 5, 8, 9, 17],
                _ => vec![8, 9, 17],
            };
            for count in counts {
                // Other neighbours and rows at each batch size.
                let tokens: Vec<usize> = (0..count).map(|row| (row * 5 + count) % most).collect();
                for (row, bits) in products.of(product, &tokens).iter().enumerate() {
                    assert!(*bits == alone[tokens[row]], "{format} {form}: row {row} of {count}");
                }
            }
        }
    }

    // Negative control: another summation order gives other bits.
    let products = Products::new(&gpu, WeightFormat::F32, 1);
    let own = MatvecVariant::of(gpu.caps(), &products.matrix.matrix());
    let unlike = MatvecVariant { lanes: 128, rows: 4, team_rows: 4, square_rows: 4, wide: true, ..own };
    let [one, other] = [own, unlike].map(|form| products.of(Product::Matvec(form), &[0]));
    assert_ne!(one, other);
}

#[test]
fn too_many_workgroups_are_an_error_with_their_count() {
    if common::no_gpu("too_many_workgroups_are_an_error_with_their_count") {
        return;
    }
    let gpu = gpu();
    let limit = gpu.caps().max_groups;
    let (defs, _) = kernels::all(gpu.caps()).swap_remove(0);
    let grid = [Count::Fixed(1), Count::Fixed(limit + 1)];
    let error = Plan::new(&gpu, "plan").dispatch(&defs[0], "too many", &[], grid, Cost::default()).unwrap_err();
    assert!(matches!(error, Error::TooManyGroups { groups, limit: most, .. } if groups == limit + 1 && most == limit));
    assert!(error.to_string().contains("workgroups") && !error.to_string().contains("bytes"), "{error}");
}
