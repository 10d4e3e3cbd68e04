//! From a picture to the values that a model reads: resize, crop, scale and normalize, as torchvision and transformers do.

use super::Picture;
use crate::error::{Error, Result};
use crate::input;
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use serde_json::Value;

/// Largest side of a picture that a config may ask for.
const LARGEST_SIDE: usize = 8192;

/// The values of a picture, `[3, height, width]`, normalized.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// Pixels down.
    pub height: usize,
    /// Pixels across.
    pub width: usize,
    /// The values.
    pub values: Vec<f32>,
}

/// The size that a picture is resized to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// The size that it has.
    Keep,
    /// The shorter side becomes this long, the other in proportion, rounded down.
    Shorter(usize),
    /// This height and width, whatever the proportions.
    Exact([usize; 2]),
}

/// How pixels are resampled; all are antialiased when a picture shrinks, as in Pillow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resample {
    /// The nearest pixel, without antialiasing.
    Nearest,
    /// Lanczos with a radius of 3.
    Lanczos,
    /// Bilinear.
    Bilinear,
    /// Bicubic with a = -0.5.
    Bicubic,
    /// The mean of a box.
    Box,
    /// Hamming.
    Hamming,
}

impl Resample {
    fn algorithm(self) -> ResizeAlg {
        ResizeAlg::Convolution(match self {
            Resample::Nearest => return ResizeAlg::Nearest,
            Resample::Lanczos => FilterType::Lanczos3,
            Resample::Bilinear => FilterType::Bilinear,
            Resample::Bicubic => FilterType::CatmullRom,
            Resample::Box => FilterType::Box,
            Resample::Hamming => FilterType::Hamming,
        })
    }
}

/// Where a crop whose border is odd begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rounding {
    /// Half of it, rounded to even: torchvision's `CenterCrop`.
    ToEven,
    /// Half of it, rounded down: transformers.
    Down,
}

/// How pictures become the input of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocess {
    /// The resize.
    pub resize: Resize,
    /// How it resamples.
    pub resample: Resample,
    /// Height and width of the middle part that is kept; a smaller picture gets a black border.
    pub crop: Option<[usize; 2]>,
    rounding: Rounding,
    /// Factor of the values 0 to 255.
    pub scale: f64,
    /// Subtracted from red, green and blue after that.
    pub mean: [f64; 3],
    /// Divides the rest.
    pub deviation: [f64; 3],
}

impl Preprocess {
    /// As the released Vision Mambas and DeiT evaluate ImageNet: the shorter side becomes size / 0.875 by bicubic resampling, the
    /// middle size x size is kept, and ImageNet's mean and deviation normalize it.
    pub fn imagenet(size: usize) -> Self {
        Preprocess {
            resize: Resize::Shorter((size as f64 / 0.875) as usize),
            resample: Resample::Bicubic,
            crop: Some([size; 2]),
            rounding: Rounding::ToEven,
            scale: 1.0 / 255.0,
            mean: [0.485, 0.456, 0.406],
            deviation: [0.229, 0.224, 0.225],
        }
    }

    /// Reads a preprocessor_config.json of transformers, called `file` in messages. What it lacks is as in ViTImageProcessor:
    /// 224 x 224, bilinear, scaled to -1 to 1.
    pub fn from_json(text: &str, file: &str) -> Result<Self> {
        let json = input::json(file, text.as_bytes())?;
        Reader { json: &json, file }.read()
    }

    /// The same for pictures of another size: resized to it, whatever their proportions, and not cropped.
    pub fn at(&self, height: usize, width: usize) -> Self {
        Preprocess { resize: Resize::Exact([height, width]), crop: None, ..self.clone() }
    }

