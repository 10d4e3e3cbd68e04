//! Typed buffers, and copies to the device and back.

use super::device::Gpu;
use super::faults::FaultSite;
use super::submitted::Submitted;
use crate::error::{Error, Result};
use bytemuck::Pod;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::oneshot;

/// Bytes of a staging buffer. Uploads are best cut into pieces of this size; a larger piece enlarges all staging buffers.
pub const UPLOAD_PIECE: usize = 4 << 20;

/// What a buffer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Read and written by kernels.
    Storage,
    /// A kernel's parameters.
    Uniform,
    /// Results of queries.
    Queries,
}

/// A labelled buffer of `len` values on the device, never resized. Clones share it; the last one frees it.
#[derive(Clone)]
pub struct Buf<T> {
    raw: Arc<Raw>,
    first: usize,
    len: usize,
    of: PhantomData<T>,
}

struct Raw {
    buffer: wgpu::Buffer,
    label: String,
    allocated: Arc<AtomicU64>,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.allocated.fetch_sub(self.buffer.size(), Ordering::Relaxed);
    }
}

/// A copy from one buffer to another.
pub struct BufferCopy<'a, T> {
    /// The source.
    pub from: &'a Buf<T>,
    /// Values to copy.
    pub range: Range<usize>,
    /// The destination.
    pub to: &'a Buf<T>,
    /// Index of the first value in the destination.
    pub at: usize,
}

/// A buffer, or a range of one, ready to be bound to a kernel.
#[derive(Clone)]
pub struct Bound {
    raw: Arc<Raw>,
    offset: u64,
    bytes: u64,
}

impl Bound {
    /// Identifies the buffer, whatever range of it is bound.
    pub(super) fn id(&self) -> usize {
        Arc::as_ptr(&self.raw) as usize
    }

    pub(super) fn resource(&self) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.raw.buffer,
            offset: self.offset,
            size: wgpu::BufferSize::new(self.bytes),
        })
    }
}

impl<T: Pod> Buf<T> {
    /// Number of values.
    #[allow(clippy::len_without_is_empty, reason = "a buffer is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Its label.
    pub fn label(&self) -> &str {
        &self.raw.label
    }

    /// The whole of it, ready to be bound to a kernel.
    pub fn bind(&self) -> Bound {
        let size = size_of::<T>() as u64;
        let whole = self.first == 0 && self.len as u64 * size + 16 > self.raw.buffer.size();
        let bytes = if whole { self.raw.buffer.size() } else { self.len as u64 * size };
        Bound { raw: self.raw.clone(), offset: self.first as u64 * size, bytes }
    }

    /// A range of the values as a buffer. To be bound, it must start at a multiple of the adapter's storage alignment.
    pub fn view(&self, range: Range<usize>) -> Self {
        assert!(range.end <= self.len, "{}: view past the end", self.label());
        Buf { raw: self.raw.clone(), first: self.first + range.start, len: range.len(), of: PhantomData }
    }

    /// The same memory as values of another type.
    pub fn reinterpret<U: Pod>(self) -> Buf<U> {
        let (first, bytes) = (self.first * size_of::<T>(), self.len * size_of::<T>());
        assert!(first.is_multiple_of(size_of::<U>()) && bytes.is_multiple_of(size_of::<U>()), "{}", self.label());
        Buf { raw: self.raw, first: first / size_of::<U>(), len: bytes / size_of::<U>(), of: PhantomData }
    }

    pub(super) fn bytes(&self, range: &Range<usize>) -> (u64, u64) {
        let size = size_of::<T>() as u64;
        ((self.first + range.start) as u64 * size, range.len() as u64 * size)
    }

    pub(super) fn raw(&self) -> &wgpu::Buffer {
        &self.raw.buffer
    }
}

