//! The extension module `peregrine._native`: the library's engines, sessions and answers as Python classes. Nothing here computes;
//! each call is one of the library's, made without the interpreter's lock. `python/peregrine/_native.pyi` documents the classes.

mod adapter;
mod answer;
mod array;
mod errors;
mod keywords;
mod load;
mod message;
mod model;
mod session;
mod vision;
mod wait;

#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use crate::adapter::{Adapter, adapters};
    #[pymodule_export]
    use crate::answer::Answer;
    #[pymodule_export]
    use crate::array::Array;
    #[pymodule_export]
    use crate::load::load;
    #[pymodule_export]
    use crate::model::Model;
    #[pymodule_export]
    use crate::session::{Mark, Session};
    #[pymodule_export]
    use crate::vision::{Class, Features, VisionModel, load_vision};

    /// The version of the library.
    #[pymodule_export]
    const __VERSION__: &str = env!("CARGO_PKG_VERSION");
}
