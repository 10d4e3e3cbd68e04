//! Numbers that Python reads in place, by the buffer protocol.

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::c_int;

/// An array of f32, in rows.
#[pyclass(frozen, module = "peregrine")]
pub struct Array {
    values: Vec<f32>,
    /// Read by Python for as long as a view lives, which keeps this object alive.
    shape: Vec<ffi::Py_ssize_t>,
    strides: Vec<ffi::Py_ssize_t>,
}

impl Array {
    /// `values` in this shape, the last dimension innermost.
    pub fn new(values: Vec<f32>, shape: &[usize]) -> Self {
        let size = |n: &usize| ffi::Py_ssize_t::try_from(*n).expect("no allocation is longer");
        let mut strides = vec![ffi::Py_ssize_t::try_from(size_of::<f32>()).expect("it is 4"); shape.len()];
        for i in (1..shape.len()).rev() {
            strides[i - 1] = strides[i] * size(&shape[i]);
        }
        debug_assert_eq!(values.len(), shape.iter().product::<usize>());
        Array { values, shape: shape.iter().map(size).collect(), strides }
    }

    fn dimensions(&self) -> String {
        self.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

#[pymethods]
impl Array {
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, pyo3::types::PyTuple>> {
        pyo3::types::PyTuple::new(py, &self.shape)
    }

    fn __len__(&self) -> usize {
        self.shape.first().map_or(0, |rows| rows.unsigned_abs())
    }

    fn __repr__(&self) -> String {
        format!("<peregrine.Array of f32 [{}]>", self.dimensions())
    }

    /// The numbers as lists of floats.
    fn tolist<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        pyo3::types::PyMemoryView::from(slf)?.call_method0("tolist")
    }

    // SAFETY: Python calls this with a `view` to be filled. The pointers in it are into vectors that never change and that the view's
    // reference to this object keeps alive.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("there is no view to fill"));
        }
        if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
            // SAFETY: it is not null.
            unsafe { (*view).obj = std::ptr::null_mut() };
            return Err(PyBufferError::new_err("the array is read-only: copy it first"));
        }
        let array = slf.get();
        if flags & ffi::PyBUF_F_CONTIGUOUS == ffi::PyBUF_F_CONTIGUOUS && array.shape.len() > 1 {
            // SAFETY: it is not null.
            unsafe { (*view).obj = std::ptr::null_mut() };
            return Err(PyBufferError::new_err("the last dimension of the array is the innermost"));
        }
        let wants = |flag: c_int| flags & flag == flag;
        let strides = wants(ffi::PyBUF_STRIDES);
        let shape = wants(ffi::PyBUF_ND);
        // SAFETY: `view` is not null, and Python gave it to be filled.
        let view = unsafe { &mut *view };
        view.buf = array.values.as_ptr().cast_mut().cast();
        view.len = ffi::Py_ssize_t::try_from(size_of_val(array.values.as_slice())).expect("no allocation is longer");
        view.itemsize = array.strides.last().copied().unwrap_or(4);
        view.readonly = 1;
        view.ndim = if shape { c_int::try_from(array.shape.len()).expect("it has at most three") } else { 1 };
        view.format = if wants(ffi::PyBUF_FORMAT) { c"f".as_ptr().cast_mut() } else { std::ptr::null_mut() };
        view.shape = if shape { array.shape.as_ptr().cast_mut() } else { std::ptr::null_mut() };
        view.strides = if strides { array.strides.as_ptr().cast_mut() } else { std::ptr::null_mut() };
        view.suboffsets = std::ptr::null_mut();
        view.internal = std::ptr::null_mut();
        view.obj = slf.into_ptr();
        Ok(())
    }
}
