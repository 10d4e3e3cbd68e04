//! Inputs and outputs of a case.

use super::compare::{FILL, Mismatch, Reached, Tolerance, compare};
use super::random::Random;
use crate::error::Result;
use crate::gpu::{Buf, Gpu, Plan, Usage};
use crate::kernels::activation::{Activation, Order, ROW_ALIGN};
use crate::kernels::pictures::{DIRECTIONS, Pictures};

/// Guard words before and after an output: 256 bytes, the largest alignment of a binding.
const GUARD: usize = 64;

/// An error planted in the device's result, to show that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// No error.
    Nothing,
    /// One value of each output is changed on the device after the kernel has run.
    WrongValue,
    /// One value is reset to the fill.
    Unwritten,
    /// A guard word is overwritten.
    Stray,
}

type Judge = Box<dyn Fn(&[u32]) -> Result<Reached, Mismatch>>;

struct Output {
    name: String,
    guarded: Buf<u32>,
    len: usize,
    judge: Judge,
}

impl Output {
    async fn plant(&self, gpu: &Gpu, plant: Plant, salt: u64) -> Result<()> {
        if plant == Plant::Nothing {
            return Ok(());
        }
        if plant == Plant::Stray {
            let guard = if salt.is_multiple_of(2) { GUARD - 1 } else { GUARD + self.len };
            return gpu.write(&self.guarded, guard, &[0]);
        }
        // A word that the kernel wrote: the padding of rows may hold the fill.
        let words = gpu.read(&self.guarded, GUARD..GUARD + self.len).await?;
        let from = (salt % self.len as u64) as usize;
        let at = (from..self.len).chain(0..from).find(|at| words[*at] != FILL).unwrap_or(from);
        let wrong = if plant == Plant::Unwritten { FILL } else { (f32::from_bits(words[at]) * 1.01 + 1.0).to_bits() };
        gpu.write(&self.guarded, GUARD + at, &[wrong])
    }

    async fn check(&self, gpu: &Gpu) -> Result<Result<Reached, Mismatch>> {
        let words = gpu.read(&self.guarded, 0..self.guarded.len()).await?;
        let (before, rest) = words.split_at(GUARD);
        let (values, after) = rest.split_at(self.len);
        let stray = |at| Ok(Err(Mismatch::Stray { output: self.name.clone(), at }));
        if let Some(i) = before.iter().position(|w| *w != FILL) {
            return stray(i as isize - GUARD as isize);
        }
        if let Some(i) = after.iter().position(|w| *w != FILL) {
            return stray((self.len + i) as isize);
        }
        Ok((self.judge)(values))
    }
}

/// Inputs, outputs and plan of a case.
pub struct Io {
    /// The device.
    pub gpu: Gpu,
    /// The plan to record the kernel in.
    pub plan: Plan,
    /// Rows of the plan's run.
    pub rows: usize,
    /// Seeded by the case's shape.
    pub random: Random,
    outputs: Vec<Output>,
}

impl Io {
    pub(super) fn new(gpu: &Gpu, seed: u64) -> Self {
        Io { gpu: gpu.clone(), plan: Plan::new(gpu, "case"), rows: 1, outputs: vec![], random: Random::new(seed) }
    }

    /// Runs the plan, plants the error, and compares every output.
    pub(super) async fn run(self, plant: Plant) -> Result<Result<Reached, Mismatch>> {
        self.plan.run(self.rows)?;
        let mut worst = Reached::default();
        for (i, output) in self.outputs.iter().enumerate() {
            output.plant(&self.gpu, plant, self.random.state().wrapping_add(i as u64)).await?;
            match output.check(&self.gpu).await? {
                Err(fault) => return Ok(Err(fault)),
                Ok(reached) => worst = worst.worst(reached),
            }
        }
        Ok(Ok(worst))
    }

    /// A buffer that the kernel reads.
    pub fn input<T: bytemuck::Pod>(&self, name: &str, values: &[T]) -> Result<Buf<T>> {
        self.gpu.upload(name, values, Usage::Storage)
    }

    /// Activations that the kernel reads, `width` values per row, padded with zeros.
    pub fn rows_in(&self, name: &str, values: &[f32], width: usize) -> Result<Activation> {
        self.rows_in_order(name, values, width, Order::Plain)
    }

    /// [`Io::rows_in`] in another order.
    pub fn rows_in_order(&self, name: &str, values: &[f32], width: usize, order: Order) -> Result<Activation> {
        let activation = Activation::new(&self.gpu, name, values.len() / width, width)?.ordered(width, order);
        for (r, row) in values.chunks_exact(width).enumerate() {
            activation.write_row(&self.gpu, r, row)?;
        }
        Ok(activation)
    }

    /// A uniform.
    pub fn uniform<T: bytemuck::Pod>(&self, value: T) -> Result<Buf<T>> {
        self.gpu.upload("uniform", &[value], Usage::Uniform)
    }

