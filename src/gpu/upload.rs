//! Uploads of large data: threads fill host memory while earlier data is copied through a ring of mapped staging buffers. The
//! threads never access mapped memory, because the loss of the device unmaps it at once.

use super::buffer::{Buf, UPLOAD_PIECE};
use super::device::Gpu;
use crate::error::{Error, Result};
use bytemuck::Pod;
use std::collections::VecDeque;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

/// Most staging buffers: some being filled, some being copied.
const STAGES: usize = 8;

/// Most threads that fill them: reading needs a few, quantizing needs all.
const READERS: usize = 8;

/// Interval of polling for finished copies while data is read.
const LOOK: Duration = Duration::from_millis(1);

/// Most host memory that [`Uploads::run`] takes if no piece is larger than `largest` bytes.
pub fn staging_bytes(largest: usize) -> usize {
    // Each staging buffer and the memory that is filled for it.
    2 * STAGES * largest.max(UPLOAD_PIECE)
}

/// Data to write to buffers, as a list of pieces.
#[derive(Default)]
pub struct Uploads<'a> {
    pieces: Vec<Piece<'a>>,
}

/// Data for a range of a buffer. A free thread produces it when its turn comes.
struct Piece<'a> {
    to: Buf<u8>,
    offset: u64,
    bytes: usize,
    from: Vec<&'a [u8]>,
    fill: Box<dyn FnOnce(&mut Staging<'_>) + Send + 'a>,
}

/// A piece's staging memory, written from its start on; the rest is zero.
pub struct Staging<'s> {
    memory: &'s mut [u8],
    filled: usize,
}

impl Staging<'_> {
    /// Appends bytes.
    pub fn put(&mut self, bytes: &[u8]) {
        self.take(bytes.len()).copy_from_slice(bytes);
    }

    /// The next `bytes` bytes; the caller must write all of them.
    pub fn take(&mut self, bytes: usize) -> &mut [u8] {
        let first = self.filled;
        self.filled += bytes;
        &mut self.memory[first..self.filled]
    }

    /// Appends zeros.
    pub fn skip(&mut self, bytes: usize) {
        self.take(bytes).fill(0);
    }
}

impl<'a> Uploads<'a> {
    /// Adds data for a range of `to`. `fill` writes it from the parts `from` of a source, whose size counts as progress. A
    /// range that ends with the buffer includes the buffer's padding, so that nothing remains to be cleared.
    pub fn add<T: Pod>(
        &mut self,
        to: &Buf<T>,
        range: Range<usize>,
        from: Vec<&'a [u8]>,
        fill: impl FnOnce(&mut Staging<'_>) + Send + 'a,
    ) {
        assert!(range.end <= to.len(), "{}: upload past the end", to.label());
        let (offset, bytes) = to.bytes(&range);
        let padding = to.raw().size() - offset - bytes;
        let bytes = if padding < 16 { bytes + padding } else { bytes };
        let bytes = usize::try_from(bytes).expect("a range of values in memory");
        self.pieces.push(Piece { to: to.clone().reinterpret(), offset, bytes, from, fill: Box::new(fill) });
    }

    /// Uploads all pieces and waits for them. `spent` is called, on any thread, with each part of the source that is no longer needed;
    /// `arrived`, on this thread, with the number of source bytes that have reached the device.
    pub fn run(self, gpu: &Gpu, spent: &(dyn Fn(&[u8]) + Sync), arrived: &mut dyn FnMut(usize)) -> Result<()> {
        gpu.check()?;
        let loads = self.loads();
        if cfg!(target_arch = "wasm32") {
            return write(gpu, loads, spent, arrived);
        }
        let Some(bytes) = loads.iter().map(|load| load.bytes).max() else { return Ok(()) };
        let stages = STAGES.min(loads.len());
        let mut ring = Ring {
            gpu,
            stages: (0..stages).map(|_| stage(gpu, bytes)).collect::<Result<_>>()?,
            idle: (0..stages).collect(),
            copying: VecDeque::new(),
            memory: (0..stages).map(|_| vec![0; bytes]).collect(),
            mapped: mpsc::channel(),
        };
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).clamp(1, READERS.min(stages));
        let (give, work) = mpsc::channel();
        let work = &Mutex::new(work);
        // `give` is dropped when the closure ends in any way; then the readers return, and the scope joins them.
        std::thread::scope(move |scope| {
            let (filled, fillings) = mpsc::channel();
            for _ in 0..threads {
                let filled = filled.clone();
                scope.spawn(move || read(work, &filled, spent));
            }
            ring.turn(loads, &give, &fillings, arrived)
        })
    }

