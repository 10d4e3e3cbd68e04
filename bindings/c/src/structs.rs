//! Structs of the header that grow: the first field is the size that the struct has for the program, and 0 in any other field means the
//! default. So a program may be older than the library, and newer as long as it uses no field that the library lacks.

use crate::boundary::Failure;
use std::mem::MaybeUninit;

/// A struct of the header that grows.
///
/// # Safety
/// It is `repr(C)`, begins with a `usize`, has no padding, and is valid with all bytes zero.
pub(crate) unsafe trait Growing: Copy {
    /// Its name in the header.
    const NAME: &'static str;
    /// The end of the last field that its first version had.
    const FIRST: usize;
}

/// Larger than any of these structs will be.
const LARGEST: usize = 4096;

/// Reads a struct; null is all defaults.
///
/// # Safety
/// It is null, or points to a size and as many bytes as it says.
pub(crate) unsafe fn read<T: Growing>(pointer: *const T) -> Result<T, Failure> {
    let mut value = MaybeUninit::<T>::zeroed();
    if !pointer.is_null() {
        // SAFETY: as the caller promises.
        let given = unsafe { size_of_given(pointer) }?;
        let known = given.min(size_of::<T>());
        // SAFETY: the caller promises `given` bytes, and the value has room for `known`.
        let rest = unsafe {
            value.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(pointer.cast(), known);
            std::slice::from_raw_parts(pointer.cast::<u8>().add(known), given - known)
        };
        if rest.iter().any(|byte| *byte != 0) {
            let problem = "has a field that this library does not know: use a newer peregrine";
            return Err(Failure::Argument(format!("{} {problem}", T::NAME)));
        }
    }
    // SAFETY: zero bytes are valid values of it, and so are those of C's fields: integers, floats and pointers.
    Ok(unsafe { value.assume_init() })
}

/// Writes a struct into the caller's, whose size is set, as far as that has its fields.
///
/// # Safety
/// It is null, or points to a size and as many bytes as it says.
pub(crate) unsafe fn write<T: Growing>(pointer: *mut T, value: &T) -> Result<(), Failure> {
    // SAFETY: as the caller promises.
    let given = unsafe { size_of_given(pointer) }?;
    let size = size_of::<usize>();
    let known = given.min(size_of::<T>()) - size;
    let from = std::ptr::from_ref(value).cast::<u8>();
    // SAFETY: both have `known` bytes after the size, which stays the caller's; there is no padding.
    unsafe { pointer.cast::<u8>().add(size).copy_from_nonoverlapping(from.add(size), known) };
    Ok(())
}

/// The size in the first field.
///
/// # Safety
/// It is null, or points to a size.
unsafe fn size_of_given<T: Growing>(pointer: *const T) -> Result<usize, Failure> {
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(Failure::Argument(format!("{} is NULL or misaligned", T::NAME)));
    }
    // SAFETY: it is not null, and the caller promises the size.
    let given = unsafe { pointer.cast::<usize>().read() };
    if !(T::FIRST..=LARGEST).contains(&given) {
        let name = T::NAME;
        return Err(Failure::Argument(format!("the size in {name} is {given}: set it to sizeof({name})")));
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Options {
        size: usize,
        old: u64,
        new: u64,
    }

    // SAFETY: three integers of eight bytes on the machines that run this.
    unsafe impl Growing for Options {
        const NAME: &'static str = "options";
        const FIRST: usize = 16;
    }

    fn given(words: &[u64]) -> Result<Options, String> {
        // SAFETY: the words are there, as many as their size says or the size is refused.
        unsafe { read(words.as_ptr().cast::<Options>()) }.map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn older_and_newer_programs_are_understood_or_refused() {
        assert_eq!(given(&[16, 7]).unwrap(), Options { size: 16, old: 7, new: 0 });
        assert_eq!(given(&[24, 7, 8]).unwrap(), Options { size: 24, old: 7, new: 8 });
        assert_eq!(given(&[32, 7, 8, 0]).unwrap(), Options { size: 32, old: 7, new: 8 });
        assert!(given(&[32, 7, 8, 9]).unwrap_err().contains("does not know"));
        for size in [0, 8, 15, 4097, u64::MAX] {
            assert!(given(&[size, 0]).unwrap_err().contains(&format!("is {size}: set it to sizeof(options)")));
        }
        // SAFETY: null is allowed.
        assert_eq!(unsafe { read::<Options>(std::ptr::null()) }.unwrap(), Options { size: 0, old: 0, new: 0 });
    }

    #[test]
    fn an_older_program_gets_the_fields_that_it_has() {
        let mut words = [16u64, 0, 5];
        let value = Options { size: 24, old: 7, new: 8 };
        // SAFETY: there are more bytes than the size says.
        unsafe { write(words.as_mut_ptr().cast::<Options>(), &value) }.unwrap();
        assert_eq!(words, [16, 7, 5]);
    }
}
