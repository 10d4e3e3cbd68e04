//! Detection of a file's format by its first bytes.

use crate::error::Error;

/// A format that is often found in place of the expected one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A Git LFS pointer file.
    LfsPointer,
    /// An HTML page or an XML error that a server sent instead of the file.
    WebPage,
    /// UTF-16 text.
    Utf16,
    /// A PyTorch pickle, plain or in a zip archive.
    Pickle,
    /// A zip archive.
    Zip,
    /// A compressed file or another archive.
    Packed(Packer),
    /// GGUF.
    Gguf,
    /// llama.cpp's formats before GGUF.
    OldGgml,
    /// safetensors.
    Safetensors,
    /// HDF5, as Keras writes it.
    Hdf5,
    /// Only zero bytes.
    Zeros,
}

/// A compression or archive format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packer {
    /// gzip.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
    /// 7-Zip.
    SevenZip,
    /// tar.
    Tar,
}

/// Bytes examined: a tar file has its magic at offset 257.
const LOOKED_AT: usize = 1024;

impl FileKind {
    /// The format of a file that begins with `bytes`; `None` if it is unknown. Some signatures are short enough to match by
    /// chance, so call this only after the file failed to parse in the expected format.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let bytes = &bytes[..bytes.len().min(LOOKED_AT)];
        // A safetensors file begins with its header's length, whose bytes may match another signature.
        if bytes.len() > 8 && bytes[4..8] == [0; 4] && bytes[8] == b'{' {
            return Some(FileKind::Safetensors);
        }
        let begins = |with: &[u8]| bytes.starts_with(with);
        let packed = |packer| Some(FileKind::Packed(packer));
        match () {
            () if begins(b"GGUF") => Some(FileKind::Gguf),
            () if [b"lmgg", b"tjgg", b"fmgg", b"algg"].iter().any(|magic| begins(*magic)) => Some(FileKind::OldGgml),
            () if begins(b"version https://git-lfs") || begins(b"version https://hawser") => Some(FileKind::LfsPointer),
            () if is_page(bytes) => Some(FileKind::WebPage),
            () if is_utf16(bytes) => Some(FileKind::Utf16),
            () if begins(b"PK\x03\x04") && contains(bytes, b"data.pkl") => Some(FileKind::Pickle),
            () if begins(b"PK\x03\x04") => Some(FileKind::Zip),
            () if bytes.len() > 2 && bytes[0] == 0x80 && (2..=5).contains(&bytes[1]) => Some(FileKind::Pickle),
            () if begins(b"\x1f\x8b") => packed(Packer::Gzip),
            () if begins(b"BZh") && bytes.get(4..10) == Some(b"1AY&SY") => packed(Packer::Bzip2),
            () if begins(b"\xfd7zXZ\0") => packed(Packer::Xz),
            () if begins(b"\x28\xb5\x2f\xfd") => packed(Packer::Zstd),
            () if begins(b"7z\xbc\xaf\x27\x1c") => packed(Packer::SevenZip),
            () if bytes.get(257..262) == Some(b"ustar") => packed(Packer::Tar),
            () if begins(b"\x89HDF\r\n\x1a\n") => Some(FileKind::Hdf5),
            () if bytes.len() >= 16 && bytes.iter().all(|byte| *byte == 0) => Some(FileKind::Zeros),
            () => None,
        }
    }

    /// The format's name for messages, as in "x is a web page".
    pub fn name(self) -> &'static str {
        match self {
            FileKind::LfsPointer => "a Git LFS pointer, not the file itself",
            FileKind::WebPage => "a web page (HTML or XML)",
            FileKind::Utf16 => "text in UTF-16",
            FileKind::Pickle => "a PyTorch pickle",
            FileKind::Zip => "a zip archive",
            FileKind::Packed(Packer::Gzip) => "compressed with gzip",
            FileKind::Packed(Packer::Bzip2) => "compressed with bzip2",
            FileKind::Packed(Packer::Xz) => "compressed with xz",
            FileKind::Packed(Packer::Zstd) => "compressed with Zstandard",
            FileKind::Packed(Packer::SevenZip) => "a 7z archive",
            FileKind::Packed(Packer::Tar) => "a tar archive",
            FileKind::Gguf => "a GGUF file",
            FileKind::OldGgml => "a GGML file older than GGUF",
            FileKind::Safetensors => "a safetensors file",
            FileKind::Hdf5 => "an HDF5 file",
            FileKind::Zeros => "all zero bytes",
        }
    }

    /// What to do about it.
    fn advice(self) -> &'static str {
        match self {
            FileKind::LfsPointer => "run `git lfs pull` in its folder, or download the file itself",
            FileKind::WebPage => {
                "a server sent it instead of the file, perhaps because the model needs a login: download it again"
            }
            FileKind::Utf16 => "save it as UTF-8",
            FileKind::Pickle => "use the model's .safetensors files, or convert it with safetensors' save_file",
            FileKind::Zip | FileKind::Packed(_) => "unpack it first",
            FileKind::Gguf => "give its path with -m, or put it alone into a folder under a name that ends in .gguf",
            FileKind::OldGgml => "convert it with a llama.cpp of 2023, or use a GGUF file of the model",
            FileKind::Safetensors => {
                "put it into a folder with the model's config.json under a name that ends in .safetensors"
            }
            FileKind::Hdf5 => "use the model's .safetensors files",
            FileKind::Zeros => "the download is incomplete: download it again",
        }
    }

    /// The error for a file that unexpectedly has this format.
    pub fn refused(self, file: &str) -> Error {
        Error::WrongKind { file: file.to_owned(), found: self.name().to_owned(), advice: self.advice().to_owned() }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn is_page(bytes: &[u8]) -> bool {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    ["<!doctype", "<html", "<head", "<body", "<?xml", "<error>"]
        .iter()
        .any(|tag| text.get(..tag.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(tag.as_bytes())))
}

fn is_utf16(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        // Without a byte order mark: three ASCII characters, each beside a zero byte.
        [a, 0, b, 0, c, 0, ..] | [0, a, 0, b, 0, c, ..] => {
            [a, b, c].iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
        }
        _ => false,
    }
}

