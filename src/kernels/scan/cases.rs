//! Cases of the scan: a chunk in every variant.

use super::{CpuOperands, Operands, Over, Scan, ScanVariant, Segments, cpu, pack};
use crate::error::Result;
use crate::kernels::activation::ROW_ALIGN;
use crate::kernels::batch::Batch;
use crate::kernels::case::{Case, Io, Tolerance, wide};
use crate::kernels::dbc_norm::DbcLayout;
use crate::kernels::pictures::{DIRECTIONS, Pictures};
use crate::kernels::sizes::size;

/// y up to about 50, from sums of rounded products: exp2() of a software driver is off by up to 3e-7 of its value. Worst
/// measured on three drivers, over all variants: nmse 5.1e-14, 0.09 of the bound.
const TOLERANCE: Tolerance = Tolerance { nmse: 1e-10, abs: 1e-4, rel: 1e-5 };

/// Chunks at the limits of tiles, lanes and segments.
pub(super) fn chunk(variant: ScanVariant) -> Vec<Case> {
    let shapes = [
        (1, 1, 1, 1),
        (5, 70, 16, 1),
        (65, 40, 16, 1),
        (65, 40, 16, 4),
        (7, 24, 8, 7),
        (130, 24, 32, 3),
        (33, 9, 21, 2),
        (17, 37, 64, 1),
    ];
    let case = |(rows, inner, state, segments)| {
        let shape = format!("{rows}x{inner}x{state} in {segments}");
        Case::new(variant.name(), shape, move |io| build(io, variant, segments, Size { rows, inner, state }))
    };
    shapes.into_iter().map(case).collect()
}

/// Size of a case.
#[derive(Clone, Copy)]
struct Size {
    rows: usize,
    inner: usize,
    state: usize,
}

fn build(io: &mut Io, variant: ScanVariant, segments: usize, Size { rows, inner, state }: Size) -> Result<()> {
    let versions = 2;
    let layout = DbcLayout { dt_rank: 3, state };
    let random = &mut io.random;
    // Time steps over many magnitudes, decays from slow to underflow.
    let dt: Vec<f32> = (0..rows * inner).map(|_| random.uniform(-9.0, 3.0).exp()).collect();
    let a_log: Vec<f32> = (0..inner * state).map(|_| random.uniform(-3.0, 3.5)).collect();
    let a_skip = pack(&a_log, &random.uniforms(inner, -1.0, 1.0));
    let x = random.uniforms(rows * inner, -1.0, 1.0);
    let xz = random.uniforms(rows * 2 * inner, -3.0, 3.0);
    let b = random.uniforms(rows * state, -1.0, 1.0);
    let c = random.uniforms(rows * state, -1.0, 1.0);
    let before = random.uniforms(2 * versions * inner * state, -1.0, 1.0);
    let mut after = wide(&before);
    let z: Vec<f64> = wide(&xz).chunks(2 * inner).flat_map(|row| row[inner..].to_vec()).collect();
    let (wide_dt, wide_x, wide_b, wide_c) = (wide(&dt), wide(&x), wide(&b), wide(&c));

    // Slot 1 of two, version 1 to version 0.
    let on = CpuOperands { dt: &wide_dt, x: &wide_x, z: &z, b: &wide_b, c: &wide_c, a_skip: &a_skip };
    let size_of_state = inner * state;
    let mut h = wide(&before[(versions + 1) * size_of_state..][..size_of_state]);
    let (_, y) = cpu(&on, &mut h, inner);
    after[versions * size_of_state..][..size_of_state].copy_from_slice(&h);

    let mut dbc = vec![0.0; rows * layout.width()];
    for (r, row) in dbc.chunks_exact_mut(layout.width()).enumerate() {
        row[layout.b_first()..][..state].copy_from_slice(&b[r * state..][..state]);
        row[layout.b_first() + state..].copy_from_slice(&c[r * state..][..state]);
    }
    io.rows = rows;
    let on_device = (
        io.rows_in("dt", &dt, inner)?,
        io.rows_in("x", &x, inner)?,
        io.rows_in("xz", &xz, 2 * inner)?,
        io.rows_in("dbc", &dbc, layout.width())?,
        io.rows_out("y", &y, inner, TOLERANCE)?,
    );
    debug_assert_eq!(on_device.3.stride % ROW_ALIGN, 0);
    let on = Operands { dt: &on_device.0, x: &on_device.1, xz: &on_device.2, dbc: &on_device.3, y: &on_device.4 };
    let state_buf = io.in_out("state", &before, &after, TOLERANCE)?;
    let a_skip = io.input("a_skip", &a_skip)?;
    let over = Over::Slot { state: &state_buf, versions };
    let scan = Scan { a_skip: &a_skip, inner, layout, variant, over };
    let batch = Batch { rows: size(rows), slot: 1, read_version: 1, write_version: 0, ..Default::default() };
    let batch = io.uniform(batch)?;
    let segments = Segments::new(&io.gpu, rows, segments, inner, state)?;
    scan.record(&mut io.plan, "y", on, &segments, &batch)
}

