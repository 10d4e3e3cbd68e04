//! The adapters of this machine.

use crate::boundary::{Failure, c_text, call};
use crate::peregrine_status;
use std::ffi::{c_char, c_int, c_void};

/// An adapter. Later versions may add fields at the end.
#[repr(C)]
pub struct peregrine_adapter {
    /// Its name.
    pub name: *const c_char,
    /// "Vulkan", "Metal", "Dx12" or "Gl".
    pub backend: *const c_char,
    /// "discrete GPU", "integrated GPU", "virtual GPU", "CPU" or "other".
    pub kind: *const c_char,
    /// Name and version of the driver.
    pub driver: *const c_char,
    /// Why it cannot be used; NULL: it can.
    pub unfit: *const c_char,
    /// Its index, for the field `device` of `peregrine_engine_options`.
    pub index: usize,
    /// 1 if it is a CPU, else 0.
    pub cpu: c_int,
}

/// Called with each adapter in turn. Its texts are valid during the call.
pub type peregrine_on_adapter = Option<unsafe extern "C" fn(adapter: *const peregrine_adapter, user: *mut c_void)>;

/// Lists the adapters: usable ones first, then GPUs before CPUs. That there are none is no error.
///
/// - `on_adapter`: called on this thread, with `user`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn peregrine_adapters(on_adapter: peregrine_on_adapter, user: *mut c_void) -> peregrine_status {
    call(|| {
        let each = on_adapter.ok_or_else(|| Failure::Argument("on_adapter is NULL".to_owned()))?;
        for (index, adapter) in peregrine::gpu::adapters().into_iter().enumerate() {
            let texts = [&adapter.name, &adapter.backend, adapter.kind, &adapter.driver];
            let [name, backend, kind, driver] = texts.map(c_text);
            let unfit = adapter.unfit.as_deref().map(c_text);
            let shown = peregrine_adapter {
                name: name.as_ptr(),
                backend: backend.as_ptr(),
                kind: kind.as_ptr(),
                driver: driver.as_ptr(),
                unfit: unfit.as_ref().map_or(std::ptr::null(), |unfit| unfit.as_ptr()),
                index,
                cpu: adapter.cpu.into(),
            };
            // SAFETY: the caller's function, with what the header says.
            unsafe { each(&shown, user) };
        }
        Ok(())
    })
}
