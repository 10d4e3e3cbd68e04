//! Engines: a model on a device.

use crate::boundary::{call, quietly};
use crate::options::{loading, peregrine_engine_options, peregrine_sampling, sampling_of};
use crate::peregrine_status;
use crate::pointers::{free_handle, handle, new_handle, optional_out, out, text};
use crate::structs;
use peregrine::runtime::{Progress, SamplingDefaults};
use peregrine::{Checkpoint, Engine, Gpu};
use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

/// A model on a device, with slots for sessions. Any number of threads may use it.
pub struct peregrine_engine {
    pub(crate) engine: Engine,
    pub(crate) identity: Identity,
}

/// Tells engines apart: equal for what belongs to one engine.
#[derive(Clone, Default)]
pub(crate) struct Identity(Arc<()>);

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Called as a model is loaded: `done` of `total` bytes are on the device.
pub type peregrine_on_progress = Option<unsafe extern "C" fn(done: u64, total: u64, user: *mut c_void)>;

/// Progress in the form of the library.
fn progress(on_progress: peregrine_on_progress, user: *mut c_void) -> impl FnMut(Progress) {
    move |progress| {
        if let Some(each) = on_progress {
            // SAFETY: the caller's function, with what the header says.
            unsafe { each(progress.done, progress.total, user) };
        }
    }
}

/// Loads a model.
///
/// - `path`: a GGUF file, or a folder as Hugging Face has it, in UTF-8.
/// - `options`: NULL for the defaults.
/// - `on_progress`: called on this thread, with `user`; may be NULL.
/// - `engine`: receives the engine, to be freed by `peregrine_engine_free`; NULL after an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_engine_load(
    path: *const c_char,
    options: *const peregrine_engine_options,
    on_progress: peregrine_on_progress,
    user: *mut c_void,
    engine: *mut *mut peregrine_engine,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        let (engine, path, options) =
            unsafe { (out(engine, std::ptr::null_mut(), "engine")?, text(path, "path")?, loading(options)?) };
        let checkpoint = Checkpoint::open(path)?;
        let gpu = Gpu::open(&options.adapter)?;
        if let Some(cache) = &options.cache {
            gpu.keep_in(cache)?;
        }
        let loaded = Engine::load(&gpu, checkpoint, options.engine, &mut progress(on_progress, user))?;
        // A failure only makes the next start slower.
        let _ = gpu.save_pipelines();
        engine.set(new_handle(peregrine_engine { engine: loaded, identity: Identity::default() }));
        Ok(())
    })
}

/// Frees the engine. Its sessions go on; the model leaves the device when the last of them is freed. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_engine_free(engine: *mut peregrine_engine) {
    // SAFETY: the caller's handle, which it does not use again.
    quietly(|| drop(unsafe { free_handle(engine) }));
}

/// Opens the device again after PEREGRINE_DEVICE_LOST, or the best one left, and loads the model anew. Sessions continue where they
/// were; `peregrine_session_resume` continues an answer that ended with the error.
///
/// - `on_progress`: called on this thread, with `user`; may be NULL.
/// - `reopened`: receives 1, or 0 if the device works and nothing was done; may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_engine_recover(
    engine: *mut peregrine_engine,
    on_progress: peregrine_on_progress,
    user: *mut c_void,
    reopened: *mut c_int,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        let (reopened, engine) = unsafe { (optional_out(reopened, 0, "reopened")?, handle(engine, "engine")?) };
        let opened = engine.engine.recover(&mut progress(on_progress, user))?;
        if let Some(reopened) = reopened {
            reopened.set(opened.into());
        }
        Ok(())
    })
}

/// Gives the number of logits: token ids are below it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_engine_vocabulary(
    engine: *const peregrine_engine,
    vocabulary: *mut usize,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        let (vocabulary, engine) = unsafe { (out(vocabulary, 0, "vocabulary")?, handle(engine, "engine")?) };
        vocabulary.set(engine.engine.checkpoint().config().vocab);
        Ok(())
    })
}

/// Gives the bytes of device memory that the engine and its sessions have allocated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_engine_memory(engine: *const peregrine_engine, bytes: *mut u64) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's pointers.
        let (bytes, engine) = unsafe { (out(bytes, 0, "bytes")?, handle(engine, "engine")?) };
        bytes.set(engine.engine.gpu().allocated_bytes());
        Ok(())
    })
}

/// Gives the sampling parameters that the model comes with; those that it lacks are llama.cpp's.
///
/// - `sampling`: its `size` must be set; receives the others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_engine_sampling(
    engine: *const peregrine_engine,
    seed: u64,
    sampling: *mut peregrine_sampling,
) -> peregrine_status {
    call(|| {
        // SAFETY: the caller's handle.
        let engine = unsafe { handle(engine, "engine") }?;
        let chosen = engine.engine.checkpoint().sampling(&SamplingDefaults::default(), seed)?;
        // SAFETY: the caller's struct, of the size that it says.
        unsafe { structs::write(sampling, &sampling_of(&chosen)) }
    })
}
