//! `peregrine features`: features of pictures, as a safetensors file.

use super::pictures;
use super::{VisionArgs, bar};
use crate::cli::exit::usage_error;
use crate::cli::force::ForceArgs;
use crate::cli::interrupt::remove_files_on_signal;
use clap::Args;
use peregrine::format::safetensors_head;
use peregrine::output::AtomicFile;
use peregrine::vision::{FeatureMap, FeatureOptions, Features, Picture};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

#[derive(Args)]
pub struct WriteFeatures {
    /// Pictures: files (JPEG, PNG, WebP, GIF, BMP), folders, patterns, or - for standard input
    #[arg(value_name = "PICTURE", required = true)]
    pictures: Vec<PathBuf>,
    #[command(flatten)]
    vision: VisionArgs,
    /// Output file with F32 tensors: class_token [pictures, E], map [pictures, E, H/stride, W/stride] of the last layer after the
    /// final norm, and layer.N of each of --layers; its metadata lists the pictures
    #[arg(short, long, value_name = "OUT.safetensors")]
    output: PathBuf,
    /// Resize pictures to this size, as SIDE or HEIGHTxWIDTH, and interpolate the positions [default: the size that the model was
    /// trained for, cropped as it was trained]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    image: Option<[usize; 2]>,
    /// Layers whose residual stream is written as well, such as 5,11,17,23; the first is 0
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    layers: Vec<usize>,
    /// Write only the class tokens, no map
    #[arg(long)]
    class_only: bool,
    #[command(flatten)]
    force: ForceArgs,
}

/// The largest side of a picture that `--image` takes.
const LARGEST_SIDE: usize = 2048;

fn parse_size(text: &str) -> Result<[usize; 2], String> {
    let side = |text: &str| match text.parse() {
        Ok(side) if (1..=LARGEST_SIDE).contains(&side) => Ok(side),
        _ => Err(format!("it must be SIDE or HEIGHTxWIDTH, from 1 to {LARGEST_SIDE}")),
    };
    match text.split_once(['x', 'X']) {
        Some((height, width)) => Ok([side(height)?, side(width)?]),
        None => Ok([side(text)?; 2]),
    }
}

/// A tensor of the output.
struct Entry {
    name: String,
    shape: Vec<usize>,
}

impl WriteFeatures {
    pub fn run(self) -> anyhow::Result<()> {
        remove_files_on_signal();
        let sources = pictures::list(&self.pictures)?;
        self.force.check(&self.output)?;
        let mut file = AtomicFile::create(&self.output)?;
        let opened: Vec<Picture> = pictures::open(&sources).into_iter().collect::<peregrine::Result<_>>()?;
        let mut model = self.vision.load()?;
        let wanted =
            FeatureOptions::default().image(self.image).map(!self.class_only).layers(self.layers.iter().copied());
        if let Some(layer) = self.layers.iter().find(|layer| **layer >= model.vim().layers) {
            return Err(usage_error(format!("--layers {layer}: the model has layers 0 to {}", model.vim().layers - 1)));
        }
        let bar = bar(opened.len());
        let features = model.features(&opened, &wanted, &mut |done| bar.set_position(done as u64))?;
        bar.finish_and_clear();

        let names: Vec<String> = sources.iter().map(pictures::Source::name).collect();
        let (entries, values) = self.tensors(&features);
        file.write(&header(&entries, &names))?;
        for values in values {
            file.write(bytemuck::cast_slice(values))?;
        }
        file.commit()?;
        eprintln!("wrote the features of {} pictures to {}", opened.len(), self.output.display());
        Ok(())
    }

    /// The tensors of the output, and their values in order.
    fn tensors<'a>(&self, features: &'a [Features]) -> (Vec<Entry>, Vec<&'a [f32]>) {
        let (mut entries, mut values) = (Vec::new(), Vec::new());
        let count = features.len();
        if let Some(first) = features.first() {
            entries.push(Entry { name: "class_token".to_owned(), shape: vec![count, first.class_token.len()] });
            values.extend(features.iter().map(|features| features.class_token.as_slice()));
            let mut add = |name: String, maps: Vec<&'a FeatureMap>| {
                let Some(FeatureMap { channels, height, width, .. }) = maps.first() else { return };
                entries.push(Entry { name, shape: vec![count, *channels, *height, *width] });
                values.extend(maps.into_iter().map(|map| map.values.as_slice()));
            };
            add("map".to_owned(), features.iter().filter_map(|features| features.map.as_ref()).collect());
            for (i, layer) in self.layers.iter().enumerate() {
                add(format!("layer.{layer}"), features.iter().map(|features| &features.layers[i]).collect());
            }
        }
        (entries, values)
    }
}

/// The header of a safetensors file with these F32 tensors in this order, and the names of the pictures.
fn header(entries: &[Entry], pictures: &[String]) -> Vec<u8> {
    let mut fields = Map::new();
    let names = Value::from(pictures.to_vec()).to_string();
    fields.insert("__metadata__".to_owned(), json!({ "pictures": names }));
    let mut at = 0;
    for Entry { name, shape } in entries {
        let first = at;
        at += shape.iter().product::<usize>() * size_of::<f32>();
        fields.insert(name.clone(), json!({ "dtype": "F32", "shape": shape, "data_offsets": [first, at] }));
    }
    safetensors_head(fields)
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_are_a_side_or_a_height_and_a_width() {
        assert_eq!(parse_size("512"), Ok([512, 512]));
        assert_eq!(parse_size("480x640"), Ok([480, 640]));
        for bad in ["", "x", "0", "512x", "-1", "4096", "1x2x3", "a"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