    /// A buffer that the kernel writes, with a comparison of its words. `start` is its initial content; `None` is the fill.
    pub fn output_words(
        &mut self,
        name: &str,
        start: &[Option<u32>],
        judge: impl Fn(&[u32]) -> Result<Reached, Mismatch> + 'static,
    ) -> Result<Buf<u32>> {
        let mut words = vec![FILL; start.len() + 2 * GUARD];
        for (word, start) in words[GUARD..].iter_mut().zip(start) {
            *word = start.unwrap_or(FILL);
        }
        let guarded = self.gpu.upload(name, &words, Usage::Storage)?;
        let view = guarded.view(GUARD..GUARD + start.len());
        self.outputs.push(Output { name: name.to_owned(), guarded, len: start.len(), judge: Box::new(judge) });
        Ok(view)
    }

    fn output_f32(
        &mut self,
        name: &str,
        start: &[Option<u32>],
        cpu: Vec<Option<f64>>,
        t: Tolerance,
    ) -> Result<Buf<f32>> {
        let label = name.to_owned();
        let words =
            self.output_words(name, start, move |words| compare(&label, bytemuck::cast_slice(words), &cpu, t))?;
        Ok(words.reinterpret())
    }

    /// Activations that the kernel writes; `cpu` has the twin's values, `width` per row. The padding of a row must stay unwritten.
    pub fn rows_out(&mut self, name: &str, cpu: &[f64], width: usize, tolerance: Tolerance) -> Result<Activation> {
        self.rows_out_at(name, cpu, (width, width), tolerance, |column| column)
    }

    /// [`Io::rows_out`] in another order.
    pub fn rows_out_order(
        &mut self,
        name: &str,
        cpu: &[f64],
        width: usize,
        tolerance: Tolerance,
        order: Order,
    ) -> Result<Activation> {
        let rows = self.rows_out_at(name, cpu, (width, width), tolerance, |column| order.place(column, width))?;
        Ok(rows.ordered(width, order))
    }

    /// [`Io::rows_out`] with rows wider than their values; `place` gives each value's position.
    pub fn rows_out_at(
        &mut self,
        name: &str,
        cpu: &[f64],
        (width, room): (usize, usize),
        tolerance: Tolerance,
        place: impl Fn(usize) -> usize,
    ) -> Result<Activation> {
        let stride = room.next_multiple_of(ROW_ALIGN);
        let mut expected = vec![None; cpu.len() / width * stride];
        for (row, values) in expected.chunks_exact_mut(stride).zip(cpu.chunks_exact(width)) {
            for (column, value) in values.iter().enumerate() {
                row[place(column)] = Some(*value);
            }
        }
        let start = vec![None; expected.len()];
        let buf = self.output_f32(name, &start, expected, tolerance)?;
        Ok(Activation { buf, width: room, stride, order: Order::Plain })
    }

    /// Values of both directions of pictures that the kernel reads, `[direction][rows, width]`.
    pub fn directions_in(&self, name: &str, values: &[f32], width: usize, pictures: Pictures) -> Result<Activation> {
        let both = pictures.both(&self.gpu, name, width)?;
        for (direction, rows) in values.chunks_exact(pictures.rows() * width).enumerate() {
            for (row, values) in rows.chunks_exact(width).enumerate() {
                both.write_row(&self.gpu, direction * pictures.direction_rows() + row, values)?;
            }
        }
        Ok(both)
    }

    /// Values of both directions of pictures that the kernel writes, over `before` where it reads them first. What pads rows and
    /// directions must stay unwritten.
    pub fn directions_out(
        &mut self,
        name: &str,
        before: Option<&[f32]>,
        (cpu, width): (&[f64], usize),
        pictures: Pictures,
        tolerance: Tolerance,
    ) -> Result<Activation> {
        let stride = width.next_multiple_of(ROW_ALIGN);
        let words = DIRECTIONS * pictures.direction_rows() * stride;
        let (mut start, mut expected) = (vec![None; words], vec![None; words]);
        for (i, value) in cpu.iter().enumerate() {
            let (row, column) = (i / width, i % width);
            let (direction, row) = (row / pictures.rows(), row % pictures.rows());
            let at = (direction * pictures.direction_rows() + row) * stride + column;
            expected[at] = Some(*value);
            start[at] = before.map(|before| before[i].to_bits());
        }
        let buf = self.output_f32(name, &start, expected, tolerance)?;
        Ok(Activation { buf, width, stride, order: Order::Plain })
    }

    /// A buffer without rows that the kernel writes; words that are `None` in the twin's values must stay unwritten.
    pub fn output(&mut self, name: &str, cpu: Vec<Option<f64>>, tolerance: Tolerance) -> Result<Buf<f32>> {
        let start = vec![None; cpu.len()];
        self.output_f32(name, &start, cpu, tolerance)
    }

    /// A buffer that the kernel reads and writes: its content before, and the twin's values after.
    pub fn in_out(&mut self, name: &str, before: &[f32], after: &[f64], tolerance: Tolerance) -> Result<Buf<f32>> {
        let start: Vec<_> = before.iter().map(|v| Some(v.to_bits())).collect();
        self.output_f32(name, &start, after.iter().map(|v| Some(*v)).collect(), tolerance)
    }
}