    /// The pieces, in order, packed into loads of at most a staging buffer.
    fn loads(self) -> Vec<Load<'a>> {
        let mut loads: Vec<Load> = Vec::new();
        for piece in self.pieces {
            match loads.last_mut() {
                Some(load) if load.bytes + piece.bytes <= UPLOAD_PIECE => load.push(piece),
                _ => {
                    let mut load = Load::default();
                    load.push(piece);
                    loads.push(load);
                }
            }
        }
        loads
    }
}

/// Pieces that share a staging buffer, concatenated.
#[derive(Default)]
struct Load<'a> {
    pieces: Vec<Piece<'a>>,
    bytes: usize,
}

impl<'a> Load<'a> {
    fn push(&mut self, piece: Piece<'a>) {
        self.bytes += piece.bytes;
        self.pieces.push(piece);
    }

    /// Writes the pieces' data and returns the copies to make.
    fn fill(self, memory: &mut [u8], spent: &dyn Fn(&[u8])) -> Filled {
        let mut filled = Filled { copies: Vec::with_capacity(self.pieces.len()), counts: 0 };
        let mut at = 0;
        for Piece { to, offset, bytes, from, fill } in self.pieces {
            let mut stage = Staging { memory: &mut memory[at..at + bytes], filled: 0 };
            fill(&mut stage);
            stage.skip(bytes - stage.filled);
            filled.copies.push(StagedCopy { from: at as u64, to, offset, bytes: bytes as u64 });
            filled.counts += from.iter().map(|part| part.len()).sum::<usize>();
            from.into_iter().for_each(spent);
            at += bytes;
        }
        filled
    }
}

/// Uploads loads without threads and staging buffers, for which a browser's thread cannot wait.
fn write(gpu: &Gpu, loads: Vec<Load<'_>>, spent: &dyn Fn(&[u8]), arrived: &mut dyn FnMut(usize)) -> Result<()> {
    for load in loads {
        let mut memory = vec![0; load.bytes];
        let Filled { copies, counts } = load.fill(&mut memory, spent);
        for StagedCopy { from, to, offset, bytes } in copies {
            let bytes = &memory[from as usize..(from + bytes) as usize];
            gpu.shared.queue.write_buffer(to.raw(), offset, bytes);
        }
        gpu.check()?;
        arrived(counts);
    }
    Ok(())
}

/// Copies out of a staging buffer.
struct Filled {
    copies: Vec<StagedCopy>,
    counts: usize,
}

struct StagedCopy {
    from: u64,
    to: Buf<u8>,
    offset: u64,
    bytes: u64,
}

/// A load for a reader, the memory that it fills, and the staging buffer for it.
struct Work<'a> {
    stage: usize,
    memory: Vec<u8>,
    load: Load<'a>,
}

/// Staging buffer and memory of a finished load, and its copies; an error is the reader's panic.
type Filling = (usize, Vec<u8>, std::thread::Result<Filled>);

/// A reader: fills loads until there are no more.
fn read(work: &Mutex<mpsc::Receiver<Work<'_>>>, filled: &mpsc::Sender<Filling>, spent: &dyn Fn(&[u8])) {
    loop {
        let next = work.lock().unwrap_or_else(|e| e.into_inner()).recv();
        let Ok(Work { stage, mut memory, load }) = next else { return };
        let outcome = catch_unwind(AssertUnwindSafe(|| load.fill(&mut memory, spent)));
        if filled.send((stage, memory, outcome)).is_err() {
            return;
        }
    }
}

/// A staging buffer whose copy is done, its progress in source bytes, and whether it is mapped again.
type Mapped = (usize, usize, Result<(), wgpu::BufferAsyncError>);

struct Ring<'g> {
    gpu: &'g Gpu,
    stages: Vec<wgpu::Buffer>,
    /// Memory that no reader holds.
    memory: Vec<Vec<u8>>,
    /// Mapped, and with no reader.
    idle: Vec<usize>,
    /// Copies in flight, oldest first.
    copying: VecDeque<wgpu::SubmissionIndex>,
    mapped: (mpsc::Sender<Mapped>, mpsc::Receiver<Mapped>),
}

