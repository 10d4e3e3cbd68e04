//! Opening many pictures on all cores.

use super::Picture;
use crate::error::Result;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;

impl Picture {
    /// Opens pictures on all cores; each has its own result, in their order.
    pub fn open_all(paths: &[PathBuf]) -> Vec<Result<Picture>> {
        let workers = thread::available_parallelism().map_or(1, NonZero::get).min(paths.len());
        if workers <= 1 {
            return paths.iter().map(Picture::open).collect();
        }
        let mut all: Vec<Option<Result<Picture>>> = Vec::new();
        all.resize_with(paths.len(), || None);
        let share = paths.len().div_ceil(workers);
        thread::scope(|scope| {
            for (paths, all) in paths.chunks(share).zip(all.chunks_mut(share)) {
                scope.spawn(move || {
                    for (path, place) in paths.iter().zip(all) {
                        *place = Some(Picture::open(path));
                    }
                });
            }
        });
        all.into_iter().flatten().collect()
    }
}