impl Gpu {
    /// A new buffer of `len` values, all zero.
    pub fn buffer<T: Pod>(&self, label: impl Into<String>, len: usize, usage: Usage) -> Result<Buf<T>> {
        let label = label.into();
        // GL needs uniforms of whole 16 bytes; no buffer is empty.
        let bytes = (len.max(1) * size_of::<T>()).next_multiple_of(16) as u64;
        let limit = self.caps().buffer_limit;
        if bytes > limit {
            return Err(Error::RowTooLarge { what: label, bytes, limit });
        }
        let usages = match usage {
            Usage::Storage => wgpu::BufferUsages::STORAGE,
            Usage::Uniform => wgpu::BufferUsages::UNIFORM,
            Usage::Queries => wgpu::BufferUsages::QUERY_RESOLVE,
        };
        let buffer = self.create(&wgpu::BufferDescriptor {
            label: Some(&label),
            size: bytes,
            usage: usages | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        })?;
        let allocated = self.shared.allocated.clone();
        allocated.fetch_add(bytes, Ordering::Relaxed);
        Ok(Buf { raw: Arc::new(Raw { buffer, label, allocated }), first: 0, len, of: PhantomData })
    }

    /// A wgpu buffer. An out-of-memory error says how much was requested.
    pub(super) fn create(&self, descriptor: &wgpu::BufferDescriptor) -> Result<wgpu::Buffer> {
        let made = self.meet_fault(FaultSite::Allocate).and_then(|()| {
            self.scoped(descriptor.label.unwrap_or_default(), || self.shared.device.create_buffer(descriptor))
        });
        made.map_err(|e| match e {
            Error::OutOfMemory { what, .. } => Error::OutOfMemory { what, bytes: descriptor.size },
            other => other,
        })
    }

    /// A new buffer that holds `values`.
    pub fn upload<T: Pod>(&self, label: impl Into<String>, values: &[T], usage: Usage) -> Result<Buf<T>> {
        let buf = self.buffer(label, values.len(), usage)?;
        self.write(&buf, 0, values)?;
        Ok(buf)
    }

    /// Writes `values` from index `at` on, before anything submitted later runs. Large data is sent in bounded pieces, so that the host
    /// never holds a second copy; use [`Uploads`](super::Uploads) for very large data.
    pub fn write<T: Pod>(&self, buf: &Buf<T>, at: usize, values: &[T]) -> Result<()> {
        self.check()?;
        assert!(at + values.len() <= buf.len, "{}: write past the end", buf.label());
        let first = (buf.first + at) * size_of::<T>();
        for (i, piece) in bytemuck::cast_slice::<T, u8>(values).chunks(UPLOAD_PIECE).enumerate() {
            self.shared.queue.write_buffer(buf.raw(), (first + i * UPLOAD_PIECE) as u64, piece);
            if piece.len() == UPLOAD_PIECE {
                self.flush()?;
            }
        }
        self.check()
    }

    /// Sends what [`Gpu::write`] has staged and waits until the staging memory is free again.
    pub fn flush(&self) -> Result<()> {
        let submission = self.submit(None)?;
        self.wait(submission)
    }

    /// Sets `len` values from index `at` on to zero, before anything submitted later runs.
    pub fn clear<T: Pod>(&self, regions: &[(&Buf<T>, Range<usize>)]) -> Result<()> {
        self.check()?;
        let mut encoder = self.shared.device.create_command_encoder(&Default::default());
        for (buf, range) in regions {
            let (first, bytes) = buf.bytes(range);
            encoder.clear_buffer(buf.raw(), first, Some(bytes));
        }
        self.submit(Some(encoder.finish()))?;
        self.check()
    }

