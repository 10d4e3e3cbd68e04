//! The spill file: an unnamed temporary file with states of one size.

use crate::model::SlotState;
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// States by record number, in a file without a name that disappears with the process however it ends.
pub(super) struct SpillFile {
    file: File,
    /// Bytes of one state.
    size: u64,
    /// Records in the file, free ones included.
    places: u64,
    free: Vec<u64>,
}

/// A state's record number and checksum.
pub(super) struct Record {
    place: u64,
    sum: u64,
}

impl SpillFile {
    /// Creates the file in a folder, else in the system's folder for large temporary files.
    pub(super) fn new(folder: Option<&Path>, size: u64) -> Result<Self> {
        let folder = folder.map_or_else(large_temporary_files, Path::to_owned);
        Ok(SpillFile { file: tempfile::tempfile_in(folder)?, size, places: 0, free: vec![] })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() as u64 == self.places
    }

    pub(super) fn write(&mut self, state: &SlotState) -> Result<Record> {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places += 1;
            self.places - 1
        });
        let written = self
            .file
            .seek(SeekFrom::Start(place * self.size))
            .and_then(|_| state.values().try_for_each(|values| self.file.write_all(bytemuck::cast_slice(values))));
        let record = Record { place, sum: sum(state) };
        match written {
            Ok(()) => Ok(record),
            Err(error) => {
                self.free(record);
                Err(error)
            }
        }
    }

    /// Reads a state into one of the same shape and verifies its checksum.
    pub(super) fn read(&mut self, record: &Record, into: &mut SlotState) -> Result<()> {
        self.file.seek(SeekFrom::Start(record.place * self.size))?;
        for values in into.values_mut() {
            self.file.read_exact(bytemuck::cast_slice_mut(values))?;
        }
        if sum(into) != record.sum {
            return Err(Error::new(ErrorKind::InvalidData, "its bytes are not those that were written"));
        }
        Ok(())
    }

    pub(super) fn free(&mut self, record: Record) {
        self.free.push(record.place);
    }
}

/// FNV-1a over 32-bit words.
fn sum(state: &SlotState) -> u64 {
    let words = state.values().flatten();
    words.fold(0xcbf2_9ce4_8422_2325, |sum, word| (sum ^ u64::from(word.to_bits())).wrapping_mul(0x0100_0000_01b3))
}

/// TMPDIR if set, else /var/tmp if there is one, as /tmp is often in memory.
fn large_temporary_files() -> PathBuf {
    let disk = Path::new("/var/tmp");
    if cfg!(unix) && std::env::var_os("TMPDIR").is_none() && disk.is_dir() {
        return disk.to_owned();
    }
    std::env::temp_dir()
}
