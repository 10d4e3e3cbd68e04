//! Pictures in memory, and decoding them.

use crate::error::{Error, Result};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use std::io::Cursor;
use std::path::Path;

/// Most pixels of a picture: a larger one is refused before it is decoded.
const MOST_PIXELS: u64 = 1 << 28;

/// Most bytes that a decoder may allocate: a picture of the most pixels in 16 bits with alpha.
const MOST_BYTES: u64 = 8 * MOST_PIXELS;

/// A picture in RGB, 8 bits a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Picture {
    /// Opens a JPEG, PNG, WebP, GIF or BMP file; see [`Picture::decode`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|e| Error::unreadable(path, e))?;
        Self::decode(&path.display().to_string(), &bytes)
    }

    /// Decodes a JPEG, PNG, WebP, GIF (its first frame) or BMP picture. `name` is its name for messages.
    ///
    /// It is turned as its EXIF orientation says. Alpha is dropped, as Pillow's `convert("RGB")` drops it; 16 bits become 8; grey and
    /// CMYK become RGB.
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Self> {
        // Some messages of decoders end with a line break.
        let bad = |problem: String, hint: &'static str| {
            let problem = problem.split_whitespace().collect::<Vec<_>>().join(" ");
            Error::BadPicture { picture: name.to_owned(), problem, hint }
        };
        let mut reader =
            ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| bad(e.to_string(), ""))?;
        if bytes.is_empty() {
            return Err(bad("it is empty".to_owned(), "download it again"));
        }
        if reader.format().is_none() {
            return Err(bad("it is no picture".to_owned(), "supported are JPEG, PNG, WebP, GIF and BMP"));
        }
        let mut limits = Limits::default();
        limits.max_alloc = Some(MOST_BYTES);
        reader.limits(limits);
        let damaged = |e: image::ImageError| match e {
            image::ImageError::Limits(_) => bad("it is too large".to_owned(), "make it smaller"),
            image::ImageError::Unsupported(e) => bad(e.to_string(), "supported are JPEG, PNG, WebP, GIF and BMP"),
            e => bad(e.to_string(), "it may be cut off or damaged: download it again"),
        };
        let mut decoder = reader.into_decoder().map_err(damaged)?;
        let (width, height) = decoder.dimensions();
        let pixels = u64::from(width) * u64::from(height);
        if pixels > MOST_PIXELS {
            return Err(bad(
                format!("it has {width} x {height} pixels"),
                "make it smaller: at most 268 million are read",
            ));
        }
        if pixels == 0 {
            return Err(bad("it has no pixels".to_owned(), "download it again"));
        }
        // A picture with damaged metadata is not turned.
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut decoded = DynamicImage::from_decoder(decoder).map_err(damaged)?;
        decoded.apply_orientation(orientation);
        let rgb = decoded.into_rgb8();
        let (width, height) = (rgb.width() as usize, rgb.height() as usize);
        Ok(Picture { width, height, rgb: rgb.into_raw() })
    }

    /// A picture of rows of RGB values, `[height, width, 3]`.
    pub fn from_rgb(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self> {
        let values = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(3));
        if values != Some(rgb.len()) || rgb.is_empty() {
            return Err(Error::BadPicture {
                picture: "a picture".to_owned(),
                problem: format!("it has {} values for {width} x {height} pixels", rgb.len()),
                hint: "give three for each pixel, at least one pixel",
            });
        }
        Ok(Picture { width, height, rgb })
    }

    /// Pixels across.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Pixels down.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The values, `[height, width, 3]`.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }
}