/// The first characters of a file that looks like text.
pub(super) fn beginning(bytes: &[u8]) -> Option<String> {
    let bytes = &bytes[..bytes.len().min(LOOKED_AT)];
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // The examined bytes end within a character.
        Err(e) if bytes.len() == LOOKED_AT && e.error_len().is_none() => {
            std::str::from_utf8(&bytes[..e.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let text = text.trim();
    let plain = !text.is_empty() && text.chars().all(|c| !c.is_control() || c.is_whitespace());
    plain.then(|| text.chars().take(60).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LFS: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";

    #[test]
    fn a_format_is_detected_by_its_first_bytes() {
        let mut tar = vec![b'x'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        let zip = |name: &str| [b"PK\x03\x04".to_vec(), vec![0; 26], name.as_bytes().to_vec()].concat();
        let sized = |first: u8, second: u8| [&[first, second, 0, 0, 0, 0, 0, 0][..], b"{\"a\":{}}"].concat();
        let cases: Vec<(Vec<u8>, Option<FileKind>)> = vec![
            (LFS.to_vec(), Some(FileKind::LfsPointer)),
            (b"\n <!DOCTYPE html><html>".to_vec(), Some(FileKind::WebPage)),
            (b"\xef\xbb\xbf<HTML>".to_vec(), Some(FileKind::WebPage)),
            (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied".to_vec(), Some(FileKind::WebPage)),
            (b"\xff\xfe{\0".to_vec(), Some(FileKind::Utf16)),
            (b"\xfe\xff\0{".to_vec(), Some(FileKind::Utf16)),
            (b"{\0\n\0\"\0m\0".to_vec(), Some(FileKind::Utf16)),
            (b"\0{\0\n\0\"\0m".to_vec(), Some(FileKind::Utf16)),
            (zip("pytorch_model/data.pkl"), Some(FileKind::Pickle)),
            (zip("weights/one.npy"), Some(FileKind::Zip)),
            (b"\x80\x02\x8a\nl\xfc".to_vec(), Some(FileKind::Pickle)),
            (b"\x1f\x8b\x08\0".to_vec(), Some(FileKind::Packed(Packer::Gzip))),
            (b"BZh91AY&SY".to_vec(), Some(FileKind::Packed(Packer::Bzip2))),
            (tar, Some(FileKind::Packed(Packer::Tar))),
            (b"GGUF\x03\0\0\0".to_vec(), Some(FileKind::Gguf)),
            (b"tjgg\x03\0\0\0".to_vec(), Some(FileKind::OldGgml)),
            (vec![0; 64], Some(FileKind::Zeros)),
            // Header lengths whose bytes match another format's signature.
            (sized(0x1f, 0x8b), Some(FileKind::Safetensors)),
            (sized(0x80, 0x02), Some(FileKind::Safetensors)),
            (sized(0xff, 0xfe), Some(FileKind::Safetensors)),
            (b"{\"model_type\": \"mamba\"}".to_vec(), None),
            (b"{{ bos_token }}<html>".to_vec(), None),
            (b"BZh is a town".to_vec(), None),
            (b"".to_vec(), None),
        ];
        for (bytes, kind) in cases {
            assert_eq!(FileKind::of(&bytes), kind, "{:?}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn text_is_told_from_bytes() {
        assert_eq!(beginning(b" Entry not found\n").unwrap(), "Entry not found");
        assert_eq!(beginning("ü".repeat(600).as_bytes()).unwrap().chars().count(), 60);
        assert_eq!(beginning(&[1, 2, 3]), None);
        assert_eq!(beginning(b"a\0b"), None);
        assert_eq!(beginning(&[b'a', 0xff]), None);
        assert_eq!(beginning(b" \n"), None);
    }
}