impl Ring<'_> {
    /// Loops until every load has been filled and copied.
    fn turn<'a>(
        &mut self,
        loads: Vec<Load<'a>>,
        give: &mpsc::Sender<Work<'a>>,
        fillings: &mpsc::Receiver<Filling>,
        arrived: &mut dyn FnMut(usize),
    ) -> Result<()> {
        let mut loads = loads.into_iter();
        let mut reading = 0;
        loop {
            while let Some(stage) = self.idle.pop() {
                let Some(load) = loads.next() else { break };
                let memory = self.memory.pop().expect("as many as staging buffers");
                give.send(Work { stage, memory, load }).expect("the receiver outlives the ring");
                reading += 1;
            }
            // Readers wait for work as long as `give` exists: a reader with work always answers.
            let filling = match (reading, self.copying.front()) {
                (0, None) => return Ok(()),
                (0, Some(oldest)) => {
                    self.gpu.wait(oldest.clone())?;
                    let seconds = self.gpu.caps().timeout;
                    let mapped = self.mapped.1.recv_timeout(Duration::from_secs(seconds));
                    self.reclaim(mapped.map_err(|_| Error::Timeout { seconds })?, arrived)?;
                    None
                }
                (_, None) => fillings.recv().ok(),
                (_, Some(_)) => fillings.recv_timeout(LOOK).ok(),
            };
            if let Some((stage, memory, outcome)) = filling {
                reading -= 1;
                self.copy(stage, &memory, outcome.unwrap_or_else(|panic| resume_unwind(panic)))?;
                self.memory.push(memory);
            }
            let _ = self.gpu.shared.device.poll(wgpu::PollType::Poll);
            self.gpu.check()?;
            while let Ok(mapped) = self.mapped.1.try_recv() {
                self.reclaim(mapped, arrived)?;
            }
        }
    }

    /// Writes filled memory to its staging buffer, submits the copies out of it, and requests that it be mapped again after them.
    fn copy(&mut self, stage: usize, memory: &[u8], filled: Filled) -> Result<()> {
        let Filled { copies, counts } = filled;
        let buffer = &self.stages[stage];
        let bytes = copies.iter().map(|copy| copy.from + copy.bytes).max().unwrap_or(0) as usize;
        let mut view = buffer.get_mapped_range_mut(..).map_err(|e| self.refused(e))?;
        view.slice(..bytes).copy_from_slice(&memory[..bytes]);
        drop(view);
        buffer.unmap();
        let mut encoder = self.gpu.shared.device.create_command_encoder(&Default::default());
        for StagedCopy { from, to, offset, bytes } in copies {
            encoder.copy_buffer_to_buffer(buffer, from, to.raw(), offset, bytes);
        }
        self.copying.push_back(self.gpu.submit(Some(encoder.finish()))?);
        let mapped = self.mapped.0.clone();
        buffer.map_async(wgpu::MapMode::Write, .., move |outcome| {
            let _ = mapped.send((stage, counts, outcome));
        });
        Ok(())
    }

    /// Takes back a staging buffer whose copy is done. Copies end in the order in which they were submitted.
    fn reclaim(&mut self, (stage, counts, outcome): Mapped, arrived: &mut dyn FnMut(usize)) -> Result<()> {
        self.gpu.check()?;
        outcome.map_err(|e| self.refused(e))?;
        self.copying.pop_front();
        self.idle.push(stage);
        arrived(counts);
        Ok(())
    }

    /// Why memory could not be mapped: mostly because the device is lost, which it reports only when polled.
    fn refused(&self, problem: impl std::fmt::Display) -> Error {
        let timeout = Some(Duration::from_secs(self.gpu.caps().timeout));
        let _ = self.gpu.shared.device.poll(wgpu::PollType::Wait { submission_index: None, timeout });
        self.gpu
            .check()
            .err()
            .unwrap_or_else(|| Error::Gpu { what: "staging memory".to_owned(), problem: problem.to_string() })
    }
}

/// A staging buffer, mapped.
fn stage(gpu: &Gpu, bytes: usize) -> Result<wgpu::Buffer> {
    gpu.create(&wgpu::BufferDescriptor {
        label: Some("staging"),
        size: bytes.next_multiple_of(16) as u64,
        usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
        mapped_at_creation: true,
    })
}
