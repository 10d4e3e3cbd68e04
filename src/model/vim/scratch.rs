//! Activations of a batch of pictures, and how they share memory.

use super::Vim;
use crate::error::Result;
use crate::gpu::{Buf, Gpu, Usage};
use crate::kernels::pictures::{DIRECTIONS, Pictures};
use crate::kernels::scan::Segments;
use crate::kernels::{Activation, Order, ROW_ALIGN, floats, stride};

/// The buffers of a batch.
pub(super) struct Scratch {
    /// `[picture, channel, height, width]`; in the memory of `dt_y` where it fits, which the first layer overwrites.
    pub(super) pixels: Buf<f32>,
    /// `[rows, channels * P * P]`; in the memory of `xz` where it fits.
    pub(super) patches: Activation,
    /// The residual stream; each layer reads one and writes the other.
    pub(super) x: [Activation; 2],
    pub(super) normed: Activation,
    pub(super) xz: Activation,
    /// `[direction][rows, D]`, and so on for the next three.
    pub(super) conv: Activation,
    /// x_proj's output, where it does not fit into dt_y.
    pub(super) apart: Option<Activation>,
    pub(super) dbc: Activation,
    /// dt, which the scan replaces by its output.
    pub(super) dt_y: Activation,
    pub(super) segments: Segments,
    /// `[pictures, E]`.
    pub(super) features: Activation,
    /// `[pictures, classes]`.
    pub(super) logits: Activation,
}

/// Floats of the buffers of a batch.
struct Sizes {
    /// Of a picture's pixels.
    pixels: usize,
    /// Width of a patch.
    columns: usize,
    /// Whether a patch fits into a row of xz, and its padding is zero there.
    patches_in_xz: bool,
    /// Whether the pixels fit into dt_y, and leave its padding zero.
    pixels_in_dt: bool,
}

impl Sizes {
    fn of(vim: &Vim, image: [usize; 2], pictures: Pictures) -> Self {
        let cut = vim.patches(image);
        let (pixels, columns) = (pictures.most * cut.values(), cut.columns());
        let whole_rows = vim.inner.is_multiple_of(ROW_ALIGN);
        Sizes {
            pixels,
            columns,
            patches_in_xz: columns <= 2 * vim.inner && columns.is_multiple_of(ROW_ALIGN),
            pixels_in_dt: whole_rows && pixels <= DIRECTIONS * pictures.direction_rows() * vim.inner,
        }
    }
}

impl Scratch {
    pub(super) fn new(gpu: &Gpu, vim: &Vim, image: [usize; 2], pictures: Pictures, segments: usize) -> Result<Self> {
        let sizes = Sizes::of(vim, image, pictures);
        let rows = |label, width| Activation::new(gpu, label, pictures.rows(), width);
        let xz = rows("xz", 2 * vim.inner)?;
        let dt_y = pictures.both(gpu, "dt, y", vim.inner)?;
        Ok(Scratch {
            pixels: match sizes.pixels_in_dt {
                true => dt_y.buf.view(0..sizes.pixels),
                false => gpu.buffer("pixels", sizes.pixels, Usage::Storage)?,
            },
            patches: match sizes.patches_in_xz {
                true => xz.ordered(sizes.columns, Order::Plain),
                false => rows("patches", sizes.columns)?,
            },
            x: [rows("x even", vim.hidden)?, rows("x odd", vim.hidden)?],
            normed: rows("normed", vim.hidden)?,
            xz,
            conv: pictures.both(gpu, "conv", vim.inner)?,
            apart: match vim.dbc_layout().width_beside_dt(vim.inner) {
                0 => None,
                width => Some(pictures.both(gpu, "projected", width)?),
            },
            dbc: pictures.both(gpu, "dbc", vim.dbc_layout().width())?,
            dt_y,
            segments: Segments::of_pictures(gpu, pictures, segments, vim.inner, vim.state)?,
            features: Activation::new(gpu, "features", pictures.most, vim.hidden)?,
            logits: Activation::new(gpu, "logits", pictures.most, vim.classes.max(1))?,
        })
    }

    /// Bytes of all of them.
    pub(super) fn bytes(vim: &Vim, image: [usize; 2], pictures: Pictures, segments: usize) -> u64 {
        let sizes = Sizes::of(vim, image, pictures);
        let row: usize = [vim.hidden; 3].iter().chain(&[2 * vim.inner]).map(|width| stride(*width)).sum();
        let widths = [vim.inner, vim.dbc_layout().width_beside_dt(vim.inner), vim.dbc_layout().width(), vim.inner];
        let both: usize = widths.iter().map(|width| stride(*width)).sum();
        let apart = if sizes.pixels_in_dt { 0 } else { sizes.pixels };
        let patches = if sizes.patches_in_xz { 0 } else { pictures.rows() * stride(sizes.columns) };
        let ends = pictures.most * (stride(vim.hidden) + stride(vim.classes.max(1)));
        let words = pictures.rows() * row + DIRECTIONS * pictures.direction_rows() * both + apart + patches + ends;
        (floats(words) + Segments::bytes_of_pictures(pictures, segments, vim.inner, vim.state)) as u64
    }

    /// Bytes of the widest buffer that a kernel binds.
    pub(super) fn largest(vim: &Vim, image: [usize; 2], pictures: Pictures) -> u64 {
        let sizes = Sizes::of(vim, image, pictures);
        let xz = pictures.rows() * stride(2 * vim.inner);
        let dt = DIRECTIONS * pictures.direction_rows() * stride(vim.inner);
        let patches = pictures.rows() * stride(sizes.columns);
        floats(xz.max(dt).max(sizes.pixels).max(patches)) as u64
    }
}