    /// The values of a picture.
    pub fn apply(&self, picture: &Picture) -> Result<Pixels> {
        let (height, width) = (picture.height(), picture.width());
        let [to_height, to_width] = self.size(height, width);
        let resized;
        let rgb = if [to_height, to_width] == [height, width] {
            picture.rgb()
        } else {
            resized = self.resized(picture, [to_height, to_width])?;
            &resized
        };
        let [rows, columns] = self.crop.unwrap_or([to_height, to_width]);
        let first = |has: usize, kept: usize| self.first(has as isize - kept as isize);
        let (top, left) = (first(to_height, rows), first(to_width, columns));
        let mut values = vec![0.0; 3 * rows * columns];
        for (channel, plane) in values.chunks_exact_mut(rows * columns).enumerate() {
            let (mean, deviation) = (self.mean[channel], self.deviation[channel]);
            let table: [f32; 256] = std::array::from_fn(|v| ((v as f64 * self.scale - mean) / deviation) as f32);
            for (y, line) in plane.chunks_exact_mut(columns).enumerate() {
                for (x, value) in line.iter_mut().enumerate() {
                    let (from_y, from_x) = (top + y as isize, left + x as isize);
                    let inside = |at: isize, end: usize| usize::try_from(at).ok().filter(|at| *at < end);
                    *value = match (inside(from_y, to_height), inside(from_x, to_width)) {
                        (Some(y), Some(x)) => table[usize::from(rgb[3 * (y * to_width + x) + channel])],
                        _ => table[0],
                    };
                }
            }
        }
        Ok(Pixels { height: rows, width: columns, values })
    }

    /// Height and width after resizing.
    fn size(&self, height: usize, width: usize) -> [usize; 2] {
        match self.resize {
            Resize::Keep => [height, width],
            Resize::Exact(size) => size,
            Resize::Shorter(side) => {
                let other = |longer: usize, shorter: usize| (side * longer / shorter).max(1);
                if width <= height { [other(height, width), side] } else { [side, other(width, height)] }
            }
        }
    }

    /// The first row or column of the part that is kept, where `border` more rows are there; negative where fewer are.
    fn first(&self, border: isize) -> isize {
        match self.rounding {
            Rounding::ToEven => (border as f64 / 2.0).round_ties_even() as isize,
            Rounding::Down => border.div_euclid(2),
        }
    }

    fn resized(&self, picture: &Picture, [height, width]: [usize; 2]) -> Result<Vec<u8>> {
        let bad = |problem: String| Error::BadPicture {
            picture: format!("a picture of {}x{}", picture.height(), picture.width()),
            problem,
            hint: "its sides are too different: crop it",
        };
        if height.max(width) > 64 * LARGEST_SIDE {
            return Err(bad(format!("it would be resized to {height}x{width}")));
        }
        let side = |side: usize| u32::try_from(side).expect("a side of a picture");
        let options = ResizeOptions::new().resize_alg(self.resample.algorithm());
        let (from_width, from_height) = (side(picture.width()), side(picture.height()));
        let from = ImageRef::new(from_width, from_height, picture.rgb(), PixelType::U8x3);
        let from = from.map_err(|e| bad(e.to_string()))?;
        // Across, then down, with values rounded to 8 bits in between, as in Pillow 11: where a filter overshoots, the other order
        // differs by up to 20 of 255. (Pillow 13 sometimes takes the other order.)
        let mut across = Image::new(side(width), from_height, PixelType::U8x3);
        let mut to = Image::new(side(width), side(height), PixelType::U8x3);
        let mut resizer = Resizer::new();
        resizer.resize(&from, &mut across, &options).map_err(|e| bad(e.to_string()))?;
        resizer.resize(&across, &mut to, &options).map_err(|e| bad(e.to_string()))?;
        Ok(to.into_vec())
    }
}

/// Typed access to a preprocessor_config.json.
struct Reader<'a> {
    json: &'a Value,
    file: &'a str,
}