/// Batches of pictures at the limits of tiles, lanes and segments.
pub(super) fn pictures(variant: ScanVariant) -> Vec<Case> {
    let shapes = [(1, 1, 9, 16, 1), (2, 2, 24, 8, 1), (3, 17, 40, 16, 1), (1, 65, 40, 16, 4), (2, 33, 9, 16, 3)];
    let case = |(most, tokens, inner, state, segments)| {
        let shape = format!("{most} pictures {tokens}x{inner}x{state} in {segments}");
        let size = Size { rows: most * tokens, inner, state };
        Case::new(variant.name(), shape, move |io| {
            build_pictures(io, variant, segments, (Pictures { tokens, most }, size))
        })
    };
    shapes.into_iter().map(case).collect()
}

fn build_pictures(
    io: &mut Io,
    variant: ScanVariant,
    segments: usize,
    (pictures, Size { rows, inner, state }): (Pictures, Size),
) -> Result<()> {
    let layout = DbcLayout { dt_rank: 3, state };
    let random = &mut io.random;
    let dt: Vec<f32> = (0..DIRECTIONS * rows * inner).map(|_| random.uniform(-9.0, 3.0).exp()).collect();
    let a_skip: [Vec<f32>; DIRECTIONS] = std::array::from_fn(|_| {
        let a_log: Vec<f32> = (0..inner * state).map(|_| random.uniform(-3.0, 3.5)).collect();
        pack(&a_log, &random.uniforms(inner, -1.0, 1.0))
    });
    let x = random.uniforms(DIRECTIONS * rows * inner, -1.0, 1.0);
    let xz = random.uniforms(rows * 2 * inner, -3.0, 3.0);
    let b = random.uniforms(DIRECTIONS * rows * state, -1.0, 1.0);
    let c = random.uniforms(DIRECTIONS * rows * state, -1.0, 1.0);
    let z: Vec<f64> = wide(&xz).chunks(2 * inner).flat_map(|row| row[inner..].to_vec()).collect();
    let y = pictures.cpu(inner, |direction, picture| {
        let of = |values: &[f32], width: usize| {
            let own = &values[direction * rows * width..][..rows * width];
            wide(&pictures.sequence(own, width, picture, direction))
        };
        let on = CpuOperands {
            dt: &of(&dt, inner),
            x: &of(&x, inner),
            z: &pictures.sequence(&z, inner, picture, direction),
            b: &of(&b, state),
            c: &of(&c, state),
            a_skip: &a_skip[direction],
        };
        cpu(&on, &mut vec![0.0; inner * state], inner).1
    });

    let mut dbc = vec![0.0; DIRECTIONS * rows * layout.width()];
    for (r, row) in dbc.chunks_exact_mut(layout.width()).enumerate() {
        row[layout.b_first()..][..state].copy_from_slice(&b[r * state..][..state]);
        row[layout.b_first() + state..].copy_from_slice(&c[r * state..][..state]);
    }
    io.rows = rows;
    let (x, xz, dbc) = (
        io.directions_in("x", &x, inner, pictures)?,
        io.rows_in("xz", &xz, 2 * inner)?,
        io.directions_in("dbc", &dbc, layout.width(), pictures)?,
    );
    let dt_y = io.directions_out("y", Some(&dt), (&y, inner), pictures, TOLERANCE)?;
    let a_skip = io.input("a_skip", &a_skip.concat())?;
    let batch = io.uniform(pictures.batch(pictures.most))?;
    let segments = Segments::of_pictures(&io.gpu, pictures, segments, inner, state)?;
    let on = Operands { dt: &dt_y, x: &x, xz: &xz, dbc: &dbc, y: &dt_y };
    let over = Over::Pictures(pictures);
    Scan { a_skip: &a_skip, inner, layout, variant, over }.record(&mut io.plan, "y", on, &segments, &batch)
}