    /// Copies each range of a buffer into another buffer from an index on, before anything submitted later runs.
    pub fn copy<T: Pod>(&self, moves: &[BufferCopy<'_, T>]) -> Result<()> {
        self.check()?;
        let mut encoder = self.shared.device.create_command_encoder(&Default::default());
        for BufferCopy { from, range, to, at } in moves {
            let (first, bytes) = from.bytes(range);
            let (target, _) = to.bytes(&(*at..*at + range.len()));
            encoder.copy_buffer_to_buffer(from.raw(), first, to.raw(), target, bytes);
        }
        self.submit(Some(encoder.finish()))?;
        self.check()
    }

    /// Reads a range of a buffer back, after all that was submitted before.
    pub async fn read<T: Pod>(&self, buf: &Buf<T>, range: Range<usize>) -> Result<Vec<T>> {
        let readback = self.readback::<T>("read", range.len())?;
        let pending = self.copy_out(buf, range, readback)?;
        Ok(pending.get().await?.0)
    }

    /// Reads ranges of several buffers back in one submission, concatenated.
    pub async fn gather<T: Pod>(&self, regions: &[(&Buf<T>, Range<usize>)]) -> Result<Vec<T>> {
        self.check()?;
        let to = self.readback::<T>("gathered", regions.iter().map(|(_, range)| range.len()).sum())?;
        let mut encoder = self.shared.device.create_command_encoder(&Default::default());
        let mut at = 0;
        for (buf, range) in regions {
            let (first, bytes) = buf.bytes(range);
            encoder.copy_buffer_to_buffer(buf.raw(), first, &to.buffer, at, bytes);
            at += bytes;
        }
        let submission = self.submit(Some(encoder.finish()))?;
        let pending = to.after(Submitted::commands(submission));
        Ok(pending.get().await?.0)
    }

    /// Host memory that results can be copied to.
    pub fn readback<T: Pod>(&self, label: &str, len: usize) -> Result<Readback<T>> {
        let bytes = (len.max(1) * size_of::<T>()).next_multiple_of(4) as u64;
        let buffer = self.create(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes,
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        })?;
        Ok(Readback { gpu: self.clone(), buffer, len, of: PhantomData })
    }

    fn copy_out<T: Pod>(&self, buf: &Buf<T>, range: Range<usize>, to: Readback<T>) -> Result<Pending<T>> {
        self.check()?;
        let mut encoder = self.shared.device.create_command_encoder(&Default::default());
        let (first, bytes) = buf.bytes(&range);
        encoder.copy_buffer_to_buffer(buf.raw(), first, &to.buffer, 0, bytes);
        let submission = self.submit(Some(encoder.finish()))?;
        Ok(to.after(Submitted::commands(submission)))
    }
}

/// Host memory that the device can copy to; idle.
pub struct Readback<T> {
    gpu: Gpu,
    pub(super) buffer: wgpu::Buffer,
    len: usize,
    of: PhantomData<T>,
}

/// A [`Readback`] whose copy has been submitted.
pub struct Pending<T> {
    readback: Readback<T>,
    submitted: Submitted,
    mapped: oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>,
}

impl<T: Pod> Readback<T> {
    /// Asks for the memory to be mapped once `submitted`, which copies to it, is done.
    pub fn after(self, submitted: Submitted) -> Pending<T> {
        let (send, mapped) = oneshot::channel();
        self.buffer.map_async(wgpu::MapMode::Read, .., move |outcome| {
            let _ = send.send(outcome);
        });
        Pending { readback: self, submitted, mapped }
    }
}

impl<T: Pod> Pending<T> {
    /// The values, and the memory for reuse. Natively it polls the device until they arrive, so the future is ready at its first poll.
    pub async fn get(self) -> Result<(Vec<T>, Readback<T>)> {
        let Pending { readback, submitted, mapped } = self;
        submitted.wait(&readback.gpu)?;
        let refused = |problem: String| Error::Gpu { what: "reading a result".to_owned(), problem };
        mapped.await.map_err(|e| refused(e.to_string()))?.map_err(|e| refused(e.to_string()))?;
        let view = readback.buffer.get_mapped_range(..).map_err(|e| refused(e.to_string()))?;
        let bytes = &view[..readback.len * size_of::<T>()];
        let values = bytemuck::pod_collect_to_vec(bytes);
        drop(view);
        readback.buffer.unmap();
        readback.gpu.check()?;
        Ok((values, readback))
    }
}