impl Reader<'_> {
    fn read(&self) -> Result<Preprocess> {
        if !self.json.is_object() {
            return Err(self.bad("it is not a JSON object".to_owned()));
        }
        let size = self.get("size");
        let shortest = size.and_then(|size| size.get("shortest_edge"));
        let resize = match (self.flag("do_resize")?, size, shortest) {
            (false, ..) => Resize::Keep,
            (true, None, _) => Resize::Exact([224; 2]),
            (true, Some(_), Some(side)) => Resize::Shorter(self.side("size.shortest_edge", side)?),
            (true, Some(size), None) => Resize::Exact(self.sides("size", size)?),
        };
        let crop = match self.get("crop_size") {
            Some(size) if self.flag_or("do_center_crop", true)? => Some(self.sides("crop_size", size)?),
            _ => None,
        };
        // ConvNext's processor: the size is that of the crop.
        let (resize, crop) = match (self.get("crop_pct"), resize) {
            (Some(share), Resize::Shorter(side)) => {
                let share = share.as_f64().filter(|share| (0.1..=1.0).contains(share));
                let share = share.ok_or_else(|| self.bad("crop_pct must be from 0.1 to 1".to_owned()))?;
                (Resize::Shorter((side as f64 / share) as usize), Some([side; 2]))
            }
            _ => (resize, crop),
        };
        let resample = match self.get("resample").map(|number| (number, number.as_u64())) {
            None | Some((_, Some(2))) => Resample::Bilinear,
            Some((_, Some(0))) => Resample::Nearest,
            Some((_, Some(1))) => Resample::Lanczos,
            Some((_, Some(3))) => Resample::Bicubic,
            Some((_, Some(4))) => Resample::Box,
            Some((_, Some(5))) => Resample::Hamming,
            Some((other, _)) => {
                return Err(
                    self.bad(format!("resample is {}, it must be a number of Pillow, 0 to 5", input::shown(other)))
                );
            }
        };
        let scale = match (self.flag("do_rescale")?, self.get("rescale_factor")) {
            (false, _) => 1.0,
            (true, None) => 1.0 / 255.0,
            (true, Some(factor)) => self.number("rescale_factor", factor)?,
        };
        let normalized = self.flag("do_normalize")?;
        let channels = |key: &str, default: f64| match (normalized, self.get(key)) {
            (false, _) => Ok(if key == "image_std" { [1.0; 3] } else { [0.0; 3] }),
            (true, None) => Ok([default; 3]),
            (true, Some(Value::Array(values))) if matches!(values.len(), 1 | 3) => {
                let numbers: Vec<f64> = values.iter().map(|v| self.number(key, v)).collect::<Result<_>>()?;
                Ok(std::array::from_fn(|channel| numbers[channel % numbers.len()]))
            }
            (true, Some(value)) if value.is_number() => Ok([self.number(key, value)?; 3]),
            (true, Some(other)) => {
                Err(self.bad(format!("{key} is {}, it must be one number or three", input::shown(other))))
            }
        };
        let (mean, deviation) = (channels("image_mean", 0.5)?, channels("image_std", 0.5)?);
        if deviation.contains(&0.0) {
            return Err(self.bad("image_std must not be 0".to_owned()));
        }
        Ok(Preprocess { resize, resample, crop, rounding: Rounding::Down, scale, mean, deviation })
    }

    fn bad(&self, problem: String) -> Error {
        Error::BadConfig { file: self.file.to_owned(), problem }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    fn flag(&self, key: &str) -> Result<bool> {
        self.flag_or(key, true)
    }

    fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.bad(format!("{key} is {}, it must be true or false", input::shown(value))))
    }

    fn number(&self, key: &str, value: &Value) -> Result<f64> {
        let number = value.as_f64().filter(|number| number.abs() < 1e6);
        number.ok_or_else(|| self.bad(format!("{key} is {}, it must be a number", input::shown(value))))
    }

    fn side(&self, key: &str, value: &Value) -> Result<usize> {
        let side = value.as_u64().and_then(|side| usize::try_from(side).ok());
        side.filter(|side| (1..=LARGEST_SIDE).contains(side)).ok_or_else(|| {
            self.bad(format!("{key} is {}, it must be a whole number from 1 to {LARGEST_SIDE}", input::shown(value)))
        })
    }

    /// A side, or an object with a height and a width.
    fn sides(&self, key: &str, value: &Value) -> Result<[usize; 2]> {
        if value.is_number() {
            return Ok([self.side(key, value)?; 2]);
        }
        match (value.get("height"), value.get("width")) {
            (Some(height), Some(width)) => {
                Ok([self.side(&format!("{key}.height"), height)?, self.side(&format!("{key}.width"), width)?])
            }
            _ => Err(self.bad(format!(
                "{key} is {}, it must be a side, a height and a width, or a shortest_edge",
                input::shown(value)
            ))),
        }
    }
}
